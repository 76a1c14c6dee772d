"""What several commands take."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from maggy.store.folder import DEFAULT_FOLDER, find_runs

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FOLDER", "JSON", "RUN", "RUNS", "Taught", "width"]


class Taught(click.Command):
    """A command whose help ends with examples.

    Args:
        examples: Commands as one types them.
    """

    def __init__(self, *args: Any, examples: Sequence[str] = (), **options: Any) -> None:
        super().__init__(*args, **options)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"{'':>{formatter.current_indent}}{example}\n")


def _complete(ctx: click.Context, param: click.Parameter, word: str) -> list[CompletionItem]:
    """The names of experiments and the ids of runs, the latest first."""
    runs = find_runs(ctx.params.get("folder") or DEFAULT_FOLDER)[::-1]
    names = dict.fromkeys((run.name for run in runs), "the latest run")
    hints = names | {run.id: f"a run of {run.name}" for run in runs}
    return [
        CompletionItem(name, help=hint) for name, hint in hints.items() if name.startswith(word)
    ]


RUN = click.argument("run", shell_complete=_complete)
RUNS = click.argument("runs", nargs=-1, required=True, shell_complete=_complete)
FOLDER = click.option(
    "--folder",
    default=str(DEFAULT_FOLDER),
    show_default=True,
    help="Where runs live: the `folder` of the config.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Write JSON, for programs.")


def width() -> int | None:
    """The terminal's width; None: nothing is cut, for files and pipes."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
