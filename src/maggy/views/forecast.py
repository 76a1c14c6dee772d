"""Estimates: how long a run will take, and what early stopping saved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maggy.trial import TrialStatus

if TYPE_CHECKING:
    from maggy.core.summary import Summary

__all__ = ["time_left", "time_saved"]


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
    """Seconds of worker time that the stopped trials would still have taken, or None.

    Known only if all completed trials reported up to the same step: then each stopped trial is
    taken to go on to that step at its own pace.  Trials that ran more than once are left out.
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
        if record.status is TrialStatus.STOPPED and record.runs == 1 and record.steps
    )
    return saved if saved > 0 else None
