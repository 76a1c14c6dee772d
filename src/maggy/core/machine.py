"""The experiment as a state machine: events in, commands out, nothing else.

No clock, thread, socket, file or random number; every engine and the simulator drive this same
object.  Theory of operation: each event first changes the records (``_on_...``), then ``_proceed``
looks at what there is to do: give pending trials to idle workers, ask for one more suggestion when
a worker would otherwise be idle, or finish.  At most one suggestion is being asked for at a time.
"""

from __future__ import annotations

import traceback
from collections import deque
from typing import TYPE_CHECKING, Any, NoReturn, assert_never

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
from maggy.core.failure import Blame, Failure, same_failure
from maggy.core.losses import Sense
from maggy.core.transitions import TRIAL_MOVES, WORKER_MOVES, WorkerStatus
from maggy.errors import TransitionError
from maggy.events import (
    CancelRequested,
    EngineFailed,
    ExperimentFinished,
    ExperimentStarted,
    LogWritten,
    MetricReported,
    OptimizerFailed,
    SearchExhausted,
    StopDecided,
    Suggested,
    Tick,
    TrialFailed,
    TrialFinished,
    TrialStarted,
    TrialStopped,
    WaitSuggested,
    WorkerJoined,
    WorkerLost,
)
from maggy.trial import Trial, TrialError, TrialStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from maggy.commands import Command
    from maggy.contracts import Decision, StoppingPolicy
    from maggy.events import Event

__all__ = ["ExperimentMachine"]

_STORY = 200
"""How many of the last events are kept to explain an illegal move."""


