"""The experiment machine: given these events, exactly these commands."""

from __future__ import annotations

from typing import Any

import pytest

from maggy.commands import (
    Assign,
    Finish,
    GiveUp,
    Interrupt,
    Kill,
    Note,
    Shutdown,
    StopTrial,
    Suggest,
    Tell,
)
from maggy.contracts import Decision
from maggy.core.failure import Blame, Failure, same_failure
from maggy.core.machine import ExperimentMachine
from maggy.errors import TransitionError
from maggy.events import (
    CancelRequested,
    CheckpointSaved,
    EngineFailed,
    LogWritten,
    MetricReported,
    OptimizerFailed,
    SearchExhausted,
    Suggested,
    Tick,
    TrialFailed,
    TrialFinished,
    TrialStopped,
    WaitSuggested,
    WorkerJoined,
    WorkerLost,
)
from maggy.trial import Trial, TrialError, TrialStatus

ERROR = TrialError(type="ValueError", message="bad 1")


class StopAt:
    """Stops every trial whose newest loss is above a limit."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.seen: list[int] = []

    def finished(self, trial: Trial) -> None:
        self.seen.append(trial.id)

    def decide(self, trial: Trial) -> Decision:
        loss = trial.losses[-1]
        if loss <= self.limit:
            return Decision(stop=False)
        return Decision(
            stop=True, reason="{loss} too high", threshold=self.limit, losses={"loss": loss}
        )


def machine(num_trials: Any = 3, **options: Any) -> ExperimentMachine:
    return ExperimentMachine(**{"direction": "min", "num_trials": num_trials, **options})


def suggested(trial: Any, at: Any = 0.0, budget: Any = None) -> Suggested:
    return Suggested(at=at, trial=trial, hparams={"x": float(trial)}, budget=budget)


def assign(worker: Any, trial: Any, attempt: Any = 0, budget: Any = None) -> Assign:
    return Assign(
        worker=worker, trial=trial, attempt=attempt, hparams={"x": float(trial)}, budget=budget
    )


def finished(trial: Any, value: Any = 1.0, attempt: Any = 0) -> TrialFinished:
    return TrialFinished(at=1.0, trial=trial, attempt=attempt, value=value)


def reported(trial: Any, step: Any, value: Any, attempt: Any = 0) -> MetricReported:
    return MetricReported(at=1.0, trial=trial, attempt=attempt, step=step, value=value)


def play(m: Any, *events: Any) -> Any:
    commands = []
    for event in events:
        commands = list(m.handle(event))
    return commands


def test_a_whole_run_asks_assigns_tells_and_finishes() -> None:
    """Two trials on one worker: each is asked for, assigned, told of, and the run ends once."""
    m = machine(num_trials=2)
    assert play(m, WorkerJoined(at=0.0, worker="w")) == [Suggest(number=0)]
    assert play(m, suggested(0)) == [assign("w", 0)]
    assert play(m, finished(0)) == [Tell(trial=0), Suggest(number=1)]
    assert play(m, suggested(1)) == [assign("w", 1)]
    assert play(m, finished(1)) == [
        Tell(trial=1),
        Shutdown(worker="w"),
        Finish(outcome="completed"),
    ]
    assert m.finish == Finish(outcome="completed")
    assert [trial.status for trial in m.trials] == [TrialStatus.COMPLETED] * 2


def test_one_suggestion_is_asked_for_at_a_time() -> None:
    """A second idle worker waits for the answer to the first question."""
    m = machine()
    play(m, WorkerJoined(at=0.0, worker="a"))
    assert play(m, WorkerJoined(at=0.0, worker="b")) == []
    assert play(m, suggested(0)) == [assign("a", 0), Suggest(number=1)]


def test_losses_are_negated_values_when_maximising() -> None:
    """Optimizers and policies see losses; commands speak the user's own sign."""
    m = machine(direction="max", policy=StopAt(-0.5), es_min=0)
    play(m, WorkerJoined(at=0.0, worker="w"), suggested(0), reported(0, 0, 0.7))
    assert m.trials[0].losses == [-0.7]
    assert play(m, reported(0, 1, 0.25)) == [
        StopTrial(worker="w", trial=0, attempt=0, reason="0.25 too high", threshold=0.5)
    ]
    assert m.trials[0].threshold == -0.5
    play(m, TrialStopped(at=2.0, trial=0, attempt=0))
    assert (m.trials[0].status, m.trials[0].loss) == (TrialStatus.STOPPED, -0.25)


