"""Virtual time: what happens when, under which conditions, and always the same."""

from __future__ import annotations

from typing import Any

import pytest

from maggy import Double, OptimizationConfig, Searchspace
from maggy.contracts import Decision
from maggy.core.machine import ExperimentMachine
from maggy.engines import simulator
from maggy.engines.conditions import Conditions
from maggy.engines.job import Job
from maggy.engines.machines import search_context
from maggy.engines.simulator import Simulator, simulate
from maggy.engines.workload import InOrder, Recording, Synthetic
from maggy.errors import ConfigError, MaggyError
from maggy.events import (
    ExperimentStarted,
    MetricReported,
    Suggested,
    TrialFailed,
    TrialFinished,
    TrialStarted,
    TrialStopped,
    WorkerJoined,
    WorkerLost,
)
from maggy.optimizer import RandomSearch
from maggy.store.sqlite import SqliteLog
from maggy.trial import TrialStatus, Wait
from maggy.worker.injection import Plan

SPACE = Searchspace(x=Double(0, 1))


def config(**options: Any) -> OptimizationConfig:
    given: dict[str, Any] = {
        "searchspace": SPACE,
        "num_trials": 3,
        "optimizer": "randomsearch",
        "es_policy": "none",
        "seed": 1,
    } | options
    return OptimizationConfig(**given)


def recording(*values: float, seconds: float = 1.0, **options: Any) -> Recording:
    steps = range(len(values))
    return Recording(
        hparams={"x": 0.5}, steps=steps, values=values, seconds=[seconds] * len(values), **options
    )


def times(done: Any, kind: Any) -> list[tuple[int, float]]:
    return [(event.trial, event.at) for event in done.events if isinstance(event, kind)]


class StopAll:
    """Stops every trial at its first report."""

    def finished(self, trial: Any) -> None:
        pass

    def decide(self, trial: Any) -> Decision:
        return Decision(stop=True, reason="no")


def test_list_scheduling() -> None:
    """Each worker takes the next trial when it is free; the last one ends the run."""
    lengths = [recording(0.1, seconds=seconds) for seconds in (5.0, 1.0, 2.0, 4.0)]
    done = simulate(config(num_trials=4), InOrder(lengths), workers=2)
    assert times(done, TrialStarted) == [(0, 0.0), (1, 0.0), (2, 1.0), (3, 3.0)]
    assert times(done, TrialFinished) == [(1, 1.0), (2, 3.0), (0, 5.0), (3, 7.0)]
    assert done.seconds == 7.0
    assert done.summary.finished is not None
    assert done.summary.finished.outcome == "completed"


def test_a_training_reports_and_returns() -> None:
    """Each report comes after its seconds; the return after the closing, with its own value."""
    workload = InOrder([recording(0.1, 0.2, result=0.9, closing=0.5)])
    done = simulate(config(num_trials=1), workload, workers=1)
    assert times(done, MetricReported) == [(0, 1.0), (0, 2.0)]
    assert times(done, TrialFinished) == [(0, 2.5)]
    assert done.summary.standing.best == (0, 0.9)


def test_a_training_without_reports() -> None:
    """A function that only returns takes its time and has its value."""
    silent = Recording(hparams={}, steps=[], values=[], seconds=[], result=0.4, closing=3.0)
    done = simulate(config(num_trials=2), InOrder([silent]), workers=1)
    assert times(done, TrialFinished) == [(0, 3.0), (1, 6.0)]


def test_a_stop_is_heard_at_the_next_report() -> None:
    """As in a real worker, which reports without waiting for an answer."""
    done = simulate(
        config(num_trials=1, es_policy=StopAll(), es_min=0),
        InOrder([recording(0.1, 0.2, 0.3)]),
        workers=1,
    )
    assert times(done, MetricReported) == [(0, 1.0)]
    assert times(done, TrialStopped) == [(0, 2.0)]
    late = simulate(
        config(num_trials=1, es_policy=StopAll(), es_min=0),
        InOrder([recording(0.1, 0.2, 0.3, 0.4)]),
        workers=1,
        conditions=Conditions(report=0.5, stop=0.75),
    )
    assert times(late, MetricReported) == [(0, 1.5), (0, 2.5)]
    assert times(late, TrialStopped) == [(0, 3.5)]


