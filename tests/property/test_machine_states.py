"""The experiment machine under every order of events that hypothesis can think of.

``Play`` is a tiny model of the world: workers that join, report, finish, fail, leave when told to,
and die; an optimizer that answers late, promotes, or waits; messages that come twice or too late.
One invariant for each state, and planted bugs that these invariants have to catch.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, assert_never

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from maggy.commands import (
    Assign,
    Command,
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
from maggy.core.machine import ExperimentMachine
from maggy.core.transitions import WorkerStatus
from maggy.errors import TransitionError
from maggy.events import (
    CancelRequested,
    MetricReported,
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
from maggy.trial import TrialError, TrialStatus

ENDED = {TrialStatus.COMPLETED, TrialStatus.STOPPED, TrialStatus.FAILED}


class StopOdd:
    """Stops a trial at an odd loss."""

    def finished(self, trial: Any) -> None:
        assert trial.status in ENDED

    def decide(self, trial: Any) -> Any:
        odd = trial.losses[-1] % 2 == 1
        return Decision(stop=odd, reason="odd" if odd else "")


class CompleteAtEight:
    """A trial that reports 8 has reached its budget."""

    def finished(self, trial: Any) -> None:
        assert trial.status in ENDED

    def decide(self, trial: Any) -> Any:
        full = trial.losses[-1] == 8
        return Decision(stop=full, complete=full, reason="full" if full else "")


class Play(RuleBasedStateMachine):
    """The world around one machine; ``make`` builds the machine under test."""

    make = staticmethod(ExperimentMachine)

    @initialize(
        num_trials=st.integers(1, 6),
        prefetch=st.integers(0, 2),
        max_lost=st.integers(0, 2),
        promotes=st.booleans(),
        trial_timeout=st.sampled_from([None, 4.0]),
        time_limit=st.sampled_from([None, None, 15.0, 30.0]),
    )
    def begin(
        self,
        num_trials: Any,
        prefetch: Any,
        max_lost: Any,
        promotes: Any,
        trial_timeout: Any,
        time_limit: Any,
    ) -> None:
        self.options = {
            "direction": "min",
            "num_trials": num_trials,
            "policy": StopOdd(),
            "es_min": 1,
            "rungs": CompleteAtEight(),
            "promotes": promotes,
            "prefetch": prefetch,
            "max_lost": max_lost,
            "first": 3,
            "trial_timeout": trial_timeout,
            "time_limit": time_limit,
        }
        self.machine = self.make(**self.options)
        self.at = 0.0
        self.history: list[Any] = []
        self.commands: list[list[Any]] = []
        self.running: dict[str, tuple[int, int]] = {}  # worker -> (trial, attempt)
        self.stops: set[str] = set()
        self.alive: set[str] = set()
        self.joined = 0
        self.question: int | None = None
        self.cancelled = False
        self.told: list[int] = []
        self.promotions: Counter[int] = Counter()
        self.lost: Counter[int] = Counter()
        self.waiting_since = -1
        self.finishes = 0
        self.ended: dict[int, Any] = {}
        self.doomed: set[str] = set()
        self.began: dict[str, float] = {}
        self.late: set[tuple[int, int]] = set()

    def send(self, event: Any) -> None:
        self.history.append(event)
        commands = self.machine.handle(event)
        self.commands.append(list(commands))
        for command in commands:
            self.carry_out(command)

    def carry_out(self, command: Command) -> None:  # noqa: C901 - one case each
        match command:
            case Assign():
                assert command.worker in self.alive
                assert command.worker not in self.running, "assigned to a busy worker"
                pairs = [trial for trial, _ in self.running.values()]
                assert command.trial not in pairs, "a trial on two workers"
                assert not self.cancelled, "assigned after the end was asked for"
                assert not self.over(), "assigned after the time limit"
                last = (command.trial, command.attempt - 1)
                assert last not in self.late, "a trial that used up its time runs again"
                self.running[command.worker] = (command.trial, command.attempt)
                self.began[command.worker] = self.at
            case StopTrial() | Interrupt():
                assert self.running[command.worker] == (command.trial, command.attempt)
                self.stops.add(command.worker)
                if "trial_timeout" in command.reason:
                    self.late.add((command.trial, command.attempt))
            case Suggest():
                assert self.question is None, "two questions at a time"
                more = command.number < self.options["num_trials"] or self.options["promotes"]
                assert more, "asked for more configurations than are wanted"
                self.question = command.number
            case Tell():
                self.told.append(command.trial)
            case Kill():
                self.doomed.add(command.worker)
            case Shutdown():
                assert command.worker in self.alive
            case GiveUp():
                self.send(
                    TrialFailed(
                        at=self.at,
                        trial=command.trial,
                        attempt=command.attempt,
                        error=command.error,
                    )
                )
            case Finish():
                self.finishes += 1
            case Note():
                pass
            case _:
                assert_never(command)

    def over(self) -> bool:
        limit = self.options["time_limit"]
        return limit is not None and self.at >= limit

    def now(self) -> Any:
        self.at += 1.0
        return self.at

    @rule()
    def join(self) -> None:
        worker = f"w{self.joined}"
        self.joined += 1
        self.alive.add(worker)
        self.send(WorkerJoined(at=self.now(), worker=worker))

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def lose(self, data: Any) -> None:
        worker = data.draw(st.sampled_from(sorted(self.alive)))
        self.alive.discard(worker)
        self.stops.discard(worker)
        self.doomed.discard(worker)
        if worker in self.running:
            self.lost[self.running.pop(worker)[0]] += 1
        self.send(WorkerLost(at=self.now(), worker=worker, reason="killed"))

    @precondition(lambda self: self.question is not None)
    @rule(
        kind=st.sampled_from(["new"] * 6 + ["promote"] * 3 + ["wait", "exhausted"]),
        data=st.data(),
    )
    def answer(self, kind: Any, data: Any) -> None:
        number, self.question = self.question, None
        assert number is not None
        promotes = self.options["promotes"] and self.machine.finish is None
        done = self.trials(TrialStatus.COMPLETED) if promotes else []
        left = number < self.options["num_trials"] or not self.options["promotes"]
        if done and (kind == "promote" or not left):
            trial = data.draw(st.sampled_from(done))
            if self.machine.finish is None:  # else it no longer listens
                self.ended.pop(trial.id)
                self.promotions[trial.id] += 1
                self.lost[trial.id] = 0
            at, budget = self.now(), self.promotions[trial.id] + 1
            self.send(Suggested(at=at, trial=trial.id, hparams=trial.hparams, budget=budget))
        elif kind == "wait" and self.running:
            self.waiting_since = len(self.told)
            self.send(WaitSuggested(at=self.now()))
        elif kind == "exhausted" or not left:
            self.send(SearchExhausted(at=self.now(), reason="All were tried."))
        else:
            self.send(Suggested(at=self.now(), trial=number, hparams={"x": number}))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), loss=st.integers(0, 9), resumes=st.booleans())
    def report(self, data: Any, loss: Any, resumes: Any) -> None:
        worker = data.draw(st.sampled_from(sorted(self.running)))
        trial, attempt = self.running[worker]
        curve = self.machine.trials[trial]
        step = curve.steps[-1] + 1 if curve.steps and (resumes or not curve.fresh) else 0
        self.send(
            MetricReported(
                at=self.now(), trial=trial, attempt=attempt, step=step, value=float(loss)
            )
        )

    @precondition(lambda self: self.running)
    @rule(data=st.data(), how=st.sampled_from(["finish", "fail", "leave"]))
    def end(self, data: Any, how: Any) -> None:
        worker = data.draw(st.sampled_from(sorted(self.running)))
        trial, attempt = self.running[worker]
        if how == "leave" and worker not in self.stops:
            return
        del self.running[worker]
        self.stops.discard(worker)
        ids = {"at": self.now(), "trial": trial, "attempt": attempt}
        if how == "finish":
            self.late.discard((trial, attempt))  # done, if late
            self.send(TrialFinished(**ids, value=1.0))
        elif how == "fail":
            self.send(TrialFailed(**ids, error=TrialError(type="E", message=str(attempt))))
        else:
            self.send(TrialStopped(**ids))

    @precondition(lambda self: self.history)
    @rule(data=st.data())
    def say_it_again(self, data: Any) -> None:
        """A message of the past arrives late: nothing but a note may come of it."""
        kinds = (MetricReported, TrialFinished, TrialFailed, TrialStopped)
        past = [event for event in self.history if isinstance(event, kinds)]
        current = set(self.running.values())
        stale = [event for event in past if (event.trial, event.attempt) not in current]
        if stale:
            event = data.draw(st.sampled_from(stale))
            commands = self.machine.handle(event)
            self.history.append(event)
            self.commands.append(list(commands))
            assert [type(command) for command in commands] == [Note]

    @precondition(lambda self: len(self.history) > 4)
    @rule(grace=st.sampled_from([0.0, 3.0]), wanted=st.sampled_from([False] * 4 + [True]))
    def cancel(self, grace: Any, wanted: Any) -> None:
        if wanted:
            self.cancelled = self.cancelled or self.machine.finish is None
            self.send(CancelRequested(at=self.now(), grace=grace))

    @rule()
    def tick(self) -> None:
        """Afterwards nothing is overdue, or the loop would spin."""
        self.send(Tick(at=self.now()))
        wake = self.machine.wake_at()
        assert wake is None or wake > self.at

    # One invariant for each state, and what must hold between them

    def trials(self, status: Any) -> Any:
        return [trial for trial in self.machine.trials if trial.status is status]

    @invariant()
    def pending_trials_are_nobodys(self) -> None:
        assert all(trial.worker is None for trial in self.trials(TrialStatus.PENDING))

    @invariant()
    def running_and_stopping_trials_are_on_exactly_their_worker(self) -> None:
        open_trials = self.trials(TrialStatus.RUNNING) + self.trials(TrialStatus.STOPPING)
        assert {trial.worker: (trial.id, trial.attempt) for trial in open_trials} == self.running

    @invariant()
    def stopping_trials_have_been_told_and_why(self) -> None:
        for trial in self.trials(TrialStatus.STOPPING):
            assert trial.worker in self.stops
            assert trial.stop_reason

    @invariant()
    def completed_trials_have_the_loss_that_they_returned_or_had_when_full(self) -> None:
        for trial in self.trials(TrialStatus.COMPLETED):
            assert trial.loss in ({1.0, 8.0} if trial.complete else {1.0})

    @invariant()
    def stopped_trials_have_a_reason_and_their_last_loss(self) -> None:
        for trial in self.trials(TrialStatus.STOPPED):
            assert trial.stop_reason
            assert trial.loss == (trial.losses[-1] if trial.losses else None)

    @invariant()
    def failed_trials_have_an_error(self) -> None:
        assert all(trial.error is not None for trial in self.trials(TrialStatus.FAILED))

    @invariant()
    def ended_runs_are_told_once_and_change_only_by_promotion(self) -> None:
        ended = {t.id: (t.status, t.loss) for t in self.machine.trials if t.status in ENDED}
        assert Counter(self.told) == Counter(ended.keys()) + self.promotions
        for trial, end in self.ended.items():
            assert ended[trial] == end
        self.ended = ended

    @invariant()
    def curves_ascend(self) -> None:
        for trial in self.machine.trials:
            assert trial.steps == sorted(set(trial.steps))
            assert len(trial.steps) == len(trial.losses)

    @invariant()
    def workers_are_where_the_world_has_them(self) -> None:
        if self.machine.finish is not None:
            return  # it no longer listens
        assert set(self.machine.workers) == self.alive
        for worker, status in self.machine.workers.items():
            assert status is not WorkerStatus.GONE
            assert (status is WorkerStatus.BUSY) == (worker in self.running)

    @invariant()
    def nobody_is_idle_while_there_is_work(self) -> None:
        idle = self.alive - set(self.running)
        ending = self.cancelled or self.over() or self.machine.failure is not None
        if idle and self.machine.finish is None and not ending:
            assert not self.trials(TrialStatus.PENDING)
            more = self.options["promotes"]
            more = more or len(self.machine.trials) < self.options["num_trials"]
            exhausted = any(isinstance(event, SearchExhausted) for event in self.history)
            waiting = self.waiting_since == len(self.told) and self.running
            asked = self.question is not None or waiting
            assert asked or not more or exhausted

    @invariant()
    def who_has_used_up_its_time_was_told(self) -> None:
        if self.machine.finish is not None:
            return
        timeout = self.options["trial_timeout"]
        for worker in self.running:
            late = timeout is not None and self.at >= self.began[worker] + timeout
            if late or self.over():
                assert worker in self.stops

    @invariant()
    def who_does_not_leave_in_its_grace_is_killed(self) -> None:
        """A wake-up is due for every late worker that no kill was sent for."""
        if self.machine.finish is None and self.over() and set(self.running) - self.doomed:
            assert self.machine.wake_at() is not None

    @invariant()
    def no_trial_loses_more_workers_than_it_may(self) -> None:
        for trial in self.machine.trials:
            assert trial.lost <= self.lost[trial.id]
            if trial.status not in ENDED:
                assert trial.lost <= self.options["max_lost"]

    @invariant()
    def the_run_ends_once_and_only_when_nothing_is_outstanding(self) -> None:
        assert self.finishes == (self.machine.finish is not None)
        if self.machine.finish is not None:
            assert not self.running
            assert (
                self.cancelled
                or self.over()
                or self.machine.finish.outcome == "failed"
                or not any(trial.status not in ENDED for trial in self.machine.trials)
            )
        assert len(self.machine.trials) <= self.options["num_trials"]

    def teardown(self) -> None:
        """Replay: the same events make an equal machine and equal commands."""
        if not hasattr(self, "history"):
            return
        again = self.make(**self.options)
        assert [list(again.handle(event)) for event in self.history] == self.commands
        assert list(again.trials) == list(self.machine.trials)
        assert again.finish == self.machine.finish


TestPlay = Play.TestCase
TestPlay.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


class ForgetsTheLost(ExperimentMachine):
    """Planted: a lost worker's trial stays RUNNING."""

    def _on_worker_lost(self, event: Any) -> Any:
        trial = self._roster.running.get(event.worker)
        commands = super()._on_worker_lost(event)
        if trial is not None and trial.id in self._queue._waiting:
            del self._queue._waiting[trial.id]
            trial.status = TrialStatus.RUNNING
        return commands


