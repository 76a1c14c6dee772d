"""The display of a running search: a block in a terminal, lines anywhere else, or nothing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from maggy.core.summary import Summary
    from maggy.events import Event

__all__ = ["Display", "Output", "Silence", "make_display"]

_log = logging.getLogger(__name__)


class Display(Protocol):
    """Shows a run; called from one thread, a few times a second."""

    def update(self, summary: Summary, news: Sequence[Event], now: float) -> None:
        """Show how things are.

        Args:
            summary: The run, with the news counted in.
            news: The events since the last call, oldest first.
            now: Seconds of the run's active time.
        """
        ...

    def close(self, summary: Summary) -> None:
        """Show the last words."""
        ...


class Silence:
    """Shows nothing."""

    def update(self, summary: Summary, news: Sequence[Event], now: float) -> None:
        """Say nothing."""

    def close(self, summary: Summary) -> None:
        """Say nothing."""


class Output:
    """A stream that may break without harm: a closed terminal never ends a search."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._broken = False

    def write(self, text: str) -> None:
        """Write and flush; characters that the stream's encoding lacks become ASCII ones."""
        if self._broken or not text:
            return
        try:
            self._stream.write(_encodable(text, self._stream.encoding or "utf-8"))
            self._stream.flush()
        except (OSError, ValueError) as error:  # a closed pipe, a closed file
            self._broken = True
            _log.warning("the display ends, the search goes on: %s", error)


_ASCII = str.maketrans({"━": "=", "─": "-", "╸": "=", "·": ",", "…": "."})


def _encodable(text: str, encoding: str) -> str:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_ASCII).encode(encoding, "replace").decode(encoding)
    return text


def make_display(stream: TextIO, *, quiet: bool, path: Path | None = None) -> Display:
    """The display that fits the stream.

    Args:
        stream: Where to write, usually ``sys.stderr`` or ``sys.stdout``.
        quiet: Show nothing at all.
        path: The run's folder, to be shown, or None.
    """
    if quiet:
        return Silence()
    if stream.isatty():
        from rich.console import Console  # not needed, and not loaded, anywhere else

        console = Console(file=stream, highlight=False, markup=False)
        if not console.is_dumb_terminal:
            from maggy.views.block import BlockDisplay

            return BlockDisplay(Output(stream), console, path)
    from maggy.views.lines import LineDisplay

    return LineDisplay(Output(stream), path)