def test_nothing_is_stopped_before_es_min_trials_completed() -> None:
    """The policy is not even asked before that; failed trials do not count."""
    policy = StopAt(0.0)
    m = machine(num_trials=5, policy=policy, es_min=1)
    play(m, WorkerJoined(at=0.0, worker="w"), suggested(0))
    assert play(m, reported(0, 0, 9.0)) == []
    play(m, TrialFailed(at=1.0, trial=0, attempt=0, error=ERROR), suggested(1))
    assert play(m, reported(1, 0, 9.0)) == []
    play(m, finished(1), suggested(2))
    assert isinstance(play(m, reported(2, 0, 9.0))[0], StopTrial)
    assert policy.seen == [0, 1]


def test_the_policy_looks_at_every_es_interval_th_report() -> None:
    """With an interval of 3 only the third report is judged."""
    m = machine(policy=StopAt(0.0), es_min=0, es_interval=3)
    play(m, WorkerJoined(at=0.0, worker="w"), suggested(0))
    assert [len(play(m, reported(0, step, 9.0))) for step in range(3)] == [0, 0, 1]


def test_a_stop_is_sent_once_and_a_finish_may_cross_it() -> None:
    """A stopping trial is not judged again; one that ended before the stop came has completed."""
    m = machine(policy=StopAt(0.0), es_min=0)
    play(m, WorkerJoined(at=0.0, worker="w"), suggested(0), reported(0, 0, 9.0))
    assert play(m, reported(0, 1, 9.0)) == []
    play(m, finished(0, value=2.0))
    assert (m.trials[0].status, m.trials[0].loss) == (TrialStatus.COMPLETED, 2.0)


def test_late_messages_are_noted_in_one_place_and_change_nothing() -> None:
    """Reports and ends of an attempt that is over, of no trial, or twice are ignored."""
    m = machine()
    play(m, WorkerJoined(at=0.0, worker="w"), suggested(0), reported(0, 3, 1.0))
    for late in (
        reported(0, 3, 5.0),
        reported(0, 2, 5.0),
        reported(0, 9, 5.0, attempt=1),
        reported(7, 0, 5.0),
        finished(7),
        finished(0, attempt=4),
        WorkerLost(at=1.0, worker="nobody", reason="it left"),
    ):
        (note,) = play(m, late)
        assert isinstance(note, Note)
    assert (m.trials[0].steps, m.trials[0].losses) == ([3], [1.0])


def test_a_lost_worker_s_trial_runs_again_with_the_same_hparams() -> None:
    """It goes to the front, as the next attempt, and what the old worker says is ignored."""
    m = machine()
    play(m, WorkerJoined(at=0.0, worker="a"), suggested(0), reported(0, 0, 1.0))
    assert play(m, WorkerLost(at=1.0, worker="a", reason="killed")) == []
    assert m.trials[0].status is TrialStatus.PENDING
    assert play(m, WorkerJoined(at=1.0, worker="b")) == [assign("b", 0, attempt=1)]
    assert isinstance(play(m, finished(0))[0], Note)
    play(m, reported(0, 0, 4.0, attempt=1))
    assert m.trials[0].losses == [4.0]


def test_a_new_attempt_voids_the_old_curve_from_its_first_step_on() -> None:
    """An attempt that goes on from a checkpoint keeps what came before it."""
    m = machine()
    play(m, WorkerJoined(at=0.0, worker="a"), suggested(0))
    play(m, *(reported(0, step, float(step)) for step in range(4)))
    play(m, WorkerLost(at=1.0, worker="a", reason="killed"), WorkerJoined(at=1.0, worker="b"))
    play(m, reported(0, 2, 7.0, attempt=1))
    assert m.trials[0].steps == [0, 1, 2]
    assert m.trials[0].losses == [0.0, 1.0, 7.0]


def test_a_trial_that_loses_too_many_workers_is_given_up() -> None:
    """After the limit the engine is asked to fail it, and the search goes on."""
    m = machine(max_lost=1)
    play(m, WorkerJoined(at=0.0, worker="a"), suggested(0))
    play(m, WorkerLost(at=1.0, worker="a", reason="killed"), WorkerJoined(at=1.0, worker="b"))
    (give_up,) = play(m, WorkerLost(at=2.0, worker="b", reason="killed by signal 9"))
    assert isinstance(give_up, GiveUp)
    assert "killed by signal 9" in give_up.error.message
    commands = play(m, TrialFailed(at=2.0, trial=0, attempt=2, error=give_up.error))
    assert commands == [Tell(trial=0)]
    assert play(m, WorkerJoined(at=3.0, worker="c")) == [Suggest(number=1)]