class AssignsTwice(ExperimentMachine):
    """Planted: a lost trial stays in the queue when it is given out again."""

    def _take(self, at: Any) -> Any:
        trial = super()._take(at)
        if trial.lost:
            self._queue.add_first(trial)
        return trial


class BelievesTheLate(ExperimentMachine):
    """Planted: the attempt of a message is not looked at."""

    def _current(self, trial_id: Any, attempt: Any) -> Any:
        return self._open.get(trial_id)


class TellsTwice(ExperimentMachine):
    """Planted: the optimizer hears of a failure twice."""

    def _count(self, trial: Any) -> Any:
        told = [Tell(trial=trial.id)] if trial.status is TrialStatus.FAILED else []
        return super()._count(trial) + told


class StopsWithoutReason(ExperimentMachine):
    """Planted: the reason of a stop is lost."""

    def _stop(self, trial: Any, decision: Any, reason: Any) -> Any:
        commands = super()._stop(trial, decision, reason)
        trial.stop_reason = ""
        return commands


class StartsTooMany(ExperimentMachine):
    """Planted: one configuration more than asked for."""

    def _may_ask(self) -> Any:
        return self._exhausted is None and len(self._trials) <= (self._num_trials or 0)


class GoesOnAfterCancel(ExperimentMachine):
    """Planted: a cancelled run still hands out what is queued."""

    def _proceed(self, at: Any) -> Any:
        idle = self._roster.idle
        if self._ending is not None and self._queue and idle is not None:
            return [self._assign(self._take(at), idle, at)]
        return super()._proceed(at)


