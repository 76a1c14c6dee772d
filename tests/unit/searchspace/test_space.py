"""The search space as a whole."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest

from maggy.errors import SearchspaceError
from maggy.searchspace import Categorical, Constraint, Discrete, Double, Integer, Searchspace


def documented() -> Searchspace:
    """The documentation's example."""
    return Searchspace(
        kernel=("INTEGER", [2, 8]), pool=("INTEGER", [2, 8]), dropout=("DOUBLE", [0.01, 0.99])
    )


def conditional() -> Searchspace:
    """A space with a condition."""
    return Searchspace(
        opt=Categorical(["adam", "sgd"]),
        momentum=Double(0, 0.99, when={"opt": "sgd"}),
        lr=Double(1e-5, 1e-1, log=True),
    )


def test_mapping() -> None:
    """A space is a mapping in order of declaration, also when iterated inside itself."""
    space = documented()
    assert list(space) == ["kernel", "pool", "dropout"]
    assert [(a, b) for a in space for b in space][:4] == [
        ("kernel", "kernel"),
        ("kernel", "pool"),
        ("kernel", "dropout"),
        ("pool", "kernel"),
    ]
    assert space["kernel"] == Integer(2, 8)
    assert dict(space.items())["dropout"] == Double(0.01, 0.99)
    assert len(space) == 3
    assert "pool" in space
    with pytest.raises(KeyError):
        space["nothing"]


def test_any_name() -> None:
    """Names of methods and of Python's own are no trouble."""
    kind = Double(0, 1)
    names = ["self", "names", "items", "get", "keys", "values", "add", "key", "cls", "to_json"]
    space = Searchspace(**dict.fromkeys(names, kind))
    assert list(space) == names
    assert len(space.items()) == len(names)
    assert space.sample(np.random.default_rng(0)).keys() == set(names)


def test_add() -> None:
    """Hyperparameters can be added, once each, in either form."""
    space = Searchspace()
    space.add("x", ("DOUBLE", [0, 1]))
    space.add("y", Integer(1, 2))
    assert space == Searchspace(x=Double(0, 1), y=Integer(1, 2))
    with pytest.raises(SearchspaceError, match=r"'x' is already declared as Double"):
        space.add("x", Integer(1, 2))
    with pytest.raises(SearchspaceError, match=r"hyperparameter 'z': `low <= high`"):
        space.add("z", ("DOUBLE", [1, 0]))
    with pytest.raises(SearchspaceError, match="Call it 'init_seed'"):
        space.add("seed", Integer(1, 2))
    assert list(space) == ["x", "y"]


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ({"optt": "sgd"}, "not declared before 'child'.*Did you mean 'opt'"),
        ({"child": 1}, "not declared before"),
        ({"opt": "rmsprop"}, "waits for opt='rmsprop'"),
        ({"flag": 1}, "waits for flag=1"),
        ({"lr": 0.1}, "countable"),
    ],
)
def test_wrong_parents(when: dict[str, Any], message: str) -> None:
    """A condition's parent is declared before, countable, and has the value by type."""
    with pytest.raises(SearchspaceError, match=message):
        Searchspace(
            opt=Categorical(["sgd", "adam"]),
            flag=Categorical([True, False]),
            lr=Double(0, 1),
            child=Double(0, 1, when=when),
        )


def test_equality() -> None:
    """Spaces are equal if names, order, kinds and constraints are; they cannot be hashed."""
    assert documented() == documented()
    assert Searchspace(a=Double(0, 1), b=Double(0, 1)) != Searchspace(
        b=Double(0, 1), a=Double(0, 1)
    )
    assert Searchspace(a=Categorical([1])) != Searchspace(a=Categorical([True]))
    assert documented() != documented().with_constraints(["kernel < pool"])
    assert documented() != dict(documented())
    with pytest.raises(TypeError, match="unhashable"):
        hash(documented())


def test_cardinality() -> None:
    """The number of configurations, or None if it is infinite."""
    assert documented().cardinality is None
    assert Searchspace(a=Integer(2, 8), b=Integer(2, 8), c=Double(1, 1)).cardinality == 49
    assert Searchspace().cardinality == 1
    with pytest.raises(SearchspaceError, match="only a finite space"):
        documented().configurations()


def test_coding() -> None:
    """Points of the cube are decoded with conditions; encoding gives the cells' centres."""
    space = conditional()
    assert space.decode([0.1, 0.5, 0.5]) == {"opt": "adam", "lr": pytest.approx(1e-3)}
    hparams = space.decode([0.9, 0.5, 0.5])
    assert list(hparams) == ["opt", "momentum", "lr"]
    assert space.encode(hparams) == [0.75, 0.5, pytest.approx(0.5)]
    assert space.encode({"opt": "adam", "lr": 0.1}) == [0.25, 0.5, 1.0]


def test_key() -> None:
    """Keys are equal exactly if all values are, by type, and absent is not None."""
    space = Searchspace(
        a=Categorical([True, 1, 1.0, (1,), (1.0,)]), b=Categorical([None, 2], when={"a": 1})
    )
    configurations = list(space.configurations())
    assert len({space.key(hparams) for hparams in configurations}) == 6
    assert space.key({"b": None, "a": 1}) == space.key({"a": 1, "b": None})


