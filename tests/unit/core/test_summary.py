"""Unit tests of ``maggy.core.summary`` and ``maggy.core.crew``."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import pytest

from maggy.core.summary import Standing, Summary
from maggy.events import (
    CancelRequested,
    CheckpointSaved,
    EngineFailed,
    ExperimentFinished,
    ExperimentStarted,
    MetricReported,
    OptimizerFailed,
    SearchExhausted,
    StopDecided,
    Suggested,
    TrialFailed,
    TrialFinished,
    TrialStarted,
    TrialStopped,
    WorkerJoined,
    WorkerLost,
)
from maggy.testing.stores import story
from maggy.trial import TrialError, TrialStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from maggy.events import Event

ERROR = TrialError(type="ValueError", message="no")


def fold(events: Iterable[Event], summary: Summary | None = None) -> Summary:
    """The summary of these events, or one with these added."""
    summary = summary or Summary()
    for event in events:
        summary.apply(event)
    return summary


def began(direction: str = "max", **config: Any) -> ExperimentStarted:
    """The first event."""
    return ExperimentStarted(at=0.0, config={"direction": direction, **config})


def given(trial: int, worker: str, at: float = 0.0, **suggestion: Any) -> list[Event]:
    """A new trial on a worker."""
    new = Suggested(at=at, trial=trial, hparams={"x": trial}, **suggestion)
    return [new, TrialStarted(at=at, trial=trial, attempt=0, worker=worker)]


def done(trial: int, value: float, at: float = 1.0, attempt: int = 0) -> TrialFinished:
    """A trial completes."""
    return TrialFinished(at=at, trial=trial, attempt=attempt, value=value)


def completed(direction: str, values: list[float]) -> Summary:
    """Trials that completed with these values, by id."""
    events: list[Event] = [began(direction), WorkerJoined(at=0.0, worker="w")]
    for trial, value in enumerate(values):
        events += [*given(trial, "w"), done(trial, value)]
    return fold(events)


def test_the_story() -> None:
    """Every record, count and standing after the whole story."""
    summary = fold(story())
    status = [summary.trials[i].status.value for i in range(6)]
    assert status == ["completed", "failed", "stopped", "completed", "pending", "pending"]
    assert summary.counts[TrialStatus.COMPLETED] == 2
    assert summary.counts[TrialStatus.PENDING] == 2
    assert (summary.started, summary.ended, summary.running) == (5, 4, 0)
    assert (summary.name, summary.maximise, summary.num_trials) == ("story", True, 6)
    assert summary.standing.best == (3, 0.875)
    assert summary.best is summary.trials[3]
    assert summary.finished == story()[-1]
    assert summary.cancelled
    assert summary.now == 6.5
    assert summary.notes == [
        "All 6 configurations were tried.",
        "The optimizer failed: RuntimeError: no more ideas",
        "The workers failed: RuntimeError: no more ideas",
    ]


def test_records_hold_what_happened() -> None:
    """Curves, other metrics, information, errors, reasons, times and workers."""
    trials = fold(story()).trials
    assert (trials[0].steps, trials[0].values) == ([0, 1], [0.5, 0.6])
    assert trials[0].others == {1: {"loss": 1.25}}
    assert trials[0].info == {"epochs": 2, "note": None}
    assert (trials[0].value, trials[0].duration, trials[0].worker) == (0.625, 2.0, "w0")
    assert trials[1].error == TrialError(
        type="ValueError",
        message="no such unit",
        traceback="Traceback (most recent call last):\n  ...\nValueError: no such unit\n",
        output="epoch 1",
    )
    assert trials[2].value == 0.125
    assert trials[2].threshold == 0.55
    assert trials[2].stop_reason.startswith("0.1 at step 1")
    assert (trials[3].runs, trials[3].attempt, trials[3].started) == (2, 1, 2.5)
    assert (trials[3].steps, trials[3].values) == ([0], [0.75])
    assert trials[3].duration == 3.0
    assert (trials[5].runs, trials[5].started) == (0, None)


def test_an_empty_summary_answers() -> None:
    """Before anything happened there is nothing, and nothing raises."""
    summary = Summary()
    assert (summary.started, summary.ended, summary.running) == (0, 0, 0)
    assert summary.best is None
    assert summary.standing.average is None
    assert summary.crew.utilisation is None
    assert summary.num_trials is None
    assert summary.name == "experiment"


@pytest.mark.parametrize(("direction", "best", "worst"), [("max", 1, 0), ("min", 0, 1)])
def test_the_direction_decides(direction: str, best: int, worst: int) -> None:
    """The same values give the opposite best and worst in the other direction."""
    standing = completed(direction, [0.25, 0.75, 0.5]).standing
    assert standing.best is not None
    assert standing.worst is not None
    assert (standing.best[0], standing.worst[0]) == (best, worst)
    assert standing.average == 0.5


@pytest.mark.parametrize("direction", ["max", "min"])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_ties_go_to_the_earlier_id(direction: str, order: tuple[int, ...]) -> None:
    """Whatever the order of arrival, of equal values the smallest id is best, and worst."""
    standing = Standing(maximise=direction == "max")
    for trial in order:
        standing.add(trial, 0.5)
    assert standing.best == standing.worst == (0, 0.5)
    assert (standing.count, standing.average) == (3, 0.5)


def test_a_value_that_is_no_number_never_wins() -> None:
    """NaN and infinity count neither as best nor in the average."""
    summary = completed("max", [0.5, math.nan, math.inf, 0.25])
    assert summary.standing.best == (0, 0.5)
    assert summary.standing.average == 0.375
    assert completed("max", [math.nan]).best is None


def stop(trial: int, at: float, value: float) -> list[Event]:
    """A trial reports once and is stopped."""
    run: dict[str, Any] = {"trial": trial, "attempt": 0}
    return [
        MetricReported(at=at, step=0, value=value, **run),
        StopDecided(at=at, reason="bad", threshold=0.5, **run),
        TrialStopped(at=at, **run),
    ]


def test_stopped_trials_count_only_if_nothing_completed() -> None:
    """A better stopped trial does not beat a completed one, but is better than nothing."""
    events: list[Event] = [began(), *given(0, "a"), *given(1, "b"), *stop(0, 1.0, 0.9)]
    summary = fold(events)
    assert summary.standing.best == (0, 0.9)
    fold([done(1, 0.1)], summary)
    assert summary.standing.best == summary.standing.worst == (1, 0.1)
    assert summary.standing.average == 0.1


def test_stopped_trials_of_a_minimisation() -> None:
    """The fallback knows the direction too."""
    events: list[Event] = [began("min"), *given(0, "a"), *given(1, "b")]
    summary = fold([*events, *stop(0, 1.0, 0.9), *stop(1, 1.0, 0.2)])
    assert summary.standing.best == (1, 0.2)


def test_the_highest_budget_counts() -> None:
    """Under multi-fidelity the best is among those that completed the highest budget."""
    events: list[Event] = [began(), *given(0, "a", budget=1), *given(1, "b", budget=1)]
    summary = fold([*events, done(0, 0.9), done(1, 0.5)])
    assert summary.standing.best == (0, 0.9)
    promoted: list[Event] = [
        Suggested(at=2.0, trial=1, hparams={"x": 1}, budget=3),
        TrialStarted(at=2.0, trial=1, attempt=1, worker="b"),
    ]
    fold(promoted, summary)
    assert summary.trials[1].status is TrialStatus.RUNNING
    assert summary.standing.best == (0, 0.9)
    fold([done(1, 0.6, attempt=1)], summary)
    assert summary.standing.best == (1, 0.6)
    assert summary.standing.count == 1
    assert summary.started == 2
    assert (summary.trials[1].budget, summary.trials[1].runs) == (3, 2)


def test_value_and_budget_of_a_promoted_trial_stand_until_it_completes_again() -> None:
    """While it waits, runs, or after it has failed there, it is known for what it reached."""
    summary = fold([began(), *given(0, "a", budget=1), done(0, 0.5)])
    trial = summary.trials[0]
    assert (trial.reached, trial.value) == (1, 0.5)
    again = {"trial": 0, "attempt": 1}
    fold([Suggested(at=2.0, trial=0, hparams={"x": 0}, budget=3)], summary)
    assert (trial.budget, trial.reached, trial.value) == (3, 1, 0.5)
    fold([TrialStarted(at=2.0, worker="a", **again)], summary)
    fold([TrialFailed(at=3.0, error=ERROR, **again)], summary)
    assert (trial.status, trial.error) == (TrialStatus.FAILED, ERROR)
    assert (trial.reached, trial.value, summary.standing.best) == (1, 0.5, (0, 0.5))


def test_a_promotion_does_not_take_an_end_back() -> None:
    """A configuration has ended once and for all, so that progress never goes back."""
    summary = fold([began(), *given(0, "a", budget=1), done(0, 0.5), *given(1, "a", budget=1)])
    assert summary.ended == 1
    fold([Suggested(at=2.0, trial=0, hparams={"x": 0}, budget=3)], summary)
    fold([TrialStarted(at=2.0, trial=0, attempt=1, worker="b")], summary)
    assert (summary.ended, summary.counts[TrialStatus.COMPLETED]) == (1, 0)
    fold([done(0, 0.6, attempt=1)], summary)
    assert summary.ended == 1
    fold([done(1, 0.6)], summary)
    assert summary.ended == 2


def reports(trial: int, *steps: int) -> list[Event]:
    """Reports whose value is the step."""
    return [
        MetricReported(at=1.0, trial=trial, attempt=0, step=step, value=float(step))
        for step in steps
    ]


def rung(trial: int, final: float | None) -> StopDecided:
    """The decision at a rung."""
    return StopDecided(at=1.5, trial=trial, attempt=0, reason="rung", final=final)


def left(trial: int) -> TrialStopped:
    """The trial obeys."""
    return TrialStopped(at=1.6, trial=trial, attempt=0)


@pytest.mark.parametrize("steps", [(0, 1, 2), (1, 2, 3), (2, 3)])
def test_a_stopped_trial_reached_what_its_steps_say(steps: tuple[int, ...]) -> None:
    """Counted from 0 or from 1, three steps or a last one numbered 3 are a resource of 3."""
    events = [*given(0, "a", budget=9), *reports(0, *steps), rung(0, None), left(0)]
    trial = fold([began(fidelity="stopping"), *events]).trials[0]
    assert (trial.status, trial.reached) == (TrialStatus.STOPPED, 3)
    assert trial.value == steps[-1]


def test_a_trial_with_a_final_value_is_complete_however_it_leaves() -> None:
    """It obeys, is lost, or returns; what it returns counts if it went no further."""
    start: list[Event] = [began(fidelity="stopping"), WorkerJoined(at=0.0, worker="a")]
    start += [*given(0, "a", budget=3), *reports(0, 1, 2, 3), rung(0, 3.0)]
    lost = WorkerLost(at=1.6, worker="a", reason="killed")
    for ends, value in (
        ([left(0)], 3.0),
        ([lost], 3.0),
        ([done(0, 8.0)], 8.0),
        ([*reports(0, 4), left(0)], 3.0),
        ([*reports(0, 4), done(0, 8.0)], 3.0),
    ):
        summary = fold([*start, *ends])
        trial = summary.trials[0]
        assert (trial.status, trial.reached, trial.value) == (TrialStatus.COMPLETED, 3, value)
        assert trial.stop_reason == ""
        assert summary.standing.best == (0, value)


def test_where_trials_are_stopped_the_best_is_among_those_that_got_farthest() -> None:
    """A trial that returned early counts at the step it reported, one without reports as whole."""
    summary = fold(
        [began(fidelity="stopping"), *given(0, "a", budget=9), *given(1, "b", budget=9)]
    )
    fold([*reports(0, 0, 1), done(0, 7.0), *reports(1, 0, 1, 2), done(1, 1.0)], summary)
    assert summary.standing.best == (1, 1.0)
    assert [trial.reached for trial in summary.trials.values()] == [2, 3]
    fold([*given(2, "c", budget=9), done(2, 0.5)], summary)
    assert (summary.trials[2].reached, summary.standing.best) == (9, (2, 0.5))


def test_late_messages_do_not_count() -> None:
    """What an attempt says after its end, or in a trial nobody knows, changes nothing."""
    summary = fold([began(), WorkerJoined(at=0.0, worker="a"), *given(0, "a")])
    late: list[Event] = [
        MetricReported(at=2.0, trial=0, attempt=0, step=5, value=1.0),
        done(0, 9.0, at=2.0),
        TrialStopped(at=2.0, trial=0, attempt=0),
        TrialFailed(at=2.0, trial=0, attempt=0, error=ERROR),
        StopDecided(at=2.0, trial=0, attempt=0, reason="late"),
    ]
    fold([WorkerLost(at=1.0, worker="a", reason="gone"), *late], summary)
    trial = summary.trials[0]
    assert (trial.status, trial.steps, trial.value) == (TrialStatus.PENDING, [], None)
    fold([WorkerLost(at=2.0, worker="a", reason="again")], summary)
    assert len(summary.crew.lost) == 1
    fold([done(7, 1.0), TrialStarted(at=3.0, trial=8, attempt=0, worker="x")], summary)
    assert list(summary.trials) == [0]
    assert sum(summary.counts.values()) == 1


def test_repeated_steps_do_not_count() -> None:
    """Within one attempt only later steps extend the curve."""
    summary = fold([began(), *given(0, "a")])
    for step in (0, 2, 2, 1, 3):
        summary.apply(MetricReported(at=1.0, trial=0, attempt=0, step=step, value=float(step)))
    assert summary.trials[0].steps == [0, 2, 3]
    assert summary.trials[0].values == [0.0, 2.0, 3.0]


def test_a_new_attempt_replaces_the_curve_from_its_first_step() -> None:
    """From scratch it replaces all, from a checkpoint what follows; others go along."""
    for first, kept in ((0, [0, 1]), (2, [0, 1, 2, 3])):
        summary = fold([began(), WorkerJoined(at=0.0, worker="a"), *given(0, "a")])
        for step in range(3):
            summary.apply(
                MetricReported(
                    at=1.0, trial=0, attempt=0, step=step, value=0.0, others={"o": step}
                )
            )
        fold([WorkerLost(at=1.0, worker="a", reason="gone")], summary)
        fold([TrialStarted(at=2.0, trial=0, attempt=1, worker="b")], summary)
        assert summary.trials[0].steps == [0, 1, 2]
        for step in (first, first + 1):
            summary.apply(MetricReported(at=3.0, trial=0, attempt=1, step=step, value=1.0))
        assert summary.trials[0].steps == kept
        assert summary.trials[0].others == {step: {"o": step} for step in range(first)}


def test_a_trial_given_up_is_failed() -> None:
    """The failure that follows too many lost workers names the next attempt."""
    summary = fold([began(), WorkerJoined(at=0.0, worker="a"), *given(0, "a")])
    fold([WorkerLost(at=1.0, worker="a", reason="gone")], summary)
    fold([TrialFailed(at=1.0, trial=0, attempt=1, error=ERROR)], summary)
    assert summary.counts[TrialStatus.FAILED] == 1
    assert summary.trials[0].error == ERROR


def test_a_worker_lost_while_stopping_has_stopped() -> None:
    """The trial was judged already: it is stopped at its last value."""
    summary = fold([began(), WorkerJoined(at=0.0, worker="a"), *given(0, "a")])
    fold([*stop(0, 1.0, 0.5)[:2], WorkerLost(at=1.0, worker="a", reason="gone")], summary)
    assert summary.counts[TrialStatus.STOPPED] == 1
    assert (summary.trials[0].value, summary.trials[0].stop_reason) == (0.5, "bad")


def test_a_stop_that_came_too_late_leaves_no_reason() -> None:
    """A trial that completed, or failed, before the stop arrived was not stopped."""
    ends: list[Event] = [
        done(0, 0.5),
        TrialFailed(at=1.0, trial=0, attempt=0, error=ERROR),
    ]
    for end in ends:
        summary = fold([began(), *given(0, "a"), *stop(0, 1.0, 0.5)[:2], end])
        assert (summary.trials[0].stop_reason, summary.trials[0].threshold) == ("", None)
        assert summary.counts[TrialStatus.STOPPED] == 0


def test_an_interruption_is_no_early_stop() -> None:
    """A trial that left without having been judged is pending again."""
    summary = fold([began(), *given(0, "a"), CancelRequested(at=1.0)])
    fold([TrialStopped(at=1.5, trial=0, attempt=0)], summary)
    assert summary.cancelled
    assert summary.counts[TrialStatus.STOPPED] == 0
    assert summary.trials[0].status is TrialStatus.PENDING


def test_a_resumed_run_is_not_finished() -> None:
    """A trial that starts after the end of the run takes the end back."""
    summary = fold([began(), ExperimentFinished(at=1.0, outcome="interrupted")])
    assert summary.finished is not None
    fold(given(0, "a", at=2.0), summary)
    assert summary.finished is None


def test_notes_tell_what_ended_the_search() -> None:
    """Failures of the optimizer and the workers, and exhaustion, leave a sentence each."""
    summary = fold(
        [
            SearchExhausted(at=0.0, reason="All tried."),
            OptimizerFailed(at=0.0, error=ERROR),
            EngineFailed(at=0.0, error=ERROR),
        ]
    )
    assert [note.split(":")[0] for note in summary.notes] == [
        *("All tried.", "The optimizer failed", "The workers failed")
    ]


# Workers


def test_utilisation_ends_when_the_last_trial_is_assigned() -> None:
    """Waiting for the last trials to end is nobody's idleness; waiting for work is."""
    events: list[Event] = [
        began(),
        WorkerJoined(at=0.0, worker="a"),
        WorkerJoined(at=0.0, worker="b"),
    ]
    summary = fold([*events, *given(0, "a", at=0.0), *given(1, "b", at=2.0)])
    assert summary.crew.utilisation == 0.5  # b waited for 2 of 2 x 2 seconds
    fold([done(0, 1.0, at=4.0), *given(2, "a", at=4.0)], summary)
    assert summary.crew.utilisation == pytest.approx(6 / 8)
    fold([done(1, 1.0, at=5.0), done(2, 1.0, at=50.0)], summary)
    assert summary.crew.utilisation == pytest.approx(6 / 8)


