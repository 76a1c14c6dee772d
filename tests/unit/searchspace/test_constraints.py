"""Constraints of both sorts."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from maggy.errors import SearchspaceError
from maggy.searchspace import Constraint


def small(hparams: dict[str, Any]) -> bool:
    """A rule with a name."""
    return bool(hparams["a"] < 2)


class Rule:
    """A rule that is an object."""

    def __call__(self, hparams: dict[str, Any]) -> object:
        """Numpy's truth is truth."""
        return np.bool_(hparams["a"] < 2)


@pytest.mark.parametrize("rule", ["a < 2", small, Rule()])
def test_holds(rule: Any) -> None:
    """Text, function and object decide alike."""
    assert Constraint(rule).holds({"a": 1})
    assert not Constraint(rule).holds({"a": 2})


def test_inactive_names() -> None:
    """An expression over an inactive name holds."""
    constraint = Constraint("a < b")
    assert constraint.names == {"a", "b"}
    assert constraint.holds({"a": 1})
    assert not constraint.holds({"a": 1, "b": 0})


@pytest.mark.parametrize("rule", [3, None, ["a < b"]])
def test_what_is_no_rule(rule: Any) -> None:
    """Anything else is refused."""
    with pytest.raises(SearchspaceError, match="must be an expression such as"):
        Constraint(rule)


def test_rules_that_raise() -> None:
    """A rule that raises is an error that names the rule, the exception and the configuration."""
    with pytest.raises(SearchspaceError, match=r"'a / b < 1' raised ZeroDivisionError.*'b': 0"):
        Constraint("a / b < 1").holds({"a": 1, "b": 0})
    with pytest.raises(SearchspaceError, match=r"small raised KeyError.*hparams.get"):
        Constraint(small).holds({"b": 1})
    with pytest.raises(SearchspaceError, match="raised TypeError"):
        Constraint("a < 'x'").holds({"a": 1})
    with pytest.raises(SearchspaceError, match="returned None"):
        Constraint(lambda hparams: None).holds({"a": 1})
    with pytest.raises(SearchspaceError, match="raised ValueError"):
        Constraint(lambda hparams: np.array([1, 2])).holds({"a": 1})


def test_rules_get_a_copy() -> None:
    """A function cannot change what is proposed."""
    hparams = {"a": 1}
    assert Constraint(lambda given: given.pop("a")).holds(hparams)
    assert hparams == {"a": 1}


def test_constraint_json() -> None:
    """Text comes back; a function leaves its name, and its stand-in raises with it."""
    text = Constraint("a < 2")
    assert Constraint.from_json(text.to_json()) == text
    described = Constraint(small).to_json()
    assert isinstance(described, dict)
    assert described["callable"].endswith("test_constraints.small")
    stand_in = Constraint.from_json(described)
    assert stand_in.to_json() == described
    with pytest.raises(SearchspaceError, match=r"small is a function.*Give it again"):
        stand_in.holds({"a": 1})
    for wrong in (3, {}, {"callable": 3}, None):
        with pytest.raises(SearchspaceError, match="must be a text"):
            Constraint.from_json(wrong)


def test_constraint_records() -> None:
    """Constraints print as their rule and survive pickling."""
    assert str(Constraint("a < 2")) == "'a < 2'"
    assert str(Constraint(Rule())).endswith("Rule")
    copy = pickle.loads(pickle.dumps(Constraint("a < 2")))
    assert copy == Constraint("a < 2")
    assert not copy.holds({"a": 3})
