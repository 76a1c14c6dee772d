"""The display where lines stay: a file, a pipe, a CI log, a notebook.

One line for each event worth telling.  When events come faster than people read, the best, the
failures and the losses are told, the rest is counted.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from maggy.events import SearchExhausted, TrialFailed, TrialFinished, TrialStopped
from maggy.views.closing import closing, failure
from maggy.views.news import ENDS, TROUBLES, headline, is_news, sentence
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
        self._untold: Counter[str] = Counter()

    def update(self, summary: Summary, news: Sequence[Event], now: float) -> None:
        """Tell the news."""
        if not self._started and summary.config:
            self._started = True
            place = "" if self._path is None else f"; run folder {self._path}"
            start = f"{one_line(summary.name)}: {headline(summary)}{place}"
            self._output.write(f"{start}\n")
        self._allowance = min(_RATE, self._allowance + _RATE * max(0.0, now - self._last))
        self._last = now
        told = [event for event in news if is_news(event)]
        if told or self._untold:
            self._output.write("".join(f"{line}\n" for line in self._choose(told, summary)))

    def close(self, summary: Summary) -> None:
        """Write the summary."""
        lines = [self._rest(summary)] if self._untold else []
        for label, text in closing(summary, self._path):
            lines.append(f"{label:>7}  {text}" if label else f"\n{text}")
        if story := failure(summary, self._path):
            lines += ["", story]
        self._output.write("\n".join([*lines, ""]))

    def _choose(self, told: list[Event], summary: Summary) -> list[str]:
        room = int(self._allowance)
        if len(told) + bool(self._untold) > room:
            told = self._condense(told, max(0, room - 1), summary)
        lines = [
            f"{clock(event.at):>7}  {text}"
            for event in told
            if (text := sentence(event, summary)) is not None
        ]
        if self._untold and room:
            lines.append(self._rest(summary))
        self._allowance -= len(lines)
        return lines

    def _condense(self, told: list[Event], room: int, summary: Summary) -> list[Event]:
        """The ``room`` most important events, in order; the others are counted."""
        best = summary.standing.best
        best_id = None if best is None else best[0]
        keys = [(_importance(event, best_id), i) for i, event in enumerate(told)]
        chosen = {i for _, i in sorted(keys)[:room]}
        for i, event in enumerate(told):
            if i not in chosen:
                self._untold[_WORDS.get(type(event), "other events")] += 1
        return [told[i] for i in sorted(chosen)]

    def _rest(self, summary: Summary) -> str:
        """The line that stands for all that was not told."""
        parts = ", ".join(f"{n:,} {what}" for what, n in sorted(self._untold.items()))
        total = self._untold.total()
        self._untold.clear()
        best = summary.standing.best
        so_far = "" if best is None else f"; best so far {number(best[1])}, trial {best[0]}"
        return f"{clock(summary.now):>7}  and {count(total, 'more event')}: {parts}{so_far}"


def _importance(event: Event, best: int | None) -> int:
    """Smaller is more important."""
    if isinstance(event, TROUBLES):
        return 2 if isinstance(event, TrialFailed) else 1
    if isinstance(event, ENDS):
        return 0 if event.trial == best else 3
    return 0 if isinstance(event, SearchExhausted) else 1
