"""A run for other programs: ``maggy export``."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from maggy.cli.options import FOLDER, RUN, Taught
from maggy.core.summary import Summary
from maggy.store.folder import open_run
from maggy.store.sqlite import SqliteLog
from maggy.views.exports import (
    metrics_table,
    trials_table,
    write_csv,
    write_json,
    write_parquet,
)
from maggy.views.result import Result, load_outline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from maggy.store.folder import RunFolder
    from maggy.views.exports import Table

__all__ = ["export"]

_FORMATS = ("csv", "json", "parquet")
_TEXT = ("", "txt")
"""Endings that say no format: CSV."""


@click.command(
    cls=Taught,
    short_help="Write a run's trials or reports as a table.",
    examples=[
        "maggy export digits > trials.csv",
        "maggy export digits --metrics -o curves.parquet",
        "maggy export digits --format json | jq length",
    ],
)
@RUN
@FOLDER
@click.option(
    "--format",
    "wanted",
    type=click.Choice(_FORMATS),
    help="By default the ending of FILE, or csv.",
)
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="FILE to write."
)
@click.option("--metrics", is_flag=True, help="The learning curves instead of the trials.")
def export(
    run: str, folder: str, wanted: str | None, output: Path | None, *, metrics: bool
) -> None:
    """Write a run as a table: its trials, or every report of every trial.

    Trials have the columns id, status, value, budget, runs, duration, worker, stop_reason, error,
    hp_NAME for each hyperparameter and info_NAME for what was returned beside the metric;
    learning curves have trial, step, value and other_NAME.  An existing FILE is replaced.
    """
    ending = output.suffix[1:].lower() if output is not None else ""
    if wanted is None and ending not in (*_FORMATS, *_TEXT):
        msg = f".{ending} is unknown: end FILE in .csv, .json or .parquet, or give --format."
        raise click.UsageError(msg)
    kind = wanted or ("csv" if ending in _TEXT else ending)
    if output is None and kind == "parquet":
        msg = "Parquet is no text: name a file, such as -o trials.parquet."
        raise click.UsageError(msg)
    place = open_run(run, folder=folder)
    table = _metrics(place) if metrics else _trials(place)
    if output is None:
        (write_csv if kind == "csv" else write_json)(table, sys.stdout)
        return
    try:
        _write(table, output, kind)
    except ModuleNotFoundError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        msg = f"{output} cannot be written: {error.strerror or error}."
        raise click.ClickException(msg) from error
    click.echo(f"{output}: {len(table.rows):,} rows", err=True)


def _trials(place: RunFolder) -> Table:
    summary, unfinished = load_outline(place)
    return trials_table(Result(summary, place.path, unfinished=unfinished))


def _metrics(place: RunFolder) -> Table:
    summary = Summary()
    with SqliteLog.open(place.database) as log:
        for event in log.read():
            summary.apply(event)
    return metrics_table(summary)


def _write(table: Table, output: Path, kind: str) -> None:
    with _replacing(output) as path:
        if kind == "parquet":
            with path.open("wb") as file:
                write_parquet(table, file)
            return
        with path.open("w", encoding="utf-8", newline="") as text:
            (write_csv if kind == "csv" else write_json)(table, text)


@contextlib.contextmanager
def _replacing(output: Path) -> Iterator[Path]:
    """A new file that takes the place of ``output`` when all of it was written."""
    path = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        yield path
        path.replace(output)
    finally:
        path.unlink(missing_ok=True)