def test_a_judged_trial_is_not_run_again_when_its_worker_is_lost() -> None:
    """Its stop was decided: it counts as stopped, with the last loss."""
    m = machine(policy=StopAt(0.0), es_min=0)
    play(m, WorkerJoined(at=0.0, worker="a"), suggested(0), reported(0, 0, 9.0))
    assert play(m, WorkerLost(at=1.0, worker="a", reason="killed")) == [Tell(trial=0)]
    assert (m.trials[0].status, m.trials[0].loss) == (TrialStatus.STOPPED, 9.0)


def test_exhaustion_ends_the_run_after_the_running_trials() -> None:
    """The reason is kept as the run's own."""
    m = machine(num_trials=None)
    play(m, WorkerJoined(at=0.0, worker="a"), WorkerJoined(at=0.0, worker="b"), suggested(0))
    assert play(m, SearchExhausted(at=0.0, reason="All seen.")) == []
    assert play(m, finished(0))[-1] == Finish(outcome="exhausted", reason="All seen.")


def test_a_waiting_optimizer_is_asked_again_when_a_trial_ended() -> None:
    """Wait means: not before something changes."""
    m = machine()
    play(m, WorkerJoined(at=0.0, worker="a"), WorkerJoined(at=0.0, worker="b"), suggested(0))
    assert play(m, WaitSuggested(at=0.0)) == []
    assert play(m, reported(0, 0, 1.0)) == []
    assert play(m, finished(0)) == [Tell(trial=0), Suggest(number=1)]


def test_an_answer_from_before_an_end_is_no_reason_to_wait() -> None:
    """Asked while a trial ran, the optimizer says wait after it has ended: it is asked again."""
    m = machine(prefetch=1)
    play(m, WorkerJoined(at=0.0, worker="a"))
    assert play(m, suggested(0)) == [assign("a", 0), Suggest(number=1, ahead=True)]
    assert play(m, finished(0)) == [Tell(trial=0)]
    assert play(m, WaitSuggested(at=1.0)) == [Suggest(number=1)]
    commands = play(m, WaitSuggested(at=1.1))
    assert commands[-1].outcome == "failed", "now there is nothing to wait for"


def test_waiting_for_nothing_ends_the_run_as_failed() -> None:
    """An optimizer that waits while nothing runs would wait for ever."""
    m = machine()
    commands = play(m, WorkerJoined(at=0.0, worker="a"), WaitSuggested(at=0.0))
    assert commands[-1].outcome == "failed"


def test_prefetched_suggestions_wait_for_a_free_worker() -> None:
    """With a prefetch of one, a suggestion is ready before its worker is."""
    m = machine(prefetch=1)
    play(m, WorkerJoined(at=0.0, worker="a"))
    assert play(m, suggested(0)) == [assign("a", 0), Suggest(number=1, ahead=True)]
    assert play(m, suggested(1)) == []
    assert play(m, finished(0)) == [Tell(trial=0), assign("a", 1), Suggest(number=2, ahead=True)]


def test_a_promotion_continues_a_completed_trial() -> None:
    """Same id, next attempt, larger budget; not counted as another configuration."""
    m = machine(num_trials=1, promotes=True)
    play(m, WorkerJoined(at=0.0, worker="a"), suggested(0, budget=1), finished(0))
    assert play(m, suggested(0, budget=2)) == [assign("a", 0, attempt=1, budget=2)]
    assert len(m.trials) == 1


def test_a_promotion_begins_afresh_but_for_the_curve() -> None:
    """Loss and lost workers are forgotten, the curve stands until the new run reports."""
    m = machine(num_trials=1, promotes=True, max_lost=1)
    play(m, WorkerJoined(at=0.0, worker="a"), suggested(0, budget=1))
    play(m, WorkerLost(at=0.1, worker="a", reason="killed"), WorkerJoined(at=0.2, worker="b"))
    play(m, reported(0, 0, 5.0, attempt=1), finished(0, value=5.0, attempt=1))
    play(m, suggested(0, budget=2))
    trial = m.trials[0]
    assert (trial.loss, trial.lost, trial.budget, trial.losses) == (None, 0, 2, [5.0])
    play(m, WorkerLost(at=1.0, worker="b", reason="killed"))
    assert play(m, WorkerJoined(at=1.1, worker="c")) == [assign("c", 0, attempt=3, budget=2)]
    play(m, reported(0, 1, 3.0, attempt=3), finished(0, value=3.0, attempt=3))
    assert (trial.loss, trial.losses) == (3.0, [5.0, 3.0])


