"""The trust region: where the search is local, a box around the best trial (Eriksson et al. 2019).

It begins as nearly the whole space, shrinks with failures, grows again with successes, and begins
anew when it has become tiny.  It is folded from the completed trials, so it needs no state.  Of
``period`` suggestions one is made in the whole space: the fewer the dimensions, the more a global
search can find.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from maggy.optimizer._gp.search import Box

if TYPE_CHECKING:
    from maggy.optimizer.encoding import Array

__all__ = ["period", "side", "surround"]

_LARGEST = 1.6
_SMALLEST = 2.0**-7
_SUCCESSES = 3
_FEWEST_FAILURES = 4
_IMPROVEMENT = 1e-3


def period(dimensions: int) -> int:
    """One suggestion of so many is global."""
    return max(2, min(4, dimensions - 1))


def side(targets: Array, dimensions: int) -> float:
    """The box's side, relative to the space.

    Doubled after 3 improvements in a row, by 1e-3 of the targets' spread at least; halved after
    ``dimensions / 2`` trials in a row without one, 4 at least.

    Args:
        targets: Of the completed trials, in order of their ids.
        dimensions: Of the space.
    """
    patience = max(_FEWEST_FAILURES, math.ceil(dimensions / 2))
    length, successes, failures, best = _LARGEST, 0, 0, math.inf
    for target in targets.tolist():
        if target < best - _IMPROVEMENT:
            best, successes, failures = target, successes + 1, 0
        else:
            successes, failures = 0, failures + 1
        if successes == _SUCCESSES:
            length, successes = min(2 * length, _LARGEST), 0
        if failures == patience:
            length, failures = length / 2, 0
        if length < _SMALLEST:
            length = _LARGEST
    return length


def surround(centre: Array, length: float, lengths: Array) -> Box:
    """A box around a point, longer where the length-scale is, cut by the space.

    Args:
        centre: Coordinates, shape (d,).
        length: The geometric mean of the sides.
        lengths: Length-scale of each column, shape (d,).
    """
    half = 0.5 * length * lengths / np.exp(np.log(lengths).mean())
    return Box(low=np.maximum(centre - half, 0.0), high=np.minimum(centre + half, 1.0))