@pytest.mark.parametrize(
    ("hparams", "objection"),
    [
        ({"opt": "adam", "lr": 0.01}, ""),
        ({"opt": "sgd", "momentum": 0.5, "lr": 0.01}, ""),
        ({"opt": "sgd", "lr": 0.01}, "'momentum' is missing"),
        ({"opt": "adam", "momentum": 0.5, "lr": 0.01}, "exists only when {'opt': 'sgd'}"),
        ({"opt": "adam", "lr": 1}, "lr=1 is no value"),
        ({"opt": "adam", "lr": 0.01, "x": 1}, "'x' is not declared"),
        ({"opt": "sgd", "momentum": 0.95, "lr": 0.01}, "constraint 'momentum < 0.9' does not"),
    ],
)
def test_membership(hparams: dict[str, Any], objection: str) -> None:
    """Members have all active values and no other, and fulfil the constraints."""
    space = conditional().with_constraints(["momentum < 0.9"])
    assert objection in space.objection(hparams)
    assert space.allows(hparams) is (not objection)


def test_with_constraints() -> None:
    """Constraints make a new space and leave the original as it was."""
    space = documented()
    narrow = space.with_constraints(["kernel < pool"])
    both = narrow.with_constraints([lambda hparams: hparams["dropout"] < 0.5])
    assert (len(space.constraints), len(narrow.constraints), len(both.constraints)) == (0, 1, 2)
    narrow.add("extra", Integer(1, 2))
    assert "extra" not in space
    assert "with_constraints(['kernel < pool'])" in repr(narrow)
    assert space.with_constraints([Constraint("kernel < pool")]) == space.with_constraints(
        ["kernel < pool"]
    )


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        ("kernel < pool", "must be a list"),
        (3, "must be a list"),
        (["kernal < pool"], "Did you mean 'kernel'"),
        ([3], "must be an expression"),
    ],
)
def test_wrong_constraints(constraints: Any, message: str) -> None:
    """A constraint in the wrong form or over an unknown name is refused."""
    with pytest.raises(SearchspaceError, match=message):
        documented().with_constraints(constraints)


def test_sampling() -> None:
    """Draws fulfil conditions and constraints, are plain Python, and repeat with the generator."""
    space = conditional().with_constraints(["momentum < 0.5", "lr < 0.01"])
    draws = [space.sample(np.random.default_rng([1, number])) for number in range(200)]
    assert all(space.allows(hparams) for hparams in draws)
    assert draws[17] == space.sample(np.random.default_rng([1, 17]))
    assert {hparams["opt"] for hparams in draws} == {"adam", "sgd"}


def test_infeasible_spaces() -> None:
    """Too few feasible configurations are an error with the numbers of each constraint."""
    rng = np.random.default_rng(0)
    space = documented().with_constraints(["kernel < pool", "kernel > pool"])
    with pytest.raises(SearchspaceError, match=r"none of 10,000 random configurations satisfy"):
        space.sample(rng)
    with pytest.raises(SearchspaceError, match=r"only 0 of 500 .*'kernel < pool' holds for 4\d"):
        space.feasible_fraction(rng, 500)
    assert documented().feasible_fraction(rng) == 1.0
    half = documented().with_constraints(["dropout < 0.5"])
    assert half.feasible_fraction(rng) == pytest.approx(0.5, abs=0.05)


def test_space_json() -> None:
    """Everything comes back from JSON text; keys may have been sorted on the way."""
    space = Searchspace(
        z=Categorical([True, 1, 1.0, None, (1, "a")], default=1.0),
        a=Discrete([4, 8], default=8),
        m=Double(0, 1, step=0.1, when={"z": [True, (1, "a")], "a": 4}),
        b=Integer(1, 100, log=True),
    ).with_constraints(["a < b or m > 0.5"])
    text = json.dumps(space.to_json(), sort_keys=True, allow_nan=False)
    assert Searchspace.from_json(json.loads(text)) == space


def test_json_of_functions() -> None:
    """A space whose constraint was a function can be read, and refuses to be searched."""
    space = documented().with_constraints([lambda hparams: hparams["kernel"] > 2])
    restored = Searchspace.from_json(json.loads(json.dumps(space.to_json())))
    assert dict(restored) == dict(space)
    with pytest.raises(SearchspaceError, match="is a function"):
        restored.sample(np.random.default_rng(0))


@pytest.mark.parametrize(
    "described",
    [
        None,
        [],
        {},
        {"hyperparameters": {}},
        {"hyperparameters": [3]},
        {"hyperparameters": [{"kind": "DOUBLE", "low": 0, "high": 1}]},
        {"hyperparameters": [], "constraints": "a"},
        {"hyperparameters": [], "constraints": [None]},
    ],
)
def test_wrong_json(described: object) -> None:
    """JSON of the wrong shape is refused, never a KeyError or TypeError."""
    with pytest.raises(SearchspaceError):
        Searchspace.from_json(described)


def test_copies() -> None:
    """Spaces survive pickling and copying, and print as they are written."""
    space = conditional().with_constraints(["momentum < 0.5"])
    assert pickle.loads(pickle.dumps(space)) == space
    assert copy.deepcopy(space) == space
    assert repr(Searchspace(x=Integer(1, 2))) == "Searchspace(x=Integer(1, 2))"