def test_every_ended_run_is_told_and_a_failed_promotion_has_no_loss() -> None:
    """The optimizer learns of each, in order."""
    m = machine(num_trials=1, promotes=True)
    play(m, WorkerJoined(at=0.0, worker="a"), suggested(0, budget=1))
    assert Tell(trial=0) in play(m, finished(0))
    play(m, suggested(0, budget=2))
    commands = play(m, TrialFailed(at=1.0, trial=0, attempt=1, error=ERROR))
    assert commands == [Tell(trial=0), Suggest(number=1)]
    assert (m.trials[0].status, m.trials[0].loss) == (TrialStatus.FAILED, None)
    commands = play(m, SearchExhausted(at=2.0, reason="Nothing is left to promote."))
    assert commands[-1] == Finish(outcome="completed")


@pytest.mark.parametrize("number", [0, 7, -1])
def test_only_completed_trials_can_be_continued(number: Any) -> None:
    """An optimizer that continues a running trial, or none, ends the run with its mistake."""
    m = machine(promotes=True)
    play(m, WorkerJoined(at=0.0, worker="a"), WorkerJoined(at=0.0, worker="b"), suggested(0))
    play(m, suggested(number))
    assert m.failure is not None
    assert m.failure.blame is Blame.OPTIMIZER
    assert f"it continues trial {number}, which has not completed" in m.failure.error.message


def test_a_promoted_trial_counts_once_towards_es_min() -> None:
    """Trials that have completed are counted, not runs."""
    m = machine(num_trials=3, promotes=True, policy=StopAt(0.0), es_min=2)
    play(m, WorkerJoined(at=0.0, worker="a"), suggested(0), finished(0))
    play(m, suggested(0, budget=2), finished(0, attempt=1), suggested(1))
    assert play(m, reported(1, 0, 9.0)) == []
    play(m, finished(1), suggested(2))
    assert isinstance(play(m, reported(2, 0, 9.0))[0], StopTrial)


def test_rungs_judge_every_report_from_the_first() -> None:
    """Whatever es_min and es_interval say to the user's policy; both learn of every end."""
    rungs, policy = StopAt(5.0), StopAt(1.0)
    m = machine(policy=policy, es_min=1, es_interval=2, rungs=rungs)
    play(m, WorkerJoined(at=0.0, worker="a"), suggested(0))
    assert play(m, reported(0, 0, 3.0)) == []
    (stop,) = play(m, reported(0, 1, 6.0))
    assert (stop.threshold, stop.final) == (5.0, None)
    play(m, TrialStopped(at=1.0, trial=0, attempt=0), suggested(1), finished(1), suggested(2))
    assert play(m, reported(2, 0, 3.0)) == []
    (stop,) = play(m, reported(2, 1, 3.0))
    assert stop.threshold == 1.0
    assert rungs.seen == policy.seen == [0, 1]


class Enough:
    """A trial with a report at step 2 has done what was wanted."""

    def finished(self, trial: Trial) -> None:
        pass

    def decide(self, trial: Trial) -> Decision:
        done = trial.steps[-1] == 2
        return Decision(stop=done, complete=done, reason="enough" if done else "")


def at_the_end(**options: Any) -> Any:
    m = machine(direction="max", rungs=Enough(), **options)
    play(m, WorkerJoined(at=0.0, worker="a"), suggested(0, budget=2))
    return m, play(m, reported(0, 1, 0.5), reported(0, 2, 0.75))


def test_a_trial_that_has_reached_its_budget_is_told_to_leave_and_is_complete() -> None:
    """Its value is the one it had there, in the user's sign."""
    m, commands = at_the_end()
    assert commands == [StopTrial(worker="a", trial=0, attempt=0, reason="enough", final=0.75)]
    play(m, reported(0, 3, 0.1))
    assert play(m, TrialStopped(at=2.0, trial=0, attempt=0))[0] == Tell(trial=0)
    assert (m.trials[0].status, m.trials[0].loss) == (TrialStatus.COMPLETED, -0.75)


