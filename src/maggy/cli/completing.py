"""Shell completion: ``maggy completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from maggy.cli.options import Taught

__all__ = ["completion"]

_SHELLS = ("bash", "zsh", "fish")


@click.command(
    cls=Taught,
    short_help="Print what completes commands and runs in a shell.",
    examples=[
        "bash   echo 'eval \"$(maggy completion bash)\"' >> ~/.bashrc",
        "zsh    echo 'eval \"$(maggy completion zsh)\"' >> ~/.zshrc",
        "fish   maggy completion fish > ~/.config/fish/completions/maggy.fish",
    ],
)
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what makes a shell complete commands, options, experiments and runs."""
    known = get_completion_class(shell)
    assert known is not None, "click knows the shells of the choice"
    completer = known(ctx.find_root().command, {}, "maggy", "_MAGGY_COMPLETE")
    click.echo(completer.source_template % completer.source_vars())
