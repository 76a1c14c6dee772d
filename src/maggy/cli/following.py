"""Runs that go on: ``maggy watch`` and ``maggy logs``."""

from __future__ import annotations

import codecs
import json
import os
import re
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from maggy.cli.options import FOLDER, JSON, RUN, Taught
from maggy.store.folder import open_run
from maggy.views.closing import ran_inline
from maggy.views.follow import Follower, state_json
from maggy.views.progress import make_display
from maggy.views.result import Result

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from maggy.store.folder import RunFolder

__all__ = ["logs", "watch"]

_INTERVAL = 0.2
"""Seconds between two looks at a run."""

_SELDOM = 1.0
"""Seconds between two lines of JSON."""

_CHUNK = 65_536
_LEFT = 130
_ENDED_BADLY = 3


@click.command(
    cls=Taught,
    short_help="Follow a run of another process until it ends.",
    examples=[
        "maggy watch digits",
        'maggy watch 1f2e && notify-send "search completed"',
    ],
)
@RUN
@FOLDER
@JSON
def watch(run: str, folder: str, *, as_json: bool) -> None:
    """Follow a run of another process until it ends, as if it ran here.

    RUN is named as for `maggy show`.  Ctrl-C leaves the run alone.  The exit code is 0 if the run
    completed, 3 if it failed, was interrupted or killed.  With --json a line is written whenever
    something has changed, once a second at most.
    """
    follower = _follow(open_run(run, folder=folder))
    try:
        (_stream if as_json else _show)(follower)
    except KeyboardInterrupt:
        click.echo("No longer watching; the run goes on.", err=True)
        sys.exit(_LEFT)
    finished = follower.summary.finished
    if finished is None or finished.outcome not in ("completed", "exhausted"):
        sys.exit(_ENDED_BADLY)


@click.command(
    cls=Taught,
    examples=[
        "maggy logs digits 17",
        "maggy logs digits 17 --tail 20",
        "maggy logs digits 17 --follow",
    ],
)
@RUN
@click.argument("trial", type=click.IntRange(min=0))
@FOLDER
@JSON
@click.option("-f", "--follow", is_flag=True, help="Go on until the trial has ended.")
@click.option("-n", "--tail", type=click.IntRange(min=0), help="Only the last N lines.")
def logs(
    run: str, trial: int, folder: str, *, as_json: bool, follow: bool, tail: int | None
) -> None:
    """Show what a trial printed: its standard output and error.

    RUN is named as for `maggy show`; TRIAL is the trial's number.
    """
    if follow and as_json:
        msg = "--follow has no JSON: it writes what comes as it comes. Leave out one of the two."
        raise click.UsageError(msg)
    place = open_run(run, folder=folder)
    follower = _follow(place)
    follower.poll()
    if trial not in follower.summary.trials or not follower.summary.trials[trial].runs:
        started = follower.summary.started
        msg = f"trial {trial} has not started in {place.id}, which started {started:,} trials."
        raise click.ClickException(msg)
    if as_json:
        click.echo(json.dumps(_log_json(follower, place, trial, tail)))
        return
    try:
        written = _copy(follower, place, trial, tail, follow=follow)
    except KeyboardInterrupt:
        sys.exit(_LEFT)
    if not written:
        if ran_inline(follower.summary.trials[trial]):
            why = "ran with engine='inline': what it printed went to the output of its search."
        else:
            why = "printed nothing."
        click.echo(f"Trial {trial} {why}", err=True)


def _follow(place: RunFolder) -> Follower:
    return Follower(place, time.monotonic, lambda: datetime.now(UTC).timestamp())


def _show(follower: Follower) -> None:
    """The display that the run has where it was started."""
    display = make_display(sys.stdout, quiet=False, path=follower.path, strict=True)
    unfinished = "still running"
    try:
        while True:
            news = follower.poll()
            display.update(follower.summary, news, follower.now())
            if follower.over:
                unfinished = follower.unfinished
                return
            time.sleep(_INTERVAL)
    finally:
        display.close(follower.summary, unfinished=unfinished)


def _stream(follower: Follower) -> None:
    written: float | None = None
    changed = False
    while True:
        changed = bool(follower.poll()) or changed
        due = written is None or time.monotonic() - written >= _SELDOM
        if follower.over or (changed and due):
            state = state_json(follower.summary, follower.now(), follower.unfinished)
            click.echo(json.dumps(state))
            written, changed = time.monotonic(), False
        if follower.over:
            return
        time.sleep(_INTERVAL)


# What a trial printed


def _log_json(follower: Follower, place: RunFolder, trial: int, lines: int | None) -> Any:
    path = place.log_path(trial)
    data = b"".join(_chunks(path, _start(path, lines)))
    result = Result(follower.summary, unfinished=follower.unfinished)
    status = next(found.status for found in result.trials if found.id == trial)
    text = data.decode("utf-8", "replace")
    return {"run": place.id, "trial": trial, "status": status, "path": str(path), "text": text}


def _copy(
    follower: Follower, place: RunFolder, trial: int, lines: int | None, *, follow: bool
) -> bool:
    """Write the trial's output, and what is added to it; whether there was any."""
    path = place.log_path(trial)
    position, copier = _start(path, lines), _Copier()
    written = False
    while True:
        ended = follower.over or not _goes_on(follower, trial)  # before reading its last words
        size = path.stat().st_size if path.exists() else 0
        if size < position:  # its middle was cut out
            position = size
        for chunk in _chunks(path, position):
            written = True
            position += len(chunk)
            copier.write(chunk)
        if ended or not follow:
            return written
        time.sleep(_INTERVAL)
        follower.poll()


def _goes_on(follower: Follower, trial: int) -> bool:
    return not follower.summary.trials[trial].status.ended


def _chunks(path: Path, start: int) -> Iterator[bytes]:
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(start)
        while chunk := file.read(_CHUNK):
            yield chunk


def _start(path: Path, lines: int | None) -> int:
    """Where the last ``lines`` lines begin; without a number, the beginning."""
    if lines is None or not path.exists():
        return 0
    if not lines:
        return path.stat().st_size
    with path.open("rb") as file:
        position = file.seek(0, os.SEEK_END)
        end = position - 1  # the last newline ends a line and begins none
        wanted = lines
        while position:
            length = min(_CHUNK, position)
            position -= length
            file.seek(position)
            block = file.read(length)[: end - position]
            breaks = block.count(b"\n")
            if breaks >= wanted:
                return position + _after_break(block, breaks - wanted)
            wanted -= breaks
    return 0


def _after_break(block: bytes, skip: int) -> int:
    """The place after the newline number ``skip``, counted from 0."""
    place = -1
    for _ in range(skip + 1):
        place = block.index(b"\n", place + 1)
    return place + 1


_ESCAPED = re.compile("(\x1b\\[[0-9;]*m)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


class _Copier:
    """Writes what a trial printed: the very bytes, but to a terminal only text and colours."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def write(self, chunk: bytes) -> None:
        if not sys.stdout.isatty():
            click.echo(chunk, nl=False)
            return
        text = self._decoder.decode(chunk)
        click.echo(_ESCAPED.sub(_harmless, text), nl=False, color=True)


def _harmless(found: re.Match[str]) -> str:
    """A colour as it is; any other control character as its escape."""
    return found[1] or ascii(found[0])[1:-1]
