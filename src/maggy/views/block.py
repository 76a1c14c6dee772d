"""The display in a terminal: one block, redrawn in place."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from rich.color import ColorSystem
from rich.style import Style

from maggy.trial import TrialStatus
from maggy.views.alerts import Alerts
from maggy.views.closing import closing, failure
from maggy.views.forecast import Savings, time_left
from maggy.views.news import headline, latest, notes
from maggy.views.wording import (
    clock,
    configuration,
    number,
    one_line,
    printable,
    roughly,
    seconds,
    wrapped,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from rich.console import Console

    from maggy.core.summary import Summary
    from maggy.events import Event
    from maggy.views.progress import Output

__all__ = ["BlockDisplay"]

_INTERVAL = 0.2
"""Seconds between two drawings."""

_WIDEST = 100
"""Columns that title and bar take at most; the other lines take what there is."""

_MEMORY = 3
"""How many of the last events are shown."""

Line = list[tuple[str, str]]
"""Pieces of one line: a text and the name of its style."""

_STYLES = {
    "": Style(),
    "name": Style(bold=True),
    "faint": Style(dim=True),
    "best": Style(bold=True, color="green"),
    "bar": Style(color="green"),
    "bad": Style(color="red"),
    "stop": Style(color="yellow"),
    "busy": Style(color="cyan"),
}

_TONES = {"best": "best", "warning": "stop", "": "name"}
"""The styles of lines that stay, by their labels."""

_SYSTEMS = {
    "standard": ColorSystem.STANDARD,
    "256": ColorSystem.EIGHT_BIT,
    "truecolor": ColorSystem.TRUECOLOR,
    "windows": ColorSystem.WINDOWS,
}


class BlockDisplay:
    """A ``Display`` that redraws one block; until it is closed, warnings of maggy stay above it.

    Args:
        output: Where to write.
        console: Knows the terminal's width and colours.
        path: The run's folder, or None.
    """

    def __init__(self, output: Output, console: Console, path: Path | None) -> None:
        self._output = output
        self._console = console
        self._path = path
        system = None if console.no_color else console.color_system
        self._colours = None if system is None else _SYSTEMS[system]
        self._recent: deque[Line] = deque(maxlen=_MEMORY)
        self._savings = Savings()
        self._alerts = Alerts()
        self._alerts.listen()
        self._height = 0
        self._drawn: float | None = None

    def update(self, summary: Summary, news: Sequence[Event], now: float) -> None:
        """Redraw the block if it is time to."""
        self._recent.extend(
            [(f"{clock(at):>7}  ", "faint"), (words, tone)]
            for at, words, tone in latest(news, summary, _MEMORY)
        )
        warned = self._warned()
        if warned:
            self._output.write(f"{self._erase()}{warned}")
            self._height = 0
        early = self._drawn is not None and now - self._drawn < _INTERVAL
        if not summary.config or (early and not warned):
            return
        if self._drawn is None:
            self._output.write(self._labelled(("note", note) for note in notes(summary)))
        self._drawn = now
        self._draw(self._block(summary, now))

    def close(self, summary: Summary, *, unfinished: str = "not finished") -> None:
        """Replace the block by the summary."""
        self._alerts.close()
        text = self._warned()
        text += self._labelled(closing(summary, self._path, unfinished=unfinished))
        if story := failure(summary, self._path):
            text += f"\n{story}\n"
        self._output.write(f"{self._erase()}{text}")
        self._height = 0

    def _warned(self) -> str:
        """What maggy has warned of since the last drawing."""
        lines = (line for said in self._alerts.take() for line in printable(said).splitlines())
        return self._labelled(("warning", line) for line in lines)

    def _labelled(self, lines: Iterable[tuple[str, str]]) -> str:
        """Lines that stay: a faint label each, and its words, wrapped."""
        text = ""
        for label, words in lines:
            tone = _TONES.get(label, "")
            head = f"{label:>7}  " if label else ""
            for line in wrapped(words, self._console.width - len(head)):
                text += f"{self._colour(head, 'faint')}{self._colour(line, tone)}\n"
                head = " " * len(head)
        return text

    def _draw(self, lines: list[Line]) -> None:
        lines = lines[: max(1, self._console.height - 1)]
        text = "".join(f"{self._paint(line)}\n" for line in lines)
        self._output.write(f"{self._erase()}{text}")
        self._height = len(lines)

    def _erase(self) -> str:
        """Back to the block's first line, and clear from there on."""
        return f"\x1b[{self._height}F\x1b[J" if self._height else ""

    def _paint(self, line: Line) -> str:
        """The line with its colours, cut to the terminal's width."""
        left = self._console.width
        painted = []
        for text, style in line:
            size = cell_len(text)
            if size > left:
                text = f"{set_cell_size(text, left - 1)}…" if left > 1 else ""  # noqa: PLW2901
            painted.append(self._colour(text, style))
            left -= min(size, left)
        return "".join(painted)

    def _colour(self, text: str, style: str) -> str:
        return _STYLES[style].render(text, color_system=self._colours)

    def _block(self, summary: Summary, now: float) -> list[Line]:
        width = min(self._console.width, _WIDEST)
        return [
            _title(summary, now, width),
            _bar(summary, now, width),
            *_best(summary, self._console.width),
            _trials(summary),
            _workers(summary, self._savings(summary)),
            *self._recent,
        ]


