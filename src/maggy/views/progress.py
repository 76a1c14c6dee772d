"""The display of a search: a block in a terminal, HTML in a notebook, else lines, or nothing."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Any, Protocol, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from maggy.core.summary import Summary
    from maggy.events import Event

__all__ = ["Display", "Output", "Silence", "in_notebook", "make_display"]

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

    def close(self, summary: Summary, *, unfinished: str = "not finished") -> None:
        """Show the last words; a run whose end is not in its log is ``unfinished``."""
        ...


class Silence:
    """Shows nothing."""

    def update(self, summary: Summary, news: Sequence[Event], now: float) -> None:
        """Say nothing."""

    def close(self, summary: Summary, *, unfinished: str = "not finished") -> None:
        """Say nothing."""


class Output:
    """A stream that may break without harm: a closed terminal never ends a search.

    Args:
        stream: Where to write.
        strict: Raise what it raises, for who has nothing to do but to write.
    """

    def __init__(self, stream: TextIO, *, strict: bool = False) -> None:
        self._stream = stream
        self._strict = strict
        self._broken = False

    def write(self, text: str) -> None:
        """Write and flush; characters that the stream's encoding lacks become ASCII ones.

        Raises:
            OSError: The stream is broken and this is ``strict``.
        """
        if self._broken or not text:
            return
        try:
            self._stream.write(_encodable(text, self._stream.encoding or "utf-8"))
            self._stream.flush()
        except (OSError, ValueError) as error:  # a closed pipe, a closed file
            if self._strict:
                raise
            self._broken = True
            _log.warning("the display ends, the search goes on: %s", error)


_ASCII = str.maketrans({"━": "=", "─": "-", "╸": "=", "·": ",", "…": "."})


def _encodable(text: str, encoding: str) -> str:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_ASCII).encode(encoding, "replace").decode(encoding)
    return text


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook; IPython in a terminal is none."""
    find: Callable[[], Any] = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)
    shell = find()
    return getattr(shell, "kernel", None) is not None


def make_display(
    stream: TextIO, *, quiet: bool, path: Path | None = None, strict: bool = False
) -> Display:
    """The display that fits the stream.

    Args:
        stream: Where to write, usually ``sys.stderr`` or ``sys.stdout``.  In a notebook the output
            of the running cell is used instead.
        quiet: Show nothing at all.
        path: The run's folder, to be shown, or None.
        strict: Let a broken stream raise, see ``Output``.
    """
    if quiet:
        return Silence()
    if in_notebook():
        from maggy.views.notebook import Cell, NotebookDisplay

        return NotebookDisplay(Cell(), path)
    if stream.isatty() and not os.environ.get("CI"):  # nobody watches the terminals of CI
        from rich.console import Console  # not needed, and not loaded, anywhere else

        console = Console(file=stream, highlight=False, markup=False)
        if not console.is_dumb_terminal:
            from maggy.views.block import BlockDisplay

            return BlockDisplay(Output(stream, strict=strict), console, path)
    from maggy.views.lines import LineDisplay

    return LineDisplay(Output(stream, strict=strict), path)