def test_a_stop_that_comes_too_late_changes_nothing() -> None:
    """A training that has returned before it hears of the stop is complete."""
    policy = config(num_trials=1, es_policy=StopAll(), es_min=0)
    done = simulate(policy, InOrder([recording(0.1, 0.2)]), workers=1)
    assert done.summary.trials[0].status is TrialStatus.STOPPED
    only = simulate(policy, InOrder([recording(0.7)]), workers=1)
    assert only.summary.trials[0].value == 0.7


class Learner(RandomSearch):
    """One that is asked as late as possible, since it might learn until then."""

    learns = True


def test_delays_add_up() -> None:
    """Start, assignment, report and suggestion each cost their seconds."""
    conditions = Conditions(start=10.0, assign=0.5, report=0.25, suggest=2.0, suggest_growth=1.0)
    done = simulate(
        config(num_trials=2, optimizer=Learner()),
        InOrder([recording(0.1)]),
        workers=1,
        conditions=conditions,
    )
    joined = [event.at for event in done.events if isinstance(event, WorkerJoined)]
    assert joined == [10.0]
    assert times(done, Suggested) == [(0, 12.0), (1, 16.75)]  # the second after one ended run
    assert times(done, TrialStarted) == [(0, 12.0), (1, 16.75)]
    assert times(done, TrialFinished) == [(0, 13.75), (1, 18.5)]


def test_a_failing_training_fails() -> None:
    """NaN, broadcast or returned, ends a trial as failed; the search goes on."""
    workload = InOrder(
        [recording(0.1), recording(0.1, float("nan"), 0.3), recording(0.1, result=float("inf"))]
    )
    done = simulate(config(), workload, workers=1)
    errors = [event.error.message for event in done.events if isinstance(event, TrialFailed)]
    assert errors == ["the metric at step 1 is nan", "the returned metric is inf"]
    assert done.seconds == 4.0


def test_a_run_that_only_fails_ends() -> None:
    """The rule of the real thing: all first trials failed alike."""
    workload = InOrder([recording(float("nan"))])
    done = simulate(config(num_trials=100), workload, workers=2)
    assert done.summary.finished is not None
    assert done.summary.finished.outcome == "failed"
    assert len(times(done, TrialFailed)) == 3


def test_a_lost_worker_is_replaced_and_its_trial_run_again() -> None:
    """From the start, or from the last report where there are checkpoints."""
    workload = InOrder([recording(*([0.1] * 20))])
    options: dict[str, Any] = {"lost_every": 30.0, "start": 1.0}
    plain = simulate(config(num_trials=10), workload, workers=2, conditions=Conditions(**options))
    saved = simulate(
        config(num_trials=10),
        workload,
        workers=2,
        conditions=Conditions(**options, checkpoints=True),
    )
    for done in (plain, saved):
        assert any(isinstance(event, WorkerLost) for event in done.events)
        assert done.summary.ended == 10
    assert len(times(saved, MetricReported)) < len(times(plain, MetricReported))
    ended = [trial for trial in saved.summary.trials.values() if trial.value is not None]
    assert all(trial.steps == list(range(20)) for trial in ended)
    assert max(trial.runs for trial in ended) > 1


def test_a_trial_that_kills_its_workers_is_given_up() -> None:
    """Workers that never live long enough end their trials, not the search."""
    conditions = Conditions(lost_every=0.5)
    workload = InOrder([recording(*([0.1] * 50))])
    done = simulate(config(num_trials=20), workload, workers=2, conditions=conditions)
    assert done.summary.counts[TrialStatus.FAILED] > 0
    assert {event.error.type for event in done.events if isinstance(event, TrialFailed)} == {
        "WorkerLost"
    }


