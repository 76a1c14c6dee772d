"""The display where lines stay: a file, a pipe, a CI log.

One line for each event worth telling.  When events come faster than people read, losses,
failures and the best are told, the rest is counted.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from maggy.events import TrialFailed, TrialFinished, TrialStopped
from maggy.views.closing import closing, failure
from maggy.views.news import ENDS, headline, is_news, notes, sentence
from maggy.views.wording import clock, count, number, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from maggy.core.summary import Summary
    from maggy.events import Event
    from maggy.views.progress import Output

__all__ = ["LineDisplay"]

_RATE = 20.0
"""Lines a second, and lines at once."""

_WORDS = {TrialFinished: "completed", TrialStopped: "stopped", TrialFailed: "failed"}


class LineDisplay:
    """A ``Display`` of plain lines.

    Args:
        output: Where to write.
        path: The run's folder, or None.
    """

    def __init__(self, output: Output, path: Path | None) -> None:
        self._output = output
        self._path = path
        self._started = False
        self._allowance = _RATE
        self._last = 0.0
        self._held: list[Event] = []
        self._untold: Counter[str] = Counter()

    def update(self, summary: Summary, news: Sequence[Event], now: float) -> None:
        """Tell the news."""
        if not self._started and summary.config:
            self._started = True
            place = "" if self._path is None else f"; run folder {self._path}"
            start = f"{one_line(summary.name)}: {headline(summary)}{place}"
            self._output.write("\n".join([start, *(f"   note  {n}" for n in notes(summary)), ""]))
        self._allowance = min(_RATE, self._allowance + _RATE * max(0.0, now - self._last))
        self._last = now
        told = [*self._held, *(event for event in news if is_news(event))]
        if told or self._untold:
            self._output.write("".join(f"{line}\n" for line in self._choose(told, summary)))

    def close(self, summary: Summary, *, unfinished: str = "not finished") -> None:
        """Write the summary."""
        lines = _sentences(self._held, summary)
        lines += [self._rest(summary)] if self._untold else []
        for label, text in closing(summary, self._path, unfinished=unfinished):
            lines.append(f"{label:>7}  {text}" if label else f"\n{text}")
        if story := failure(summary, self._path):
            lines += ["", story]
        self._output.write("\n".join([*lines, ""]))

    def _choose(self, told: list[Event], summary: Summary) -> list[str]:
        """The lines for which there is room; what matters waits for its turn, the rest counts."""
        self._held = []
        room = int(self._allowance) if self._allowance >= 2 else 0  # one line, and the count
        if len(told) + bool(self._untold) > room:
            told = self._condense(told, max(0, room - 1), summary)
        lines = _sentences(told, summary)
        if self._untold and room:
            lines.append(self._rest(summary))
        self._allowance -= len(lines)
        return lines

    def _condense(self, told: list[Event], room: int, summary: Summary) -> list[Event]:
        """The ``room`` most important events, in order."""
        best = summary.standing.best
        best_id = None if best is None else best[0]
        ranks = [_importance(event, best_id) for event in told]
        order = sorted(range(len(told)), key=lambda i: (ranks[i], i))
        for i in order[room:]:
            if ranks[i] < _COUNTED and len(self._held) < _RATE:
                self._held.append(told[i])
            else:
                self._untold[_WORDS.get(type(told[i]), "other events")] += 1
        return [told[i] for i in sorted(order[:room])]

    def _rest(self, summary: Summary) -> str:
        """The line that stands for all that was not told."""
        parts = ", ".join(f"{n:,} {what}" for what, n in sorted(self._untold.items()))
        total = self._untold.total()
        self._untold.clear()
        best = summary.standing.best
        so_far = "" if best is None else f"; best so far {number(best[1])}, trial {best[0]}"
        return f"{clock(summary.now):>7}  and {count(total, 'more event')}: {parts}{so_far}"


def _sentences(events: Sequence[Event], summary: Summary) -> list[str]:
    texts = ((event.at, sentence(event, summary)) for event in events)
    return [f"{clock(at):>7}  {text}" for at, text in texts if text is not None]


_COUNTED = 3
"""From this rank on, events that find no room are counted, not held."""


def _importance(event: Event, best: int | None) -> int:
    """A rank; smaller is more important.  The best is told beside the count in any case."""
    if isinstance(event, TrialFailed):
        return 1
    if isinstance(event, ENDS):
        return 2 if event.trial == best else _COUNTED
    return 0