@pytest.mark.parametrize(("more", "loss"), [(False, -0.9), (True, -0.75)])
def test_what_it_returns_counts_unless_it_went_on_beyond_its_budget(more: Any, loss: Any) -> None:
    """A function of just that length returns its own value; a longer one that ran on does not."""
    m, _ = at_the_end()
    if more:
        play(m, reported(0, 3, 0.1))
    play(m, finished(0, value=0.9))
    assert (m.trials[0].status, m.trials[0].loss) == (TrialStatus.COMPLETED, loss)


def test_a_complete_trial_survives_its_worker_but_not_an_exception() -> None:
    """Lost on its way out, it is complete; what raises has failed."""
    m, _ = at_the_end()
    assert play(m, WorkerLost(at=2.0, worker="a", reason="killed")) == [Tell(trial=0)]
    assert (m.trials[0].status, m.trials[0].loss) == (TrialStatus.COMPLETED, -0.75)
    m, _ = at_the_end()
    play(m, TrialFailed(at=2.0, trial=0, attempt=0, error=ERROR))
    assert (m.trials[0].status, m.trials[0].loss) == (TrialStatus.FAILED, None)


@pytest.mark.parametrize(
    ("event", "outcome"),
    [
        (OptimizerFailed(at=1.0, error=ERROR), "failed"),
        (EngineFailed(at=1.0, error=ERROR), "failed"),
        (CancelRequested(at=1.0), "interrupted"),
    ],
)
def test_an_early_end_interrupts_what_runs_and_starts_nothing(event: Any, outcome: Any) -> None:
    """What ran stays unfinished; the run ends when the last worker is free."""
    m = machine()
    play(m, WorkerJoined(at=0.0, worker="a"), suggested(0))
    assert play(m, event) == [Interrupt(worker="a", trial=0, attempt=0)]
    commands = play(m, TrialStopped(at=1.5, trial=0, attempt=0))
    assert commands[0] == Shutdown(worker="a")
    assert commands[1].outcome == outcome
    assert m.trials[0].status is TrialStatus.PENDING


def test_after_the_grace_a_cancelled_run_kills() -> None:
    """wake_at names the moment; a tick before it does nothing, one at it kills who is busy."""
    m = machine()
    play(m, WorkerJoined(at=0.0, worker="a"), suggested(0), CancelRequested(at=3.0, grace=1.0))
    assert m.wake_at() == 4.0
    assert play(m, Tick(at=3.9)) == []
    assert play(m, Tick(at=4.0)) == [Kill(worker="a")]
    commands = play(m, WorkerLost(at=4.1, worker="a", reason="killed"))
    assert commands == [Finish(outcome="interrupted", reason="The run was interrupted.")]
    assert m.wake_at() is None


def test_a_policy_that_raises_ends_the_run_with_its_error() -> None:
    """Never swallowed: the reason names the exception."""

    class Broken(StopAt):
        def decide(self, trial: Any) -> Decision:
            raise KeyError("oops")

    m = machine(policy=Broken(0.0), es_min=0)
    play(m, WorkerJoined(at=0.0, worker="a"), suggested(0))
    assert play(m, reported(0, 0, 1.0)) == [Interrupt(worker="a", trial=0, attempt=0)]
    commands = play(m, TrialStopped(at=1.0, trial=0, attempt=0))
    assert "KeyError" in commands[-1].reason


def test_first_trials_that_fail_alike_end_the_run() -> None:
    """Messages that differ in numbers only are one mistake; the error is kept whole."""
    m = machine(num_trials=9, first=3)
    commands = []
    play(m, WorkerJoined(at=0.0, worker="a"))
    for number in range(3):
        error = TrialError(type="ValueError", message=f"shape ({number},)")
        play(m, suggested(number))
        commands = play(m, TrialFailed(at=1.0, trial=number, attempt=0, error=error))
    assert commands[-1].outcome == "failed"
    assert m.failure == Failure(
        blame=Blame.TRIALS, error=TrialError(type="ValueError", message="shape (0,)")
    )


@pytest.mark.parametrize("between", ["success", "other error"])
def test_one_other_end_among_the_first_keeps_the_run_going(between: Any) -> None:
    """A single success or a different error shows that not everything is broken."""
    m = machine(num_trials=9, first=3)
    play(m, WorkerJoined(at=0.0, worker="a"), suggested(0))
    if between == "success":
        play(m, finished(0))
    else:
        play(m, TrialFailed(at=1.0, trial=0, attempt=0, error=TrialError(type="A", message="")))
    for number in range(1, 5):
        play(m, suggested(number))
        play(m, TrialFailed(at=1.0, trial=number, attempt=0, error=ERROR))
    assert m.finish is None


