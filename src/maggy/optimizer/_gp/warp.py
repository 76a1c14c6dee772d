"""Losses to what the Gaussian process models: mean 0, spread 1, no outliers upwards.

The worse half is replaced by what a normal distribution would have there, by rank; the better half
stays linear (half-rank warping, Song et al. 2024, section 3.2).  One diverged trial of 1e12 then
changes nothing for the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri

if TYPE_CHECKING:
    from maggy.optimizer.encoding import Array

__all__ = ["Warp"]

_FEWEST = 8
_LEAST_SPREAD = 1e-10
_HUGE = 1e100
_TINY = 1e-290


class Warp:
    """Monotone; learned from the losses of completed trials.

    Args:
        losses: Finite, shape (n,), n >= 1.

    Attributes:
        flat: Whether all losses are equal.
    """

    def __init__(self, losses: Array) -> None:
        largest = float(np.max(np.abs(losses)))
        self._unit = largest / _HUGE if largest > _HUGE else 1.0
        known = np.unique(losses / self._unit)
        values = np.sort(losses / self._unit)
        self.flat = len(known) == 1
        self._median = float(np.median(values))
        self._worse = known[known > self._median]
        self._ranked = self._worse
        if len(losses) >= _FEWEST and len(self._worse):
            better = values[values <= self._median]
            spread = float(np.sqrt(np.mean(np.square(better - self._median)))) or 1.0
            ranks = (np.arange(len(self._worse)) + 0.5) / len(self._worse)
            self._ranked = self._median + spread * ndtri(0.5 + 0.5 * ranks)
        warped = self._bend(values)
        self._shift = self._median if self.flat else float(warped.mean())
        least = _LEAST_SPREAD * max(abs(self._shift), _TINY)
        self._scale = 1.0 if self.flat else max(float(warped.std()), least)

    def __call__(self, losses: Array) -> Array:
        """Warped losses; beyond the worst known one they are worth as much as it."""
        return np.asarray((self._bend(losses / self._unit) - self._shift) / self._scale)

    def _bend(self, values: Array) -> Array:
        if not len(self._worse):
            return np.minimum(values, self._median)
        knots = np.concatenate([[self._median], self._worse])
        heights = np.concatenate([[self._median], self._ranked])
        return np.where(values > self._median, np.interp(values, knots, heights), values)
