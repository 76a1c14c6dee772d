"""What a run has come to: a fold over its events, in the user's own values.

Live or from yesterday's log, the same events give the same ``Summary``.  It follows the machine's
rules (late messages of an attempt that is over do not count), but it judges nothing and never
raises: a log from an older version still has a summary.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, assert_never

from maggy.core.crew import Crew
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
from maggy.trial import TrialStatus, overran, resource_at

if TYPE_CHECKING:
    from collections.abc import Mapping

    from maggy.events import Event
    from maggy.trial import Hparams, Json, Resource, TrialError

__all__ = ["Standing", "Summary", "TrialRecord"]


@dataclass(slots=True, kw_only=True)
class TrialRecord:
    """One configuration and what became of it, in the user's own values.

    Attributes:
        id: Counts from 0 in the order of suggestion.
        hparams: The configuration.
        budget: The total resource of its latest run, or None.
        status: Where it is.
        attempt: The number of the current run; a lost worker and a promotion add one.
        runs: How often it was given to a worker.
        worker: Who ran it last, or None.
        started: When its first run began, or None; seconds of the run's active time.
        began: When its latest run began, or None.
        duration: Seconds that its ended runs took together.
        reached: The total resource at which ``value`` counts, or None.
        value: The final value of its last completed run, the last one of a stopped trial, else
            None.
        steps: Steps reported, ascending.
        values: The value at each of these steps.
        others: What was reported beside the value, by step.
        stop_reason: Why it was told to stop, a sentence, or ``""``.
        threshold: The value that it failed to beat, or None.
        final: The value that it is complete with although it is told to stop, or None.
        error: Why it failed, or None.
        info: The other entries of the returned dict, or None.
        checkpoint: Its newest checkpoint, deleted or not; None if it saved none.
        fresh: True until its latest run reports for the first time.
        ended: Whether a run of it has ended; a promotion does not take that back.
        judged: A policy stopped its latest run, not the end of the experiment's time.
    """

    id: int
    hparams: Hparams
    budget: Resource | None = None
    status: TrialStatus = TrialStatus.PENDING
    attempt: int = 0
    runs: int = 0
    worker: str | None = None
    started: float | None = None
    began: float | None = None
    duration: float = 0.0
    reached: Resource | None = None
    value: float | None = None
    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    others: dict[int, Mapping[str, float]] | None = None
    stop_reason: str = ""
    threshold: float | None = None
    final: float | None = None
    error: TrialError | None = None
    info: Mapping[str, Json] | None = None
    checkpoint: CheckpointSaved | None = None
    fresh: bool = True
    ended: bool = False
    judged: bool = False

    @property
    def running(self) -> bool:
        """Whether a worker has it."""
        return self.status in _RUNNING

    def restart_curve(self, step: int) -> None:
        """Begin a run's curve at ``step``; earlier runs' points from there on are void."""
        keep = bisect_left(self.steps, step)
        del self.steps[keep:]
        del self.values[keep:]
        if self.others is not None:
            self.others = {at: others for at, others in self.others.items() if at < step}
        self.fresh = False


_RUNNING = (TrialStatus.RUNNING, TrialStatus.STOPPING)


class Standing:
    """Best, worst and average of some trials' values; equal values: the earlier id."""

    __slots__ = ("_maximise", "_total", "best", "count", "worst")

    def __init__(self, *, maximise: bool) -> None:
        self._maximise = maximise
        self._total = 0.0
        self.count = 0
        self.best: tuple[int, float] | None = None
        self.worst: tuple[int, float] | None = None

    @property
    def average(self) -> float | None:
        """The mean value, or None without trials."""
        return self._total / self.count if self.count else None

    def add(self, trial: int, value: float) -> None:
        """Count in a trial."""
        self.count += 1
        self._total += value
        key = (-value if self._maximise else value, trial)
        if self.best is None or key < self._key(self.best):
            self.best = trial, value
        key = (-key[0], trial)
        if self.worst is None or key < self._opposite(self.worst):
            self.worst = trial, value

    def _key(self, entry: tuple[int, float]) -> tuple[float, int]:
        return (-entry[1] if self._maximise else entry[1]), entry[0]

    def _opposite(self, entry: tuple[int, float]) -> tuple[float, int]:
        return (entry[1] if self._maximise else -entry[1]), entry[0]


