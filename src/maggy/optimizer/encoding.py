"""A search space as arrays: coordinates to search in, and features whose distances mean something.

==============  =============================================================================
``U`` (n, d)    coordinates: one column in [0, 1] per hyperparameter, as ``Searchspace.encode``
``F`` (n, p)    features: what kernels measure distances in
``group`` (p,)  the dimension of each feature; a dimension has one length-scale
==============  =============================================================================

Numbers are one feature each: their coordinate, and for a ``Discrete`` of numbers the value itself,
or its logarithm if they are positive and span a factor of 10.  A categorical is one feature per
choice, 0 or ``sqrt(1/2)``, so that two different choices have squared distance 1.  Constants are
no dimension.

A number that can be inactive lies on an arc of one radian and radius 1, the inactive one in its
centre (after Swersky et al. 2014): active values are about as far apart as their coordinates, and
every one is at distance 1 from "inactive".  For a categorical, "inactive" is one more choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from maggy.searchspace import Categorical, Discrete, Integer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maggy.searchspace import Hyperparameter, Searchspace
    from maggy.trial import Hparams, Value

__all__ = ["Array", "Column", "Encoding", "Index", "Mask"]

Array: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]
Index: TypeAlias = npt.NDArray[np.intp]

_LOG_SPAN = 10.0
_COUNTED = 2**40
"""A range of more whole numbers is as good as continuous; decoding rounds."""

_ALL_MOVES = 16
"""A dimension with more values than this is moved along in steps of 1, 2, 4, ..."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One hyperparameter as a column of coordinates.

    Attributes:
        count: How many values; None if it is continuous.
        ordered: Whether nearby coordinates are nearby values.
        log_ends: For whole numbers in a logarithm: the logarithms of the ends of [0, 1].
        low: For whole numbers in a logarithm: the smallest.
        positions: For numbers in a list: the feature of each, in [0, 1].
        parents: Columns on which this depends, each with the accepted numbers of values.
    """

    count: int | None
    ordered: bool
    log_ends: tuple[float, float] | None = None
    low: int = 0
    positions: Array | None = None
    parents: tuple[tuple[int, Index], ...] = ()

    def index(self, u: Array) -> Index:
        """The numbers of the values at these coordinates; only for countable values."""
        assert self.count is not None
        if self.log_ends is None:
            number = u * self.count
        else:
            bottom, top = self.log_ends
            number = np.exp(bottom + u * (top - bottom)) + 0.5 - self.low
        return np.clip(np.floor(number), 0, self.count - 1).astype(np.intp)

    def centre(self, index: Index) -> Array:
        """The coordinates of the values of these numbers."""
        assert self.count is not None
        if self.log_ends is None:
            return np.asarray((index + 0.5) / self.count)
        bottom, top = self.log_ends
        value = index + float(self.low)
        middle = (np.log(value - 0.5) + np.log(value + 0.5)) / 2
        return np.asarray((middle - bottom) / (top - bottom))

    def moves(self, index: int) -> Index:
        """The numbers of the values to try instead of this one.

        All others of a short or unordered list; else 1, 2, 4, ... further on both sides, and both
        ends.
        """
        assert self.count is not None
        if not self.ordered or self.count <= _ALL_MOVES:
            return np.delete(np.arange(self.count), index)
        steps = 2 ** np.arange(int(math.log2(self.count - 1)) + 1)
        near = np.concatenate([index - steps, index + steps, [0, self.count - 1]])
        near = np.unique(near[(near >= 0) & (near < self.count)])
        return np.asarray(near[near != index])


class Encoding:
    """Turns configurations of a space into arrays and back.

    Args:
        space: The space.

    Attributes:
        columns: One per hyperparameter.
        varying: The columns with more than one value: the dimensions.
        continuous: The columns of continuous ranges.
        finite: The other varying columns.
        group: The dimension, as a position in ``varying``, of each feature.
    """

    def __init__(self, space: Searchspace) -> None:
        self.space = space
        names = {name: number for number, name in enumerate(space)}
        self.columns: list[Column] = []
        for kind in space.values():
            parents = [
                (names[parent], self._indices(names[parent], space[parent], accepted))
                for parent, accepted in (kind.when or {}).items()
            ]
            self.columns.append(_column(kind, tuple(parents)))
        counts = [column.count for column in self.columns]
        self.varying = np.array([j for j, count in enumerate(counts) if count != 1], dtype=np.intp)
        self.continuous = np.array([j for j in self.varying if counts[j] is None], dtype=np.intp)
        self.finite = np.array([j for j in self.varying if counts[j] is not None], dtype=np.intp)
        self._conditional = [j for j, column in enumerate(self.columns) if column.parents]
        self._lay_out()

    def _indices(self, number: int, kind: Hyperparameter, accepted: Sequence[Value]) -> Index:
        """The numbers of these values of the hyperparameter of this number."""
        coordinates = [kind.to_unit(value) for value in accepted]  # type: ignore[arg-type]
        return self.columns[number].index(np.array(coordinates))

    def _lay_out(self) -> None:
        """Give every dimension its features."""
        self._plain: list[tuple[int, int]] = []
        self._special: list[tuple[int, int, int]] = []
        group: list[int] = []
        for dimension, j in enumerate(self.varying):
            column = self.columns[j]
            if column.ordered and column.positions is None and not column.parents:
                self._plain.append((len(group), int(j)))
                group.append(dimension)
                continue
            width = 1 + bool(column.parents)
            if not column.ordered:
                width = (column.count or 0) + bool(column.parents)
            self._special.append((len(group), int(j), width))
            group += [dimension] * width
        self.group = np.array(group, dtype=np.intp)
        self._plain_features = np.array([feature for feature, _ in self._plain], dtype=np.intp)
        self._plain_columns = np.array([j for _, j in self._plain], dtype=np.intp)

    @property
    def dimensions(self) -> int:
        """How many hyperparameters vary."""
        return len(self.varying)

    def encode(self, configurations: Sequence[Hparams]) -> Array:
        """The coordinates of these configurations, shape (n, d)."""
        rows = [self.space.encode(hparams) for hparams in configurations]
        return np.array(rows, dtype=float).reshape(len(rows), len(self.columns))

    def decode(self, u: Array) -> dict[str, Value]:
        """The configuration at one row of coordinates."""
        return self.space.decode(u.tolist())

    def snap(self, u: Array) -> Array:
        """These coordinates with every countable one moved to the centre of its value's cell."""
        snapped = np.clip(u, 0.0, 1.0)
        for j, column in enumerate(self.columns):
            if column.count is not None:
                snapped[:, j] = column.centre(column.index(snapped[:, j]))
        return snapped

    def active(self, u: Array) -> Mask:
        """Which hyperparameters exist at these coordinates, shape (n, d)."""
        exists = np.ones(u.shape, dtype=bool)
        for j in self._conditional:
            for parent, accepted in self.columns[j].parents:
                index = self.columns[parent].index(u[:, parent])
                exists[:, j] &= exists[:, parent] & np.isin(index, accepted)
        return exists

    def feasible(self, u: Array) -> Mask:
        """Where the constraints hold, shape (n,).

        Raises:
            SearchspaceError: A constraint raised.
        """
        if not self.space.constraints:
            return np.ones(len(u), dtype=bool)
        return np.array([self.space.satisfies(self.decode(row)) for row in u], dtype=bool)

    def features(self, u: Array) -> Array:
        """The features at these coordinates, shape (n, p)."""
        features = np.empty((len(u), len(self.group)))
        features[:, self._plain_features] = u[:, self._plain_columns]
        exists = self.active(u) if self._conditional else None
        for start, j, width in self._special:
            column = self.columns[j]
            here = None if exists is None or not column.parents else exists[:, j]
            block = features[:, start : start + width]
            if column.ordered:
                _fill_number(block, column, u[:, j], here)
            else:
                _fill_choice(block, column, u[:, j], here)
        return features

    def pull_back(self, u: Array, gradient: Array) -> Array:
        """The gradient over continuous columns of what has this gradient over the features.

        Args:
            u: Coordinates, shape (n, d).
            gradient: Shape (n, p).

        Returns:
            Shape (n, d); 0 for columns that are not continuous or not active.
        """
        back = np.zeros(u.shape)
        back[:, self._plain_columns] = gradient[:, self._plain_features]
        back[:, self.finite] = 0.0
        exists = self.active(u) if self._conditional else None
        for start, j, width in self._special:
            if self.columns[j].count is None and width == 2 and exists is not None:
                along = gradient[:, start + 1] * np.cos(u[:, j])
                along -= gradient[:, start] * np.sin(u[:, j])
                back[:, j] = np.where(exists[:, j], along, 0.0)
        return back

    def neighbours(self, u: Array) -> Array:
        """The rows that differ from this one in the value of one active countable column."""
        exists = self.active(u[np.newaxis])[0]
        rows = []
        for j in self.finite:
            if not exists[j]:
                continue
            column = self.columns[j]
            values = column.centre(column.moves(int(column.index(u[j : j + 1])[0])))
            block = np.repeat(u[np.newaxis], len(values), axis=0)
            block[:, j] = values
            rows.append(block)
        return np.concatenate(rows) if rows else np.empty((0, len(u)))


