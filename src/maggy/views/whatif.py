"""What another stopping policy would have saved, and lost, in a run: its log, judged again.

Events are taken in the order of the log.  A trial that the policy stops is over for it from then
on: what it reported and cost afterwards is saved.  What this cannot know: workers that were free
earlier would have changed the order of what followed, and with an optimizer that learns, the
trials themselves; and how a trial would have gone on that the run itself had stopped.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

from maggy.core.losses import Sense
from maggy.core.summary import Standing, Summary
from maggy.earlystop.registry import require_direction
from maggy.events import ExperimentStarted, MetricReported, WorkerLost
from maggy.trial import Trial, TrialStatus
from maggy.views.wording import count, number, seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from maggy.contracts import StoppingPolicy
    from maggy.core.summary import TrialRecord
    from maggy.events import Event

__all__ = ["WhatIf", "WouldStop", "sentences", "what_if"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WouldStop:
    """A trial that the policy would have stopped.

    Attributes:
        trial: Its id.
        step: The step after whose report it would have been told to stop.
        reason: The policy's sentence, in the user's own sign.
        value: What it came to in the run, or None: it did not complete.
        reports: Its reports from when a worker would have left: at the report after that one.
        seconds: Worker seconds that it took from there on.
    """

    trial: int
    step: int
    reason: str
    value: float | None
    reports: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """What a policy would have meant for a run.

    Attributes:
        stopped: The trials that it would have stopped, in the order of the stops.
        reports: All reports of the run.
        seconds: All worker seconds of the run's trials.
        best: Trial and value of the best completed trial, or None.
        kept: The same of those that the policy lets complete.
        already_stopped: Trials that the run itself had stopped, of which nobody knows the rest.
    """

    stopped: Sequence[WouldStop]
    reports: int
    seconds: float
    best: tuple[int, float] | None
    kept: tuple[int, float] | None
    already_stopped: int

    @property
    def reports_saved(self) -> int:
        """Reports that nobody would have waited for."""
        return sum(stop.reports for stop in self.stopped)

    @property
    def seconds_saved(self) -> float:
        """Worker seconds free for other trials."""
        return sum(stop.seconds for stop in self.stopped)

    @property
    def regret(self) -> float | None:
        """How much worse the best value would be; 0 if it is kept, None if nothing is left."""
        if self.best is None:
            return 0.0
        if self.kept is None:
            return None
        return abs(self.best[1] - self.kept[1])


def what_if(
    events: Iterable[Event],
    policy: StoppingPolicy | None,
    *,
    es_min: int = 10,
    es_interval: int = 1,
) -> WhatIf:
    """Judge a run's log again, with this policy.

    Args:
        events: The log from its start; of a finished run or of one that is going on.
        policy: A new policy, which learns from the run; None stops nothing.
        es_min: Trials that must have completed before anything is stopped.
        es_interval: The policy looks at a trial after every so many of its reports.
    """
    replay = _Replay(policy, es_min, es_interval)
    for event in events:
        replay.apply(event)
    return replay.outcome()


def sentences(told: WhatIf) -> list[str]:
    """What it comes to, for people."""
    stops = count(len(told.stopped), "trial")
    lines = [f"It would have stopped {stops} before the end."]
    if told.stopped:
        reports = f"{told.reports_saved:,} of {count(told.reports, 'report')}"
        time = f"{seconds(told.seconds_saved)} of {seconds(told.seconds)} of the workers' time"
        share = told.seconds_saved / told.seconds if told.seconds else 0.0
        lines.append(f"Saved: {reports}, and {time} ({share:.0%}).")
    if told.best is not None:
        trial, value = told.best
        if told.kept is None:
            lines.append(f"Lost: everything, also the best, {number(value)} of trial {trial}.")
        elif told.regret:
            kept, less = told.kept
            lines.append(
                f"Lost: the best value, {number(value)} of trial {trial}; it would be "
                f"{number(less)}, of trial {kept}."
            )
        else:
            lines.append(f"Lost: nothing; the best value stays {number(value)}.")
    if told.already_stopped:
        lines.append(
            f"The run itself had stopped {count(told.already_stopped, 'trial')}; how they would "
            f"have gone on nobody knows."
        )
    return lines


@dataclass(slots=True, kw_only=True)
class _Stop:
    """A stop, and what its trial had cost when a real worker would have heard of it."""

    step: int
    reason: str
    heard: bool = False
    reports: int = 0
    seconds: float = 0.0


class _Replay:
    """The fold: the run as it was, and beside it the trials as the policy would see them."""

    def __init__(self, policy: StoppingPolicy | None, es_min: int, es_interval: int) -> None:
        self._policy = policy
        self._es_min = es_min
        self._es_interval = es_interval
        self._summary = Summary()
        self._sense = Sense("max")
        self._trials: dict[int, Trial] = {}
        self._reports: Counter[int] = Counter()
        self._stops: dict[int, _Stop] = {}
        self._ended: set[int] = set()
        self._completed = 0

    def apply(self, event: Event) -> None:
        """Take in the next event."""
        number = getattr(event, "trial", None)
        record = None if number is None else self._summary.trials.get(number)
        fresh, length = (True, 0) if record is None else (record.fresh, len(record.steps))
        self._summary.apply(event)
        if isinstance(event, ExperimentStarted):
            self._begin()
        elif record is not None and isinstance(event, MetricReported):
            if fresh != record.fresh or len(record.steps) > length:
                self._report(record, event.at, fresh=fresh)
        elif isinstance(event, WorkerLost):
            self._look_for_ends()
        elif record is not None:
            self._look_for_end(record, event.at)

    def _begin(self) -> None:
        direction = "max" if self._summary.maximise else "min"
        self._sense = Sense(direction)
        if self._policy is not None:
            require_direction(self._policy, direction)

    def _report(self, record: TrialRecord, at: float, *, fresh: bool) -> None:
        self._reports[record.id] += 1
        self._hear(record, at)
        if self._policy is None or record.id in self._stops:
            return
        trial = self._trial(record)
        if fresh:
            trial.losses[:] = [self._sense.flip(value) for value in record.values]
        else:
            trial.losses.append(self._sense.flip(record.values[-1]))
        trial.steps[:] = record.steps
        if self._completed < self._es_min or len(trial.steps) % self._es_interval:
            return
        decision = self._policy.decide(trial)
        if decision.stop:
            reason = self._sense.sentence(decision)
            self._stops[record.id] = _Stop(step=trial.steps[-1], reason=reason)
            trial.loss, trial.status = trial.losses[-1], TrialStatus.STOPPED
            self._policy.finished(trial)

    def _trial(self, record: TrialRecord) -> Trial:
        trial = self._trials.get(record.id)
        if trial is None:
            trial = self._trials[record.id] = Trial(id=record.id, hparams=record.hparams)
        trial.budget, trial.attempt, trial.status = record.budget, record.attempt, record.status
        return trial

    def _look_for_ends(self) -> None:
        for record in self._summary.trials.values():
            self._look_for_end(record, self._summary.now)

    def _look_for_end(self, record: TrialRecord, at: float) -> None:
        """Tell the policy of a trial that has just ended, unless it had stopped it."""
        if not record.status.ended:
            self._ended.discard(record.id)  # a promotion
            return
        if record.id in self._ended:
            return
        self._ended.add(record.id)
        self._hear(record, at)
        if self._policy is None or record.id in self._stops:
            return
        trial = self._trial(record)
        trial.loss = None if record.value is None else self._sense.flip(record.value)
        self._completed += record.status is TrialStatus.COMPLETED
        self._policy.finished(trial)

    def _hear(self, record: TrialRecord, at: float) -> None:
        """Its next report is where a real worker would have heard of the stop."""
        stop = self._stops.get(record.id)
        if stop is not None and not stop.heard:
            stop.heard = True
            stop.reports, stop.seconds = self._reports[record.id], _spent(record, at)

    def outcome(self) -> WhatIf:
        """What came of it."""
        summary = self._summary
        records = summary.trials.values()
        complete = [record for record in records if record.status is TrialStatus.COMPLETED]
        best = summary.standing.best if complete else None
        return WhatIf(
            stopped=[self._would_stop(number, stop) for number, stop in self._stops.items()],
            reports=self._reports.total(),
            seconds=sum(_spent(record, summary.now) for record in records),
            best=best,
            kept=None if best is None else self._kept(complete, best[0]),
            already_stopped=summary.counts[TrialStatus.STOPPED],
        )

    def _would_stop(self, number: int, stop: _Stop) -> WouldStop:
        record = self._summary.trials[number]
        total = _spent(record, self._summary.now)
        return WouldStop(
            trial=number,
            step=stop.step,
            reason=stop.reason,
            value=record.value if record.status is TrialStatus.COMPLETED else None,
            reports=self._reports[number] - stop.reports if stop.heard else 0,
            seconds=total - stop.seconds if stop.heard else 0.0,
        )

    def _kept(self, complete: Sequence[TrialRecord], best: int) -> tuple[int, float] | None:
        """The best of the trials that count and that the policy lets complete."""
        standing = Standing(maximise=self._summary.maximise)
        reached = self._summary.trials[best].reached
        for record in complete:
            counts = record.reached == reached and record.id not in self._stops
            if counts and record.value is not None and isfinite(record.value):
                standing.add(record.id, record.value)
        return standing.best


def _spent(record: TrialRecord, at: float) -> float:
    """Worker seconds of a trial up to a moment."""
    began = record.began if record.running else None
    return record.duration + (0.0 if began is None else at - began)
