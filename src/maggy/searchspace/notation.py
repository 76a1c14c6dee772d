"""Hyperparameters as users and JSON write them: ``('DOUBLE', [0, 1])``, ``{"kind": "DOUBLE"}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, assert_never

from maggy.errors import SearchspaceError
from maggy.searchspace.lists import Categorical, Discrete
from maggy.searchspace.naming import did_you_mean
from maggy.searchspace.ranges import Double, Integer
from maggy.searchspace.values import Unset, value_from_json, value_to_json

if TYPE_CHECKING:
    from maggy.trial import Json

__all__ = ["Hyperparameter", "Spec", "from_json", "parse", "to_json"]

Hyperparameter: TypeAlias = Double | Integer | Discrete | Categorical
Spec: TypeAlias = "Hyperparameter | tuple[str, Any] | list[Any]"
"""What a user may write for a hyperparameter."""

_RANGES: dict[str, type[Double | Integer]] = {"DOUBLE": Double, "INTEGER": Integer}
_LISTS: dict[str, type[Discrete | Categorical]] = {
    "DISCRETE": Discrete,
    "CATEGORICAL": Categorical,
}
_OTHER_NAMES = {
    "FLOAT": "DOUBLE",
    "REAL": "DOUBLE",
    "UNIFORM": "DOUBLE",
    "INT": "INTEGER",
    "CHOICE": "CATEGORICAL",
}
"""What other tools call the kinds."""

_FIELDS = {
    **dict.fromkeys(_RANGES, frozenset({"low", "high", "log", "step", "default", "when"})),
    **dict.fromkeys(_LISTS, frozenset({"choices", "default", "when"})),
}


def parse(spec: Any) -> Hyperparameter:
    """The hyperparameter that a user wrote, as an object or as a pair of kind and values.

    Raises:
        SearchspaceError: It is neither, or its values do not fit.
    """
    if isinstance(spec, Double | Integer | Discrete | Categorical):
        return spec
    if not isinstance(spec, (tuple, list)) or len(spec) != 2:
        hint = ""
        if isinstance(spec, type):
            hint = " That is a class: give it its values."
        elif isinstance(spec, (tuple, list)) and spec and not isinstance(spec[0], str):
            hint = " Name the kind, such as ('CATEGORICAL', [...]) for a list of choices."
        msg = (
            "a hyperparameter is written Double(0.0, 1.0) or ('DOUBLE', [0.0, 1.0]), "
            f"but got {spec!r}.{hint}"
        )
        raise SearchspaceError(msg)
    kind, values = _kind(spec[0]), spec[1]
    if kind in _LISTS:
        return _LISTS[kind](values)
    if not isinstance(values, (tuple, list)) or len(values) != 2:
        msg = f"{kind} needs two ends, such as ('{kind}', [1, 10]), but got {values!r}."
        raise SearchspaceError(msg)
    return _RANGES[kind](*values)


def _kind(given: object) -> str:
    kind = given.upper() if isinstance(given, str) else ""
    if kind not in _FIELDS:
        known = _OTHER_NAMES.get(kind)
        hint = f"Did you mean {known!r}?" if known else did_you_mean(given, _FIELDS)
        msg = f"no kind of hyperparameter is called {given!r}. {hint}"
        raise SearchspaceError(msg)
    return kind


def to_json(hyperparameter: Hyperparameter) -> dict[str, Json]:
    """Everything that was given, and nothing that was not."""
    described: dict[str, Json]
    match hyperparameter:
        case Double() | Integer():
            described = {"low": hyperparameter.low, "high": hyperparameter.high}
            if hyperparameter.log:
                described["log"] = True
            if hyperparameter.step is not None:
                described["step"] = hyperparameter.step
        case Discrete() | Categorical():
            described = {"choices": [value_to_json(item) for item in hyperparameter.choices]}
        case _:
            assert_never(hyperparameter)
    if not isinstance(hyperparameter.default, Unset):
        described["default"] = value_to_json(hyperparameter.default)
    if hyperparameter.when is not None:
        described["when"] = {
            name: [value_to_json(value) for value in values]
            for name, values in hyperparameter.when.items()
        }
    return {"kind": type(hyperparameter).__name__.upper(), **described}


def from_json(described: Any) -> Hyperparameter:
    """The inverse of ``to_json``.

    Raises:
        SearchspaceError: It describes no hyperparameter.
    """
    if not isinstance(described, Mapping):
        msg = f"a hyperparameter must be a JSON object, but got {described!r}."
        raise SearchspaceError(msg)
    kind = _kind(described.get("kind"))
    options = {name: value for name, value in described.items() if name != "kind"}
    needed = {"choices"} if kind in _LISTS else {"low", "high"}
    if not needed <= options.keys() <= _FIELDS[kind]:
        msg = (
            f"{kind} needs {sorted(needed)} and takes {sorted(_FIELDS[kind])}, "
            f"but got {sorted(map(str, options))}."
        )
        raise SearchspaceError(msg)
    if "default" in options:
        options["default"] = value_from_json(options["default"])
    if "when" in options:
        options["when"] = _when(options["when"])
    if kind in _RANGES:
        return _RANGES[kind](options.pop("low"), options.pop("high"), **options)
    return _LISTS[kind](_choices(options.pop("choices")), **options)


def _choices(described: Any) -> Any:
    """The list with its inner lists as tuples; anything else unchanged, to be refused later."""
    return [value_from_json(x) for x in described] if isinstance(described, list) else described


def _when(described: Any) -> Any:
    if not isinstance(described, Mapping):
        return described
    return {name: _choices(values) for name, values in described.items()}