def test_a_worker_that_serves_once_leaves_after_its_trial() -> None:
    """It is gone without having been lost, and nothing is asked for it again."""
    m = machine()
    play(m, WorkerJoined(at=0.0, worker="a", once=True), suggested(0))
    assert play(m, finished(0)) == [Tell(trial=0)]
    assert not m.workers


def test_our_own_illegal_move_raises_with_the_story() -> None:
    """A worker that joins twice is a bug, and the report is complete by construction."""
    m = machine()
    play(m, WorkerJoined(at=0.0, worker="a"))
    with pytest.raises(TransitionError, match="worker a, which is idle") as caught:
        m.handle(WorkerJoined(at=1.0, worker="a"))
    assert len(caught.value.story) == 2


def test_a_trial_that_leaves_untold_is_run_again() -> None:
    """A worker that reports a stop nobody asked for costs an attempt, not the trial."""
    m = machine()
    play(m, WorkerJoined(at=0.0, worker="a"), suggested(0))
    assert play(m, TrialStopped(at=1.0, trial=0, attempt=0)) == [assign("a", 0, attempt=1)]


def test_events_after_the_end_are_noted() -> None:
    """Nothing moves any more once the run has finished."""
    m = machine(num_trials=1)
    play(m, WorkerJoined(at=0.0, worker="a"), suggested(0), finished(0))
    (note,) = play(m, WorkerLost(at=9.0, worker="a", reason="exited"))
    assert isinstance(note, Note)


def test_failures_are_alike_up_to_numbers() -> None:
    """Type and text decide, numbers and addresses do not."""
    a = TrialError(type="E", message="object at 0x7f3a, loss 1.5e-3")
    b = TrialError(type="E", message="object at 0x1b22, loss 22")
    assert same_failure([a, b])
    assert not same_failure([a, TrialError(type="F", message=a.message)])
    assert not same_failure([a, TrialError(type="E", message="something else")])


# Time


def test_a_run_that_takes_too_long_has_to_leave_and_fails() -> None:
    """Told at the limit; once it has left, the trial fails with what it had reached."""
    m = machine(num_trials=2, direction="max", trial_timeout=60.0)
    play(m, WorkerJoined(at=5.0, worker="w"), suggested(0, at=10.0))
    play(m, MetricReported(at=50.0, trial=0, attempt=0, step=3, value=0.5))
    assert m.wake_at() == 70.0
    (order,) = play(m, Tick(at=70.0))
    assert isinstance(order, Interrupt)
    assert (order.worker, order.trial, order.attempt) == ("w", 0, 0)
    assert "60 s" in order.reason
    give_up, _ = play(m, TrialStopped(at=71.0, trial=0, attempt=0))
    assert isinstance(give_up, GiveUp)
    assert give_up.error.type == "Timeout"
    assert "0.5 at step 3" in give_up.error.message
    play(m, TrialFailed(at=71.0, trial=0, attempt=give_up.attempt, error=give_up.error))
    assert (m.trials[0].status, m.trials[0].error) == (TrialStatus.FAILED, give_up.error)
    assert play(m, suggested(1, at=72.0)) == [assign("w", 1)]
    assert m.wake_at() == 132.0


def test_a_run_that_does_not_leave_loses_its_worker_and_is_not_run_again() -> None:
    """Killed when the grace is over; the worker that replaces it gets another trial."""
    m = machine(num_trials=2, trial_timeout=60.0)
    play(m, WorkerJoined(at=0.0, worker="a"), suggested(0), Tick(at=60.0))
    assert m.wake_at() == 66.0
    assert play(m, Tick(at=66.0)) == [Kill(worker="a")]
    assert m.wake_at() is None
    (give_up,) = play(m, WorkerLost(at=67.0, worker="a", reason="ended by maggy"))
    assert isinstance(give_up, GiveUp)
    assert "its worker was ended" in give_up.error.message
    play(m, TrialFailed(at=67.0, trial=0, attempt=give_up.attempt, error=give_up.error))
    assert play(m, WorkerJoined(at=69.0, worker="b")) == [Suggest(number=1)]
    assert play(m, suggested(1, at=69.0)) == [assign("b", 1)]


