"""What ended trials say: losses and their uncertainty, for the Gaussian process.

A completed trial is an observation.  A failed one counts as bad as the worst, loosely.  A stopped
one is censored: its final loss is estimated from how much completed trials still gained after its
last step, and is at least what the threshold that stopped it would have become.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import log_ndtr

from maggy.optimizer._gp.warp import Warp
from maggy.trial import TrialStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from maggy.optimizer.encoding import Array, Encoding, Index, Mask
    from maggy.trial import Trial

    Predict = Callable[[Array], tuple[Array, Array]]

__all__ = ["FAILED_VARIANCE", "Evidence", "above", "censored", "observed"]

FAILED_VARIANCE = 0.25
"""How loosely a failed trial counts as bad as the worst: the noise of its target."""

_FEWEST_CURVES = 3
_CURVES = 200
"""The gain after a step is estimated from at most so many completed trials, the latest."""

_MAD = 1.4826
_LEAST_VARIANCE = 1e-2


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Observations, in order of the trials' ids; with rungs, one rung after the other.

    Attributes:
        rows: Coordinates, shape (n, d).
        targets: Warped losses, shape (n,).
        variances: Known noise of each beside the common one, shape (n,).
        completed: Which trials completed, shape (n,).
        failed: Which failed, shape (n,).
        warp: How losses became targets.
        trailing: Features of each beside those of its coordinates, shape (n, k), or None: k = 0.
    """

    rows: Array
    targets: Array
    variances: Array
    completed: Mask
    failed: Mask
    warp: Warp
    trailing: Array | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, chosen: Index) -> Evidence:
        """Only some of them."""
        return Evidence(
            rows=self.rows[chosen],
            targets=self.targets[chosen],
            variances=self.variances[chosen],
            completed=self.completed[chosen],
            failed=self.failed[chosen],
            warp=self.warp,
            trailing=None if self.trailing is None else self.trailing[chosen],
        )

    def features(self, encoding: Encoding) -> Array:
        """All features of each, shape (n, p + k)."""
        features = encoding.features(self.rows)
        return features if self.trailing is None else np.hstack([features, self.trailing])


def observed(trials: Sequence[Trial], rows: Array) -> Evidence:
    """What completed and failed trials say; others are left out.

    A loss that is not finite is a failure.

    Args:
        trials: Ended trials, at least one completed.
        rows: Their coordinates, shape (n, d).
    """
    statuses = [trial.status for trial in trials]
    losses = np.array([math.inf if trial.loss is None else trial.loss for trial in trials])
    ended_well = np.array([status is TrialStatus.COMPLETED for status in statuses], dtype=bool)
    completed = ended_well & np.isfinite(losses)
    failed = np.array([status is TrialStatus.FAILED for status in statuses], dtype=bool)
    failed |= ended_well & ~completed
    warp = Warp(losses[completed])
    targets = np.zeros(len(losses))
    targets[completed] = warp(losses[completed])
    targets[failed] = targets[completed].max()
    told = completed | failed
    return Evidence(
        rows=rows[told],
        targets=targets[told],
        variances=np.where(failed, FAILED_VARIANCE, 0.0)[told],
        completed=completed[told],
        failed=failed[told],
        warp=warp,
    )


def censored(
    trials: Sequence[Trial], rows: Array, evidence: Evidence, predict: Predict
) -> Evidence:
    """The evidence with the stopped trials that reported anything.

    Args:
        trials: Ended trials of every kind.
        rows: Their coordinates, shape (n, d).
        evidence: What the completed and failed ones say.
        predict: Mean and standard deviation of targets at coordinates, from that evidence.
    """
    chosen = [
        number
        for number, trial in enumerate(trials)
        if trial.status is TrialStatus.STOPPED and trial.steps
    ]
    if not chosen:
        return evidence
    gains = _Gains([trial for trial in trials if trial.status is TrialStatus.COMPLETED])
    means, sds = predict(rows[chosen])
    targets, variances = [], []
    for number, mean, sd in zip(chosen, means.tolist(), sds.tolist(), strict=True):
        target, variance = _estimate(trials[number], gains, evidence.warp, mean, sd)
        targets.append(target)
        variances.append(max(variance, _LEAST_VARIANCE))
    none = np.zeros(len(chosen), dtype=bool)
    return Evidence(
        rows=np.concatenate([evidence.rows, rows[chosen]]),
        targets=np.concatenate([evidence.targets, targets]),
        variances=np.concatenate([evidence.variances, variances]),
        completed=np.concatenate([evidence.completed, none]),
        failed=np.concatenate([evidence.failed, none]),
        warp=evidence.warp,
    )


_FAR = 100.0
"""Standard deviations; from there on the tail is exponential to four digits."""


def above(mean: float, sd: float, bound: float) -> tuple[float, float]:
    """Mean and variance of a normal variable that is known to exceed ``bound``.

    Hutter, Hoos and Leyton-Brown 2013, section 3.  Far in the tail the formula cancels; there the
    excess over the bound is exponential, with mean and deviation ``sd / z``.
    """
    z = (bound - mean) / sd
    if z > _FAR:
        excess = sd / z
        return bound + excess, excess * excess
    hazard = math.exp(-0.5 * z * z - 0.5 * math.log(2 * math.pi) - float(log_ndtr(-z)))
    kept = 1.0 + z * hazard - hazard * hazard
    return mean + sd * hazard, sd * sd * min(max(kept, 0.0), 1.0)


def _estimate(
    trial: Trial, gains: _Gains, warp: Warp, mean: float, sd: float
) -> tuple[float, float]:
    """Target and variance of a stopped trial.

    Args:
        trial: Which has reported at least once.
        gains: Of completed trials.
        warp: From losses to targets.
        mean: What the completed trials predict for it.
        sd: The standard deviation of that.
    """
    best = min(trial.losses)
    gain, spread = gains.after(trial.steps[-1])
    bound = best if trial.threshold is None else trial.threshold
    if spread is None:
        return above(mean, sd, float(warp(np.array([bound + gain]))[0]))
    final = max(best + gain, bound + gain)
    low, middle, high = warp(np.array([final - spread, final, final + spread])).tolist()
    return middle, (0.5 * (high - low)) ** 2


class _Gains:
    """How much completed trials changed after a step: final loss minus the best until then."""

    def __init__(self, completed: Sequence[Trial]) -> None:
        self._curves = [
            (trial.steps, np.minimum.accumulate(trial.losses), trial.loss)
            for trial in completed[-_CURVES:]
            if trial.steps and trial.loss is not None
        ]
        self._known: dict[int, tuple[float, float | None]] = {}

    def after(self, step: int) -> tuple[float, float | None]:
        """The median gain, and its spread: None if fewer than 3 curves get that far."""
        if step not in self._known:
            found = [
                loss - float(best[bisect_right(steps, step) - 1])
                for steps, best, loss in self._curves
                if steps[0] <= step <= steps[-1]
            ]
            middle = float(np.median(found)) if found else 0.0
            spread = None
            if len(found) >= _FEWEST_CURVES:
                spread = _MAD * float(np.median(np.abs(np.array(found) - middle)))
            self._known[step] = middle, spread
        return self._known[step]
