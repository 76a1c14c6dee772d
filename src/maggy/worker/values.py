"""What users' objects become at the border: a metric, a step, JSON, or a short text.

None of these functions can be made to raise anything but ``OutcomeError`` by an odd object, except
that errors of a user's own ``__float__`` pass through: they belong into the trial's traceback.
"""

from __future__ import annotations

import json
import math
import operator
import reprlib
from typing import TYPE_CHECKING, Any

from maggy.errors import OutcomeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from maggy.trial import Json

__all__ = ["as_info", "as_metric", "as_step", "clean", "shown"]

_MAX_STEP = 2**63 - 1  # what the event log's integer column holds
_MAX_INFO_ENTRIES = 1000
_MAX_INFO_CHARACTERS = 200_000
_MAX_DEPTH = 20
_NO_NUMBER_KINDS = frozenset("cmMSU")  # numpy: complex, durations, dates, texts

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 400
_REPR.maxlist = _REPR.maxtuple = _REPR.maxdict = _REPR.maxset = _REPR.maxfrozenset = 20


def as_metric(value: object) -> float:
    """``value`` as a finite float.

    Whatever ``float()`` takes is a metric: Python and NumPy numbers, bools (True is 1.0), 0-d
    arrays and tensors.  Texts are not, nor arrays that merely happen to hold one number.

    Raises:
        OutcomeError: It is no such number; the text starts with what was given.
    """
    if type(value) is float and math.isfinite(value):
        return value
    kind = type(value)
    if not (hasattr(kind, "__float__") or hasattr(kind, "__index__")) or _is_no_number(value):
        msg = (
            f"{shown(value)} (a {kind.__name__}), but a metric must be a number that float() "
            "takes: a Python or NumPy number, or a tensor without dimensions."
        )
        raise OutcomeError(msg)
    number = _to_float(value)
    if not math.isfinite(number):
        msg = (
            f"{number}, but a metric must be finite. Lower the learning rate or restrict the "
            "search space if training diverges."
        )
        raise OutcomeError(msg)
    return number


def _is_no_number(value: object) -> bool:
    """True for arrays of text, dates and complex numbers; raises for arrays with dimensions."""
    dimensions = getattr(value, "ndim", 0)
    if isinstance(dimensions, int) and dimensions > 0:
        msg = (
            f"an array of shape {tuple(getattr(value, 'shape', ()))}, but a metric must be a "
            "single number. Take it out with `.item()`, or average with `.mean()`."
        )
        raise OutcomeError(msg)
    return getattr(getattr(value, "dtype", None), "kind", "") in _NO_NUMBER_KINDS


def _to_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # an int or a Fraction beyond the range of floats
        return math.inf
    except (TypeError, ValueError) as error:
        msg = f"{shown(value)}, but a metric must be a number, and float() says: {error}"
        raise OutcomeError(msg) from None


def as_step(value: object) -> int:
    """``value`` as a step.

    Raises:
        OutcomeError: It is no whole number in [0, 2**63); the text starts with what was given.
    """
    if type(value) is not int:
        try:
            if isinstance(value, bool):
                raise TypeError  # noqa: TRY301 - True has __index__, but is no count
            value = operator.index(value)  # type: ignore[arg-type]
        except TypeError:
            msg = (
                f"{shown(value)} (a {type(value).__name__}), but a step must be a whole number, "
                "such as the epoch; convert it with int()."
            )
            raise OutcomeError(msg) from None
    if not 0 <= value <= _MAX_STEP:
        msg = f"{shown(value)}, but a step must be in [0, 2**63); count from 0 or 1."
        raise OutcomeError(msg)
    return value


def as_info(entries: Mapping[Any, object]) -> dict[str, Json]:
    """The entries of a returned dict as JSON.

    Plain values, lists, tuples and dicts of them stay; NumPy scalars become Python's; everything
    else, NaN and infinities included, becomes its repr of at most 200 characters.  Entries beyond
    200,000 characters in all are cut to 200 characters each, entries beyond 1,000 left out.
    """
    info: dict[str, Json] = {}
    room = _MAX_INFO_CHARACTERS
    for key, value in list(entries.items())[:_MAX_INFO_ENTRIES]:
        entry = _plain(value, _MAX_DEPTH)
        size = len(json.dumps(entry))
        if size > room:
            entry = clean(shown(entry), 200)
        else:
            room -= size
        info[clean(key if isinstance(key, str) else shown(key), 200)] = entry
    return info


def _plain(value: object, depth: int) -> Json:
    if hasattr(type(value), "dtype"):
        value = _python_scalar(value)
    if isinstance(value, str):
        return clean(str(value), _MAX_INFO_CHARACTERS)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) <= _MAX_STEP:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, list | tuple | dict) and depth > 0:
        return _plain_container(value, depth - 1)
    return shown(value)


def _python_scalar(value: Any) -> object:
    """NumPy's scalars and 0-d arrays, and tensors like them, as Python's; others as they are."""
    try:
        return value.item() if value.ndim == 0 else value
    except Exception:  # noqa: BLE001 - without values or item(): then its repr is the information
        return value


def _plain_container(value: list[Any] | tuple[Any, ...] | dict[Any, Any], depth: int) -> Json:
    if len(value) > _MAX_INFO_CHARACTERS // 2:  # cannot fit, so do not walk through it
        return shown(value)
    if isinstance(value, dict):
        return {
            clean(key if isinstance(key, str) else shown(key), 200): _plain(item, depth)
            for key, item in value.items()
        }
    return [_plain(item, depth) for item in value]


def shown(value: object) -> str:
    """A repr of at most 200 characters that never raises and never walks a large container."""
    try:
        text = _REPR.repr(value)
    except Exception as error:  # noqa: BLE001 - a user's __repr__ may raise anything
        text = f"<{type(value).__name__} object; its repr() raised {type(error).__name__}>"
    return clean(text, 200)


def clean(text: str, limit: int) -> str:
    """``text`` that UTF-8 can hold, cut in the middle to ``limit`` characters."""
    if len(text) > limit:
        mark = f" ... [{len(text) - limit} characters cut] ... "
        keep = max(limit - len(mark), 0)
        text = text[: keep - keep // 2] + mark[:limit] + text[len(text) - keep // 2 :]
    return text.encode("utf-8", "backslashreplace").decode()