def test_a_late_run_is_noticed_at_any_event() -> None:
    """Also by an engine that never ticks, such as a search driven by hand."""
    m = machine(trial_timeout=60.0, policy=StopAt(0.0), es_min=0)
    play(m, WorkerJoined(at=0.0, worker="w"), suggested(0))
    commands = play(m, MetricReported(at=61.0, trial=0, attempt=0, step=0, value=-1.0))
    assert [type(command) for command in commands] == [Interrupt]
    again = play(m, MetricReported(at=62.0, trial=0, attempt=0, step=1, value=9.0))
    assert again == []  # nobody judges it any more


def test_a_result_that_comes_late_counts() -> None:
    """A training function that returns instead of leaving has completed."""
    m = machine(trial_timeout=60.0)
    play(m, WorkerJoined(at=0.0, worker="w"), suggested(0), Tick(at=60.0))
    play(m, TrialFinished(at=63.0, trial=0, attempt=0, value=2.0))
    assert (m.trials[0].status, m.trials[0].loss) == (TrialStatus.COMPLETED, 2.0)
    assert m.wake_at() is None


def test_each_run_of_a_trial_has_its_own_time() -> None:
    """A lost worker costs the trial nothing; a promotion begins anew."""
    m = machine(num_trials=1, promotes=True, trial_timeout=60.0)
    play(m, WorkerJoined(at=0.0, worker="a"), suggested(0, budget=1))
    play(m, WorkerLost(at=50.0, worker="a", reason="killed"), WorkerJoined(at=55.0, worker="b"))
    assert m.wake_at() == 115.0
    play(m, TrialFinished(at=100.0, trial=0, attempt=1, value=1.0))
    play(m, suggested(0, at=101.0, budget=2))
    assert m.wake_at() == 161.0


def test_a_stopped_trial_that_never_leaves_is_ended_at_its_limit() -> None:
    """It was told already; it stays stopped, with its last value."""
    m = machine(policy=StopAt(0.0), es_min=0, trial_timeout=60.0)
    play(m, WorkerJoined(at=0.0, worker="w"), suggested(0), reported(0, 0, 9.0))
    assert play(m, Tick(at=60.0)) == []
    assert play(m, Tick(at=66.0)) == [Kill(worker="w")]
    play(m, WorkerLost(at=67.0, worker="w", reason="ended by maggy"))
    assert (m.trials[0].status, m.trials[0].loss) == (TrialStatus.STOPPED, 9.0)


def test_at_the_time_limit_all_stop_and_nothing_begins() -> None:
    """What runs keeps its last value, with a reason; the run has completed, and says why."""
    m = machine(num_trials=9, time_limit=100.0, prefetch=1)
    play(m, WorkerJoined(at=0.0, worker="a"), WorkerJoined(at=0.0, worker="b"))
    play(m, suggested(0), suggested(1), suggested(2), reported(0, 0, 0.5))
    assert m.wake_at() == 100.0
    reason = "The time limit of 100 s was reached."
    assert play(m, Tick(at=100.0)) == [
        StopTrial(worker="a", trial=0, attempt=0, reason=reason),
        StopTrial(worker="b", trial=1, attempt=0, reason=reason),
    ]
    assert m.ending
    assert play(m, TrialStopped(at=101.0, trial=0, attempt=0)) == [Tell(trial=0)]
    assert play(m, Tick(at=110.0)) == [Kill(worker="b")]
    assert play(m, WorkerLost(at=111.0, worker="b", reason="ended by maggy"))[-1] == Finish(
        outcome="completed", reason=reason
    )
    ends = [(t.status, t.loss) for t in m.trials]
    assert ends == [
        (TrialStatus.STOPPED, 0.5),
        (TrialStatus.STOPPED, None),
        (TrialStatus.PENDING, None),
    ]


@pytest.mark.parametrize("last", [finished(0), TrialFailed(at=1, trial=0, attempt=0, error=ERROR)])
def test_what_ends_after_the_time_limit_still_counts(last: Any) -> None:
    """An event that comes when time is up is taken in, but nothing follows from it."""
    m = machine(num_trials=9, time_limit=0.5)
    play(m, WorkerJoined(at=0.0, worker="w"), suggested(0))
    commands = play(m, last)
    assert m.trials[0].status.ended
    assert [type(command) for command in commands] == [Tell, Shutdown, Finish]


