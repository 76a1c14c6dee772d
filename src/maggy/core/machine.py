"""The experiment as a state machine: events in, commands out, nothing else.

No clock, thread, socket, file or random number; every engine and the simulator drive this same
object.  Theory of operation: each event first changes the records (``_on_...``), then ``_proceed``
looks at what there is to do: give pending trials to idle workers, ask for one more suggestion when
a worker would otherwise be idle, or finish.  At most one suggestion is being asked for at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

from maggy.commands import (
    Assign,
    Finish,
    GiveUp,
    Kill,
    Note,
    Shutdown,
    Suggest,
    Tell,
)
from maggy.contracts import Decision
from maggy.core import orders
from maggy.core.backlog import Backlog
from maggy.core.deadlines import Deadlines
from maggy.core.failure import Blame, Failure, FirstFailures, raised, too_often_lost
from maggy.core.losses import Sense
from maggy.core.panel import Panel
from maggy.core.roster import OpenTrials, Roster, Story
from maggy.core.transitions import TRIAL_MOVES, WorkerStatus
from maggy.events import (
    CancelRequested,
    CheckpointSaved,
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
from maggy.trial import Trial, TrialError, TrialStatus, overran

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from maggy.commands import Command
    from maggy.contracts import StoppingPolicy
    from maggy.events import Event

__all__ = ["ExperimentMachine"]

_REPORTS = (MetricReported, LogWritten, CheckpointSaved)
"""While the run goes on, these change nothing that ``_proceed`` looks at."""

_SAID = (*_REPORTS, TrialFinished, TrialFailed, TrialStopped)
"""What a worker may say of the trial that it runs, and of no other."""


class ExperimentMachine:
    """One experiment.

    Args:
        direction: ``"max"`` or ``"min"``.
        num_trials: Distinct configurations to run; None: until the optimizer has no more.
        policy: Judges running trials, or None.
        es_min: Trials that must have completed before the policy is asked.
        es_interval: The policy is asked at every so many reports of a trial.
        rungs: A multi-fidelity optimizer's own policy, asked at every report, or None.
        promotes: The optimizer may continue completed trials, so it is asked beyond
            ``num_trials`` until it is exhausted.
        backlog: Where suggested trials wait; None: in their order.
        prefetch: Suggestions to hold ready while all workers are busy.
        max_lost: Workers that one trial may lose before it counts as failed.
        first: The run ends when all of its first so many trials fail alike; None: never.
        trial_timeout: Seconds after which a run of a trial has to leave, and fails; or None.
        time_limit: Seconds after which what runs is stopped and nothing is started; or None.
    """

    def __init__(
        self,
        *,
        direction: str,
        num_trials: int | None,
        policy: StoppingPolicy | None = None,
        es_min: int = 10,
        es_interval: int = 1,
        rungs: StoppingPolicy | None = None,
        promotes: bool = False,
        prefetch: int = 0,
        backlog: Backlog | None = None,
        max_lost: int = 2,
        first: int | None = None,
        trial_timeout: float | None = None,
        time_limit: float | None = None,
    ) -> None:
        self._sense = Sense(direction)
        self._num_trials = num_trials
        self._panel = Panel(policy, es_min=es_min, es_interval=es_interval, rungs=rungs)
        self._promotes = promotes
        self._prefetch = prefetch
        self._max_lost = max_lost
        self._trials: list[Trial] = []
        self._open: dict[int, Trial] = {}
        self._queue = Backlog() if backlog is None else backlog
        self._at = 0.0
        self._story = Story()
        self._roster = Roster(self._story)
        self._asking = False
        self._news = False
        self._waiting = False
        self._exhausted: str | None = None
        self._first_failures = FirstFailures(first)
        self._ending: Finish | None = None
        self._failure: Failure | None = None
        self._deadlines = Deadlines(trial_timeout=trial_timeout, time_limit=time_limit)
        self._late: set[tuple[int, int]] = set()
        self._finish: Finish | None = None

    @property
    def trials(self) -> Sequence[Trial]:
        """Every trial by id, for reading."""
        return self._trials

    @property
    def open_trials(self) -> Sequence[Trial]:
        """The trials that have not ended, oldest suggestion first; for reading, always of now."""
        return OpenTrials(self._open)

    @property
    def workers(self) -> Mapping[str, WorkerStatus]:
        """Where those workers are that are here."""
        return self._roster.statuses

    @property
    def promotes(self) -> bool:
        """Whether completed trials may be continued."""
        return self._promotes

    @property
    def ending(self) -> bool:
        """True from the decision to end the run early on: nothing new is started."""
        return self._ending is not None

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
        if self._finish is not None:
            return None
        return self._deadlines.wake_at(ending=self._ending is not None)

    def objection(self, sender: str, event: Event) -> Note | None:
        """Why this worker cannot have said that, or None; such an event must not be handled.

        It speaks for a trial that another worker runs, or nobody.
        """
        if not isinstance(event, _SAID):
            return None
        trial = self._current(event.trial, event.attempt)
        return None if trial is None or trial.worker == sender else _stale(event, sender)

    def handle(self, event: Event) -> Sequence[Command]:
        """Take in one event and say what is to be done now, in order.

        Raises:
            TransitionError: The event cannot follow what came before it: a bug in maggy.
        """
        if self._finish is not None:
            return (Note(text=f"{type(event).__name__} after the end was ignored"),)
        self._story.add(event)
        self._at = event.at
        limited = self._deadlines.limited
        over = limited and self._ending is None and self._deadlines.over(event.at)
        if over:
            self._ending = Finish(outcome="completed", reason=self._deadlines.reason)
        commands = self._apply(event)
        if limited:
            commands += self._stop_all(event.at) if over else self._interrupt_late(event.at)
        if self._ending is not None or type(event) not in _REPORTS:
            commands += self._proceed(event.at)
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
                self._roster.move(event.worker, event)
                if event.once:
                    self._roster.serve_once(event.worker)
            case WorkerLost():
                return self._on_worker_lost(event)
            case WaitSuggested() | SearchExhausted() | OptimizerFailed():
                return self._on_no_suggestion(event)
            case EngineFailed():
                return self._fail(Blame.WORKERS, event.error, "The workers failed")
            case CancelRequested():
                at = event.at + event.grace
                return self._end("interrupted", "The run was interrupted.", kill_at=at)
            case Tick():
                return [Kill(worker=worker) for worker in self._deadlines.kills(event.at)]
            case ExperimentStarted() | LogWritten() | CheckpointSaved():
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
        elif self._continuable(event.trial):
            trial = self._trials[event.trial]
            self._move(trial, event)
            trial.continue_to(event.budget)
        else:
            text = f"it continues trial {event.trial}, which has not completed"
            return self._optimizer_failed(TrialError(type="Suggestion", message=text))
        self._open[trial.id] = trial
        self._queue.add(trial)
        return []

    def _continuable(self, number: int) -> bool:
        known = 0 <= number < len(self._trials)
        return known and self._trials[number].status is TrialStatus.COMPLETED

    def _on_no_suggestion(
        self, event: WaitSuggested | SearchExhausted | OptimizerFailed
    ) -> list[Command]:
        self._asking = False
        if isinstance(event, SearchExhausted):
            self._exhausted = event.reason
        elif isinstance(event, OptimizerFailed):
            return self._optimizer_failed(event.error)
        elif self._open or self._news:
            self._waiting = not self._news  # news since the question: ask again
        else:
            error = TrialError(type="Wait", message="it waits, but no trial is unfinished")
            return self._optimizer_failed(error)
        return []

    def _optimizer_failed(self, error: TrialError) -> list[Command]:
        return self._fail(Blame.OPTIMIZER, error, "The optimizer failed")

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
        late = self._late and (trial.id, trial.attempt) in self._late
        if trial.status is not TrialStatus.RUNNING or self._ending or late:
            return []
        try:
            decision = self._panel.decide(trial)
            if decision is None:
                return []
            reason = self._sense.sentence(decision)
        except Exception as error:  # noqa: BLE001 - a user's policy: it ends the run, said whole
            return self._policy_failed(error)
        return self._stop(trial, decision, reason)

    def _stop(self, trial: Trial, decision: Decision, reason: str) -> list[Command]:
        """Stop a trial; ``reason`` is the decision's, in the user's own sign."""
        assert trial.worker is not None
        trial.stop_reason = reason
        trial.threshold = decision.threshold
        trial.complete = decision.complete
        trial.loss = trial.losses[-1] if decision.complete else None
        command = orders.stop(trial, trial.worker, self._sense)
        self._move(trial, command)
        return [command]

    def _policy_failed(self, error: Exception) -> list[Command]:
        return self._fail(Blame.POLICY, raised(error), "The stopping policy failed")

    # Ends

    def _on_end(self, event: TrialFinished | TrialFailed | TrialStopped) -> list[Command]:
        trial = self._current(event.trial, event.attempt)
        if trial is None or (trial.worker is None and not isinstance(event, TrialFailed)):
            return [_stale(event)]
        self._move(trial, event)
        if trial.worker is not None:
            self._free(trial.worker, event)
            trial.worker = None
        if isinstance(event, TrialFinished):
            if not (trial.complete and overran(trial.budget, trial.steps)):
                trial.loss = self._sense.flip(event.value)
        elif isinstance(event, TrialFailed):
            trial.loss, trial.error = None, event.error
        return self._ended(trial)

    def _ended(self, trial: Trial, *, lost: str = "") -> list[Command]:
        if not trial.status.ended:
            return self._left_open(trial, lost)
        del self._open[trial.id]
        if trial.status is TrialStatus.STOPPED and trial.losses:
            trial.loss = trial.losses[-1]
        self._waiting, self._news = False, True
        self._queue.ended(trial, self._at)
        commands: list[Command] = [Tell(trial=trial.id)]
        commands += self._count(trial)
        try:
            self._panel.finished(trial)
        except Exception as error:  # noqa: BLE001 - a user's policy: it ends the run
            commands += self._policy_failed(error)
        return commands

    def _count(self, trial: Trial) -> list[Command]:
        """Count an end; ends the run when all of the first trials failed alike."""
        mistake = self._first_failures.add(trial)
        return [] if mistake is None else self._fail(Blame.TRIALS, *mistake)

    # Workers

    def _on_worker_lost(self, event: WorkerLost) -> list[Command]:
        if self._roster.status(event.worker) is WorkerStatus.GONE:
            return [_stale(event)]
        trial = self._roster.running.get(event.worker)
        self._free(event.worker, event)
        if trial is None:
            return []
        self._move(trial, event)
        trial.worker = None
        return self._ended(trial, lost=event.reason)

    def _left_open(self, trial: Trial, lost: str) -> list[Command]:
        """A run ended without a result; ``lost`` is how it lost its worker, if it did."""
        late = (trial.id, trial.attempt) in self._late
        trial.attempt += 1
        trial.fresh = True
        if self._ending is not None:
            return []
        trial.lost += bool(lost)
        if late:
            error = self._deadlines.error(trial, self._sense, killed=bool(lost))
        elif trial.lost > self._max_lost:
            error = too_often_lost(trial, lost)
        else:
            self._queue.add_first(trial)
            return []
        return [GiveUp(trial=trial.id, attempt=trial.attempt, error=error)]

    # Time

    def _stop_all(self, at: float) -> list[Command]:
        """The time of the experiment is up: running trials keep what they have reached."""
        for worker in self._roster.running:
            self._deadlines.kill_late(worker, at)
        reason = self._deadlines.reason
        decision = Decision(stop=True, reason=reason)
        running = [t for t in self._roster.running.values() if t.status is TrialStatus.RUNNING]
        return [command for trial in running for command in self._stop(trial, decision, reason)]

    def _interrupt_late(self, at: float) -> list[Command]:
        """Let those trials leave that have used up their time."""
        commands: list[Command] = []
        for worker, reason in self._deadlines.expire(at) if self._ending is None else ():
            trial = self._roster.running[worker]
            if trial.status is TrialStatus.RUNNING:  # else it was told to leave before
                self._late.add((trial.id, trial.attempt))
                commands.append(orders.interrupt(trial, worker, reason))
        return commands

    # What to do next

    def _proceed(self, at: float) -> list[Command]:
        if self._ending is not None:
            return [] if self._roster.running else self._conclude(self._ending)
        commands: list[Command] = []
        while self._queue and (idle := self._roster.idle) is not None:
            commands.append(self._assign(self._take(at), idle, at))
        if self._wants_suggestion():
            self._asking, self._news = True, False
            commands.append(Suggest(number=len(self._trials), ahead=self._roster.idle is None))
        elif not self._open and not self._asking and not self._may_ask():
            return commands + self._conclude(self._natural_end())
        return commands

    def _take(self, at: float) -> Trial:
        unsuggested = 0 if self._num_trials is None else self._num_trials - len(self._trials)
        workers = 1 + len(self._roster.running)
        return self._queue.take(unsuggested=max(0, unsuggested), workers=workers, at=at)

    def _wants_suggestion(self) -> bool:
        if self._asking or self._waiting or not self._may_ask():
            return False
        roster = self._roster
        early = bool(roster.running) or not self._trials  # the first while the workers start
        return roster.idle is not None or (early and len(self._queue) < self._prefetch)

    def _may_ask(self) -> bool:
        if self._exhausted is not None:
            return False
        return self._promotes or self._num_trials is None or len(self._trials) < self._num_trials

    def _assign(self, trial: Trial, worker: str, at: float) -> Assign:
        command = orders.assign(trial, worker)
        self._move(trial, command)
        trial.worker = worker
        trial.fresh = True
        self._roster.give(command, trial)
        self._deadlines.begin(worker, at)
        return command

    def _natural_end(self) -> Finish:
        if self._exhausted is not None and self._num_trials != len(self._trials):
            return Finish(outcome="exhausted", reason=self._exhausted)
        return Finish(outcome="completed")

    def _fail(self, blame: Blame, error: TrialError, what: str) -> list[Command]:
        if self._ending is None:
            self._failure = Failure(blame=blame, error=error)
        return self._end("failed", f"{what}: {error}")

    def _end(self, outcome: str, reason: str, *, kill_at: float | None = None) -> list[Command]:
        """Let the run end early: nothing new is started, what runs is interrupted."""
        if self._ending is None:
            self._ending = Finish(outcome=outcome, reason=reason)
            kill_at = kill_at or 0.0  # no grace asked for: at the next tick
        elif outcome == "interrupted" and self._failure is None:
            self._ending = Finish(outcome=outcome, reason=reason)  # whoever asks gets an answer
        busy = self._roster.running
        if kill_at is not None:
            for worker in busy:
                self._deadlines.kill(worker, kill_at)
        return [orders.interrupt(trial, worker) for worker, trial in busy.items()]

    def _conclude(self, finish: Finish) -> list[Command]:
        self._finish = finish
        return [*(Shutdown(worker=worker) for worker in self._roster.statuses), finish]

    # Records

    def _current(self, trial_id: int, attempt: int) -> Trial | None:
        """The open trial that a message speaks of, or None when its attempt is over."""
        trial = self._open.get(trial_id)
        return trial if trial is not None and trial.attempt == attempt else None

    def _move(self, trial: Trial, cause: Event | Command) -> None:
        kind: type[Any] = type(cause)
        if trial.complete and kind in (TrialStopped, WorkerLost):
            kind = TrialFinished  # it had reached its budget: however it left, it is complete
        moved = TRIAL_MOVES[trial.status].get(kind)
        if moved is None:
            self._story.refuse("trial", trial.id, trial.status.value, cause)
        trial.status = moved

    def _free(self, worker: str, cause: Event) -> None:
        """This worker runs its trial no more."""
        self._roster.move(worker, cause)
        self._deadlines.forget(worker)


def _stale(event: Any, sender: str = "") -> Note:
    """Late messages are races, not errors; this is the one place that drops them."""
    if sender:
        return Note(text=f"{event!r} was ignored: worker {sender} does not run that trial")
    return Note(text=f"{event!r} was ignored: that attempt is over, or the worker unknown")
