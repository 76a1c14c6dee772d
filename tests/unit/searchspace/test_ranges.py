"""Ranges of real and whole numbers."""

from __future__ import annotations

import dataclasses
import math
import pickle
from collections import Counter
from typing import Any

import numpy as np
import pytest

from maggy.errors import SearchspaceError
from maggy.searchspace import Double, Integer

UNITS = [0.0, 1e-300, 0.1, 0.25, 0.5, 0.75, 0.999999, math.nextafter(1, 0), 1.0]


WRONG: list[tuple[type[Any], object, object, dict[str, object], str]] = [
    (Double, 1, 0, {}, "low <= high"),
    (Double, "a", 1, {}, "finite number"),
    (Double, 0, math.inf, {}, "finite number"),
    (Double, 0, 1, {"log": True}, "low > 0"),
    (Double, -1, 1, {"log": True}, "low > 0"),
    (Double, 0, 1, {"log": 1}, "True or False"),
    (Double, 0.1, 1, {"log": True, "step": 0.1}, "exclude each other"),
    (Double, 0, 1, {"step": 0}, "0 < step"),
    (Double, 0, 1, {"step": -0.1}, "0 < step"),
    (Double, 0, 1, {"step": 1.5}, "step <= high - low"),
    (Double, 0, 1, {"default": 2}, "no value of"),
    (Double, 0, 1, {"step": 0.25, "default": 0.3}, "no value of"),
    (Double, 0, 1, {"default": None}, "finite number"),
    (Double, 0, 1, {"when": {}}, "must be a dict"),
    (Integer, 8, 2, {}, "Swap"),
    (Integer, 1.0, 2, {}, "Use Double"),
    (Integer, True, 2, {}, "must be an int"),
    (Integer, 0, 2**63, {}, "64 bits"),
    (Integer, 0, 10, {"log": True}, "low >= 1"),
    (Integer, 1, 10, {"log": True, "step": 2}, "Discrete"),
    (Integer, 1, 10, {"step": 10}, "step <= high - low"),
    (Integer, 1, 10, {"step": 0.5}, "must be an int"),
    (Integer, 1, 10, {"default": 11}, "no value of"),
    (Integer, 1, 10, {"default": 2.0}, "must be an int"),
]


@pytest.mark.parametrize(
    ("kind", "low", "high", "options", "message"),
    WRONG,
    ids=[f"case{number}" for number in range(len(WRONG))],
)
def test_wrong_options(
    kind: type[Any], low: object, high: object, options: dict[str, object], message: str
) -> None:
    """Each option that is wrong is named in the error."""
    with pytest.raises(SearchspaceError, match=message):
        kind(low, high, **options)


def test_numpy_ends() -> None:
    """Numpy scalars become plain Python."""
    one: Any = np.int64(1)
    double, whole = Double(np.float64(0), one), Integer(one, one)
    assert type(double.low) is type(double.high) is float
    assert type(whole.low) is type(whole.high) is int


@pytest.mark.parametrize("low", [-1e308, 0.1, 5e-324, 1e-5])
@pytest.mark.parametrize("high", [1e308, 0.1, 0.3])
@pytest.mark.parametrize("log", [False, True])
def test_double_stays_inside(low: float, high: float, log: bool) -> None:
    """Every draw is a float within the ends, and both ends are reached, at any size."""
    if log and low <= 0:
        low = 1e-308
    kind = Double(low, high, log=log)
    values = [kind.from_unit(u) for u in UNITS]
    assert all(kind.contains(value) for value in values)
    assert values == sorted(values)
    assert (values[0], values[-1]) == (low, high)
    assert all(0 <= kind.to_unit(value) <= 1 for value in values)


def test_double_is_uniform() -> None:
    """A uniform u gives a uniform value, with log a log-uniform one."""
    assert Double(-2, 6).from_unit(0.25) == 0.0
    assert Double(1e-4, 1.0, log=True).from_unit(0.5) == pytest.approx(1e-2)
    assert Double(1e-4, 1.0, log=True).to_unit(1e-3) == pytest.approx(0.25)
    assert Double(-1e308, 1e308).to_unit(0.0) == 0.5
    assert Double(3, 3).to_unit(3.0) == 0.5


