"""The Matern-5/2 kernel with one length-scale per dimension.

=================  ============================================================================
``A``, ``B``       features divided by their length-scales, shapes (n, p) and (m, p)
``r`` (n, m)       Euclidean distances between their rows
``k(r)``           ``s2 (1 + sqrt5 r + 5/3 r^2) exp(-sqrt5 r)``
``slope(r)``       ``s2 (1 + sqrt5 r) exp(-sqrt5 r)``, so that ``dk/da = -5/3 slope (a - b)``
=================  ============================================================================

Rasmussen and Williams 2006, equation 4.17.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from maggy.optimizer.encoding import Array, Index

__all__ = ["Hyperparameters", "correlate", "distances", "following"]

_SQRT5 = math.sqrt(5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperparameters:
    """Of the Gaussian process.

    Attributes:
        lengths: Length-scale of each dimension, shape (d,).
        signal: Variance of the process.
        noise: Variance of an observation around it.
    """

    lengths: Array
    signal: float
    noise: float

    @classmethod
    def from_logs(cls, theta: Array) -> Hyperparameters:
        """From the logarithms of (lengths, signal, noise), shape (d + 2,)."""
        values = np.exp(theta)
        return cls(lengths=values[:-2], signal=float(values[-2]), noise=float(values[-1]))

    @property
    def logs(self) -> Array:
        """The inverse of ``from_logs``."""
        return np.log([*self.lengths, self.signal, self.noise])

    def scale(self, features: Array, group: Index) -> Array:
        """Features divided by the length-scales of their dimensions."""
        return np.asarray(features / self.lengths[group])


def following(features: Array, trailing: Array | None) -> Array:
    """Features (m, p), each followed by these (k,), which all share; shape (m, p + k)."""
    if trailing is None:
        return features
    return np.hstack([features, np.broadcast_to(trailing, (len(features), len(trailing)))])


def distances(a: Array, b: Array) -> Array:
    """Euclidean distances between the rows of (n, p) and (m, p), shape (n, m)."""
    squared = a @ b.T
    squared *= -2.0
    squared += np.einsum("ij,ij->i", a, a)[:, np.newaxis]
    squared += np.einsum("ij,ij->i", b, b)
    np.maximum(squared, 0.0, out=squared)
    return np.asarray(np.sqrt(squared, out=squared))


def correlate(r: Array, signal: float) -> tuple[Array, Array]:
    """``k(r)`` and ``slope(r)``; overwrites ``r``."""
    r *= _SQRT5
    decay = np.exp(-r)
    decay *= signal
    slope = r + 1.0
    slope *= decay
    np.square(r, out=r)
    r *= decay
    r *= 1.0 / 3.0
    r += slope
    return r, slope
