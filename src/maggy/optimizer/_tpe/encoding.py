"""Configurations as rows of numbers, and back.

A row has one column for each hyperparameter that can vary or that others depend on:

========================  ======================================================
continuous                its place ``u`` in ``[0, 1]``
numeric and countable     the centre, in ``[0, 1]``, of its value's cell
categorical               the number of the category: 0.0, 1.0, ...
inactive                  NaN
========================  ======================================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from maggy.searchspace import Categorical, Integer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from maggy.searchspace import Hyperparameter, Searchspace
    from maggy.trial import Hparams, Value

    Array: TypeAlias = NDArray[np.float64]

__all__ = ["Cells", "Encoding", "EvenCells", "LogCells"]


_NARROWEST_STEP = 1e-4


@dataclass(frozen=True, slots=True)
class EvenCells:
    """``count`` values that share ``[0, 1]`` in equal cells."""

    count: int

    def index(self, u: Array) -> Array:
        """The number of the cell that holds ``u``."""
        number: Array = np.minimum(np.floor(u * self.count), self.count - 1.0)
        return number

    def bounds(self, index: Array) -> tuple[Array, Array]:
        """The ends of the cells of these numbers."""
        return index / self.count, (index + 1.0) / self.count


@dataclass(frozen=True, slots=True)
class LogCells:
    """Whole numbers from ``low`` to ``high``; ``x`` has ``[x - 0.5, x + 0.5]`` seen in the log."""

    low: int
    high: int

    @property
    def count(self) -> int:
        """How many there are."""
        return self.high - self.low + 1

    def index(self, u: Array) -> Array:
        """The number of the cell that holds ``u``."""
        bottom, width = self._frame()
        value = np.floor(np.exp(bottom + u * width) + 0.5)
        number: Array = np.minimum(np.maximum(value - float(self.low), 0.0), self.count - 1.0)
        return number

    def bounds(self, index: Array) -> tuple[Array, Array]:
        """The ends of the cells of these numbers."""
        bottom, width = self._frame()
        value = index + float(self.low)
        lower, upper = ((np.log(value + half) - bottom) / width for half in (-0.5, 0.5))
        return lower, upper

    def _frame(self) -> tuple[float, float]:
        bottom = math.log(self.low - 0.5)
        return bottom, math.log(self.high + 0.5) - bottom


Cells: TypeAlias = EvenCells | LogCells


class Encoding:
    """The rows of one search space.

    Args:
        space: Any search space.

    Attributes:
        numeric: The columns with values in ``[0, 1]``.
        cells: Column to cells, for the numeric columns whose values can be counted.
        categories: Column to the number of categories.
        smooth: Places in ``numeric`` of what has a density: continuous values, and countable ones
            in cells so narrow that the difference cannot be seen.
        stepped: Places in ``numeric``, with their columns, of the countable rest: it has masses.
        conditional: Whether some hyperparameter can be inactive.
    """

    def __init__(self, space: Searchspace) -> None:
        self._space = space
        parents = space.dependencies.parents
        self._names = [
            name for name, kind in space.items() if kind.cardinality != 1 or name in parents
        ]
        self._kinds = [space[name] for name in self._names]
        self._places = [list(space).index(name) for name in self._names]
        self.categories = {
            column: kind.cardinality
            for column, kind in enumerate(self._kinds)
            if isinstance(kind, Categorical)
        }
        self.numeric = np.array(
            [column for column in range(len(self)) if column not in self.categories], dtype=int
        )
        self.cells = {
            int(column): _cells(self._kinds[column])
            for column in self.numeric
            if self._kinds[column].cardinality is not None
        }
        wide = {column for column, cells in self.cells.items() if _widest(cells) > _NARROWEST_STEP}
        places = [(place, int(column)) for place, column in enumerate(self.numeric)]
        self.stepped = [entry for entry in places if entry[1] in wide]
        self.smooth = np.array(
            [place for place, column in places if column not in wide], dtype=int
        )
        self._conditions = self._find_conditions()
        self.conditional = bool(self._conditions)

    def __len__(self) -> int:
        return len(self._names)

    def row(self, hparams: Hparams) -> Array:
        """The row of a configuration, shape ``(d,)``."""
        return np.array(
            [self._number(column, hparams) for column in range(len(self))], dtype=float
        )

    def hparams(self, row: Array) -> dict[str, Value]:
        """The configuration of a row."""
        point = [0.5] * len(self._space)
        for column, (place, value) in enumerate(zip(self._places, row.tolist(), strict=True)):
            if math.isnan(value):
                continue
            if column in self.categories:
                point[place] = (value + 0.5) / self.categories[column]
            else:
                point[place] = value
        return self._space.decode(point)

    def snapped(self, rows: Array) -> Array:
        """Rows with numeric values moved to the centres of their cells, inactive ones NaN."""
        rows = rows.copy()
        for column, cells in self.cells.items():
            lower, upper = cells.bounds(cells.index(rows[:, column]))
            rows[:, column] = (lower + upper) / 2
        for column, condition in self._conditions:
            active = np.ones(len(rows), dtype=bool)
            for parent, accepted in condition:
                active &= np.isin(self._index(parent, rows[:, parent]), accepted)
            rows[~active, column] = np.nan
        return rows

    def _number(self, column: int, hparams: Hparams) -> float:
        name, kind = self._names[column], self._kinds[column]
        if name not in hparams:
            return math.nan
        u = kind.to_unit(hparams[name])  # type: ignore[arg-type]  # a value of this kind
        if column in self.categories:
            return float(math.floor(u * self.categories[column]))
        return u

    def _index(self, column: int, values: Array) -> Array:
        """Which of its values a countable column has; NaN where it is inactive."""
        return values if column in self.categories else self.cells[column].index(values)

    def _find_conditions(self) -> list[tuple[int, list[tuple[int, Array]]]]:
        """The conditional columns, each with its parents and the values that it waits for."""
        found = []
        for column, kind in enumerate(self._kinds):
            if kind.when is not None:
                parents = [
                    (self._names.index(name), self._accepted(name, values))
                    for name, values in kind.when.items()
                ]
                found.append((column, parents))
        return found

    def _accepted(self, name: str, values: Sequence[Value]) -> Array:
        column = self._names.index(name)
        numbers = [self._number(column, {name: value}) for value in values]
        return self._index(column, np.array(numbers))


def _widest(cells: Cells) -> float:
    lower, upper = cells.bounds(np.zeros(1))
    return float(upper[0] - lower[0])


def _cells(kind: Hyperparameter) -> Cells:
    if isinstance(kind, Integer) and kind.log:
        return LogCells(kind.low, kind.high)
    assert kind.cardinality is not None
    return EvenCells(kind.cardinality)
