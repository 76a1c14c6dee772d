"""What completed trials had reached at each step: the references of the rules that compare.

==========  ===================================================================
``column``  for a step ``t``: what the trials whose curves reach ``t`` had come
            to by then, sorted; the average of their losses up to ``t``, or
            the best of them
==========  ===================================================================

A column is built when its step is first asked for and kept up to date afterwards, so a report
costs O(log n) and the end of a trial O(columns it reaches * log n).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from itertools import accumulate
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from maggy.trial import TrialStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from maggy.trial import Trial

__all__ = [
    "Bests",
    "Leader",
    "Ranked",
    "References",
    "quantile",
    "running_average",
    "running_best",
]


class Leader:
    """The best loss that any completed trial ever had; who is as good leads, and goes on."""

    def __init__(self) -> None:
        self.loss: float | None = None

    def finished(self, trial: Trial) -> None:
        """Take in a completed trial; others change nothing."""
        if trial.status is not TrialStatus.COMPLETED:
            return
        final = [] if trial.loss is None else [trial.loss]
        known = [] if self.loss is None else [self.loss]
        self.loss = min((*known, *final, *trial.losses), default=None)

    def leads(self, best: float) -> bool:
        """Whether a trial with this best loss was as good as the best completed one.

        False without one.
        """
        return self.loss is not None and best <= self.loss


class _Curve:
    """A curve, how many of its losses were looked at, and the best of those."""

    __slots__ = ("attempt", "best", "count", "losses")

    def __init__(self, losses: Sequence[float], attempt: int) -> None:
        self.losses = losses
        self.attempt = attempt
        self.count = 0
        self.best = inf


class Bests:
    """The best loss so far of each running trial; looks at every report once.

    Within an attempt a curve only grows; at the start of another one its end may be void.
    """

    def __init__(self) -> None:
        self._curves: dict[int, _Curve] = {}

    def best(self, trial: Trial) -> float:
        """The best loss of a trial that has reported, in constant time for each new report."""
        losses = trial.losses
        curve = self._curves.get(trial.id)
        if curve is None or curve.losses is not losses or curve.attempt != trial.attempt:
            curve = self._curves[trial.id] = _Curve(losses, trial.attempt)
        for loss in losses[curve.count :]:
            curve.best = min(curve.best, loss)
        curve.count = len(losses)
        return curve.best

    def finished(self, trial: Trial) -> None:
        """Forget the curve of a trial that ended."""
        self._curves.pop(trial.id, None)


class Ranked:
    """One number for each trial, in order; a new number of a trial replaces its old one."""

    def __init__(self) -> None:
        self.ordered: list[float] = []
        self._numbers: dict[int, float] = {}

    def put(self, trial: int, number: float) -> None:
        """Set the number of this trial; O(log n) comparisons."""
        old = self._numbers.get(trial)
        if old is not None:
            _remove(self.ordered, old)
        self._numbers[trial] = number
        insort(self.ordered, number)


class _Peer(NamedTuple):
    """A trial as a reference: its steps, and what it had come to at each of them."""

    steps: Sequence[int]
    numbers: Sequence[float]
    stopped: bool


class References:
    """What ended trials had come to, step by step.

    Args:
        running: Turns the losses of a curve into what they had come to at each of its steps:
            ``running_average`` or ``running_best``.
        with_stopped: Whether stopped trials count beside the completed ones: after their last
            step with what they had come to there.
    """

    def __init__(
        self,
        running: Callable[[Sequence[float]], Sequence[float]],
        *,
        with_stopped: bool = False,
    ) -> None:
        self._running = running
        self._with_stopped = with_stopped
        self._peers: dict[int, _Peer] = {}
        self._columns: dict[int, list[float]] = {}

    def finished(self, trial: Trial) -> None:
        """Make an ended trial a reference, instead of what it was before a promotion."""
        stopped = trial.status is TrialStatus.STOPPED
        counts = trial.status is TrialStatus.COMPLETED or (stopped and self._with_stopped)
        if not counts or not trial.steps:
            return
        old = self._peers.get(trial.id)
        peer = _Peer(tuple(trial.steps), self._running(trial.losses), stopped)
        self._peers[trial.id] = peer
        for step, column in self._columns.items():
            gone = None if old is None else _reached(old, step)
            if gone is not None:
                _remove(column, gone)
            new = _reached(peer, step)
            if new is not None:
                insort(column, new)

    def column(self, step: int) -> Sequence[float]:
        """What the trials that reached this step had come to, ascending."""
        column = self._columns.get(step)
        if column is None:
            found = (_reached(peer, step) for peer in self._peers.values())
            column = sorted(number for number in found if number is not None)
            self._columns[step] = column
        return column


def running_average(losses: Sequence[float]) -> Sequence[float]:
    """The average of the first, the first two, the first three, ... of the losses."""
    return [total / count for count, total in enumerate(accumulate(losses), start=1)]


def running_best(losses: Sequence[float]) -> Sequence[float]:
    """The best of the first, the first two, the first three, ... of the losses."""
    return list(accumulate(losses, min))


def quantile(ordered: Sequence[float], q: float) -> float:
    """The quantile ``q`` in [0, 1] of ascending numbers, interpolated linearly (Hyndman, type 7).

    Huge numbers do not overflow: no two are added or subtracted before they are scaled.
    """
    position = q * (len(ordered) - 1)
    below = int(position)
    share = position - below
    if not share:
        return ordered[below]
    return (1 - share) * ordered[below] + share * ordered[below + 1]


def _remove(ordered: list[float], number: float) -> None:
    """Take one occurrence of a number out of ascending numbers."""
    del ordered[bisect_left(ordered, number)]


def _reached(peer: _Peer, step: int) -> float | None:
    """What a trial had come to by ``step``; None if it had ended before, or begins after."""
    if peer.steps[-1] < step and not peer.stopped:
        return None
    count = bisect_right(peer.steps, step)
    return peer.numbers[count - 1] if count else None
