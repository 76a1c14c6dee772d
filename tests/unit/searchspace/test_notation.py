"""Hyperparameters as pairs and as JSON."""

from __future__ import annotations

import json

import pytest

from maggy.errors import SearchspaceError
from maggy.searchspace import Categorical, Discrete, Double, Hyperparameter, Integer
from maggy.searchspace.notation import from_json, parse, to_json


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        (("DOUBLE", [0.01, 0.99]), Double(0.01, 0.99)),
        (("integer", (2, 8)), Integer(2, 8)),
        (["Discrete", [4, 8]], Discrete([4, 8])),
        (("CATEGORICAL", ["a", None]), Categorical(["a", None])),
        (Integer(1, 2), Integer(1, 2)),
    ],
)
def test_parse(spec: object, wanted: Hyperparameter) -> None:
    """The documented pairs, in any case of letters, and objects."""
    assert parse(spec) == wanted


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (("DUBBLE", [0, 1]), "Did you mean 'DOUBLE'"),
        (("float", [0, 1]), "Did you mean 'DOUBLE'"),
        (("INT", [0, 1]), "Did you mean 'INTEGER'"),
        ((None, [0, 1]), "no kind of hyperparameter"),
        (("DOUBLE", [0]), "two ends"),
        (("DOUBLE", 3), "two ends"),
        (("INTEGER", [1, 2, 3]), r"such as \('INTEGER', \[1, 10\]\)"),
        ([0, 1, 2], r"is written Double.* but got \[0, 1, 2\]\. Name the kind"),
        (0.1, "is written Double"),
        (Double, "That is a class"),
        (("CATEGORICAL", "ab"), "must be a list"),
    ],
)
def test_parse_errors(spec: object, message: str) -> None:
    """What is no hyperparameter says how one is written."""
    with pytest.raises(SearchspaceError, match=message):
        parse(spec)


@pytest.mark.parametrize(
    "kind",
    [
        Double(0, 1),
        Double(1e-5, 1, log=True, default=0.1),
        Double(0.1, 1, step=0.1, when={"a": [True, 1, (1, 2)]}),
        Integer(1, 8, log=True),
        Integer(0, 8, step=2, default=4),
        Discrete([1, 1.0, 2], default=1.0),
        Categorical([None, True, 1, (1, (2.0,))], default=None, when={"b": (1, 2)}),
    ],
)
def test_kind_round_trip(kind: Hyperparameter) -> None:
    """Everything comes back from JSON text, types included."""
    assert from_json(json.loads(json.dumps(to_json(kind), allow_nan=False))) == kind


@pytest.mark.parametrize(
    ("described", "message"),
    [
        (3, "must be a JSON object"),
        ({}, "no kind"),
        ({"kind": "DOUBLE", "low": 1}, "needs"),
        ({"kind": "DOUBLE", "low": 0, "high": 1, "choices": []}, "needs"),
        ({"kind": "CATEGORICAL", "choices": {}}, "must be a list"),
        ({"kind": "CATEGORICAL", "choices": [1], "when": 3}, "must be a dict"),
        ({"kind": "INTEGER", "low": 0, "high": 1.5}, "must be an int"),
    ],
)
def test_kind_from_wrong_json(described: object, message: str) -> None:
    """JSON of the wrong shape is refused, never a KeyError."""
    with pytest.raises(SearchspaceError, match=message):
        from_json(described)
