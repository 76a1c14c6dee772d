"""Levels of a grid."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from maggy.optimizer.levels import Even, Given, choose_levels
from maggy.searchspace import Categorical, Discrete, Double, Integer, Searchspace

if TYPE_CHECKING:
    from maggy.trial import Value


def values(levels: Even) -> list[Value]:
    """All levels."""
    return [levels.value_at(index) for index in range(levels.cardinality)]


@pytest.mark.parametrize(
    ("kind", "count", "wanted"),
    [
        (Double(0.01, 0.99), 2, [0.01, 0.99]),
        (Double(0, 1), 11, [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]),
        (Double(0, 1), 1, [0.5]),
        (Double(1e-5, 1e-1, log=True), 5, [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]),
        (Double(1e-4, 1.0, log=True), 1, [0.01]),
        (Double(0, 1, step=0.1), 3, [0.0, 0.5, 1.0]),
        (Double(0, 1, step=0.4), 1, [0.4]),
        (Double(-1e308, 1e308), 3, [-1e308, 0.0, 1e308]),
        (Integer(2, 8), 2, [2, 8]),
        (Integer(2, 8), 3, [2, 5, 8]),
        (Integer(2, 8), 1, [5]),
        (Integer(2, 3), 2, [2, 3]),
        (Integer(0, 100, step=10), 3, [0, 50, 100]),
        (Integer(1, 1000, log=True), 4, [1, 10, 100, 1000]),
        (Integer(1, 8, log=True), 8, [1, 2, 3, 4, 5, 6, 7, 8]),
        (Integer(1, 100, log=True), 1, [10]),
    ],
)
def test_levels(kind: Double | Integer, count: int, wanted: list[Value]) -> None:
    """Equal distances, both ends, one level in the middle, exact decimals."""
    found = values(Even(kind, count))
    assert found == wanted
    assert [type(value) for value in found] == [type(value) for value in wanted]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20, 99, 100])
@pytest.mark.parametrize("kind", [Integer(1, 100, log=True), Integer(-3, 96), Integer(5, 500)])
def test_whole_levels_are_distinct(kind: Integer, count: int) -> None:
    """Rounding never makes two levels equal, nor leaves the range."""
    found = values(Even(kind, count))
    assert len(set(found)) == count
    assert found == sorted(found, key=lambda value: int(str(value)))
    assert all(kind.contains(value) for value in found)


def test_many_levels_cost_nothing() -> None:
    """A level is computed when it is looked at."""
    levels = Even(Double(0, 1), 10**12 + 1)
    assert levels.value_at(10**11) == 0.1
    assert Even(Integer(1, 2**62, log=True), 10**15).value_at(10**15 - 1) == 2**62


def test_membership_of_levels() -> None:
    """A level is found by type and value."""
    assert Even(Integer(2, 8), 3).contains(5)
    assert not Even(Integer(2, 8), 3).contains(4)
    assert not Even(Integer(2, 8), 3).contains(5.0)
    assert Given((1, "a")).contains("a")
    assert not Given((1, "a")).contains(True)
    assert Given((1, "a")).value_at(1) == "a"


def sizes(space: Searchspace, num_trials: int | None) -> list[int | None]:
    """How many levels each hyperparameter gets."""
    return [level.cardinality for level in choose_levels(space, {}, num_trials).values()]


@pytest.mark.parametrize(
    ("num_trials", "wanted"),
    [
        (1, [2, 2, 2]),
        (4, [2, 2, 2]),
        (8, [2, 2, 2]),
        (9, [3, 2, 2]),
        (12, [3, 2, 2]),
        (13, [3, 3, 2]),
        (27, [3, 3, 3]),
        (28, [4, 3, 3]),
        (7 * 7 * 100, [7, 7, 100]),
        (10**9, [7, 7, math.ceil(10**9 / 49)]),
        (None, [5, 5, 5]),
    ],
)
def test_levels_grow_with_the_trials(num_trials: int | None, wanted: list[int]) -> None:
    """The range with the fewest levels gets the next one, capped, until there are enough."""
    space = Searchspace(kernel=Integer(2, 8), pool=Integer(2, 8), dropout=Double(0.01, 0.99))
    assert sizes(space, num_trials) == wanted


def test_caps() -> None:
    """A small integer range stops at its values, a constant is one level, lists are whole."""
    space = Searchspace(
        a=Integer(2, 3),
        b=Double(1, 1),
        c=Categorical(["x", "y", "z"]),
        d=Discrete([1, 2]),
        e=Double(0, 1, step=0.25),
    )
    assert sizes(space, 50) == [2, 1, 3, 2, 5]
    assert sizes(space, 10**9) == [2, 1, 3, 2, 5]
    assert sizes(space, None) == [2, 1, 3, 2, 5]


def test_conditions_are_counted() -> None:
    """Levels grow until distinct points suffice; parents have all their values."""
    space = Searchspace(
        layers=Integer(1, 3), width=Integer(1, 9, when={"layers": 3}), lr=Double(0, 1)
    )
    assert sizes(space, 8) == [3, 2, 2]  # (1 + 1 + 2) * 2
    assert sizes(space, 9) == [3, 3, 2]  # (1 + 1 + 3) * 2


def test_ranges_that_are_never_active() -> None:
    """A range that no configuration has does not keep the others from growing, nor run away."""
    space = Searchspace(
        a=Categorical([1, 2]),
        b=Categorical([1, 2], when={"a": 1}),
        never=Double(0, 1, when={"a": 2, "b": 1}),
        nor=Double(0, 1, when={"a": 2, "b": 1}),
    )
    assert sizes(space, 20)[:2] == [2, 2]
    space.add("x", Double(0, 1))
    assert sizes(space, 20)[-1] == 7
