"""The display in a notebook: one piece of HTML, replaced in place; its last state stays.

It needs no widgets, so it works in Jupyter and VS Code alike, and a saved or converted notebook
shows how the search ended.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from maggy.trial import TrialStatus
from maggy.views.closing import closing, failure, failure_story, first_failure
from maggy.views.forecast import Savings, time_left
from maggy.views.html import chips, details, facts, outcome_tone, page, pictures, text
from maggy.views.news import ENDS, headline, latest, notes
from maggy.views.pictures import Dot, history, thin
from maggy.views.wording import clock, count, number, roughly, seconds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from maggy.core.summary import Summary
    from maggy.events import Event, TrialFailed, TrialFinished, TrialStopped

__all__ = ["Cell", "Frontend", "NotebookDisplay"]

_log = logging.getLogger(__name__)

_INTERVAL = 0.4
"""Seconds between two updates."""

_MEMORY = 4
"""How many of the last events are shown."""

_MOST = 600
"""Points kept for the picture; past that every other one goes."""


class Frontend(Protocol):
    """A place in a notebook's output."""

    def show(self, html: str, plain: str) -> None:
        """Put this in the place of what was there; ``plain`` is for where HTML is not shown."""
        ...


class Cell:
    """The output of the notebook's running cell; trouble with it never ends a search."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._broken = False

    def show(self, html: str, plain: str) -> None:
        """See ``Frontend``."""
        from IPython import display as ipython  # loaded already: this is a kernel

        display: Any = ipython.display
        data = {"text/html": html, "text/plain": plain}
        try:
            if self._handle is None:
                self._handle = display(data, raw=True, display_id=True)
            else:
                self._handle.update(data, raw=True)
        except Exception as error:  # noqa: BLE001 - whatever a front end raises
            if not self._broken:
                _log.warning("the display failed, the search goes on: %s", error)
            self._broken = True


class NotebookDisplay:
    """A ``Display`` in a notebook.

    Args:
        frontend: Where to show it.
        path: The run's folder, or None.
    """

    def __init__(self, frontend: Frontend, path: Path | None) -> None:
        self._frontend = frontend
        self._path = path
        self._recent: deque[tuple[float, str, str]] = deque(maxlen=_MEMORY)
        self._history = _History()
        self._savings = Savings()
        self._drawn: float | None = None

    def update(self, summary: Summary, news: Sequence[Event], now: float) -> None:
        """Replace what is shown if it is time to."""
        self._recent.extend(latest(news, summary, _MEMORY))
        self._history.add(summary, news)
        if not summary.config or (self._drawn is not None and now - self._drawn < _INTERVAL):
            return
        self._drawn = now
        parts = [
            _head(summary, clock(now)),
            _bar(summary, now),
            self._history.picture(summary),
            facts(_state(summary, self._savings(summary))),
            _told(self._recent),
        ]
        self._frontend.show(page(parts), _one_line(summary))

    def close(self, summary: Summary, *, unfinished: str = "not finished") -> None:
        """Put the summary there for good."""
        lines = closing(summary, self._path, unfinished=unfinished)
        rows = [*_notes(summary), *_best(summary)]
        rows += [(label, _last_word(label, words)) for label, words in lines if label not in _OWN]
        parts = [_final_head(summary, unfinished), self._history.picture(summary), facts(rows)]
        failed = first_failure(summary)
        if failed is not None:
            number_of = count(summary.counts[TrialStatus.FAILED], "trial")
            title = f"{number_of} failed; the first, trial {failed.id}: {failed.error}"
            parts.append(details(title, "\n".join(failure_story(failed, self._path))))
        plain = [f"{label:>7}  {words}" if label else words for label, words in lines]
        plain += [story] if (story := failure(summary, self._path)) else []
        self._frontend.show(page(parts), "\n".join(plain))


_OWN = ("", "best")
"""The lines of the summary that the HTML says in its own way."""


class _History:
    """What the picture of the ended trials is drawn from, of bounded size."""

    def __init__(self) -> None:
        self._dots: list[Dot] = []
        self._best: list[tuple[int, float]] = []
        self._ended = 0

    def add(self, summary: Summary, news: Sequence[Event]) -> None:
        for event in news:
            if isinstance(event, ENDS):
                self._add(summary, event)
        best = summary.standing.best
        if best is not None and (not self._best or self._best[-1][1] != best[1]):
            self._best.append((max(1, summary.ended), best[1]))
        if len(self._dots) > _MOST:
            self._dots = self._dots[1::2]
        if len(self._best) > _MOST:
            self._best = list(thin(self._best, _MOST // 2))

    def _add(self, summary: Summary, event: TrialFinished | TrialStopped | TrialFailed) -> None:
        trial = summary.trials.get(event.trial)
        if trial is None or trial.attempt != event.attempt or not trial.status.ended:
            return
        self._ended += 1
        if trial.value is not None and trial.status is not TrialStatus.FAILED:
            completed = trial.status is TrialStatus.COMPLETED
            self._dots.append(Dot(self._ended, trial.value, completed))

    def picture(self, summary: Summary) -> str:
        drawn = history(self._dots, self._best, summary.num_trials or self._ended)
        return pictures([("each trial, and the best so far", drawn)])


def _head(summary: Summary, time: str) -> str:
    return (
        f'<div class="maggy-head"><b>{text(summary.name, 100)}</b>'
        f'<span class="maggy-faint">{text(headline(summary), 200)}</span>'
        f'<span class="maggy-end">{time}</span></div>'
    )


def _final_head(summary: Summary, unfinished: str) -> str:
    finished = summary.finished
    outcome, reason = (finished.outcome, finished.reason) if finished else (unfinished, "")
    return (
        f'<div class="maggy-head"><b>{text(summary.name, 100)}</b>'
        f'<span class="maggy-{outcome_tone(outcome)}">{text(outcome)}</span>'
        f'<span class="maggy-faint">{text(reason or headline(summary), 300)}</span>'
        f'<span class="maggy-end">{seconds(summary.now)}</span></div>'
    )


def _bar(summary: Summary, now: float) -> str:
    total, ended = summary.num_trials, summary.ended
    if total is None:
        return f"<div>{ended:,} trials ended</div>"
    left = time_left(summary, now)
    words = "" if left is None else f"{roughly(left)} left"
    share = min(100.0, 100 * ended / max(total, 1))
    return (
        f'<div class="maggy-bar" role="progressbar" aria-valuemin="0" aria-valuemax="{total}" '
        f'aria-valuenow="{ended}"><div style="width:{share:.1f}%"></div></div>'
        f'<div class="maggy-under"><span>{ended:,} of {total:,}</span><span>{words}</span></div>'
    )


def _state(summary: Summary, saved: float | None) -> list[tuple[str, str]]:
    rows = [*_notes(summary), *_best(summary), ("trials", _counts(summary))]
    crew = summary.crew
    words = f"{crew.busy} of {crew.here} busy" if crew.workers else "starting"
    if crew.utilisation is not None:
        words += f", {crew.utilisation:.0%} of the time"
    lost = f', <span class="maggy-failed">{len(crew.lost):,} lost</span>' if crew.lost else ""
    rows.append(("workers", words + lost))
    if saved is not None:
        rows.append(("saved", f"about {seconds(saved)} of worker time by stopping early"))
    return rows


def _notes(summary: Summary) -> list[tuple[str, str]]:
    return [("note", text(note)) for note in notes(summary)]


def _best(summary: Summary) -> list[tuple[str, str]]:
    best = summary.standing.best
    if best is None:
        return [("best", "none yet" if summary.finished is None else "none")]
    trial, value = best
    return [
        (
            "best",
            f'<span class="maggy-best">{number(value)}</span> &nbsp;trial {trial} &nbsp;'
            f"{chips(summary.trials[trial].hparams)}",
        )
    ]


def _counts(summary: Summary) -> str:
    counts = summary.counts
    parts = [
        ("running", summary.running, "running"),
        ("completed", counts[TrialStatus.COMPLETED], "completed"),
        ("stopped", counts[TrialStatus.STOPPED], "stopped early"),
        ("failed", counts[TrialStatus.FAILED], "failed"),
    ]
    shown = [f'<span class="maggy-{kind}">{n:,} {word}</span>' for kind, n, word in parts if n]
    return " · ".join(shown) or "0 running"


def _told(recent: Sequence[tuple[float, str, str]]) -> str:
    """The last events, under a faint clock."""
    names = {"bad": "maggy-failed", "stop": "maggy-stopped", "": ""}
    return facts(
        (clock(at), f'<span class="{names[tone]}">{text(words, 300)}</span>')
        for at, words, tone in recent
    )


def _last_word(label: str, words: str) -> str:
    shown = text(words)
    return f"<code>{shown}</code>" if label in ("run", "load", "show") else shown


def _one_line(summary: Summary) -> str:
    """The run in a few words, for front ends that show no HTML."""
    best, total = summary.standing.best, summary.num_trials
    of = "" if total is None else f" of {total:,}"
    so_far = "" if best is None else f", best {number(best[1])} (trial {best[0]})"
    return f"{text(summary.name)}: {summary.ended:,}{of} trials ended{so_far}"
