"""Conditions and what follows from them."""

from __future__ import annotations

import itertools
import pickle

import pytest

from maggy.errors import SearchspaceError
from maggy.searchspace import Categorical, Double, Integer, Searchspace
from maggy.searchspace.conditions import Condition, as_condition


def chain() -> Searchspace:
    """A space with a chain, an and, an or, and two groups that share nothing."""
    return Searchspace(
        opt=Categorical(["adam", "sgd", "none"]),
        nesterov=Categorical([True, False], when={"opt": ["sgd", "adam"]}),
        lag=Integer(1, 5, when={"nesterov": True, "opt": "sgd"}),
        layers=Integer(1, 3),
        width2=Integer(1, 4, when={"layers": [2, 3]}),
        width3=Integer(1, 4, when={"layers": 3}),
    )


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ({}, "must be a dict"),
        ("sgd", "must be a dict"),
        (("opt", "sgd"), "must be a dict"),
        ({"opt": []}, "accepts no value"),
        ({3: "a"}, "must name a hyperparameter"),
        ({"opt": {"a"}}, "a choice must be"),
    ],
)
def test_wrong_conditions(when: object, message: str) -> None:
    """What is no condition is refused with a reason."""
    with pytest.raises(SearchspaceError, match=message):
        Condition(when)


def test_condition() -> None:
    """All parents must be there with an accepted value, by type; a tuple is one value."""
    condition = Condition({"a": [1, 2, 1], "b": (3, 4)})
    assert dict(condition) == {"a": (1, 2), "b": ((3, 4),)}
    assert len(condition) == 2
    assert condition.holds({"a": 2, "b": (3, 4)})
    assert not condition.holds({"a": True, "b": (3, 4)})
    assert not condition.holds({"a": 1})
    assert not condition.holds({"a": 1, "b": 3})


def test_condition_record() -> None:
    """Conditions compare by type and value whatever the order, print as written, pickle."""
    condition = Condition({"a": [1, 2], "b": "x"})
    assert condition == Condition({"b": ["x"], "a": [2, 1]})
    assert hash(condition) == hash(Condition({"b": ["x"], "a": [2, 1]}))
    assert condition != Condition({"a": [True, 2], "b": "x"})
    assert condition != {"a": [1, 2], "b": "x"}
    assert repr(condition) == "{'a': [1, 2], 'b': 'x'}"
    assert pickle.loads(pickle.dumps(condition)) == condition
    assert pickle.loads(pickle.dumps(Condition({"a": (1, 2)}))).holds({"a": (1, 2)})
    assert as_condition(condition) is condition


def test_configurations_and_count() -> None:
    """Every configuration comes once, and counting needs no list."""
    space = chain()
    found = list(space.configurations())
    # sgd: True with 5 lags, or False; adam: 2; none: 1.  layers 1: 1, 2: 4, 3: 16.
    assert len(found) == space.cardinality == (5 + 1 + 2 + 1) * (1 + 4 + 16)
    assert len({space.key(hparams) for hparams in found}) == len(found)
    assert all(space.allows(hparams) for hparams in found)
    assert {"opt": "none", "layers": 1} in found


def test_branches() -> None:
    """A branch settles the active parents; without conditions there is one, empty."""
    space = chain()
    branches = list(space.dependencies.branches(space))
    assert len(branches) == (2 + 2 + 1) * 3
    assert {"opt": "sgd", "nesterov": True, "layers": 2} in branches
    assert {"opt": "none", "layers": 1} in branches
    flat = Searchspace(x=Double(0, 1))
    assert list(flat.dependencies.branches(flat)) == [{}]


def test_large_parents_are_counted_at_once() -> None:
    """Values that no condition mentions are counted together, so large ranges cost nothing."""
    space = Searchspace(
        n=Integer(1, 10**12),
        x=Integer(1, 7, when={"n": [1, 10**12]}),
    )
    assert space.cardinality == 10**12 - 2 + 2 * 7


def test_continuous_children() -> None:
    """A space is infinite only if a continuous hyperparameter can be active."""
    space = Searchspace(
        a=Categorical([1, 2]),
        b=Categorical([1, 2], when={"a": 1}),
        never=Double(0, 1, when={"a": 2, "b": 1}),
    )
    sizes = [space.cardinality]
    space.add("some", Double(0, 1, when={"b": 2}))
    sizes.append(space.cardinality)
    both = Searchspace(a=Categorical([1, 2]), x=Double(0, 1, when={"a": [1, 2]}))
    assert [*sizes, both.cardinality] == [3, None, None]


def test_branches_are_lazy() -> None:
    """The first branches of an enormous space come at once."""
    space = Searchspace(
        n=Integer(1, 10**12), m=Integer(1, 10**12), x=Integer(1, 2, when={"n": 1, "m": 1})
    )
    first = list(itertools.islice(space.dependencies.branches(space), 2))
    assert first == [{"n": 1, "m": 1}, {"n": 1, "m": 2}]


def test_many_hyperparameters() -> None:
    """A thousand hyperparameters below one parent are no trouble."""
    space = Searchspace(top=Categorical([0, 1]))
    for number in range(1000):
        space.add(f"x{number}", Integer(0, 1, when={"top": 1}))
    assert space.cardinality == 1 + 2**1000
