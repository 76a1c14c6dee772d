"""Regression trees on ``[0, 1]^d``, and how much of what they predict each column explains alone.

Notation: ``n`` observations in ``d`` columns; a tree is its ``L`` leaves, boxes that fill the
cube.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[np.float64]

__all__ = ["Leaves", "grown", "main_effects"]

_LEAST_LEAF = 3
_DEEPEST = 8
_TRIED_SHARE = 0.7
_DIGITS = 6
"""Closer values are one, so that every box has a width."""


class Leaves(NamedTuple):
    """A tree.

    Attributes:
        lower: The lower ends of the boxes, shape ``(L, d)``.
        upper: The upper ends.
        values: The predictions, shape ``(L,)``.
    """

    lower: Array
    upper: Array
    values: Array


def grown(points: Array, targets: Array, rng: np.random.Generator) -> Leaves:
    """A tree that splits where the squared error falls most; leaves hold 3 observations at least.

    Each split looks at 70 % of the columns, chosen at random (Breiman 2001).

    Args:
        points: Shape ``(n, d)``, in ``[0, 1]``.
        targets: Shape ``(n,)``.
        rng: Chooses the columns.
    """
    columns, points = points.shape[1], np.round(points, _DIGITS)
    tried = max(1, round(_TRIED_SHARE * columns))
    leaves: list[tuple[Array, Array, float]] = []
    stack = [(np.arange(len(targets)), np.zeros(columns), np.ones(columns), 0)]
    while stack:
        held, lower, upper, depth = stack.pop()
        chosen = rng.permutation(columns)[:tried]
        split = _best_split(points[held][:, chosen], targets[held]) if depth < _DEEPEST else None
        if split is None:
            leaves.append((lower, upper, float(targets[held].mean())))
            continue
        column, cut = int(chosen[split[0]]), split[1]
        left = points[held, column] <= cut
        middle_up, middle_low = upper.copy(), lower.copy()
        middle_up[column] = middle_low[column] = cut
        stack.append((held[left], lower, middle_up, depth + 1))
        stack.append((held[~left], middle_low, upper, depth + 1))
    lows, highs, values = zip(*leaves, strict=True)
    return Leaves(np.array(lows), np.array(highs), np.array(values))


def main_effects(leaves: Leaves) -> Array:
    """For each column, the variance of the mean prediction given it, uniform over the rest.

    Hutter, Hoos and Leyton-Brown 2014, algorithm 2, for one hyperparameter at a time; ``(d,)``.
    """
    sides = leaves.upper - leaves.lower
    volumes = sides.prod(axis=1)
    mean = float(volumes @ leaves.values)
    effects = np.empty(sides.shape[1])
    for column in range(len(effects)):
        ends = np.unique(np.concatenate([leaves.lower[:, column], leaves.upper[:, column]]))
        middles = (ends[:-1] + ends[1:]) / 2
        inside = leaves.lower[:, column, None] < middles
        inside &= middles < leaves.upper[:, column, None]
        marginal = (volumes / sides[:, column] * leaves.values) @ inside
        effects[column] = np.diff(ends) @ (marginal - mean) ** 2
    return effects


def _best_split(points: Array, targets: Array) -> tuple[int, float] | None:
    """The column and the cut with the least squared error, or None if no split lowers it."""
    count = len(targets)
    if count < 2 * _LEAST_LEAF or np.ptp(targets) == 0.0:
        return None
    order = np.argsort(points, axis=0, kind="stable")
    ordered = np.take_along_axis(points, order, axis=0)
    sums = np.cumsum(targets[order] - targets.mean(), axis=0)[:-1]
    sizes = np.arange(1.0, count)[:, None]
    gains = sums**2 * (count / (sizes * (count - sizes)))
    allowed = ordered[1:] > ordered[:-1]
    allowed[: _LEAST_LEAF - 1] = allowed[count - _LEAST_LEAF :] = False
    gains = np.where(allowed, gains, 0.0)
    row, column = divmod(int(gains.argmax()), gains.shape[1])
    if gains[row, column] <= 1e-12:
        return None
    return column, float(ordered[row, column] + ordered[row + 1, column]) / 2