def test_one_trial_for_each_worker_says_nothing_of_utilisation() -> None:
    """All were assigned as soon as their workers came: there is no share to speak of."""
    summary = fold([began(), WorkerJoined(at=0.2, worker="a"), *given(0, "a", at=0.201)])
    fold([done(0, 1.0, at=5.0)], summary)
    assert summary.crew.utilisation is None


def test_utilisation_of_lost_and_replaced_workers() -> None:
    """A lost worker is busy until it is lost, and not there afterwards."""
    summary = fold([began(), WorkerJoined(at=0.0, worker="a"), *given(0, "a", at=0.0)])
    fold([WorkerLost(at=4.0, worker="a", reason="gone")], summary)
    assert (summary.crew.here, summary.crew.busy) == (0, 0)
    fold([WorkerJoined(at=9.0, worker="b")], summary)
    fold([TrialStarted(at=10.0, trial=0, attempt=1, worker="b")], summary)
    assert summary.crew.utilisation == pytest.approx(4 / 5)
    assert (summary.crew.here, summary.crew.busy) == (1, 1)
    assert summary.crew.trial_of("b") == 0
    assert summary.crew.trial_of("nobody") is None
    assert summary.crew.workers["a"].busy == 4.0


def test_a_worker_that_leaves_after_one_trial() -> None:
    """It is gone when its trial ends, and its loss afterwards is none."""
    summary = fold([began(), WorkerJoined(at=0.0, worker="a", once=True), *given(0, "a")])
    fold([done(0, 1.0), WorkerLost(at=2.0, worker="a", reason="left")], summary)
    assert (summary.crew.here, len(summary.crew.lost)) == (0, 0)
    fold([WorkerJoined(at=3.0, worker="a"), WorkerJoined(at=3.0, worker="a")], summary)
    assert summary.crew.here == 1
    assert summary.crew.workers["a"].trials == 1


