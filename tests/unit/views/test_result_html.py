"""Unit tests of ``maggy.views.result_html``."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from maggy.core.summary import Summary
from maggy.events import (
    ExperimentFinished,
    ExperimentStarted,
    MetricReported,
    StopDecided,
    Suggested,
    TrialFailed,
    TrialFinished,
    TrialStarted,
    TrialStopped,
)
from maggy.testing.stores import story
from maggy.trial import TrialError
from maggy.views.result import Result

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from maggy.events import Event
    from maggy.trial import Value


def html(events: Sequence[Event], path: Path | None = None) -> str:
    """How a notebook shows the result of these events."""
    summary = Summary()
    for event in events:
        summary.apply(event)
    return Result(summary, path)._repr_html_()


def many(
    count: int, hparams: dict[str, Value] | None = None, steps: int = 20, **config: Any
) -> list[Event]:
    """Trials with curves; of ten in a row two are stopped and one fails, in seven ways."""
    events: list[Event] = [ExperimentStarted(at=0.0, config={"name": "many", **config})]
    for number in range(count):
        run: dict[str, Any] = {"at": float(number), "trial": number, "attempt": 0}
        given = {"x": number} if hparams is None else hparams
        events.append(Suggested(at=float(number), trial=number, hparams=given))
        events.append(TrialStarted(**run, worker="w"))
        events += [
            MetricReported(**run, step=step, value=number + step / steps) for step in range(steps)
        ]
        error = TrialError(
            type="E", message=f"kind {number % 7}", traceback="T" * 99_999, output="last words"
        )
        if number % 10 == 9:
            events.append(TrialFailed(**run, error=error))
        elif number % 10 in (3, 4):
            events.append(StopDecided(**run, reason="its <best> is worse"))
            events.append(TrialStopped(**run))
        else:
            events.append(TrialFinished(**run, value=float(number)))
    return [*events, ExperimentFinished(at=float(count), outcome="completed")]


def rows(page: str) -> list[list[str]]:
    """The text of the table of trials, cell by cell."""
    body = page.split("<tbody>")[1].split("</tbody>")[0]
    return [
        [re.sub("<[^>]*>", "", cell) for cell in row.split("</td>")[:-1]]
        for row in body.split("</tr>")[:-1]
    ]


def test_the_story_in_a_notebook(tmp_path: Path) -> None:
    """Outcome, best, average, a row for each trial, the best first, and the failure."""
    page = html(story(), tmp_path)
    for words in (
        '<b>story</b><span class="maggy-stopped">interrupted</span>',
        '<span class="maggy-best">0.875</span> &nbsp;trial 3',
        "worst 0.875, average 0.875",
        "5 trials, 1 stopped early, 1 failed",
        "busy 84.6% of the time",
        f"<code>{tmp_path}</code>",
        "<details><summary>trial 1 failed: ValueError: no such unit</summary>",
        "Its last output:\nepoch 1</pre>",
    ):
        assert words in page, words
    assert [row[:3] for row in rows(page)] == [
        ["3", "completed", "0.875"],
        ["0", "completed", "0.625"],
        ["2", "stopped", "0.125"],
        ["1", "failed", "-"],
        ["4", "interrupted", "-"],
    ]
    assert rows(page)[0][6:] == ["0.4", "16", "(2,)"]
    assert page.count("<svg") == 5
    assert "The best" not in page


def test_without_trials_and_without_values() -> None:
    """An empty run, and one that has only begun, are shown as what they are."""
    for events in ([], story()[:1], story()[:8]):
        page = html(events)
        assert "none: no trial completed or reported" in page
        assert ("<table" in page.split("</style>")[1]) is True
    assert "maggy-trials" not in html([]).split("</style>")[1]


def test_ten_thousand_trials_stay_usable() -> None:
    """Some of them, with a word on how to see all, in a fraction of what a notebook can take."""
    page = html(many(10_000, steps=3))
    assert len(page) < 100_000
    assert "The best 20 of 10,000 trials; all of them: <code>result.trials</code>" in page
    assert len(rows(page)) == 20
    assert rows(page)[0][:3] == ["9998", "completed", "9998"]


def test_nothing_of_users_makes_it_large() -> None:
    """Hundreds of hyperparameters, long names and values, long curves, long tracebacks."""
    wide: dict[str, Value] = {f"{'name' * 50}{number}": "v" * 5000 for number in range(300)}
    page = html(many(100, wide, steps=500, direction="min"))
    assert len(page) < 300_000
    assert "and 260 more" in page
    assert "<th>hyperparameters</th>" in page


def test_each_kind_of_error_is_told_once() -> None:
    """With the trials that had it; of many kinds the first ones."""
    page = html(many(1000))
    shown = re.findall(r"<summary>(.*?)</summary>", page)
    assert len(shown) == 5
    assert shown[0] == "trials 9, 79, 149, 219, 289 and 10 more failed: E: kind 2"
    assert "and 2 other errors" in page


def test_users_text_is_escaped() -> None:
    """Names, values, reasons and errors hold no tags."""
    evil = "<img src=x onerror=alert(1)>\x1b[0m"
    error = TrialError(type=evil, message=evil, traceback=evil, output=evil)
    config: dict[str, Any] = {"name": evil, "optimizer": evil}
    events: list[Event] = [ExperimentStarted(at=0.0, config=config)]
    for number in range(3):
        run: dict[str, Any] = {"at": 0.0, "trial": number, "attempt": 0}
        events.append(Suggested(at=0.0, trial=number, hparams={evil: evil}))
        events.append(TrialStarted(**run, worker=evil))
        events.append(MetricReported(**run, step=0, value=1.0))
    run = {"at": 1.0, "attempt": 0}
    events.append(TrialFinished(trial=0, value=1.0, **run))
    events += [StopDecided(trial=1, reason=evil, **run), TrialStopped(trial=1, **run)]
    events.append(TrialFailed(trial=2, error=error, **run))
    events.append(ExperimentFinished(at=2.0, outcome="failed", reason=evil))
    page = html(events)
    assert "<img" not in page
    assert page.count("&lt;img src=x") > 8
    assert "\x1b" not in page


def test_curves_that_are_no_numbers() -> None:
    """A diverged trial has no picture, and does not spoil those of the others."""
    events = many(4)
    run: dict[str, Any] = {"at": 9.0, "trial": 9, "attempt": 0}
    events[-1:] = [
        Suggested(at=9.0, trial=9, hparams={"x": 9}),
        TrialStarted(**run, worker="w"),
        MetricReported(**run, step=0, value=math.nan),
        TrialFailed(**run, error=TrialError(type="OutcomeError", message="nan")),
    ]
    page = html(events)
    assert "nan" not in page.replace("OutcomeError: nan", "").lower()


def test_conditional_hyperparameters_leave_cells_empty() -> None:
    """What a trial did not have is not shown."""
    events = many(2)
    events[-1:] = [
        Suggested(at=3.0, trial=2, hparams={"y": "sgd"}),
        TrialStarted(at=3.0, trial=2, attempt=0, worker="w"),
        TrialFinished(at=4.0, trial=2, attempt=0, value=-1.0),
    ]
    assert [row[5:] for row in rows(html(events))] == [["1", ""], ["0", ""], ["", "sgd"]]


def test_with_budgets_the_line_is_the_best_at_the_highest() -> None:
    """A good value at a small budget is a dot, and no best."""
    events: list[Event] = [ExperimentStarted(at=0.0, config={"name": "asha"})]
    for number, (budget, value) in enumerate([(1, 0.9), (3, 0.5), (3, 0.6)]):
        run: dict[str, Any] = {"at": float(number), "trial": number, "attempt": 0}
        events.append(Suggested(at=0.0, trial=number, hparams={}, budget=budget))
        events.append(TrialStarted(**run, worker="w"))
        events.append(TrialFinished(**run, value=value))
    page = html(events)
    assert "<th>budget</th>" in page
    assert '<span class="maggy-best">0.6</span>' in page
    line = re.findall(r'd="(M[\d. ]+(?:H[\d.]+V[\d.]+)*H[\d.]+)"', page)
    assert len(line) == 1
    assert line[0].count("H") == 2