def test_a_time_limit_with_no_worker_there_ends_the_run() -> None:
    """Nobody has to join first."""
    m = machine(time_limit=10.0)
    assert play(m, Tick(at=10.0)) == [
        Finish(outcome="completed", reason="The time limit of 10 s was reached.")
    ]


def test_trials_that_all_take_too_long_end_the_run_with_that_error() -> None:
    """Like any mistake that all of the first trials make."""
    m = machine(num_trials=50, first=2, trial_timeout=10.0)
    play(m, WorkerJoined(at=0.0, worker="w"))
    for number in range(2):
        began = 20.0 * number
        play(m, suggested(number, at=began), Tick(at=began + 10.0))
        commands = play(m, TrialStopped(at=began + 11.0, trial=number, attempt=0))
        error = commands[0].error
        play(m, TrialFailed(at=began + 11.0, trial=number, attempt=1, error=error))
    assert m.failure is not None
    assert (m.failure.blame, m.failure.error.type) == (Blame.TRIALS, "Timeout")


def test_who_interrupts_an_ending_run_gets_an_interruption() -> None:
    """A Ctrl-C while trials leave at the time limit is not swallowed."""
    m = machine(time_limit=10.0)
    play(m, WorkerJoined(at=0.0, worker="a"), suggested(0))
    play(m, Tick(at=10.0))
    play(m, CancelRequested(at=10.5), TrialStopped(at=10.6, trial=0, attempt=0))
    assert m.finish is not None
    assert m.finish.outcome == "interrupted"


def test_a_failure_stays_the_reason_of_an_interrupted_end() -> None:
    """What went wrong is what the user wants to know."""
    m = machine()
    play(m, WorkerJoined(at=0.0, worker="a"), suggested(0))
    play(m, EngineFailed(at=1.0, error=ERROR), CancelRequested(at=1.1))
    play(m, TrialStopped(at=1.2, trial=0, attempt=0))
    assert m.finish is not None
    assert m.finish.outcome == "failed"


@pytest.mark.parametrize("losses", [{"other": 1.0}, {"best": "low"}])
def test_a_sentence_that_cannot_be_said_is_the_policys_failure(losses: Any) -> None:
    """It names a loss that is not there, or one that is no number."""

    class Wrong:
        def finished(self, trial: Trial) -> None:
            pass

        def decide(self, trial: Trial) -> Decision:
            return Decision(stop=True, reason="worse than {best}", losses=losses)

    m = machine(policy=Wrong(), es_min=0)
    play(m, WorkerJoined(at=0.0, worker="a"), suggested(0))
    play(m, MetricReported(at=1.0, trial=0, attempt=0, step=0, value=1.0))
    assert m.failure is not None
    assert m.failure.blame is Blame.POLICY


def test_a_worker_speaks_for_its_own_trial_only() -> None:
    """What another worker, or a stranger, says of a running trial is an objection, and no more."""
    m = machine()
    play(m, *(WorkerJoined(at=0.0, worker=worker) for worker in "ab"))
    play(m, suggested(0), suggested(1))
    said: list[Any] = [
        reported(0, 1, 0.5),
        finished(0),
        TrialFailed(at=1.0, trial=0, attempt=0, error=ERROR),
        TrialStopped(at=1.0, trial=0, attempt=0),
        LogWritten(at=1.0, trial=0, attempt=0, text="hi"),
        CheckpointSaved(at=1.0, trial=0, attempt=0, step=1, size=1),
    ]
    for event in said:
        assert m.objection("a", event) is None
        for stranger in ("b", "z"):
            note = m.objection(stranger, event)
            assert note is not None
            assert f"worker {stranger} does not run that trial" in note.text
    assert [trial.status for trial in m.trials] == [TrialStatus.RUNNING] * 2


def test_nobody_speaks_for_a_trial_that_waits() -> None:
    """Not even the failure of an attempt that no worker has yet is believed."""
    m = machine()
    play(m, WorkerJoined(at=0.0, worker="a"), suggested(0))
    play(m, WorkerLost(at=1.0, worker="a", reason="gone"))
    failed = TrialFailed(at=1.0, trial=0, attempt=1, error=ERROR)
    assert m.objection("a", failed) is not None


def test_other_events_have_no_speaker() -> None:
    """Late messages are left to the machine, and workers may say what is about no trial."""
    m = machine()
    play(m, WorkerJoined(at=0.0, worker="a"), suggested(0), finished(0))
    assert m.objection("b", finished(0)) is None
    assert m.objection("b", WorkerJoined(at=1.0, worker="b")) is None