def test_double_with_step_is_exact() -> None:
    """Steps are exact decimals; the top end is the last one that fits."""
    kind = Double(0.1, 0.95, step=0.1)
    assert kind.cardinality == 9
    values = [kind.value_at(index) for index in range(9)]
    assert values == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert [kind.from_unit(kind.to_unit(value)) for value in values] == values
    assert kind.contains(0.3)
    assert not kind.contains(0.1 + 0.2)
    assert Double(0.1, 0.3, step=0.2).cardinality == 2
    assert Double(0, 1e9, step=1e-9).value_at(10**18) == 1e9
    assert Double(-1e-300, 1e300, step=1e299).from_unit(1.0) <= 1e300


@pytest.mark.parametrize("kind", [Double(0, 1, step=0.25), Integer(2, 6), Integer(0, 40, step=10)])
def test_cells_are_equally_probable(kind: Double | Integer) -> None:
    """Every value of a finite range has the same share of u, the ends included."""
    count = kind.cardinality
    assert count == 5
    drawn = Counter(kind.from_unit((index + 0.5) / 1000) for index in range(1000))
    assert drawn == {kind.value_at(index): 200 for index in range(5)}


def test_log_integers() -> None:
    """The share of a whole number is its cell's width in the logarithm; both ends are drawn."""
    kind = Integer(1, 1000, log=True)
    drawn = Counter(kind.from_unit((index + 0.5) / 100_000) for index in range(100_000))
    assert {1, 2, 1000} <= drawn.keys()
    width = math.log(1000.5) - math.log(0.5)
    assert drawn[1] / 100_000 == pytest.approx(math.log(3) / width, abs=1e-4)
    assert all(kind.from_unit(kind.to_unit(value)) == value for value in range(1, 1001))


def test_large_integers() -> None:
    """The full range of 64 bits works, with values inside."""
    kind = Integer(-(2**63), 2**63 - 1)
    assert kind.cardinality == 2**64
    assert all(kind.contains(kind.from_unit(u)) for u in UNITS)
    assert kind.from_unit(1.0) == 2**63 - 1


@pytest.mark.parametrize(
    ("value", "inside"),
    [(2, True), (3, False), (8, True), (9, False), (True, False), (2.0, False), ("2", False)],
)
def test_integer_membership(value: object, inside: bool) -> None:
    """Only ints on the grid are members; a bool or float is none."""
    assert Integer(2, 9, step=2).contains(value) is inside  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [1, True, 1.5, math.nan, "0.5", None])
def test_double_membership(value: object) -> None:
    """An int, a NaN or an outsider is no member of a real range."""
    assert not Double(0, 1).contains(value)  # type: ignore[arg-type]


def test_coercion() -> None:
    """Users may write an int for a real number; outsiders are refused with the range."""
    assert Double(0, 1).coerce(1) == 1.0
    assert Integer(0, 5).coerce(np.int64(3)) == 3
    with pytest.raises(SearchspaceError, match=r"7 is no value of Double\(0.0, 1.0\)"):
        Double(0, 1).coerce(7)
    with pytest.raises(SearchspaceError, match=r"7 is no value of Integer\(0, 5\)"):
        Integer(0, 5).coerce(7)


@pytest.mark.parametrize("kind", [Double(0, 1), Double(0, 1, step=0.5), Integer(1, 3)])
def test_numbers_without_value(kind: Double | Integer) -> None:
    """Asking for a value that is not there is an IndexError."""
    for index in (-1, 3):
        with pytest.raises(IndexError, match="no value of number"):
            kind.value_at(index)


def test_constants() -> None:
    """Equal ends are a constant: one value."""
    assert Double(2, 2).cardinality == Integer(3, 3).cardinality == 1
    assert Double(2, 2).value_at(0) == Double(2, 2).from_unit(0.7) == 2.0
    assert Double(0.1, 0.1, log=True).from_unit(0.3) == 0.1


def test_records() -> None:
    """Ranges print as they are written, compare by value, and survive replace and pickle."""
    kind = Double(1e-5, 0.1, log=True, default=0.001, when={"opt": "sgd"})
    assert repr(kind) == "Double(1e-05, 0.1, log=True, default=0.001, when={'opt': 'sgd'})"
    assert repr(Integer(1, 9, step=2)) == "Integer(1, 9, step=2)"
    assert kind == Double(1e-5, 0.1, log=True, default=0.001, when={"opt": ["sgd"]})
    assert kind != dataclasses.replace(kind, default=0.002)
    assert hash(kind) == hash(pickle.loads(pickle.dumps(kind)))
    assert pickle.loads(pickle.dumps(kind)) == kind
    assert dataclasses.replace(Double(0, 1, step=0.1), high=2.0).cardinality == 21
