"""Runs that are there: ``maggy ls``, ``show`` and ``compare``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from maggy.cli.options import FOLDER, JSON, RUN, RUNS, Taught, width
from maggy.errors import RunError
from maggy.store.folder import find_runs, open_run
from maggy.views.closing import closing
from maggy.views.compare import comparison, comparison_json, doubts, load_contestant
from maggy.views.news import notes
from maggy.views.result import Result, load_outline
from maggy.views.tables import result_json, run_table, trial_tables
from maggy.views.wording import wrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maggy.store.folder import RunFolder

__all__ = ["compare", "ls", "show"]


@click.command()
@FOLDER
@JSON
def ls(folder: str, *, as_json: bool) -> None:
    """List the runs of a folder, oldest first.

    `maggy show` takes the id in the first column, the four characters at its end, or the
    experiment's name for its latest run.
    """
    rows = [_row(run) for run in find_runs(folder)]
    if as_json:
        click.echo(json.dumps(rows))
    elif rows:
        click.echo("\n".join(run_table(rows, width=width())))
    else:
        click.echo(f"No runs in {folder}: a search makes one, and so does `maggy demo`.", err=True)


@click.command(
    cls=Taught,
    short_help="Show what a run came to: best, trials, failures.",
    examples=[
        "maggy show digits",
        "maggy show maggy-runs/digits/20260131T235959Z-1f2e --all | less",
        "maggy show 1f2e --json | jq .best_hp",
    ],
)
@RUN
@FOLDER
@JSON
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
    columns = width()
    first, *rest = closing(summary, place.path, unfinished=unfinished)
    for label, text in (first, *(("note", note) for note in notes(summary)), *rest):
        head = f"{label:>7}  " if label else ""
        lines = [text] if columns is None else wrapped(text, columns - len(head))
        whole = f"\n{' ' * len(head)}".join(lines)
        click.echo(f"{head}{whole}" if label else click.style(whole, bold=True))
    click.echo("\n".join(trial_tables(result, every=every, width=columns)))


@click.command(
    cls=Taught,
    short_help="Show runs side by side.",
    examples=[
        "maggy compare digits-random digits-gp",
        "maggy compare 1f2e 77a0 90c3 --json",
    ],
)
@RUNS
@FOLDER
@JSON
def compare(runs: Sequence[str], folder: str, *, as_json: bool) -> None:
    """Show runs side by side: the best, counts, durations, and who was ahead when.

    Each RUN is named as for `maggy show`.  The last rows give the best value that each run had
    after equal time and after equally many trials, up to what the shortest run reached; a star
    marks the best of a row.
    """
    found = [load_contestant(open_run(run, folder=folder)) for run in runs]
    if as_json:
        click.echo(json.dumps(comparison_json(found)))
        return
    click.echo("\n".join(comparison(found, width=width())))
    if doubt := doubts(found):
        click.echo(doubt, err=True)


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
