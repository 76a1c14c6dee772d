"""What crosses the wire between the driver and a worker: records in, JSON out, and back.

Both directions are closed unions.  ``decode`` trusts nothing: a message of the wrong shape is a
``WireError``, never a ``KeyError`` somewhere else.  JSON knows no tuples, so lists inside
hyperparameters come back as tuples; hyperparameters never hold lists.
"""

from __future__ import annotations

import json
import math
import reprlib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeAlias

from maggy.errors import WireError
from maggy.trial import TrialError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from maggy.trial import Hparams, Json, Resource, Value

__all__ = [
    "PROTOCOL",
    "Failed",
    "Finished",
    "FromWorker",
    "Heartbeat",
    "Hello",
    "Logged",
    "Quit",
    "Ready",
    "Refused",
    "Report",
    "Run",
    "Saved",
    "Setup",
    "SetupFailed",
    "Stop",
    "Stopped",
    "ToWorker",
    "decode_from_worker",
    "decode_to_worker",
    "encode",
]

PROTOCOL = 1
"""Raised whenever a message changes; both sides must agree."""

_DEPTH = 64
"""How deep free JSON may be nested, so that whoever writes it again does not run out of stack."""

Point: TypeAlias = "tuple[int, float, Mapping[str, float] | None]"
"""``(step, value, others)``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """A worker introduces itself, right after the proofs of the key."""

    worker: str
    pid: int
    host: str
    python: str
    version: str
    protocol: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The training function is loaded; the worker waits for work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupFailed:
    """The training function or its data could not be loaded."""

    error: TrialError


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything broadcast since the last report, oldest first."""

    trial: int
    attempt: int
    points: Sequence[Point]


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """``reporter.log`` was called."""

    trial: int
    attempt: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """``reporter.save`` has written a checkpoint; ``size`` is in bytes."""

    trial: int
    attempt: int
    step: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The training function returned; ``value`` is finite."""

    trial: int
    attempt: int
    value: float
    info: Mapping[str, Json] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The training function raised, or its metric is no finite number."""

    trial: int
    attempt: int
    error: TrialError


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """The training function left because of ``Stop``."""

    trial: int
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """Nothing else was sent for one ``hb_interval``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The driver does not take this worker; ``reason`` is a sentence."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a worker needs before its first trial; one raw frame with the payload follows.

    Attributes:
        sys_path: The driver's ``sys.path``.
        cwd: The driver's working directory.
        log_dir: Where each trial's output file goes, absolute.
        hb_interval: Longest silence of the worker, seconds.
        plan: How to call the training function (``worker.injection.Plan.to_json``).
        optimization_key: The metric's name in a dict that the training function returns.
        checkpoint_dir: Where checkpoints are kept, absolute; None: nowhere.
    """

    sys_path: Sequence[str]
    cwd: str
    log_dir: str
    hb_interval: float
    plan: Mapping[str, Json]
    optimization_key: str = "metric"
    checkpoint_dir: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Run this trial."""

    trial: int
    attempt: int
    hparams: Hparams
    budget: Resource | None
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Leave this trial at the next broadcast."""

    trial: int
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Quit:
    """Nothing is left to do: exit."""


FromWorker: TypeAlias = (
    "Hello | Ready | SetupFailed | Report | Logged | Saved | Finished | Failed | Stopped"
    " | Heartbeat"
)
ToWorker: TypeAlias = "Refused | Setup | Run | Stop | Quit"

_FROM_WORKER: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        *(Hello, Ready, SetupFailed, Report, Logged, Saved, Finished, Failed, Stopped),
        Heartbeat,
    )
}
_TO_WORKER: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (Refused, Setup, Run, Stop, Quit)
}
_FIELDS: dict[type[Any], tuple[str, ...]] = {
    kind: tuple(f.name for f in fields(kind))
    for kind in (*_FROM_WORKER.values(), *_TO_WORKER.values())
}


def encode(message: FromWorker | ToWorker) -> bytes:
    """One message as UTF-8 JSON.

    Raises:
        ValueError: A number is not finite, or a value is no JSON.
    """
    kind = type(message)
    body: dict[str, Any] = {"t": kind.__name__}
    for name in _FIELDS[kind]:
        value = getattr(message, name)
        body[name] = _error_to_json(value) if isinstance(value, TrialError) else value
    try:
        return json.dumps(body, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, RecursionError) as error:
        msg = f"{kind.__name__} cannot be written as JSON: {error}."
        raise ValueError(msg) from error


def decode_from_worker(data: bytes) -> FromWorker:
    """The message in these bytes.

    Raises:
        WireError: They hold no message that a worker may send.
    """
    message: FromWorker = _decode(data, _FROM_WORKER)
    return message


def decode_to_worker(data: bytes) -> ToWorker:
    """The message in these bytes.

    Raises:
        WireError: They hold no message that a driver may send.
    """
    message: ToWorker = _decode(data, _TO_WORKER)
    return message


def _decode(data: bytes, kinds: Mapping[str, type[Any]]) -> Any:
    try:
        return _checked(_LOADS.decode(data.decode()), kinds)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        msg = f"a frame of {len(data)} bytes is no message: {error}"
        raise WireError(msg) from None


def _checked(body: Any, kinds: Mapping[str, type[Any]]) -> Any:
    if not isinstance(body, dict) or not isinstance(body.get("t"), str):
        msg = "a message must be a JSON object with a kind `t`."
        raise WireError(msg)
    name = body.pop("t")
    kind = kinds.get(name)
    if kind is None:
        msg = f"a message must be one of {', '.join(kinds)}, but got {reprlib.repr(name)}."
        raise WireError(msg)
    if body.keys() != set(_FIELDS[kind]):
        msg = f"{name} must have {_FIELDS[kind]}, but got {reprlib.repr(sorted(body))}."
        raise WireError(msg)
    return kind(**{name: _CHECKS[name](name, value) for name, value in body.items()})


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        msg = f"{text[:80]} is no finite number"
        raise ValueError(msg)
    return value


_LOADS = json.JSONDecoder(parse_float=_finite_float, parse_constant=_finite_float)


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


def _error_to_json(error: TrialError) -> dict[str, str]:
    return {
        "type": error.type,
        "message": error.message,
        "traceback": error.traceback,
        "output": error.output,
    }


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


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
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
    "pid": _count,
    "protocol": _count,
    "trial": _count,
    "attempt": _count,
    "step": _count,
    "size": _count,
    "seed": _count,
    "value": _number,
    "hb_interval": _number,
    "info": _optional_json_object,
    "plan": _json_object,
    "sys_path": _texts,
    "hparams": _hparams,
    "budget": _budget,
    "error": _error,
    "points": _points,
}