class LosesTheEnd(ExperimentMachine):
    """Planted: the run says twice that it has ended."""

    def _conclude(self, finish: Any) -> Any:
        return [*super()._conclude(finish), finish]


class ForgetsTheTime(ExperimentMachine):
    """Planted: a run may take for ever."""

    def _interrupt_late(self, at: Any) -> Any:
        return []


class RunsTheLateAgain(ExperimentMachine):
    """Planted: a trial that used up its time gets another run."""

    def _left_open(self, trial: Any, lost: Any) -> Any:
        self._late.clear()
        return super()._left_open(trial, lost)


class StopsNobody(ExperimentMachine):
    """Planted: at the time limit nothing new is started, and that is all."""

    def _stop_all(self, at: Any) -> Any:
        return []


@pytest.mark.parametrize(
    "bug",
    [
        ForgetsTheTime,
        RunsTheLateAgain,
        StopsNobody,
        ForgetsTheLost,
        AssignsTwice,
        BelievesTheLate,
        TellsTwice,
        StopsWithoutReason,
        StartsTooMany,
        GoesOnAfterCancel,
        LosesTheEnd,
    ],
)
def test_planted_bugs_are_caught(bug: Any) -> None:
    """An invariant that is not written catches nothing: each bug must be found."""

    class WithBug(Play):
        make = bug

    lenient = settings(
        max_examples=3000,
        stateful_step_count=40,
        deadline=None,
        report_multiple_bugs=False,
        phases=[Phase.generate],
        database=None,
        derandomize=True,
    )
    with pytest.raises((AssertionError, TransitionError)):
        run_state_machine_as_test(WithBug, settings=lenient)
