"""The maximum of an acquisition function over a mixed space.

Many cheap points are scored in one batch; from the best, from some drawn by their value, and from
the incumbents, local searches run together: gradient ascent along the continuous coordinates, in
turns with moves to the best neighbour in one countable coordinate, until nothing moves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from maggy.optimizer._gp.ascent import ascend

if TYPE_CHECKING:
    from maggy.optimizer._gp.acquisition import LogEI
    from maggy.optimizer.encoding import Array, Encoding, Index

__all__ = ["Box", "Landscape", "Ranking", "maximise", "perturb"]

_DRAWN = 5
_ROUNDS = 5
_MOVES = 10
_PERTURBED = 20
_REACH = 0.1
_CHANGED = 20.0
_GAIN = 1e-9
_SCREENED = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """Where to search: ends of every coordinate, each of shape (d,)."""

    low: Array
    high: Array

    def clip(self, u: Array) -> Array:
        """The nearest points inside."""
        return np.clip(u, self.low, self.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Points and their acquisition, the best first."""

    points: Array
    values: Array

    @classmethod
    def of(cls, points: Array, values: Array) -> Ranking:
        """In descending order; points that are not allowed are left out."""
        order = np.argsort(-values, kind="stable")
        order = order[np.isfinite(values[order])]
        return cls(points=points[order], values=values[order])


class Landscape:
    """An acquisition function over coordinates, with the constraints.

    Args:
        acquisition: Over features.
        encoding: From coordinates to features.
        lengths: Length-scale of each column, shape (d,); steps are as long as they are.
    """

    def __init__(self, acquisition: LogEI, encoding: Encoding, lengths: Array) -> None:
        self._acquisition = acquisition
        self.encoding = encoding
        self.reach = np.minimum(lengths, 1.0)

    def screen(self, u: Array) -> Array:
        """The acquisition at each row, shape (m,), where constraints were found to hold.

        They are Python and slow: only the best rows are tried, until 64 are allowed.  The others
        count as forbidden.
        """
        values = self.value(u)
        if not self.encoding.space.constraints:
            return values
        screened = np.full(len(u), -np.inf)
        order = np.argsort(-values, kind="stable")
        allowed = 0
        for start in range(0, len(order), _SCREENED):
            part = order[start : start + _SCREENED]
            part = part[self.encoding.feasible(u[part])]
            screened[part] = values[part]
            allowed += len(part)
            if allowed >= _SCREENED:
                break
        return screened

    def value(self, u: Array) -> Array:
        """The acquisition at each row, shape (m,), constraints ignored."""
        return self._acquisition.value(self.encoding.features(u))

    def ascent(self, u: Array, box: Box) -> tuple[Array, Array]:
        """Climb along the continuous coordinates from each row; points and values."""
        columns = self.encoding.continuous
        unit = self.reach[columns]
        rows_of = u.copy()

        def function(x: Array, rows: Index) -> tuple[Array, Array]:
            full = rows_of[rows]
            full[:, columns] = x * unit
            values, gradient = self._acquisition.value_and_gradient(self.encoding.features(full))
            back = self.encoding.pull_back(full, gradient)
            if self.encoding.space.constraints:
                values = np.where(self.encoding.feasible(full), values, -np.inf)
            return values, back[:, columns] * unit

        shape = (len(u), len(columns))
        low = np.broadcast_to(box.low[columns] / unit, shape)
        high = np.broadcast_to(box.high[columns] / unit, shape)
        x, values = ascend(function, np.clip(u[:, columns] / unit, low, high), low, high)
        rows_of[:, columns] = np.clip(x * unit, box.low[columns], box.high[columns])
        return rows_of, values

    def descend_to_neighbours(self, u: Array, values: Array) -> tuple[Array, Array, bool]:
        """Move rows to their best neighbours while that helps; whether any row moved."""
        u, values = u.copy(), values.copy()
        moving = np.arange(len(u))
        moved = False
        for _ in range(_MOVES):
            blocks = [self.encoding.neighbours(u[row]) for row in moving]
            sizes = [len(block) for block in blocks]
            if not sum(sizes):
                break
            scores = np.split(self.value(np.concatenate(blocks)), np.cumsum(sizes)[:-1])
            better = []
            for row, block, part in zip(moving, blocks, scores, strict=True):
                best = self._best_allowed(block, part, values[row])
                if best is not None:
                    u[row], values[row] = block[best], part[best]
                    better.append(row)
            if not better:
                break
            moved = True
            moving = np.array(better)
        return u, values, moved

    def _best_allowed(self, u: Array, values: Array, least: float) -> int | None:
        """The best row that the constraints allow and that gains over ``least``."""
        for number in np.argsort(-values, kind="stable"):
            if not values[number] > least + _GAIN * max(1.0, abs(least)):
                return None
            if self.encoding.feasible(u[number : number + 1])[0]:
                return int(number)
        return None


def perturb(
    u: Array, encoding: Encoding, reach: Array, rng: np.random.Generator, times: int
) -> Array:
    """``times`` variations of each row: some coordinates changed, about a tenth of their length.

    A coordinate changes with probability 20/d at most; a category becomes any other.
    """
    rows = np.repeat(u, times, axis=0)
    dimensions = max(encoding.dimensions, 1)
    changed = rng.random(rows.shape) < _CHANGED / dimensions
    spread = np.empty(rows.shape[1])
    for j, column in enumerate(encoding.columns):
        spread[j] = _REACH * reach[j] if column.count is None else max(_REACH, 1 / column.count)
    varied = rows + spread * rng.standard_normal(rows.shape)
    anywhere = rng.random(rows.shape)
    for j, column in enumerate(encoding.columns):
        if not column.ordered:
            varied[:, j] = anywhere[:, j]
            changed[:, j] &= rng.random(len(rows)) < 2.0 / dimensions
    return encoding.snap(np.where(changed, varied, rows))


def maximise(
    landscape: Landscape, spread: Array, incumbents: Array, box: Box, rng: np.random.Generator
) -> Ranking:
    """The points with the largest acquisition that the search met, the best first.

    Args:
        landscape: What to maximise.
        spread: Points to score all over the box, shape (m, d), snapped.
        incumbents: Known good points, the best first; the first is a start as well.
        box: Where to stay.
        rng: Draws the starts.
    """
    encoding = landscape.encoding
    near = perturb(incumbents, encoding, landscape.reach, rng, _PERTURBED)
    points = np.concatenate([spread, box.clip(near), incumbents[:1]])
    values = landscape.screen(points)
    finite = np.flatnonzero(np.isfinite(values))
    if not len(finite):
        return Ranking.of(points, values)
    starts = _starts(values, finite, rng)
    u, reached = points[starts], values[starts]
    for turn in range(_ROUNDS):
        if len(encoding.continuous):
            u, reached = landscape.ascent(u, box)
        if not len(encoding.finite):
            break
        u, reached, moved = landscape.descend_to_neighbours(u, reached)
        if not moved and (turn or not len(encoding.continuous)):
            break
    return Ranking.of(np.concatenate([u, points]), np.concatenate([reached, values]))


def _starts(values: Array, finite: Index, rng: np.random.Generator) -> Index:
    """The best, the incumbent (the last), and some drawn in proportion to ``exp``."""
    best = finite[values[finite].argmax()]
    weights = np.exp(values[finite] - values[best])
    drawn = min(_DRAWN, int(np.count_nonzero(weights)))
    chosen = rng.choice(finite, size=drawn, replace=False, p=weights / weights.sum())
    starts = [best, *chosen]
    if np.isfinite(values[-1]):
        starts.append(len(values) - 1)
    return np.unique(starts)
