"""Values of hyperparameters: plain Python, identity, JSON."""

from __future__ import annotations

import json
import math
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
import pytest

from maggy.errors import SearchspaceError
from maggy.searchspace.values import (
    UNSET,
    identity,
    integer,
    plain,
    real,
    value_from_json,
    value_to_json,
)

if TYPE_CHECKING:
    from maggy.trial import Value


class Colour(IntEnum):
    """A subclass of int, which is no plain value."""

    RED = 1


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (np.float64(0.5), 0.5),
        (np.int32(3), 3),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.array(2.5), 2.5),
        ((np.int64(1), ("a", None)), (1, ("a", None))),
        ((), ()),
    ],
)
def test_plain(given: object, wanted: object) -> None:
    """Numpy scalars become plain Python, also inside tuples."""
    value = plain(given)
    assert value == wanted
    assert type(value) is type(wanted)


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ([1, 2], r"Write a tuple: \(1, 2\)"),
        ({"a": 1}, "Use a string"),
        (int, "Use a string"),
        (Colour.RED, "Use a string"),
        (1 + 2j, "Use a string"),
        ((1, [2]), "Write a tuple"),
        (np.array([1, 2]), "Use a string"),
        (math.nan, "finite"),
        (-math.inf, "finite"),
    ],
)
def test_what_is_no_value(given: object, hint: str) -> None:
    """Anything else is refused and says what to write."""
    with pytest.raises(SearchspaceError, match=hint):
        plain(given)


def test_identity_is_by_type_and_value() -> None:
    """True, 1 and 1.0 are three values, also inside tuples, and None is not a missing one."""
    values: list[Value] = [True, 1, 1.0, "1", None, (1,), (True,), (), ((1,),)]
    assert len({identity(value) for value in values}) == len(values)
    assert identity((1, "a")) == identity((1, "a"))
    assert repr(UNSET) == "<unset>"


@pytest.mark.parametrize("given", ["1", None, True, math.nan, math.inf, 10**400, [1.0]])
def test_what_is_no_number(given: object) -> None:
    """A range's end is a finite number; bools and texts are none."""
    with pytest.raises(SearchspaceError, match="`low` must be a finite number"):
        real("low", given)


@pytest.mark.parametrize("given", [1.0, True, "3", 2**63, -(2**63) - 1, None])
def test_what_is_no_integer(given: object) -> None:
    """A whole number is an int of 64 bits; a whole float is not."""
    with pytest.raises(SearchspaceError, match="`high` must"):
        integer("high", given)


def test_numbers() -> None:
    """Numpy's numbers and ints are converted to the type of the range."""
    assert type(real("low", np.float32(0.5))) is float
    assert type(real("low", 3)) is float
    assert type(integer("low", np.int8(3))) is int


@pytest.mark.parametrize("value", [None, True, 1, 1.0, "a", (), (1, (1.0, True), None)])
def test_json(value: object) -> None:
    """A value comes back from JSON text with its types."""
    plain_value = plain(value)
    text = json.dumps(value_to_json(plain_value))
    assert identity(value_from_json(json.loads(text))) == identity(plain_value)


def test_json_that_is_no_value() -> None:
    """An object is no value."""
    with pytest.raises(SearchspaceError, match="a choice must be"):
        value_from_json([{"a": 1}])
