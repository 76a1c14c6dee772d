"""Unit tests of ``maggy.views.notebook``."""

from __future__ import annotations

import logging
import sys
import time
import types
from typing import TYPE_CHECKING, Any

import pytest

from maggy.core.summary import Summary
from maggy.events import (
    ExperimentStarted,
    Suggested,
    TrialFailed,
    TrialFinished,
    TrialStarted,
    WorkerJoined,
)
from maggy.testing.stores import story
from maggy.trial import TrialError
from maggy.views.notebook import Cell, NotebookDisplay

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from maggy.events import Event


class Page:
    """A front end that remembers what it was shown."""

    def __init__(self) -> None:
        self.html: list[str] = []
        self.plain: list[str] = []

    def show(self, html: str, plain: str) -> None:
        self.html.append(html)
        self.plain.append(plain)


def play(display: NotebookDisplay, events: Sequence[Event], *, group: int = 1) -> Summary:
    """Show a run as an engine would, ``group`` events at a time."""
    summary = Summary()
    for start in range(0, len(events), group):
        news = events[start : start + group]
        for event in news:
            summary.apply(event)
        display.update(summary, news, news[-1].at)
    return summary


def crowd(count: int, seconds: float) -> list[Event]:
    """Trials that complete one after the other, evenly in time, each better than the last."""
    config: dict[str, Any] = {"name": "crowd", "num_trials": count}
    events: list[Event] = [ExperimentStarted(at=0.0, config=config)]
    events += [WorkerJoined(at=0.0, worker="w")]
    for number in range(count):
        at = seconds * number / count
        run: dict[str, Any] = {"at": at, "trial": number, "attempt": 0}
        events += [
            Suggested(at=at, trial=number, hparams={"x": number}),
            TrialStarted(**run, worker="w"),
            TrialFinished(**run, value=number / count),
        ]
    return events


def test_the_story_while_it_goes_on() -> None:
    """Progress, time left, the best, counts, workers, and the last news, in one piece."""
    page = Page()
    play(NotebookDisplay(page, None), story()[:-1])
    last = page.html[-1]
    for words in (
        "<b>story</b>",
        "randomsearch, 6 trials, maximising accuracy",
        'aria-valuemax="6" aria-valuenow="4"',
        "width:66.7%",
        "<span>4 of 6</span><span>1 s left</span>",
        '<span class="maggy-best">0.875</span> &nbsp;trial 3',
        '<span class="maggy-chip"><i>lr</i> 0.4</span>',
        '<span class="maggy-running">1 running</span>',
        '<span class="maggy-stopped">1 stopped early</span>',
        "1 of 2 busy, 85% of the time",
        '<span class="maggy-failed">1 lost</span>',
        "interrupted: running trials have 0.50 s to leave",
        "<svg",
    ):
        assert words in last, words
    assert page.plain[-1] == "story: 4 of 6 trials ended, best 0.875 (trial 3)"


def test_the_last_state_stays(tmp_path: Path) -> None:
    """Outcome, summary, where the run is, and the first failure folded away; no news, no bar."""
    page = Page()
    display = NotebookDisplay(page, tmp_path)
    display.close(play(display, story()))
    last = page.html[-1]
    for words in (
        '<span class="maggy-stopped">interrupted</span>',
        "The run was interrupted.",
        "2 completed, 1 stopped early, 1 failed, 1 unfinished",
        f"<code>experiment.load(&#x27;{tmp_path}&#x27;)</code>",
        "<details><summary>1 trial failed; the first, trial 1: ValueError: no such unit</summary>",
        f"Its output: {tmp_path}/trials/000001.log</pre>",
    ):
        assert words in last, words
    assert "progressbar" not in last
    assert page.plain[-1].splitlines()[0].startswith("story interrupted after 6.50 s")
    assert "  ValueError: no such unit" in page.plain[-1].splitlines()


def test_before_the_first_trial() -> None:
    """Nothing is known yet, and that is shown; before the first event there is nothing at all."""
    page = Page()
    display = NotebookDisplay(page, None)
    display.update(Summary(), [], 0.0)
    assert page.html == []
    summary = play(display, story()[:1])
    for words in ("none yet", "0 running", "starting", "<span></span>", "width:0.0%"):
        assert words in page.html[-1]
    display.close(summary, unfinished="still running")
    assert "still running" in page.html[-1]