def test_seconds_of_work() -> None:
    """Work that has ended and work in progress are told apart."""
    events: list[Event] = [
        began(),
        WorkerJoined(at=0.0, worker="a"),
        WorkerJoined(at=0.0, worker="b"),
    ]
    summary = fold([*events, *given(0, "a"), *given(1, "b"), done(0, 1.0, at=3.0)])
    assert summary.crew.seconds(5.0) == (3.0, 5.0)


def test_a_metric_costs_little() -> None:
    """A report takes far less than 25 microseconds, on the best of many tries."""
    summary = fold([began(), *given(0, "a")])
    events = [
        MetricReported(at=1.0, trial=0, attempt=0, step=step, value=0.5) for step in range(10_000)
    ]
    best = math.inf
    for start in range(0, 10_000, 50):
        began_at = time.perf_counter()
        for event in events[start : start + 50]:
            summary.apply(event)
        best = min(best, (time.perf_counter() - began_at) / 50)
    assert best < 25e-6
    assert len(summary.trials[0].steps) == 10_000


def test_the_newest_checkpoint_is_known() -> None:
    """With its step and size, from whichever attempt; a late one of a former attempt is not."""
    old = CheckpointSaved(at=1.0, trial=0, attempt=0, step=3, size=10)
    late = CheckpointSaved(at=3.0, trial=0, attempt=0, step=4, size=11)
    new = CheckpointSaved(at=4.0, trial=0, attempt=1, step=5, size=12)
    lost = WorkerLost(at=2.0, worker="a", reason="killed")
    summary = fold([began(), WorkerJoined(at=0.0, worker="a"), *given(0, "a"), old, lost])
    assert summary.trials[0].checkpoint == old
    assert fold([late], summary).trials[0].checkpoint == old
    assert fold([new], summary).trials[0].checkpoint == new
