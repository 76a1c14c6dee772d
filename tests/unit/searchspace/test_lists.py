"""Lists of choices."""

from __future__ import annotations

import math
import pickle
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from maggy.errors import SearchspaceError
from maggy.searchspace import Categorical, Discrete


@pytest.mark.parametrize("kind", [Discrete, Categorical])
@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ([], "at least one choice"),
        ("abc", "must be a list"),
        ({"a", "b"}, "Sort it into a list"),
        (3, "must be a list"),
        ([1, 2, 1], "1 is given twice"),
        ([("a", 1), ("a", 1)], "given twice"),
        ([1.0, math.nan], "finite"),
        ([[1, 2]], "Write a tuple"),
    ],
)
def test_wrong_choices(
    kind: type[Discrete | Categorical], choices: list[object], message: str
) -> None:
    """Each list that is wrong is refused with a reason."""
    with pytest.raises(SearchspaceError, match=message):
        kind(choices)


def test_choices_are_distinct_by_type() -> None:
    """True, 1 and 1.0 may stand side by side, and stay what they are."""
    kind = Categorical([True, 1, 1.0, None, "1", (1,), (True,)])
    assert kind.cardinality == 7
    for index, choice in enumerate(kind.choices):
        value = kind.from_unit((index + 0.5) / 7)
        assert value == choice
        assert type(value) is type(choice)
        assert kind.to_unit(value) == (index + 0.5) / 7
    assert not Categorical([1]).contains(True)
    assert not Categorical([(1,)]).contains((1.0,))


def test_sources_of_choices() -> None:
    """Tuples, ranges and numpy arrays are lists too; their items become plain Python."""
    assert Discrete(range(1, 4)).choices == (1, 2, 3)
    assert Discrete(np.linspace(0, 1, 3)).choices == (0.0, 0.5, 1.0)  # type: ignore[arg-type]
    assert type(Categorical((np.int64(1), "a")).choices[0]) is int


def test_numbers_are_ordered() -> None:
    """Numbers of a discrete list are coded ascending; anything else, as given."""
    kind = Discrete([10, 0.5, 2])
    assert kind.choices == (10, 0.5, 2)
    assert [kind.value_at(index) for index in range(3)] == [0.5, 2, 10]
    assert kind.to_unit(0.5) < kind.to_unit(2) < kind.to_unit(10)
    assert [Discrete(["b", 2, "a"]).value_at(index) for index in range(3)] == ["b", 2, "a"]
    assert Categorical([10, 0.5]).value_at(0) == 10


def test_cells_are_equal() -> None:
    """A uniform u gives every choice the same share; 1.0 belongs to the last."""
    kind = Categorical(["a", "b", "c", "d"])
    drawn = Counter(kind.from_unit(index / 1000) for index in range(1000))
    assert drawn == dict.fromkeys("abcd", 250)
    assert kind.from_unit(1.0) == "d"


def test_defaults() -> None:
    """A default is a choice by type and value; None can be one."""
    assert Categorical([None, "a"], default=None).default is None
    assert Discrete([1, 2], default=2).default == 2
    with pytest.raises(SearchspaceError, match="True of type bool is no choice"):
        Discrete([1, 2], default=True)


def test_value_that_is_not_there() -> None:
    """A number without a value is an IndexError, an unknown choice a KeyError."""
    with pytest.raises(IndexError, match="there are 2"):
        Discrete([1, 2]).value_at(2)
    with pytest.raises(KeyError):
        Discrete([1, 2]).to_unit(3)


def test_list_records() -> None:
    """Lists compare by type and value, print as written, and survive replace and pickle."""
    assert Categorical([1, 2]) != Categorical([True, 2])
    assert Categorical([1, 2]) != Categorical([2, 1])
    kinds: list[object] = [Categorical([1, 2]), Discrete([1, 2])]
    assert kinds[0] != kinds[1]
    assert Categorical([1, True], default=1) != Categorical([1, True], default=True)
    kind = Discrete([1, 2], default=2, when={"opt": ["a", "b"]})
    assert repr(kind) == "Discrete([1, 2], default=2, when={'opt': ['a', 'b']})"
    assert pickle.loads(pickle.dumps(kind)) == kind
    assert hash(kind) == hash(replace(kind))
    assert replace(kind, choices=[2, 3]).value_at(1) == 3