def _column(kind: Hyperparameter, parents: tuple[tuple[int, Index], ...]) -> Column:
    if kind.cardinality is not None and kind.cardinality > _COUNTED:
        return Column(count=None, ordered=True, parents=parents)
    if isinstance(kind, Integer) and kind.log and kind.low < kind.high:
        ends = math.log(kind.low - 0.5), math.log(kind.high + 0.5)
        return Column(
            count=kind.cardinality, ordered=True, log_ends=ends, low=kind.low, parents=parents
        )
    return Column(
        count=kind.cardinality,
        ordered=not isinstance(kind, Categorical),
        positions=_positions(kind) if isinstance(kind, Discrete) else None,
        parents=parents,
    )


def _positions(kind: Discrete) -> Array | None:
    """Where each number of the list lies in [0, 1]; None if they are no numbers, or too wide."""
    values = [kind.value_at(index) for index in range(kind.cardinality)]
    numbers = [float(value) for value in values if type(value) is int or type(value) is float]
    if len(numbers) < max(len(values), 2):
        return None
    if numbers[0] > 0 and numbers[-1] / numbers[0] >= _LOG_SPAN:
        numbers = [math.log(number) for number in numbers]
    width = numbers[-1] - numbers[0]
    if not 0 < width < math.inf:
        return None
    margin = 1 / (2 * len(numbers))
    share = (np.array(numbers) - numbers[0]) / width
    return np.asarray(margin + share * (1 - 2 * margin))


def _fill_number(block: Array, column: Column, u: Array, active: Mask | None) -> None:
    position = u if column.positions is None else column.positions[column.index(u)]
    if active is None:
        block[:, 0] = position
    else:
        block[:, 0] = np.where(active, np.cos(position), 0.0)
        block[:, 1] = np.where(active, np.sin(position), 0.0)


def _fill_choice(block: Array, column: Column, u: Array, active: Mask | None) -> None:
    index = column.index(u)
    if active is not None:
        index = np.where(active, index, block.shape[1] - 1)
    block[:] = 0.0
    block[np.arange(len(u)), index] = math.sqrt(0.5)