class ExperimentMachine:
    """One experiment.

    Args:
        direction: ``"max"`` or ``"min"``.
        num_trials: Distinct configurations to run; None: until the optimizer has no more.
        policy: Judges running trials, or None.
        es_min: Trials that must have completed before the policy is asked.
        es_interval: The policy is asked at every so many reports of a trial.
        promotes: The optimizer may continue completed trials, so it is asked beyond
            ``num_trials`` until it is exhausted.
        prefetch: Suggestions to hold ready while all workers are busy.
        max_lost: Workers that one trial may lose before it counts as failed.
        first: The run ends when all of its first so many trials fail alike; None: never.
    """

    def __init__(
        self,
        *,
        direction: str,
        num_trials: int | None,
        policy: StoppingPolicy | None = None,
        es_min: int = 10,
        es_interval: int = 1,
        promotes: bool = False,
        prefetch: int = 0,
        max_lost: int = 2,
        first: int | None = None,
    ) -> None:
        self._sense = Sense(direction)
        self._num_trials = num_trials
        self._policy = policy
        self._es_min = es_min
        self._es_interval = es_interval
        self._promotes = promotes
        self._prefetch = prefetch
        self._max_lost = max_lost
        self._trials: list[Trial] = []
        self._open: dict[int, Trial] = {}
        self._queue: deque[Trial] = deque()
        self._workers: dict[str, WorkerStatus] = {}
        self._idle: dict[str, None] = {}
        self._busy: dict[str, Trial] = {}
        self._once: set[str] = set()
        self._completed = 0
        self._asking = False
        self._waiting = False
        self._exhausted: str | None = None
        self._first = first
        self._first_failures: list[TrialError] = []
        self._only_failures = True
        self._ending: Finish | None = None
        self._failure: Failure | None = None
        self._deadline: float | None = None
        self._finish: Finish | None = None
        self._story: deque[Event | Command] = deque(maxlen=_STORY)

    @property
    def trials(self) -> Sequence[Trial]:
        """Every trial by id, for reading."""
        return self._trials

    @property
    def open_trials(self) -> Sequence[Trial]:
        """The trials that have not ended, oldest suggestion first."""
        return list(self._open.values())

    @property
    def workers(self) -> Mapping[str, WorkerStatus]:
        """Where each worker is, for reading."""
        return self._workers

    @property
    def finish(self) -> Finish | None:
        """How the run ended, or None while it goes on."""
        return self._finish

    @property
    def failure(self) -> Failure | None:
        """The error that ends or ended the run, or None."""
        return self._failure

    def wake_at(self) -> float | None:
        """When the machine wants a ``Tick``, in seconds of active time, or None."""
        return None if self._finish else self._deadline

    def handle(self, event: Event) -> Sequence[Command]:
        """Take in one event and say what is to be done now, in order.

        Raises:
            TransitionError: The event cannot follow what came before it: a bug in maggy.
        """
        if self._finish is not None:
            return (Note(text=f"{type(event).__name__} after the end was ignored"),)
        self._story.append(event)
        commands = self._apply(event)
        commands += self._proceed()
        return commands

    def _apply(self, event: Event) -> list[Command]:  # noqa: C901, PLR0912 - one case each
        match event:
            case MetricReported():
                return self._on_metric(event)
            case TrialFinished() | TrialFailed() | TrialStopped():
                return self._on_end(event)
            case Suggested():
                return self._on_suggested(event)
            case WorkerJoined():
                self._move_worker(event.worker, event)
                if event.once:
                    self._once.add(event.worker)
            case WorkerLost():
                return self._on_worker_lost(event)
            case WaitSuggested() | SearchExhausted() | OptimizerFailed():
                return self._on_no_suggestion(event)
            case EngineFailed():
                return self._fail(Blame.WORKERS, event.error, "The workers failed")
            case CancelRequested():
                self._deadline = event.at + event.grace
                return self._end("interrupted", "The run was interrupted.")
            case Tick():
                return self._on_tick(event)
            case ExperimentStarted() | LogWritten():
                pass
            case TrialStarted() | StopDecided() | ExperimentFinished():
                pass  # records of our own decisions
            case _:
                assert_never(event)
        return []

    # Suggestions

    def _on_suggested(self, event: Suggested) -> list[Command]:
        self._asking = False
        if event.trial == len(self._trials):
            trial = Trial(id=event.trial, hparams=event.hparams, budget=event.budget)
            self._trials.append(trial)
        else:
            trial = self._trials[event.trial]
            self._move(trial, event)
            trial.budget = event.budget
            trial.attempt += 1
        self._open[trial.id] = trial
        self._queue.append(trial)
        return []

    def _on_no_suggestion(
        self, event: WaitSuggested | SearchExhausted | OptimizerFailed
    ) -> list[Command]:
        self._asking = False
        if isinstance(event, SearchExhausted):
            self._exhausted = event.reason
        elif isinstance(event, OptimizerFailed):
            return self._fail(Blame.OPTIMIZER, event.error, "The optimizer failed")
        elif self._open:
            self._waiting = True
        else:
            error = TrialError(type="Wait", message="it waits, but no trial is unfinished")
            return self._fail(Blame.OPTIMIZER, error, "The optimizer failed")
        return []

    # Reports

    def _on_metric(self, event: MetricReported) -> list[Command]:
        trial = self._current(event.trial, event.attempt)
        if trial is None or trial.worker is None:
            return [_stale(event)]
        if trial.fresh:
            trial.restart_curve(event.step)
        elif trial.steps and event.step <= trial.steps[-1]:
            return [_stale(event)]
        trial.steps.append(event.step)
        trial.losses.append(self._sense.flip(event.value))
        if self._policy is None or trial.status is not TrialStatus.RUNNING or self._ending:
            return []
        if self._completed < self._es_min or len(trial.steps) % self._es_interval:
            return []
        return self._judge(trial, self._policy)

    def _judge(self, trial: Trial, policy: StoppingPolicy) -> list[Command]:
        try:
            decision = policy.decide(trial)
        except Exception as error:  # noqa: BLE001 - a user's policy: it ends the run, said whole
            return self._policy_failed(error)
        return self._stop(trial, decision) if decision.stop else []

    def _stop(self, trial: Trial, decision: Decision) -> list[Command]:
        assert trial.worker is not None
        threshold = decision.threshold
        trial.stop_reason = self._sense.sentence(decision)
        trial.threshold = threshold
        command = StopTrial(
            worker=trial.worker,
            trial=trial.id,
            attempt=trial.attempt,
            reason=trial.stop_reason,
            threshold=None if threshold is None else self._sense.flip(threshold),
        )
        self._move(trial, command)
        return [command]

    def _policy_failed(self, error: Exception) -> list[Command]:
        text = "".join(traceback.format_exception(error))
        detail = TrialError(type=type(error).__name__, message=str(error), traceback=text)
        return self._fail(Blame.POLICY, detail, "The stopping policy failed")

    # Ends

    def _on_end(self, event: TrialFinished | TrialFailed | TrialStopped) -> list[Command]:
        trial = self._current(event.trial, event.attempt)
        if trial is None or (trial.worker is None and not isinstance(event, TrialFailed)):
            return [_stale(event)]
        self._move(trial, event)
        if trial.worker is not None:
            self._move_worker(trial.worker, event)
            trial.worker = None
        if isinstance(event, TrialFinished):
            trial.loss = self._sense.flip(event.value)
        elif isinstance(event, TrialFailed):
            trial.error = event.error
        return self._ended(trial)

    def _ended(self, trial: Trial) -> list[Command]:
        if not trial.status.ended:
            if self._ending is None:  # it left without having been told to: run it again
                trial.attempt += 1
                self._queue.append(trial)
            return []
        del self._open[trial.id]
        if trial.status is TrialStatus.STOPPED and trial.losses:
            trial.loss = trial.losses[-1]
        self._waiting = False
        commands: list[Command] = [Tell(trial=trial.id)]
        commands += self._count(trial)
        if self._policy is not None:
            try:
                self._policy.finished(trial)
            except Exception as error:  # noqa: BLE001 - a user's policy: it ends the run
                commands += self._policy_failed(error)
        return commands

    def _count(self, trial: Trial) -> list[Command]:
        """Count an end; ends the run when all of the first trials failed alike."""
        if trial.status is TrialStatus.COMPLETED:
            self._completed += 1
        if trial.status is not TrialStatus.FAILED:
            self._only_failures = False
        elif self._only_failures and len(self._first_failures) < (self._first or 0):
            assert trial.error is not None
            self._first_failures.append(trial.error)
            if self._failing_alike():
                count = len(self._first_failures)
                which = f"All of the first {count} trials" if count > 1 else "The only trial"
                return self._fail(Blame.TRIALS, self._first_failures[0], f"{which} failed")
        return []

    def _failing_alike(self) -> bool:
        return len(self._first_failures) == self._first and same_failure(self._first_failures)

    # Workers

    def _on_worker_lost(self, event: WorkerLost) -> list[Command]:
        if self._workers.get(event.worker, WorkerStatus.GONE) is WorkerStatus.GONE:
            return [_stale(event)]
        trial = self._busy.get(event.worker)
        self._move_worker(event.worker, event)
        if trial is None:
            return []
        self._move(trial, event)
        trial.worker = None
        trial.attempt += 1
        trial.fresh = True
        if trial.status.ended:
            return self._ended(trial)
        if self._ending:
            return []
        trial.lost += 1
        if trial.lost <= self._max_lost:
            self._queue.appendleft(trial)
            return []
        message = (
            f"its worker was lost {trial.lost} times; the last one was {event.reason}. "
            f"maggy does not run it again."
        )
        error = TrialError(type="WorkerLost", message=message)
        return [GiveUp(trial=trial.id, attempt=trial.attempt, error=error)]

    def _on_tick(self, event: Tick) -> list[Command]:
        if self._deadline is None or event.at < self._deadline:
            return []
        self._deadline = None
        return [Kill(worker=worker) for worker in self._busy]

    # What to do next

    def _proceed(self) -> list[Command]:
        if self._ending is not None:
            return [] if self._busy else self._conclude(self._ending)
        commands: list[Command] = []
        while self._queue and self._idle:
            commands.append(self._assign(self._queue.popleft(), next(iter(self._idle))))
        if self._wants_suggestion():
            self._asking = True
            commands.append(Suggest(number=len(self._trials)))
        elif not self._open and not self._asking and not self._may_ask():
            return commands + self._conclude(self._natural_end())
        return commands

    def _wants_suggestion(self) -> bool:
        if self._asking or self._waiting or not self._may_ask():
            return False
        return bool(self._idle) or (bool(self._busy) and len(self._queue) < self._prefetch)

    def _may_ask(self) -> bool:
        if self._exhausted is not None:
            return False
        return self._promotes or self._num_trials is None or len(self._trials) < self._num_trials

    def _assign(self, trial: Trial, worker: str) -> Assign:
        command = Assign(
            worker=worker,
            trial=trial.id,
            attempt=trial.attempt,
            hparams=trial.hparams,
            budget=trial.budget,
        )
        self._move(trial, command)
        trial.worker = worker
        trial.fresh = True
        self._move_worker(worker, command)
        self._busy[worker] = trial
        return command

    def _natural_end(self) -> Finish:
        if self._exhausted is not None and self._num_trials != len(self._trials):
            return Finish(outcome="exhausted", reason=self._exhausted)
        return Finish(outcome="completed")

    def _fail(self, blame: Blame, error: TrialError, what: str) -> list[Command]:
        if self._ending is None:
            self._failure = Failure(blame=blame, error=error)
        return self._end("failed", f"{what}: {error}")

    def _end(self, outcome: str, reason: str) -> list[Command]:
        """Let the run end early: nothing new is started, what runs is interrupted."""
        if self._ending is None:
            self._ending = Finish(outcome=outcome, reason=reason)
            if self._deadline is None:
                self._deadline = -1.0  # no grace asked for: at the next tick
        return [
            Interrupt(worker=worker, trial=trial.id, attempt=trial.attempt)
            for worker, trial in self._busy.items()
        ]

    def _conclude(self, finish: Finish) -> list[Command]:
        self._finish = finish
        gone = WorkerStatus.GONE
        left = [worker for worker, status in self._workers.items() if status is not gone]
        return [*(Shutdown(worker=worker) for worker in left), finish]

    # Records

    def _current(self, trial_id: int, attempt: int) -> Trial | None:
        """The open trial that a message speaks of, or None when its attempt is over."""
        trial = self._open.get(trial_id)
        return trial if trial is not None and trial.attempt == attempt else None

    def _move(self, trial: Trial, cause: Event | Command) -> None:
        moved = TRIAL_MOVES[trial.status].get(type(cause))
        if moved is None:
            self._refuse("trial", trial.id, trial.status.value, cause)
        trial.status = moved

    def _move_worker(self, worker: str, cause: Event | Command) -> None:
        status = self._workers.get(worker, WorkerStatus.GONE)
        moved = WORKER_MOVES[status].get(type(cause))
        if moved is None:
            self._refuse("worker", worker, status.value, cause)
        if worker in self._once and status is WorkerStatus.BUSY:
            moved = WorkerStatus.GONE
            self._once.discard(worker)
        self._workers[worker] = moved
        if moved is WorkerStatus.IDLE:
            self._idle[worker] = None
        else:
            self._idle.pop(worker, None)
        if moved is not WorkerStatus.BUSY:
            self._busy.pop(worker, None)

    def _refuse(self, kind: str, key: int | str, state: str, cause: Event | Command) -> NoReturn:
        story = [repr(past) for past in self._story if getattr(past, kind, None) == key]
        subject, event = f"{kind} {key}", type(cause).__name__
        raise TransitionError(subject, state, event, tuple(story[-20:]))


def _stale(event: Any) -> Note:
    """Late messages are races, not errors; this is the one place that drops them."""
    return Note(text=f"{event!r} was ignored: that attempt is over, or the worker unknown")
