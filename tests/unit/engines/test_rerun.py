"""A run's own log, simulated again: its trainings, and what another search makes of them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from maggy import Double, OptimizationConfig, Searchspace
from maggy.engines.conditions import Conditions
from maggy.engines.rerun import record_run, simulate_run
from maggy.engines.simulator import simulate
from maggy.engines.workload import Recording, Synthetic
from maggy.errors import ConfigError
from maggy.events import (
    ExperimentStarted,
    MetricReported,
    StopDecided,
    Suggested,
    TrialFailed,
    TrialFinished,
    TrialStarted,
    TrialStopped,
    WorkerLost,
)
from maggy.trial import TrialError, TrialStatus

SPACE = Searchspace(x=Double(0, 1))
STARTED = ExperimentStarted(at=0.0, config={"direction": "min", "searchspace": SPACE.to_json()})


def suggested(trial: int) -> Suggested:
    return Suggested(at=0.0, trial=trial, hparams={"x": trial / 10})


def started(trial: int, at: float, attempt: int = 0) -> TrialStarted:
    return TrialStarted(at=at, trial=trial, attempt=attempt, worker="w0")


def report(trial: int, at: float, step: int, value: float, attempt: int = 0) -> MetricReported:
    return MetricReported(at=at, trial=trial, attempt=attempt, step=step, value=value)


def finished(trial: int, at: float, value: float, attempt: int = 0) -> TrialFinished:
    return TrialFinished(at=at, trial=trial, attempt=attempt, value=value)


def test_curves_and_times_come_from_the_log() -> None:
    """Seconds between reports, the closing, the value returned."""
    run = record_run(
        [
            STARTED,
            suggested(0),
            started(0, 1.0),
            report(0, 3.0, 0, 5.0),
            report(0, 4.0, 1, 4.0),
            finished(0, 4.5, 3.0),
        ]
    )
    assert run.recordings == [
        Recording(
            hparams={"x": 0.0},
            steps=[0, 1],
            values=[5.0, 4.0],
            seconds=[2.0, 1.0],
            result=3.0,
            closing=0.5,
        )
    ]
    assert (run.continued, run.failed) == (0, 0)


def test_stopped_trials_go_on_with_their_last_value() -> None:
    """At their own pace and stride, to the median length; what came after the stop is dropped."""
    stop = StopDecided(at=4.0, trial=1, attempt=0, reason="bad")
    run = record_run(
        [
            STARTED,
            suggested(0),
            started(0, 0.0),
            *(report(0, float(step), step, 1.0) for step in range(2, 11, 2)),
            finished(0, 10.0, 1.0),
            suggested(1),
            started(1, 0.0),
            report(1, 2.0, 2, 9.0),
            report(1, 4.0, 4, 8.0),
            stop,
            report(1, 6.0, 6, 7.0),
            TrialStopped(at=8.0, trial=1, attempt=0),
        ]
    )
    assert run.continued == 1
    assert run.recordings[1].steps == [2, 4, 6, 8, 10]
    assert run.recordings[1].values == [9.0, 8.0, 8.0, 8.0, 8.0]
    assert run.recordings[1].seconds == [2.0] * 5


def test_the_last_attempt_counts() -> None:
    """A trial that lost its worker, and one that is not over."""
    run = record_run(
        [
            STARTED,
            suggested(0),
            started(0, 0.0),
            report(0, 5.0, 0, 5.0),
            WorkerLost(at=6.0, worker="w0", reason="gone"),
            started(0, 10.0, attempt=1),
            report(0, 11.0, 0, 4.0, attempt=1),
            finished(0, 11.0, 4.0, attempt=1),
            suggested(1),
            started(1, 11.0),
            report(1, 12.0, 0, 3.0),
        ]
    )
    assert [recording.seconds for recording in run.recordings] == [[1.0]]


def test_failures_fail_again() -> None:
    """A failed trial takes its time and fails."""
    error = TrialError(type="ValueError", message="bad")
    run = record_run(
        [
            STARTED,
            suggested(0),
            started(0, 0.0),
            finished(0, 2.0, 1.0),
            suggested(1),
            started(1, 2.0),
            TrialFailed(at=5.0, trial=1, attempt=0, error=error),
        ]
    )
    assert run.failed == 1
    assert math.isnan(run.recordings[1].final)
    done = simulate_run(run, workers=1)
    assert done.seconds == 5.0
    assert done.summary.counts[TrialStatus.FAILED] == 1


@pytest.fixture(name="run")
def run_fixture() -> Any:
    config = OptimizationConfig(
        searchspace=SPACE,
        num_trials=40,
        optimizer="randomsearch",
        es_policy="none",
        seed=2,
        direction="max",
    )
    done = simulate(config, Synthetic(steps=6, seed=1), workers=4)
    return done, record_run(done.events)


def test_the_same_search_takes_the_same_time(run: Any) -> None:
    """The run's own trials on as many workers: its own log again."""
    done, recorded = run
    again = simulate_run(recorded, workers=4)
    assert again.seconds == pytest.approx(done.seconds)
    assert again.summary.standing.best == done.summary.standing.best
    assert [trial.worker for trial in again.summary.trials.values()] == [
        trial.worker for trial in done.summary.trials.values()
    ]


def test_more_workers_are_faster(run: Any) -> None:
    """Up to the longest trial; delays cost their share."""
    done, recorded = run
    fast = simulate_run(recorded, workers=40)
    longest = max(recording.duration for recording in recorded.recordings)
    assert fast.seconds == pytest.approx(longest)
    slow = simulate_run(recorded, workers=40, conditions=Conditions(start=3.0))
    assert slow.seconds == pytest.approx(longest + 3.0)
    assert fast.seconds < done.seconds


def test_another_optimizer_and_policy(run: Any) -> None:
    """Its configurations train like their nearest ones, so no value is new."""
    _, recorded = run
    values = {recording.final for recording in recorded.recordings}
    done = simulate_run(
        recorded, workers=4, optimizer="randomsearch", num_trials=60, es_policy="median", es_min=5
    )
    assert len(done.summary.trials) == 60
    assert done.summary.counts[TrialStatus.STOPPED] > 0
    completed = [
        trial.value
        for trial in done.summary.trials.values()
        if trial.status is TrialStatus.COMPLETED
    ]
    assert set(completed) <= values


def test_an_empty_run_is_refused() -> None:
    """Nothing that ended, nothing to simulate."""
    with pytest.raises(ConfigError, match="no trial that ended"):
        record_run([STARTED, suggested(0), started(0, 0.0)])