def _title(summary: Summary, now: float, width: int) -> Line:
    name, time = one_line(summary.name), clock(now)
    room = width - cell_len(name) - len(time) - 3
    what = headline(summary)
    shown = set_cell_size(what if cell_len(what) <= room else "", max(room, 1))
    return [(name, "name"), ("  ", ""), (shown, "faint"), (" ", ""), (time, "")]


def _bar(summary: Summary, now: float, width: int) -> Line:
    total, ended = summary.num_trials, summary.ended
    if total is None:
        return [(f"{ended:,} trials ended", "")]
    left = time_left(summary, now)
    words = f"  {ended:,} of {total:,}" + ("" if left is None else f"  {roughly(left)} left")
    cells = max(4, width - max(len(words), 26))
    full = min(cells, cells * ended // max(total, 1))
    return [("━" * full, "bar"), ("─" * (cells - full), "faint"), (words, "")]


def _best(summary: Summary, width: int) -> list[Line]:
    """The best value and its configuration, on as many lines as it needs, three at most."""
    best = summary.standing.best
    if best is None:
        return [[("   best  ", "faint"), ("none yet", "faint")]]
    trial, value = best
    shown = number(value)
    words = f"trial {trial}  {configuration(summary.trials[trial].hparams)}"
    first, *more = wrapped(words, width - len(shown) - 11)
    gap = " " * (len(shown) + 11)
    return [
        [("   best  ", "faint"), (shown, "best"), (f"  {first}", "")],
        *([(f"{gap}{line}", "")] for line in more[:2]),
    ]


def _trials(summary: Summary) -> Line:
    counts = summary.counts
    parts = [
        (f"{summary.running:,} running", "busy"),
        (f"{counts[TrialStatus.COMPLETED]:,} completed", "bar"),
        (f"{counts[TrialStatus.STOPPED]:,} stopped early", "stop"),
        (f"{counts[TrialStatus.FAILED]:,} failed", "bad"),
    ]
    shown = [part for part in parts if not part[0].startswith("0 ")] or parts[:1]
    line: Line = [(" trials  ", "faint")]
    for i, part in enumerate(shown):
        line += [(" · ", "faint"), part] if i else [part]
    return line


def _workers(summary: Summary, saved: float | None) -> Line:
    crew = summary.crew
    if crew.here:
        words = f"{crew.busy} of {crew.here} busy"
    elif crew.workers:
        words = "none is here"
    else:
        words = "none has joined yet" if summary.config.get("engine") == "manual" else "starting"
    if crew.utilisation is not None and crew.here:
        words += f", {crew.utilisation:.0%} of the time"
    line: Line = [("workers  ", "faint"), (words, "")]
    if crew.lost:
        line.append((f", {len(crew.lost)} lost", "bad"))
    if saved is not None:
        line += [(" · ", "faint"), (f"about {seconds(saved)} saved by stopping early", "")]
    return line
