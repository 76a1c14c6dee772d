"""Stopping by extrapolation: a trial goes on while it may still end among the best."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from maggy.contracts import Decision
from maggy.earlystop.extrapolation import extrapolate
from maggy.earlystop.references import Bests, Leader, Ranked, References, quantile, running_best
from maggy.trial import TrialStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maggy.trial import Trial

__all__ = ["CurveRule"]

_GO_ON = Decision(stop=False)
_LEAST_POINTS = 4
_CHECKS = 2
_LARGEST = 1e100
"""Losses beyond this are not extrapolated: their squares would overflow."""


class CurveRule:
    """Stops a trial that is behind and not on the way to the best.

    Behind: its best loss so far is not among the best ``keep`` of all ended trials at the same
    step; stopped ones count with what they had reached.  Not on the way: by extrapolation to the
    median length of the completed trials (see ``maggy.earlystop.extrapolation``), the probability
    to end better than the target is under ``delta``, now and one report ago.  Either alone stops
    too many that start slowly and end well; both must hold.  How the defaults were chosen is told
    in ``bench/curve_policy.py``.

    Args:
        delta: The bound for the probability, between 0 and 1.
        quantile: The target, among the final losses of the completed trials: 0 is the best of
            them, 0.5 the median.
        keep: The share of trials that always go on, between 0 and 1.
        min_peers: Ended trials that must be known at the step, at least 1.
        min_share: Share of the median length that a trial may always train, in [0, 1).
    """

    def __init__(
        self,
        delta: float = 0.2,
        *,
        quantile: float = 0.2,
        keep: float = 0.28,
        min_peers: int = 4,
        min_share: float = 0.1,
    ) -> None:
        if not 0 < delta < 1 or not 0 < keep < 1:
            msg = f"`0 < delta < 1` and `0 < keep < 1` must hold, but got {delta=}, {keep=}."
            raise ValueError(msg)
        if not 0 <= quantile <= 1 or not 0 <= min_share < 1:
            msg = (
                f"`0 <= quantile <= 1` and `0 <= min_share < 1` must hold, but got {quantile=}, "
                f"{min_share=}."
            )
            raise ValueError(msg)
        if min_peers < 1:
            msg = f"`min_peers >= 1` must hold, but got {min_peers=}."
            raise ValueError(msg)
        self.delta = delta
        self.quantile = quantile
        self.keep = keep
        self.min_peers = min_peers
        self.min_share = min_share
        self._leader = Leader()
        self._bests = Bests()
        self._references = References(running_best, with_stopped=True)
        self._finals, self._ends, self._lengths, self._noises = (Ranked() for _ in range(4))

    def __repr__(self) -> str:
        return (
            f"CurveRule({self.delta:g}, quantile={self.quantile:g}, keep={self.keep:g}, "
            f"min_peers={self.min_peers}, min_share={self.min_share:g})"
        )

    def finished(self, trial: Trial) -> None:
        """Learn how long, how noisy and how good completed trials are; others change nothing."""
        self._leader.finished(trial)
        self._bests.finished(trial)
        self._references.finished(trial)
        if trial.status is not TrialStatus.COMPLETED or not trial.steps:
            return
        self._finals.put(trial.id, trial.losses[-1] if trial.loss is None else trial.loss)
        self._ends.put(trial.id, trial.steps[-1])
        self._lengths.put(trial.id, len(trial.steps))
        self._noises.put(trial.id, _noise(trial.losses))

    def decide(self, trial: Trial) -> Decision:
        """Compare the trial with the others; if it is behind, see where it is going."""
        step, best = trial.steps[-1], self._bests.best(trial)
        column = self._references.column(step)
        if len(column) < self.min_peers or not self._finals.ordered:
            return _GO_ON
        bound = quantile(column, self.keep)
        if best <= bound or self._leader.leads(best):
            return _GO_ON
        target = quantile(self._finals.ordered, self.quantile)
        horizon = round(quantile(self._ends.ordered, 0.5))
        chance = self._chance(trial, target, horizon)
        if chance >= self.delta:
            return _GO_ON
        return Decision(
            stop=True,
            reason=(
                f"its best value {{best}} by step {step} is worse than {{bound}}, which the best "
                f"{self.keep:.0%} of {len(column)} trials had reached, and its curve leaves it a "
                f"chance of {chance:.1%} to end better than {{target}} at step {horizon}"
            ),
            threshold=bound,
            losses={"best": best, "bound": bound, "target": target},
        )

    def _chance(self, trial: Trial, target: float, horizon: int) -> float:
        """The probability to end below the target: the larger one of the last two reports.

        1 where it cannot be told: too few reports, no step left, or numbers out of all proportion.
        """
        least = max(_LEAST_POINTS, self.min_share * quantile(self._lengths.ordered, 0.5))
        count = len(trial.losses)
        extremes = (*trial.losses, target)
        if count < least + _CHECKS - 1 or trial.steps[-1] >= horizon:
            return 1.0
        if max(extremes) > _LARGEST or min(extremes) < -_LARGEST:
            return 1.0
        floor = quantile(self._noises.ordered, 0.5)
        largest = 0.0
        for upto in range(count, count - _CHECKS, -1):
            steps, losses = trial.steps[:upto], trial.losses[:upto]
            forecast = extrapolate(steps, losses, horizon, noise=max(floor, _resolution(losses)))
            largest = max(largest, forecast.below(target))
            if largest >= self.delta:
                break
        return largest


def _resolution(losses: Sequence[float]) -> float:
    """The least noise that is believed: a curve without any would be trusted without limit."""
    low, high = min(losses), max(losses)
    return max(1e-3 * (high - low), 1e-9 * max(abs(low), abs(high)), 1e-12)


def _noise(losses: Sequence[float]) -> float:
    """The noise of a completed curve: how much its end jumps from report to report."""
    last = losses[-max(4, len(losses) // 10) :]
    jumps = [b / 2 - a / 2 for a, b in pairwise(last)]
    if not jumps or max(map(abs, jumps)) > _LARGEST:
        return 0.0
    return math.sqrt(2 * sum(jump**2 for jump in jumps) / len(jumps))
