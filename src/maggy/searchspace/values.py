"""Values of hyperparameters: plain Python, identity by type and value, and their JSON."""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING, Any, Final

from maggy.errors import SearchspaceError

if TYPE_CHECKING:
    from collections.abc import Hashable

    from maggy.trial import Json, Value

__all__ = [
    "UNSET",
    "Unset",
    "identity",
    "integer",
    "plain",
    "real",
    "unwrapped",
    "value_from_json",
    "value_to_json",
]


class Unset(enum.Enum):
    """The type of ``UNSET``, which marks a default that was not given (None is a value)."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "<unset>"


UNSET: Final = Unset.UNSET

_PLAIN = frozenset({bool, int, float, str, type(None)})


def unwrapped(value: Any) -> Any:
    """The Python object in a numpy scalar (or 0-d array); anything else unchanged."""
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        return value.item()
    return value


def plain(value: object) -> Value:
    """A choice in plain Python: None, bool, int, finite float, str, or a tuple of these.

    Raises:
        SearchspaceError: It is something else, such as a list, a class or NaN.
    """
    if type(value) is tuple:
        return tuple(plain(item) for item in value)
    item = unwrapped(value)
    if type(item) not in _PLAIN:
        hint = (
            f"Write a tuple: {tuple(item)!r}."
            if isinstance(item, list)
            else "Use a string and look it up in the training function."
        )
        msg = (
            "a choice must be None, a bool, int, float, str or a tuple of these, "
            f"but got {value!r} of type {type(value).__name__}. {hint}"
        )
        raise SearchspaceError(msg)
    if type(item) is float and not math.isfinite(item):
        msg = f"a choice must be finite, but got {value!r}. Leave it out."
        raise SearchspaceError(msg)
    result: Value = item
    return result


def identity(value: Value) -> Hashable:
    """Equal for two values exactly if they are equal in type and value (``True`` is not ``1``)."""
    if type(value) is tuple:
        return (tuple, *map(identity, value))
    return (type(value), value)


def real(name: str, value: object) -> float:
    """A finite float; an int is converted.

    Raises:
        SearchspaceError: It is no finite number.
    """
    item = unwrapped(value)
    if type(item) is int or type(item) is float:
        try:
            number = float(item)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    msg = f"`{name}` must be a finite number, but got {value!r} of type {type(value).__name__}."
    raise SearchspaceError(msg)


def integer(name: str, value: object) -> int:
    """A whole number within 64 bits, which is what numpy and SQLite can hold.

    Raises:
        SearchspaceError: It is none; a float is refused even if it is whole.
    """
    item = unwrapped(value)
    if type(item) is not int:
        hint = "Use Double for real numbers." if type(item) is float else "Write a plain int."
        msg = f"`{name}` must be an int, but got {value!r} of type {type(value).__name__}. {hint}"
        raise SearchspaceError(msg)
    if not -(2**63) <= item < 2**63:
        msg = f"`{name}` must fit in 64 bits, but got {item}. Search its logarithm instead."
        raise SearchspaceError(msg)
    return item


def value_to_json(value: Value) -> Json:
    """The value in JSON; a tuple becomes a list, which no hyperparameter can be."""
    return [value_to_json(item) for item in value] if isinstance(value, tuple) else value


def value_from_json(value: Any) -> Value:
    """The inverse of ``value_to_json``.

    Raises:
        SearchspaceError: It is no value, such as an object.
    """
    if isinstance(value, list):
        return tuple(value_from_json(item) for item in value)
    return plain(value)
