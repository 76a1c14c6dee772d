"""Estimates: how long a run will take, and what early stopping saved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maggy.trial import TrialStatus

if TYPE_CHECKING:
    from maggy.core.summary import Summary

__all__ = ["Savings", "time_left", "time_saved"]

_NEWS = 0.05
"""The share of trials that has to end before the time saved is counted again."""


class Savings:
    """``time_saved`` of a run that goes on, in constant time for each trial that ends."""

    def __init__(self) -> None:
        self._ended = -1
        self._saved: float | None = None

    def __call__(self, summary: Summary) -> float | None:
        """The seconds saved so far; of many trials, those since the last count are left out."""
        if summary.ended - self._ended >= max(1.0, _NEWS * self._ended):
            self._ended = summary.ended
            self._saved = time_saved(summary)
        return self._saved


def time_left(summary: Summary, now: float) -> float | None:
    """Seconds until the last trial ends, in constant time; None where nobody can know.

    What is left of the trials, at the mean duration of those that ended, is shared by the workers
    that are there now.
    """
    total, ended, workers = summary.num_trials, summary.ended, summary.crew.here
    if total is None or not ended or not workers or ended >= total:
        return None
    spent, running = summary.crew.seconds(now)
    mean = spent / ended
    work = (total - ended) * mean - min(running, summary.running * mean)
    return max(0.0, work) / min(workers, total - ended)


def time_saved(summary: Summary) -> float | None:
    """Seconds of worker time that those trials would still have taken that a policy stopped.

    Known only if all completed trials reported up to the same step, else None: each stopped trial
    is taken to go on to that step at its own pace.  Trials that ran more than once are left out.
    """
    ends = {
        record.steps[-1] if record.steps else None
        for record in summary.trials.values()
        if record.status is TrialStatus.COMPLETED
    }
    last = ends.pop() if len(ends) == 1 else None
    if last is None:
        return None
    saved = sum(
        record.duration * max(0, last - record.steps[-1]) / (record.steps[-1] + 1)
        for record in summary.trials.values()
        if record.status is TrialStatus.STOPPED
        and record.judged
        and record.runs == 1
        and record.steps
    )
    return saved if saved > 0 else None
