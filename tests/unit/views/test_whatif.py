"""What a policy would have saved and lost, counted by hand and against the simulator."""

from __future__ import annotations

from typing import Any

import pytest

from maggy import OptimizationConfig
from maggy.contracts import Decision
from maggy.earlystop import CurveRule, MedianRule, ThresholdRule
from maggy.engines.conditions import Conditions
from maggy.engines.simulator import simulate
from maggy.engines.workload import InOrder
from maggy.errors import ConfigError
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
from maggy.testing.curves import load_task
from maggy.trial import Trial, TrialStatus
from maggy.views.whatif import sentences, what_if

TASK = load_task("digits-mlp")


class Below:
    """Stops what is below a floor at its newest step, and remembers what it was told."""

    def __init__(self, floor: float) -> None:
        self.floor = floor
        self.told: list[tuple[int, TrialStatus, int]] = []

    def finished(self, trial: Trial) -> None:
        self.told.append((trial.id, trial.status, len(trial.steps)))

    def decide(self, trial: Trial) -> Decision:
        return Decision(
            stop=-trial.losses[-1] < self.floor,
            reason="{now} is below",
            losses={"now": trial.losses[-1]},
        )


def story(*trials: Any) -> list[Any]:
    """One worker, one second a report; each trial is given by its values."""
    events: list[Any] = [
        ExperimentStarted(at=0.0, config={"direction": "max"}),
        WorkerJoined(at=0.0, worker="w0"),
    ]
    now = 0.0
    for number, values in enumerate(trials):
        events.append(Suggested(at=now, trial=number, hparams={"x": number}))
        events.append(TrialStarted(at=now, trial=number, attempt=0, worker="w0"))
        for step, value in enumerate(values):
            now += 1.0
            events.append(MetricReported(at=now, trial=number, attempt=0, step=step, value=value))
        events.append(TrialFinished(at=now, trial=number, attempt=0, value=values[-1]))
    return events


def test_savings_begin_where_a_worker_would_have_left() -> None:
    """Stopped at its first report it would hear at its second: the rest is saved."""
    told = what_if(story([0.9, 0.9], [0.1, 0.2, 0.3, 0.4]), Below(0.5), es_min=1)
    (stop,) = told.stopped
    assert (stop.trial, stop.step, stop.value) == (1, 0, 0.4)
    assert (stop.reports, stop.seconds) == (2, 2.0)
    assert stop.reason == "0.1 is below"
    assert (told.reports, told.reports_saved) == (6, 2)
    assert (told.seconds, told.seconds_saved) == (6.0, 2.0)
    assert (told.best, told.kept, told.regret) == ((0, 0.9), (0, 0.9), 0.0)


def test_what_is_lost_is_told() -> None:
    """The best trial started slowly: without it the second best would be the best."""
    policy = Below(0.5)
    told = what_if(story([0.6, 0.7], [0.1, 0.9], [0.8, 0.8]), policy, es_min=1)
    assert (told.best, told.kept) == ((1, 0.9), (2, 0.8))
    assert told.regret == pytest.approx(0.1)
    assert policy.told == [
        (0, TrialStatus.COMPLETED, 2),
        (1, TrialStatus.STOPPED, 1),
        (2, TrialStatus.COMPLETED, 2),
    ]


def test_a_stop_at_the_last_report_saves_nothing() -> None:
    """The training was about to return."""
    told = what_if(story([0.9], [0.9, 0.1]), Below(0.5), es_min=1)
    assert [stop.trial for stop in told.stopped] == [1]
    assert (told.reports_saved, told.seconds_saved) == (0, 0.0)


def test_interval_and_minimum_count_as_in_the_run() -> None:
    """Nothing is judged before so many completed trials, and only every second report."""
    events = story([0.1, 0.1], [0.9, 0.1, 0.1, 0.1, 0.1])
    assert not what_if(events, Below(0.5), es_min=2).stopped
    assert [s.step for s in what_if(events, Below(0.5), es_min=1, es_interval=2).stopped] == [1]
    assert [s.step for s in what_if(events, Below(0.5), es_min=0).stopped] == [0, 1]


def test_all_stopped_leaves_nothing() -> None:
    """If no trial would have completed, there is no best left, and regret has no number."""
    told = what_if(story([0.1, 0.2]), Below(0.5), es_min=0)
    assert told.best == (0, 0.2)
    assert told.kept is None
    assert told.regret is None


