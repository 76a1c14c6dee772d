"""The command line; ``maggy --help`` lists its commands.

Exit codes: 0 done; 1 there is no such run, it cannot be read, or what was run failed; 2 a mistake
in the command; 3 a run that was watched failed, was interrupted or killed; 130 left by Ctrl-C.
"""

from __future__ import annotations

from typing import Any

import click

from maggy.cli.completing import completion
from maggy.cli.exporting import export
from maggy.cli.following import logs, watch
from maggy.cli.joining import worker
from maggy.cli.looking import compare, ls, show
from maggy.cli.running import demo, run
from maggy.cli.supposing import simulate, whatif
from maggy.errors import MaggyError

__all__ = ["main"]

_EXAMPLES = (
    ("maggy run train.py", "run a script that searches"),
    ("maggy worker --connect node1:4040", "run its trials on this machine"),
    ("maggy ls", "which runs there are"),
    ("maggy show digits", 'what the latest run called "digits" came to'),
    ("maggy watch digits", "follow it while it runs, from any terminal"),
    ("maggy logs digits 17", "what its trial 17 printed"),
    ("maggy compare digits 1f2e", "two runs side by side"),
    ("maggy export digits -o digits.csv", "its trials for other programs"),
    ("maggy whatif digits --es-policy curve", "what another stopping rule would have saved"),
    ("maggy simulate digits --workers 64", "how long it would take on other workers"),
)


class _Teaching(click.Group):
    """Turns maggy's own errors into a message and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MaggyError as error:
            raise click.ClickException(str(error)) from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which one needs them."""
        return list(self.commands)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a day's work as examples."""
        with formatter.section("Examples"):
            formatter.write_dl(_EXAMPLES)


@click.group("maggy", cls=_Teaching, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="maggy")
def main() -> None:
    """Run and look at searches for hyperparameters.

    Every call of experiment.lagom leaves a folder: its event log and the output of its trials.
    Where a command takes a RUN, give that folder, its id, the four characters at the id's end, or
    an experiment's name for its latest run.
    """


for _command in (
    *(run, worker, ls, show, watch, logs, compare, export, whatif, simulate, completion, demo),
):
    main.add_command(_command)
