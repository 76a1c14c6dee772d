"""Unit tests of ``maggy.views.forecast``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from maggy.core.summary import Summary
from maggy.events import (
    ExperimentStarted,
    MetricReported,
    StopDecided,
    Suggested,
    TrialFinished,
    TrialStarted,
    TrialStopped,
    WorkerJoined,
    WorkerLost,
)
from maggy.views.forecast import Savings, time_left, time_saved

if TYPE_CHECKING:
    from collections.abc import Iterable

    from maggy.events import Event


def run(num_trials: int | None, workers: int) -> Summary:
    """A run that has just started."""
    summary = Summary()
    summary.apply(ExperimentStarted(at=0.0, config={"num_trials": num_trials}))
    for number in range(workers):
        summary.apply(WorkerJoined(at=0.0, worker=f"w{number}"))
    return summary


def add(summary: Summary, events: Iterable[Event]) -> None:
    """Let these things happen."""
    for event in events:
        summary.apply(event)


def trial(
    number: int, worker: str, at: float, steps: int, *, stopped: bool = False
) -> list[Event]:
    """A trial of one second a step."""
    end: list[Event] = [TrialFinished(at=at + steps, trial=number, attempt=0, value=0.5)]
    if stopped:
        end = [
            StopDecided(at=at + steps, trial=number, attempt=0, reason="bad"),
            TrialStopped(at=at + steps, trial=number, attempt=0),
        ]
    return [
        Suggested(at=at, trial=number, hparams={}),
        TrialStarted(at=at, trial=number, attempt=0, worker=worker),
        *(
            MetricReported(at=at + step + 1, trial=number, attempt=0, step=step, value=0.5)
            for step in range(steps)
        ),
        *end,
    ]


def test_time_left_shares_the_work() -> None:
    """Trials of ten seconds: eight left on two workers, one of them half done."""
    summary = run(10, 2)
    add(summary, trial(0, "w0", 0.0, 10))
    add(summary, trial(1, "w1", 0.0, 10))
    assert time_left(summary, 10.0) == 40.0
    add(summary, trial(2, "w0", 10.0, 10)[:2])
    assert time_left(summary, 15.0) == 37.5


def test_nobody_knows_the_time_left() -> None:
    """Without an end, a trial, a worker or a trial to come there is no estimate."""
    assert time_left(run(None, 1), 1.0) is None
    assert time_left(run(3, 1), 1.0) is None
    summary = run(2, 1)
    add(summary, trial(0, "w0", 0.0, 10))
    assert time_left(summary, 10.0) == 10.0
    add(summary, [WorkerLost(at=10.0, worker="w0", reason="gone")])
    assert time_left(summary, 10.0) is None
    summary = run(1, 1)
    add(summary, trial(0, "w0", 0.0, 10))
    assert time_left(summary, 10.0) is None


def test_a_slow_last_trial_leaves_no_negative_time() -> None:
    """A trial that takes longer than the others leaves nothing, not less."""
    summary = run(2, 1)
    add(summary, [*trial(0, "w0", 0.0, 10), *trial(1, "w0", 10.0, 10)[:2]])
    assert time_left(summary, 500.0) == 0.0


def test_time_saved_is_the_rest_of_the_stopped_trials() -> None:
    """A trial stopped after 4 of 10 equal steps saves 6 of them, in its own pace."""
    summary = run(3, 1)
    add(summary, trial(0, "w0", 0.0, 10))
    add(summary, trial(1, "w0", 10.0, 4, stopped=True))
    assert time_saved(summary) == pytest.approx(6.0)


def test_nobody_knows_the_time_saved() -> None:
    """Without stops, without completions, or with curves of unequal length nothing is claimed."""
    summary = run(5, 1)
    assert time_saved(summary) is None
    add(summary, trial(0, "w0", 0.0, 4, stopped=True))
    assert time_saved(summary) is None
    add(summary, trial(1, "w0", 10.0, 10))
    assert time_saved(summary) is not None
    add(summary, trial(2, "w0", 20.0, 8))
    assert time_saved(summary) is None
    summary = run(1, 1)
    add(summary, trial(0, "w0", 0.0, 0))
    assert time_saved(summary) is None


def test_the_end_of_the_time_saves_nothing() -> None:
    """Only what a policy stopped counts, not what the experiment's own time limit stopped."""
    summary = Summary()
    summary.apply(ExperimentStarted(at=0.0, config={"num_trials": 9, "time_limit": 25}))
    summary.apply(WorkerJoined(at=0.0, worker="w0"))
    add(summary, trial(0, "w0", 0.0, 10))
    add(summary, trial(1, "w0", 10.0, 5, stopped=True))
    assert time_saved(summary) == 5.0
    add(summary, trial(2, "w0", 15.0, 10, stopped=True))
    add(summary, trial(3, "w0", 25.0, 2, stopped=True))
    assert time_saved(summary) == 5.0
    assert [record.judged for record in summary.trials.values()] == [False, True, False, False]


def test_savings_follow_a_run_at_constant_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are counted anew when a twentieth more trials have ended, of few trials each time."""
    counted = []

    def count(summary: Summary) -> float:
        counted.append(summary.ended)
        return float(summary.ended)

    monkeypatch.setattr("maggy.views.forecast.time_saved", count)
    summary, savings = run(2000, 1), Savings()
    assert savings(summary) == 0.0
    for number in range(2000):
        add(summary, trial(number, "w0", float(number), 1))
        saved = savings(summary)
        assert saved is not None
        assert summary.ended * 0.95 <= saved <= summary.ended
        assert savings(summary) == saved
    assert counted[:21] == list(range(21))
    assert len(counted) < 150
