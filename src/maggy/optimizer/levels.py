"""Levels of a grid: which values of each hyperparameter it contains, computed when looked at."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

from maggy.searchspace import Categorical, Discrete, Double, Integer
from maggy.searchspace.values import identity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from maggy.searchspace import Hyperparameter, Searchspace
    from maggy.searchspace.conditions import Listing
    from maggy.trial import Value

__all__ = ["Even", "Given", "choose_levels"]


@dataclass(frozen=True, slots=True)
class Given:
    """The levels that the user listed."""

    values: tuple[Value, ...]

    @property
    def cardinality(self) -> int:
        """How many there are."""
        return len(self.values)

    def value_at(self, index: int) -> Value:
        """The level of this number, from 0."""
        return self.values[index]

    def contains(self, value: Value) -> bool:
        """Whether the user listed this value."""
        return identity(value) in map(identity, self.values)


@dataclass(frozen=True, slots=True)
class Even:
    """``count`` values of a range at equal distances, both ends included; one: the middle.

    Distances are equal in the logarithm if the range has one.  Whole numbers and steps are
    rounded, and stay distinct.  Levels of a logarithmic range have 12 significant digits, so that
    a decade reads 0.0001.
    """

    kind: Double | Integer
    count: int

    @property
    def cardinality(self) -> int:
        """How many there are."""
        return self.count

    def value_at(self, index: int) -> Value:
        """The level of this number, ascending from 0."""
        kind = self.kind
        if kind.log and isinstance(kind, Integer):
            return self._whole_log(kind, index)
        if kind.cardinality is not None:
            return kind.value_at(self._rounded(index, kind.cardinality))
        if kind.log:
            value = float(f"{self._geometric(kind.low, kind.high, index):.12g}")
            return min(max(value, kind.low), kind.high)
        share = Fraction(index, self.count - 1) if self.count > 1 else Fraction(1, 2)
        low, high = Fraction(repr(kind.low)), Fraction(repr(kind.high))
        return float(low + (high - low) * share)

    def contains(self, value: Value) -> bool:
        """Whether a level has this value; looks at all of them."""
        wanted = identity(value)
        return any(identity(self.value_at(index)) == wanted for index in range(self.count))

    def _rounded(self, index: int, size: int) -> int:
        """``index`` of ``count`` levels as an index into ``size`` values, rounded half up."""
        if self.count == 1:
            return size // 2
        intervals = self.count - 1
        return (2 * index * (size - 1) + intervals) // (2 * intervals)

    def _whole_log(self, kind: Integer, index: int) -> int:
        """Rounded; near the low end, where that would make levels equal, consecutive numbers."""
        if self.count > 1 and index in {0, self.count - 1}:
            return kind.high if index else kind.low
        value = math.floor(self._geometric(kind.low, kind.high, index) + 0.5)
        # Distances grow, so where one is under 1, so are all before it, and the bound takes over.
        return max(value, kind.low + index)

    def _geometric(self, low: float, high: float, index: int) -> float:
        share = index / (self.count - 1) if self.count > 1 else 0.5
        return math.exp(math.log(low) * (1 - share) + math.log(high) * share)


def choose_levels(
    space: Searchspace, fixed: Mapping[str, Listing], num_trials: int | None
) -> dict[str, Listing]:
    """Levels for every hyperparameter, so that the grid has at least ``num_trials`` points.

    Lists, and ranges on which others depend, contribute all their values.  The other ranges start
    with 2 levels, and the one with the fewest gets one more (ties: the first declared) until there
    are enough points or no range has more values.  Without ``num_trials``: 5 levels.

    Args:
        space: The space.
        fixed: Levels that are settled already.
        num_trials: Points wanted, or None.
    """
    levels = dict(fixed)
    free: dict[str, Double | Integer] = {}
    for name, kind in space.items():
        if name not in levels:
            range_kind = _growing(kind, is_parent=name in space.dependencies.parents)
            if range_kind is None:
                levels[name] = kind
            else:
                free[name] = range_kind
                start = 2 if num_trials is not None else 5
                levels[name] = Even(range_kind, _most(range_kind, start))
    if num_trials is not None:
        _grow(space, levels, free, num_trials)
    return {name: levels[name] for name in space}


def _growing(kind: Hyperparameter, *, is_parent: bool) -> Double | Integer | None:
    if isinstance(kind, Discrete | Categorical) or is_parent or kind.cardinality == 1:
        return None
    return kind


def _most(kind: Double | Integer, wanted: int) -> int:
    return wanted if kind.cardinality is None else min(wanted, kind.cardinality)


def _grow(
    space: Searchspace,
    levels: dict[str, Listing],
    free: Mapping[str, Double | Integer],
    wanted: int,
) -> None:
    """Add levels to the free ranges until the grid has the wanted points, conditions counted."""

    def enough(name: str, count: int) -> bool:
        points = space.dependencies.count({**levels, name: Even(free[name], count)})
        return points is None or points >= wanted

    counts = {name: levels[name].cardinality or 0 for name in free}
    most = {name: _most(kind, wanted) for name, kind in free.items()}
    while (space.dependencies.count(levels) or 0) < wanted:
        growing = [name for name in free if counts[name] < most[name]]
        if not growing:
            return
        name = min(growing, key=counts.__getitem__)
        counts[name] += 1
        if len(growing) == 1:  # no turns to take any more: find its number of levels at once
            candidates = range(counts[name], most[name])
            counts[name] += bisect.bisect_left(candidates, 1, key=partial(enough, name))
        levels[name] = Even(free[name], counts[name])
