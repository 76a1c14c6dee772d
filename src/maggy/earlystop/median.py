"""The median stopping rule (Golovin et al. 2017, Google Vizier, section 3.2.2), on true steps.

At step ``t`` a running trial is stopped when its best loss so far is strictly worse than the
median, over the completed trials that reached ``t``, of their running averages up to ``t``.

==========  ===================================================================
``column``  for a step ``t``: the running averages at ``t``, sorted, one for
            each completed trial whose curve reaches ``t``
==========  ===================================================================

A column is built when its step is first asked for and kept up to date afterwards, so a report
costs O(log n) and the end of a trial O(columns it reaches * log n).
"""

from __future__ import annotations

from bisect import bisect_right, insort
from itertools import accumulate
from typing import TYPE_CHECKING

from maggy.contracts import Decision
from maggy.trial import TrialStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maggy.trial import Trial

__all__ = ["MedianRule"]

_GO_ON = Decision(stop=False)


class MedianRule:
    """Stops a trial that is worse than the median of the completed ones at the same step.

    Only trials that completed are references: those that were stopped would drag the median
    towards the bad ones.  A tie is not worse, and the best trial so far is never stopped.

    Args:
        min_peers: Completed trials that must have reached the step, at least 1.
    """

    def __init__(self, min_peers: int = 3) -> None:
        if min_peers < 1:
            msg = f"`min_peers >= 1` must hold, but got {min_peers=}."
            raise ValueError(msg)
        self.min_peers = min_peers
        self._peers: list[tuple[Sequence[int], Sequence[float]]] = []
        self._columns: dict[int, list[float]] = {}
        self._best = float("inf")

    def finished(self, trial: Trial) -> None:
        """Make a completed trial a reference; others change nothing."""
        if trial.status is not TrialStatus.COMPLETED:
            return
        if trial.loss is not None:
            self._best = min(self._best, trial.loss)
        if not trial.steps:
            return
        sums = accumulate(trial.losses)
        averages = [total / count for count, total in enumerate(sums, start=1)]
        peer = (tuple(trial.steps), averages)
        self._best = min(self._best, *trial.losses)
        self._peers.append(peer)
        for step, column in self._columns.items():
            average = _average_at(peer, step)
            if average is not None:
                insort(column, average)

    def decide(self, trial: Trial) -> Decision:
        """Compare the trial's best loss with the median at its newest step."""
        step = trial.steps[-1]
        best = min(trial.losses)
        column = self._column(step)
        if len(column) < self.min_peers or best <= self._best:
            return _GO_ON
        median = _median(column)
        if best <= median:
            return _GO_ON
        return Decision(
            stop=True,
            reason=(
                f"its best value {{best}} by step {step} is worse than {{median}}, the median of "
                f"{len(column)} completed trials"
            ),
            threshold=median,
            losses={"best": best, "median": median},
        )

    def _column(self, step: int) -> list[float]:
        column = self._columns.get(step)
        if column is None:
            found = (_average_at(peer, step) for peer in self._peers)
            column = sorted(average for average in found if average is not None)
            self._columns[step] = column
        return column


def _average_at(peer: tuple[Sequence[int], Sequence[float]], step: int) -> float | None:
    """The running average over the steps up to ``step``; None if the curve ends before."""
    steps, averages = peer
    if steps[-1] < step:
        return None
    reached = bisect_right(steps, step)
    return averages[reached - 1] if reached else None


def _median(ordered: Sequence[float]) -> float:
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return 0.5 * ordered[middle - 1] + 0.5 * ordered[middle]