def test_no_policy_and_no_trials() -> None:
    """None saves nothing; an empty log is no error."""
    told = what_if(story([0.1, 0.2]), None)
    assert (told.reports, told.stopped, told.regret) == (2, [], 0.0)
    assert what_if([], MedianRule()).best is None


def test_stops_of_the_run_itself_are_counted() -> None:
    """Nobody knows how they would have gone on, and that is said."""
    events = story([0.9])[:-1]
    stop = StopDecided(at=1.0, trial=0, attempt=0, reason="bad")
    events += [stop, TrialStopped(at=2.0, trial=0, attempt=0)]
    policy = Below(0.0)
    told = what_if(events, policy, es_min=0)
    assert told.already_stopped == 1
    assert (told.best, told.regret) == (None, 0.0)
    assert policy.told == [(0, TrialStatus.STOPPED, 1)]


def test_lost_workers_and_new_attempts() -> None:
    """A trial that begins again is judged by its new curve; its time counts altogether."""
    events = story([0.9])
    events += [
        Suggested(at=1.0, trial=1, hparams={"x": 1}),
        TrialStarted(at=1.0, trial=1, attempt=0, worker="w0"),
        MetricReported(at=2.0, trial=1, attempt=0, step=0, value=0.8),
        WorkerLost(at=3.0, worker="w0", reason="gone"),
        WorkerJoined(at=3.0, worker="w1"),
        TrialStarted(at=3.0, trial=1, attempt=1, worker="w1"),
        MetricReported(at=4.0, trial=1, attempt=1, step=0, value=0.1),
        MetricReported(at=5.0, trial=1, attempt=1, step=1, value=0.1),
        MetricReported(at=6.0, trial=1, attempt=1, step=2, value=0.1),
    ]
    told = what_if(events, Below(0.5), es_min=1)
    (stop,) = told.stopped
    assert (stop.reports, stop.seconds, stop.value) == (1, 1.0, None)
    assert told.seconds == 6.0


def test_people_read_sentences() -> None:
    """What is saved, what is lost, and what cannot be known."""
    kept = what_if(story([0.9, 0.9], [0.1, 0.2, 0.3, 0.4]), Below(0.5), es_min=1)
    assert sentences(kept) == [
        "It would have stopped 1 trial before the end.",
        "Saved: 2 of 6 reports, and 2.00 s of 6.00 s of the workers' time (33%).",
        "Lost: nothing; the best value stays 0.9.",
    ]
    lost = what_if(story([0.6, 0.7], [0.1, 0.9], [0.8, 0.8]), Below(0.5), es_min=1)
    assert sentences(lost)[2] == (
        "Lost: the best value, 0.9 of trial 1; it would be 0.8, of trial 2."
    )
    nothing = what_if(story([0.1, 0.2]), Below(0.5), es_min=0)
    assert sentences(nothing)[2] == "Lost: everything, also the best, 0.2 of trial 0."
    events = story([0.9])[:-1]
    events += [
        StopDecided(at=1.0, trial=0, attempt=0, reason="bad"),
        TrialStopped(at=2.0, trial=0, attempt=0),
    ]
    assert sentences(what_if(events, None)) == [
        "It would have stopped 0 trials before the end.",
        "The run itself had stopped 1 trial; how they would have gone on nobody knows.",
    ]


def test_the_wrong_direction_is_refused() -> None:
    """A bar for errors says nothing about accuracies."""
    with pytest.raises(ConfigError, match="made for direction='min'"):
        what_if(story([0.5]), ThresholdRule(0, at_most=0.1))


@pytest.mark.parametrize("policy", [MedianRule(min_peers=5), CurveRule(min_peers=5)])
def test_it_agrees_with_the_simulator(policy: Any) -> None:
    """On one worker the order is the same, so a simulated run with the policy saves as much."""
    workload = InOrder(TASK.recordings[:60])
    outcomes = {}
    for es_policy in ("none", policy):
        config = OptimizationConfig(
            searchspace=TASK.searchspace,
            num_trials=60,
            optimizer="randomsearch",
            es_policy=es_policy,
            seed=0,
        )
        outcomes[str(es_policy)] = simulate(config, workload, workers=1, conditions=Conditions())
    plain, stopped = outcomes.values()
    told = what_if(plain.events, policy)
    real = [trial.id for trial in stopped.summary.trials.values() if trial.stop_reason]
    assert sorted(stop.trial for stop in told.stopped if stop.reports) == real
    assert told.kept == stopped.summary.standing.best
    assert plain.seconds - told.seconds_saved == pytest.approx(stopped.seconds)