class Summary:
    """The state of a run after some events; ``apply`` adds one more, in constant time.

    Attributes:
        config: What ``ExperimentStarted`` says about the run; empty before.
        trials: Every suggested trial by id; ``runs`` is 0 for those not started.
        crew: The workers.
        counts: How many trials are in each state.
        started: How many configurations were given to a worker.
        ended: How many configurations have ended; those that are promoted still count.
        now: When the newest event happened; seconds of the run's active time.
        notes: Sentences about the run itself: an exhausted search, an optimizer that failed.
        cancelled: True from the user's interruption on.
        finished: The last event, or None while the run goes on.
    """

    def __init__(self) -> None:
        self.config: Mapping[str, Json] = {}
        self.trials: dict[int, TrialRecord] = {}
        self.crew = Crew()
        self.counts = dict.fromkeys(TrialStatus, 0)
        self.started = self.ended = 0
        self.now = 0.0
        self.notes: list[str] = []
        self.cancelled = False
        self.finished: ExperimentFinished | None = None
        self._completed: dict[Resource | None, Standing] = {}
        self._stopped = Standing(maximise=True)

    def apply(self, event: Event) -> None:  # noqa: C901, PLR0912 - one case each
        """Take in the next event."""
        self.now = event.at
        match event:
            case MetricReported():
                self._on_metric(event)
            case TrialStarted():
                self._on_trial_started(event)
            case TrialFinished():
                self._on_finished(event)
            case TrialFailed():
                self._on_failed(event)
            case TrialStopped():
                self._on_stopped(event)
            case Suggested():
                self._on_suggested(event)
            case StopDecided():
                self._on_stop_decided(event)
            case CheckpointSaved():
                self._on_checkpoint(event)
            case WorkerJoined():
                self.crew.join(event)
            case WorkerLost():
                self._on_worker_lost(event)
            case OptimizerFailed() | EngineFailed() | SearchExhausted():
                self._on_note(event)
            case ExperimentStarted():
                self._on_start(event)
            case CancelRequested():
                self.cancelled = True
            case ExperimentFinished():
                self.finished = event
            case LogWritten() | Tick() | WaitSuggested():
                pass
            case _:
                assert_never(event)

    # What there is to know

    @property
    def name(self) -> str:
        """The experiment's name."""
        return str(self.config.get("name", "experiment"))

    @property
    def maximise(self) -> bool:
        """Whether larger values are better."""
        return self.config.get("direction", "max") == "max"

    @property
    def num_trials(self) -> int | None:
        """How many configurations are to be run; None: all of a finite space."""
        number = self.config.get("num_trials")
        return number if isinstance(number, int) else None

    @property
    def _stops_at_rungs(self) -> bool:
        """Whether the reports of a trial say how far it came, and not its budget."""
        return self.config.get("fidelity") == "stopping"

    @property
    def running(self) -> int:
        """How many trials have a worker."""
        return sum(self.counts[status] for status in _RUNNING)

    @property
    def standing(self) -> Standing:
        """Best, worst and average of the trials that count.

        Those are the completed ones; with budgets, those that completed the highest budget that
        any of them reached; the stopped ones only if nothing completed.  A completion counts
        whatever becomes of its trial later.
        """
        if not self._completed:
            return self._stopped
        return self._completed[max(self._completed, key=_rank)]

    @property
    def best(self) -> TrialRecord | None:
        """The best trial that counts; its value at the highest budget is in ``standing``."""
        best = self.standing.best
        return None if best is None else self.trials[best[0]]

    # One method for each kind of event

    def _on_start(self, event: ExperimentStarted) -> None:
        self.config = event.config
        self._stopped = Standing(maximise=self.maximise)

    def _on_suggested(self, event: Suggested) -> None:
        trial = self.trials.get(event.trial)
        if trial is None:
            trial = TrialRecord(id=event.trial, hparams=event.hparams, budget=event.budget)
            self.trials[event.trial] = trial
            self.counts[TrialStatus.PENDING] += 1
            return
        self._move(trial, TrialStatus.PENDING)  # a promotion
        trial.budget = event.budget
        trial.attempt += 1

    def _on_trial_started(self, event: TrialStarted) -> None:
        self.finished = None
        self.crew.assign(event)
        trial = self.trials.get(event.trial)
        if trial is None:
            return
        self._move(trial, TrialStatus.RUNNING)
        if trial.started is None:
            trial.started = event.at
            self.started += 1
        trial.attempt, trial.worker, trial.began = event.attempt, event.worker, event.at
        trial.runs += 1
        trial.fresh = True
        trial.stop_reason, trial.threshold, trial.final = "", None, None
        trial.judged = False

    def _on_metric(self, event: MetricReported) -> None:
        trial = self.trials.get(event.trial)
        if trial is None or trial.attempt != event.attempt or trial.status not in _RUNNING:
            return
        step = event.step
        if trial.fresh:
            trial.restart_curve(step)
        elif trial.steps and step <= trial.steps[-1]:
            return
        trial.steps.append(step)
        trial.values.append(event.value)
        if event.others is not None:
            if trial.others is None:
                trial.others = {}
            trial.others[step] = event.others

    def _on_stop_decided(self, event: StopDecided) -> None:
        trial = self._running(event.trial, event.attempt)
        if trial is not None:
            self._move(trial, TrialStatus.STOPPING)
            trial.stop_reason, trial.threshold = event.reason, event.threshold
            trial.final = event.final
            trial.judged = not self._out_of_time(event.at)

    def _on_checkpoint(self, event: CheckpointSaved) -> None:
        trial = self.trials.get(event.trial)
        if trial is not None and trial.attempt == event.attempt:
            trial.checkpoint = event

    def _on_finished(self, event: TrialFinished) -> None:
        trial = self._running(event.trial, event.attempt)
        if trial is None:
            return
        trial.info = event.info
        value = event.value
        if trial.final is not None and overran(trial.budget, trial.steps):
            value = trial.final  # it went on before the order to stop arrived
        self._complete(trial, value, event.at)

    def _complete(self, trial: TrialRecord, value: float, at: float) -> None:
        self._end(trial, TrialStatus.COMPLETED, at)
        whole = trial.final is not None or not self._stops_at_rungs
        trial.reached = trial.budget if whole else _reached(trial)
        trial.value = value
        trial.stop_reason, trial.threshold = "", None
        if isfinite(value):
            standing = self._completed.get(trial.reached)
            if standing is None:
                standing = self._completed[trial.reached] = Standing(maximise=self.maximise)
            standing.add(trial.id, value)

    def _on_failed(self, event: TrialFailed) -> None:
        trial = self.trials.get(event.trial)
        if trial is None or trial.attempt != event.attempt or trial.status.ended:
            return
        self._end(trial, TrialStatus.FAILED, event.at)
        trial.error = event.error
        trial.stop_reason, trial.threshold = "", None

    def _on_stopped(self, event: TrialStopped) -> None:
        trial = self._running(event.trial, event.attempt)
        if trial is not None:
            self._leave(trial, event.at)

    def _on_worker_lost(self, event: WorkerLost) -> None:
        number = self.crew.trial_of(event.worker)
        trial = None if number is None else self.trials.get(number)
        if trial is not None and trial.running:
            self._leave(trial, event.at)
        self.crew.lose(event)

    def _on_note(self, event: OptimizerFailed | EngineFailed | SearchExhausted) -> None:
        match event:
            case OptimizerFailed():
                self.notes.append(f"The optimizer failed: {event.error}")
            case EngineFailed():
                self.notes.append(f"The workers failed: {event.error}")
            case SearchExhausted():
                self.notes.append(event.reason)
            case _:
                assert_never(event)

    # Moves

    def _running(self, number: int, attempt: int) -> TrialRecord | None:
        """The trial that a message speaks of, or None when that attempt is over."""
        trial = self.trials.get(number)
        if trial is None or trial.attempt != attempt or trial.status not in _RUNNING:
            return None
        return trial

    def _move(self, trial: TrialRecord, status: TrialStatus) -> None:
        self.counts[trial.status] -= 1
        self.counts[status] += 1
        trial.status = status

    def _end(self, trial: TrialRecord, status: TrialStatus, at: float) -> None:
        if trial.status in _RUNNING:
            trial.duration += self.crew.release(trial.worker, at)
        if status.ended and not trial.ended:
            trial.ended = True
            self.ended += 1
        self._move(trial, status)

    def _out_of_time(self, at: float) -> bool:
        """Whether the whole experiment had used up its time; then everything is stopped."""
        limit = self.config.get("time_limit")
        return isinstance(limit, int | float) and at >= limit

    def _leave(self, trial: TrialRecord, at: float) -> None:
        """A run ended without a result: judged before, the trial is stopped, else it waits."""
        if trial.status is TrialStatus.STOPPING and trial.final is not None:
            self._complete(trial, trial.final, at)
        elif trial.status is TrialStatus.STOPPING:
            self._end(trial, TrialStatus.STOPPED, at)
            trial.value = trial.values[-1] if trial.values else None
            trial.reached = _reached(trial)
            if trial.value is not None and isfinite(trial.value):
                self._stopped.add(trial.id, trial.value)
        else:
            self._end(trial, TrialStatus.PENDING, at)
            trial.attempt += 1


def _reached(trial: TrialRecord) -> Resource | None:
    """How far a trial came that left by itself, or was stopped, before its budget."""
    if trial.budget is None or not trial.steps:
        return trial.budget
    return min(trial.budget, resource_at(trial.steps))


def _rank(budget: Resource | None) -> float:
    return float("-inf") if budget is None else budget