def test_a_search_of_the_whole_space_has_no_bar() -> None:
    """Where nobody knows the number of trials, those that ended are counted."""
    page = Page()
    play(NotebookDisplay(page, None), [ExperimentStarted(at=0.0, config={"name": "g"})])
    assert "0 trials ended" in page.html[-1]
    assert page.plain == ["g: 0 trials ended"]


def test_notes_are_shown_from_the_start_to_the_end() -> None:
    """What the search says at its start."""
    page = Page()
    display = NotebookDisplay(page, None)
    config: dict[str, Any] = {"name": "n", "notes": ["The grid has <9> points."]}
    summary = play(display, [ExperimentStarted(at=0.0, config=config)])
    display.close(summary)
    for html in page.html:
        assert "<th>note</th><td>The grid has &lt;9&gt; points.</td>" in html


def test_users_text_is_escaped() -> None:
    """Names, hyperparameters, workers and errors hold no tags, in any state."""
    evil = "<img src=x onerror=alert(1)>"
    error = TrialError(type=evil, message=evil, traceback=evil)
    config: dict[str, Any] = {"name": evil, "optimization_key": evil, "notes": [evil]}
    events: list[Event] = [
        ExperimentStarted(at=0.0, config=config | {"optimizer": evil}),
        WorkerJoined(at=0.0, worker=evil),
        Suggested(at=0.0, trial=0, hparams={evil: evil}),
        TrialStarted(at=0.0, trial=0, attempt=0, worker=evil),
        TrialFinished(at=1.0, trial=0, attempt=0, value=1.0),
        Suggested(at=1.0, trial=1, hparams={evil: evil}),
        TrialStarted(at=1.0, trial=1, attempt=0, worker=evil),
        TrialFailed(at=2.0, trial=1, attempt=0, error=error),
    ]
    page = Page()
    display = NotebookDisplay(page, None)
    display.close(play(display, events))
    assert len(page.html) >= 3
    for html in page.html:
        assert "<img" not in html
        assert "&lt;img" in html


def test_it_is_replaced_a_few_times_a_second() -> None:
    """However often it is called, and however many events there are."""
    page = Page()
    play(NotebookDisplay(page, None), crowd(3000, 10.0))
    assert 20 <= len(page.html) <= 26


def test_it_stays_small() -> None:
    """Ten thousand trials, each with its dot."""
    page = Page()
    display = NotebookDisplay(page, None)
    summary = play(display, crowd(10_000, 60.0), group=100)
    display.close(summary)
    assert max(map(len, page.html)) < 30_000


def test_it_costs_next_to_nothing() -> None:
    """Ten seconds at a thousand events a second take about a tenth of a second of work."""
    display, events = NotebookDisplay(Page(), None), crowd(3333, 10.0)
    summary, spent = Summary(), 0.0
    for start in range(0, len(events), 100):
        news = events[start : start + 100]
        for event in news:
            summary.apply(event)
        began = time.process_time()
        display.update(summary, news, news[-1].at)
        spent += time.process_time() - began
    assert spent < 0.3


@pytest.fixture
def ipython(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """An ``IPython.display`` that notes what it is told; it fails when told ``fail``."""
    calls: list[tuple[str, Any]] = []

    def note(kind: str, data: dict[str, str]) -> None:
        if data["text/plain"] == "fail":
            msg = "the front end is gone"
            raise RuntimeError(msg)
        calls.append((kind, data))

    class Handle:
        def update(self, data: dict[str, str], *, raw: bool) -> None:
            note("update", data)

    def display(data: dict[str, str], *, raw: bool, display_id: bool) -> Handle:
        assert raw
        assert display_id
        note("display", data)
        return Handle()

    module = types.ModuleType("IPython")
    module.display = types.SimpleNamespace(display=display)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", module)
    return calls


def test_a_cell_is_displayed_once_and_then_replaced(ipython: list[tuple[str, Any]]) -> None:
    """As HTML, and as text for front ends without it."""
    cell = Cell()
    cell.show("<p>1</p>", "1")
    cell.show("<p>2</p>", "2")
    assert ipython == [
        ("display", {"text/html": "<p>1</p>", "text/plain": "1"}),
        ("update", {"text/html": "<p>2</p>", "text/plain": "2"}),
    ]


def test_a_broken_front_end_does_not_end_the_search(
    ipython: list[tuple[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once; later states are tried again."""
    cell = Cell()
    with caplog.at_level(logging.WARNING):
        for plain in ("fail", "fail", "good"):
            cell.show("", plain)
    assert [kind for kind, _ in ipython] == ["display"]
    assert [record.getMessage() for record in caplog.records] == [
        "the display failed, the search goes on: the front end is gone"
    ]
