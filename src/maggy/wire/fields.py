"""What each field of a message may hold: a check for each name, and JSON that is finite.

A check gets the field's name and what arrived in its place, and returns the value to use.  It
raises ``WireError`` and nothing else, whatever arrived.
"""

from __future__ import annotations

import json
import math
import reprlib
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from maggy.errors import WireError
from maggy.trial import TrialError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from maggy.trial import Hparams, Json, Resource, Value

__all__ = ["CHECKS", "JSON_DECODER", "Point", "Role", "total_size"]

_DEPTH = 64
"""How deep free JSON may be nested, so that whoever writes it again does not run out of stack."""

Point: TypeAlias = "tuple[int, float, Mapping[str, float] | None]"
"""``(step, value, others)``."""

Role: TypeAlias = 'Literal["worker", "agent", "files"]'
"""What a connection is for."""

_ROLES: tuple[Role, ...] = ("worker", "agent", "files")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        msg = f"{text[:80]} is no finite number"
        raise ValueError(msg)
    return value


JSON_DECODER = json.JSONDecoder(parse_float=_finite_float, parse_constant=_finite_float)
"""Raises ``ValueError`` where a number is not finite."""


def _wrong(name: str, wanted: str, value: object) -> WireError:
    return WireError(f"`{name}` must be {wanted}, but got {reprlib.repr(value)}.")


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(name, "text", value)
    if value.isascii():
        return value
    return value.encode(errors="replace").decode()  # half a surrogate pair is no text to a file


def _optional_text(name: str, value: Any) -> str | None:
    return None if value is None else _text(name, value)


def _integer(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**63:
        raise _wrong(name, "a whole number of at most 64 bits", value)
    return value


def _count(name: str, value: Any) -> int:
    if _integer(name, value) < 0:
        raise _wrong(name, "at least 0", value)
    return int(value)


def _optional_count(name: str, value: Any) -> int | None:
    return None if value is None else _count(name, value)


def total_size(name: str, value: Any) -> int:
    """The check of ``Part.size``: bytes, or -1 for what does not exist."""
    return value if value == -1 and _integer(name, value) else _count(name, value)


def _truth(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong(name, "true or false", value)
    return value


def _role(name: str, value: Any) -> Role:
    for role in _ROLES:
        if value == role:
            return role
    raise _wrong(name, f"one of {', '.join(_ROLES)}", value)


def _number(name: str, value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not _finite(value):
        raise _wrong(name, "a finite number", value)
    return float(value)


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the range of floats
        return False


def _object(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(name, "an object", value)
    return value


def _json_object(name: str, value: Any) -> Mapping[str, Json]:
    body = _object(name, value)
    _refuse_depth(name, body, _DEPTH)
    return body


def _optional_json_object(name: str, value: Any) -> Mapping[str, Json] | None:
    return None if value is None else _json_object(name, value)


def _refuse_depth(name: str, value: Any, depth: int) -> None:
    if depth == 0:
        raise _wrong(name, f"nested at most {_DEPTH} deep", value)
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            _refuse_depth(name, item, depth - 1)


def _texts(name: str, value: Any) -> Sequence[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _wrong(name, "a list of texts", value)
    return value


def _hparams(name: str, value: Any) -> Hparams:
    return {key: _from_lists(item) for key, item in _object(name, value).items()}


def _from_lists(value: Any) -> Value:
    return tuple(_from_lists(item) for item in value) if isinstance(value, list) else value


def _budget(name: str, value: Any) -> Resource | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    return _number(name, value)


def _error(name: str, value: Any) -> TrialError:
    texts = {key: _text(key, item) for key, item in _object(name, value).items()}
    if set(texts) != {"type", "message", "traceback", "output"}:
        raise _wrong(name, "a complete error", sorted(texts))
    return TrialError(**texts)


def _points(name: str, value: Any) -> Sequence[Point]:
    if not isinstance(value, list):
        raise _wrong(name, "a list of points", value)
    return [_point(name, item) for item in value]


def _point(name: str, item: Any) -> Point:
    if not isinstance(item, list) or len(item) != 3:
        raise _wrong(name, "points of step, value, others", item)
    others = item[2]
    if others is not None:
        others = {
            _text(name, key): _number(key, entry) for key, entry in _object(name, others).items()
        }
    return _integer("step", item[0]), _number("value", item[1]), others


CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "worker": _text,
    "host": _text,
    "python": _text,
    "version": _text,
    "reason": _text,
    "text": _text,
    "cwd": _text,
    "log_dir": _text,
    "optimization_key": _text,
    "checkpoint_dir": _optional_text,
    "checkpoint_limit": _optional_count,
    "output": _text,
    "name": _text,
    "role": _role,
    "again": _truth,
    "last": _truth,
    "pid": _count,
    "protocol": _count,
    "trial": _count,
    "attempt": _count,
    "step": _count,
    "size": _count,
    "offset": _count,
    "incarnation": _count,
    "received": _count,
    "seed": _count,
    "value": _number,
    "hb_interval": _number,
    "silence_limit": _number,
    "info": _optional_json_object,
    "plan": _json_object,
    "sys_path": _texts,
    "hparams": _hparams,
    "budget": _budget,
    "error": _error,
    "points": _points,
}
"""The check of each field, by its name: a name means the same in every message."""
