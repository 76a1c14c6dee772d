"""Searches that are to be run: ``maggy run`` and ``maggy demo``."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import runpy
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from maggy.cli.options import Taught
from maggy.config import ENGINES, OptimizationConfig
from maggy.errors import ExperimentInterrupted, MaggyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType

__all__ = ["demo", "run"]

_INTERRUPTED = 130


@click.command(
    cls=Taught,
    short_help="Run a Python script that searches.",
    context_settings={"allow_interspersed_args": False},
    examples=[
        "maggy run train.py",
        "maggy run --trials 3 --engine inline train.py --epochs 1",
        "maggy run --quiet --folder /scratch/runs --seed 7 train.py",
    ],
)
@click.option("--quiet", is_flag=True, default=None, help="Show nothing of the searches.")
@click.option("--folder", help="Where their runs are kept.")
@click.option("--workers", "num_workers", type=int, help="Trials at a time.")
@click.option("--trials", "num_trials", type=int, help="Configurations of each search.")
@click.option("--seed", type=int, help="Makes the searches repeatable.")
@click.option("--engine", type=click.Choice(ENGINES), help="`inline` is for debuggers.")
@click.argument("script", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def run(script: Path, args: Sequence[str], **given: Any) -> None:
    """Run a Python script that searches, as `python SCRIPT ARGS` would.

    The options replace those of every config in the script that goes to experiment.lagom or
    experiment.ask_tell: try a search out with few trials, send it elsewhere, or debug it, without
    touching the script.  They stand before SCRIPT; what follows SCRIPT is the script's own.

    A search that ends with an error of maggy is told in its own words, without a traceback of
    maggy.  The exit code is the script's; 1 after an error, 130 after Ctrl-C.
    """
    if script.suffix == ".ipynb":
        msg = f"{script} is a notebook: open it in Jupyter, or `jupyter execute {script}`."
        raise click.UsageError(msg)
    changes = {name: value for name, value in given.items() if value is not None}
    try:
        with _as_main(script, args), _adjusting(changes):
            runpy.run_path(str(script), run_name="__main__")
    except ExperimentInterrupted as interruption:
        click.echo(interruption, err=True)
        sys.exit(_INTERRUPTED)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except MaggyError as error:
        msg = f"{error}{_where(error, script)}"
        raise click.ClickException(msg) from error
    except Exception as error:  # noqa: BLE001 - shown as Python shows what a script raises
        own = error.with_traceback(_own(error.__traceback__, script))
        sys.excepthook(type(own), own, own.__traceback__)
        sys.exit(1)


@click.command(short_help="Run a real search, in about a minute.")
def demo() -> None:
    """Run a real search: a small neural network learns to read digits, in about a minute."""
    sys.exit(importlib.import_module("maggy.demo").main())


@contextlib.contextmanager
def _as_main(script: Path, args: Sequence[str]) -> Iterator[None]:
    """``sys.argv`` and ``sys.path`` as Python would set them for this script."""
    before = sys.argv, sys.path
    sys.argv, sys.path = [str(script), *args], [str(script.resolve().parent), *sys.path[1:]]
    try:
        yield
    finally:
        sys.argv, sys.path = before


@contextlib.contextmanager
def _adjusting(changes: Mapping[str, Any]) -> Iterator[None]:
    """Let ``experiment.lagom`` and ``ask_tell`` see every config with these changes."""
    if not changes:
        yield
        return
    experiment: Any = importlib.import_module("maggy.experiment")
    lagom, ask_tell = experiment.lagom, experiment.ask_tell

    def adjusted(config: Any) -> Any:
        known = isinstance(config, OptimizationConfig)
        return dataclasses.replace(config, **changes) if known else config

    def adjusted_lagom(train_fn: Callable[..., Any], config: Any) -> Any:
        return lagom(train_fn, adjusted(config))

    def adjusted_ask_tell(config: Any) -> Any:
        return ask_tell(adjusted(config))

    experiment.lagom, experiment.ask_tell = adjusted_lagom, adjusted_ask_tell
    try:
        yield
    finally:
        experiment.lagom, experiment.ask_tell = lagom, ask_tell


def _where(error: BaseException, script: Path) -> str:
    """The line of the script that led to the error."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(script)]
    return f"\n  (in {script}, line {lines[-1]})" if lines else ""


def _own(trace: TracebackType | None, script: Path) -> TracebackType | None:
    """The traceback from the script on; None if the script never ran, as it does not compile."""
    begin = trace
    while begin is not None and begin.tb_frame.f_code.co_filename != str(script):
        begin = begin.tb_next
    return begin
