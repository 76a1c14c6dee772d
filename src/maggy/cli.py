"""The command line: ``maggy ls``, ``maggy show RUN``, ``maggy demo``.

Exit codes: 0 done; 1 there is no such run, or it cannot be read; 2 a mistake in the command.
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from typing import Any

import click

from maggy.errors import MaggyError, RunError
from maggy.store.folder import DEFAULT_FOLDER, RunFolder, find_runs, open_run
from maggy.views.closing import closing
from maggy.views.result import Result, load_outline
from maggy.views.tables import result_json, run_table, trial_tables

__all__ = ["main"]

_FOLDER = click.option(
    "--folder",
    default=str(DEFAULT_FOLDER),
    show_default=True,
    help="Where runs live: the `folder` of the config.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Write JSON, for programs.")


class _Teaching(click.Group):
    """Turns maggy's own errors into a message and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MaggyError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Teaching, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="maggy")
def main() -> None:
    """Look at searches for hyperparameters.

    Every call of experiment.lagom leaves a folder: its event log and the output of its trials.
    """


@main.command()
@_FOLDER
@_JSON
def ls(folder: str, *, as_json: bool) -> None:
    """List the runs of a folder, oldest first.

    `maggy show` takes the id in the first column, the four characters at its end, or the
    experiment's name for its latest run.
    """
    rows = [_row(run) for run in find_runs(folder)]
    if as_json:
        click.echo(json.dumps(rows))
    elif rows:
        click.echo("\n".join(run_table(rows, width=_width())))
    else:
        click.echo(f"No runs in {folder}: a search makes one, and so does `maggy demo`.", err=True)


@main.command()
@click.argument("run")
@_FOLDER
@_JSON
@click.option("--all", "every", is_flag=True, help="List every trial, by id.")
def show(run: str, folder: str, *, as_json: bool, every: bool) -> None:
    """Show what a run came to: the best, its trials, failures and stops.

    RUN is a run's folder, its id, the four characters at the id's end, or an experiment's name
    for its latest run.  The run may still be going on, or have been killed.
    """
    place = open_run(run, folder=folder)
    summary, unfinished = load_outline(place)
    result = Result(summary, place.path, unfinished=unfinished)
    if as_json:
        click.echo(json.dumps(result_json(result)))
        return
    for label, text in closing(summary, place.path, unfinished=unfinished):
        click.echo(f"{label:>7}  {text}" if label else click.style(text, bold=True))
    click.echo("\n".join(trial_tables(result, every=every, width=_width())))


@main.command()
def demo() -> None:
    """Run a real search: a small neural network learns to read digits, in about a minute."""
    importlib.import_module("maggy.demo").main()


def _row(run: RunFolder) -> dict[str, Any]:
    """One run in a few words; a damaged one does not hide the others."""
    row: dict[str, Any] = {"id": run.id, "name": run.name, "path": str(run.path)}
    try:
        summary, unfinished = load_outline(run)
    except RunError as error:
        return row | {"outcome": "damaged", "error": str(error)}
    best = summary.standing.best
    return row | {
        "name": summary.name,
        "outcome": summary.finished.outcome if summary.finished else unfinished,
        "num_trials": summary.started,
        "best_val": None if best is None else best[1],
        "duration": summary.now,
    }


def _width() -> int | None:
    """The terminal's width; None: nothing is cut, for files and pipes."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