def test_stragglers_take_longer() -> None:
    """A slow worker stretches what it trains, and gets fewer trials."""
    conditions = Conditions(slow_share=0.5, slow_factor=10.0)
    done = simulate(
        config(num_trials=60), InOrder([recording(0.1)]), workers=10, conditions=conditions
    )
    spans = {round(trial.duration, 6): trial.worker for trial in done.summary.trials.values()}
    assert set(spans) == {1.0, 10.0}
    assert len({trial.worker for trial in done.summary.trials.values()}) == 10


def test_the_same_call_gives_the_same_log() -> None:
    """Byte for byte, with everything that is random in it."""
    conditions = Conditions(
        start=0.3, report=0.01, stop=0.01, lost_every=20.0, slow_share=0.2, slow_factor=3.0
    )
    first, second, other = (
        simulate(
            config(num_trials=40, es_policy="median", es_min=5, seed=seed),
            Synthetic(steps=9, seed=4),
            workers=5,
            conditions=conditions,
        )
        for seed in (7, 7, 8)
    )
    assert repr(first.events) == repr(second.events)
    assert repr(first.events) != repr(other.events)


def test_no_seed_is_a_seed() -> None:
    """A simulation without a seed is repeatable all the same."""
    runs = [simulate(config(seed=None), Synthetic(steps=3), workers=2).events for _ in range(2)]
    assert repr(runs[0]) == repr(runs[1])


def test_it_is_an_engine(tmp_path: Any) -> None:
    """It runs any job with any log, and feeds what happened."""
    optimizer = RandomSearch()
    wanted = config(num_trials=5)
    optimizer.start(search_context(wanted, 2, 0))
    fed: list[Any] = []
    with SqliteLog.create(tmp_path / "run.sqlite") as log:
        job = Job(
            machine=ExperimentMachine(direction="max", num_trials=5),
            log=log,
            started=ExperimentStarted(at=0.0, config={}),
            optimizer=optimizer,
            space=SPACE,
            seed=0,
            plan=Plan(names=()),
            optimization_key="metric",
            hb_interval=1.0,
            num_workers=2,
            trial_logs=tmp_path,
        )
        Simulator(Synthetic(steps=4)).run(job, fed.extend)
        assert list(log.read()) == fed
    assert sum(isinstance(event, TrialFinished) for event in fed) == 5


def test_budgets_are_kept() -> None:
    """ASHA promotes: runs train up to their budgets, and go on from checkpoints."""
    workload = InOrder([recording(*[0.1 * k for k in range(1, 9)])])
    done = simulate(
        config(num_trials=4, optimizer="asha"),
        workload,
        workers=1,
        conditions=Conditions(checkpoints=True),
    )
    reports = times(done, MetricReported)
    assert len(reports) == sum(len(trial.steps) for trial in done.summary.trials.values())
    assert max(len(trial.steps) for trial in done.summary.trials.values()) == 4
    assert done.summary.finished is not None


class Never:
    """An optimizer that only waits."""

    suggests_inline = True

    def start(self, context: Any) -> None:
        pass

    def ask(self, number: int, pending: Any, rng: Any) -> Wait:
        return Wait()

    def tell(self, trial: Any) -> None:
        pass


def test_an_optimizer_that_waits_for_nothing_ends_the_run() -> None:
    """As in reality: it is told that no trial is unfinished."""
    done = simulate(config(optimizer=Never()), Synthetic(), workers=1)
    assert done.summary.finished is not None
    assert "waits" in done.summary.finished.reason


def test_being_stuck_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """If nothing is left to happen, that is said instead of going round forever."""
    monkeypatch.setattr(simulator._World, "_hire", lambda self: None)
    with pytest.raises(MaggyError, match="stuck"):
        simulate(config(), Synthetic(), workers=1)


def test_no_workers_are_refused() -> None:
    """At least one is needed."""
    with pytest.raises(ConfigError, match="workers >= 1"):
        simulate(config(), Synthetic(), workers=0)
