"""What crosses the wire: records in, JSON out, and back.

A connection has one of three roles, and each role a closed union for either direction: what a
*worker* says and hears, wherever it runs; what the *agent* says and hears that holds a worker's
slot on another machine; and the *files* an agent asks for or brings.  ``decode`` trusts nothing:
a message of the wrong shape is a ``WireError``, never a ``KeyError`` somewhere else.  JSON knows
no tuples, so lists inside hyperparameters come back as tuples; hyperparameters never hold lists.
"""

from __future__ import annotations

import json
import reprlib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeAlias

from maggy.errors import WireError
from maggy.trial import TrialError
from maggy.wire.fields import CHECKS, JSON_DECODER, total_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from maggy.trial import Hparams, Json, Resource
    from maggy.wire.fields import Point, Role

__all__ = [
    "PROTOCOL",
    "Ack",
    "Exited",
    "Failed",
    "Fetch",
    "Finished",
    "Fire",
    "FromAgent",
    "FromFiles",
    "FromWorker",
    "Heartbeat",
    "Hello",
    "Hire",
    "Leave",
    "Logged",
    "Message",
    "Part",
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
    "Store",
    "Stored",
    "ToAgent",
    "ToFiles",
    "ToWorker",
    "Welcome",
    "decode_from_agent",
    "decode_from_files",
    "decode_from_worker",
    "decode_to_agent",
    "decode_to_files",
    "decode_to_worker",
    "encode",
]

PROTOCOL = 2
"""Raised whenever a message changes; both sides must agree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """Whoever connected introduces itself, right after the proofs of the key.

    Attributes:
        worker: The name of the worker or, for the other roles, of the agent.
        pid: Its process.
        host: Its machine's name.
        python: Its version of Python, three numbers.
        version: Its version of maggy.
        protocol: Its ``PROTOCOL``.
        role: What this connection is for.
        incarnation: How many connections this agent had before.
        received: How many numbered messages this agent has had from the driver, on all of them.
    """

    worker: str
    pid: int
    host: str
    python: str
    version: str
    protocol: int
    role: Role = "worker"
    incarnation: int = 0
    received: int = 0


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
    """The driver does not take this connection, or not this file; ``reason`` is a sentence.

    ``again``: an agent that was given up may come back, as a new one under a new name.
    """

    reason: str
    again: bool = False


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
        checkpoint_limit: The most bytes of one checkpoint, which then travels to the driver's
            machine and back; None: ``checkpoint_dir`` is reached as it is, so any number.
    """

    sys_path: Sequence[str]
    cwd: str
    log_dir: str
    hb_interval: float
    plan: Mapping[str, Json]
    optimization_key: str = "metric"
    checkpoint_dir: str | None = None
    checkpoint_limit: int | None = None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The driver takes an agent; what the agent has not had yet follows.

    Attributes:
        received: How many numbered messages the driver has had from this agent.
        hb_interval: Seconds between two ``Ack`` of the agent.
        silence_limit: Seconds of silence after which either side gives the other up.
    """

    received: int
    hb_interval: float
    silence_limit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """So many numbered messages have arrived, on all connections; also a sign of life."""

    received: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hire:
    """Start a child for this worker, with the last ``Setup``."""

    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fire:
    """Kill the child of this worker."""

    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """Kill the child, if there is one, and end; ``reason`` is a clause."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exited:
    """A worker's process is gone and reaped; the last message about that worker.

    Attributes:
        worker: Its name.
        reason: How it ended, a clause.
        output: The end of what it printed outside trials.
    """

    worker: str
    reason: str
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """Send at most ``size`` bytes of this file from ``offset`` on; answered by ``Part``."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The raw frame that follows goes into this file at ``offset``; answered by ``Stored``.

    ``last``: the file is whole with this.
    """

    name: str
    offset: int
    last: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of a file, in the raw frame that follows.

    ``size``: the bytes of the whole file, or -1: there is no such file, and the frame is empty.
    """

    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """The piece is in its place; after the last one, the file is whole and safe."""


FromWorker: TypeAlias = (
    "Hello | Ready | SetupFailed | Report | Logged | Saved | Finished | Failed | Stopped"
    " | Heartbeat"
)
"""What a worker says."""

ToWorker: TypeAlias = "Refused | Setup | Run | Stop | Quit"
"""What a worker hears; a raw frame with the payload follows ``Setup``."""

FromAgent: TypeAlias = (
    "Hello | Ready | SetupFailed | Report | Logged | Saved | Finished | Failed | Stopped"
    " | Ack | Exited"
)
"""What an agent says: its worker's messages, and its own."""

ToAgent: TypeAlias = "Refused | Welcome | Setup | Hire | Fire | Leave | Ack | Run | Stop | Quit"
"""What an agent hears; a raw frame with the payload follows ``Setup``."""

FromFiles: TypeAlias = "Hello | Fetch | Store"
"""What an agent says on a connection for files; a raw frame follows ``Store``."""

ToFiles: TypeAlias = "Refused | Part | Stored"
"""What it hears there, one answer to each request in turn; a raw frame follows ``Part``."""

Message: TypeAlias = "FromWorker | ToWorker | FromAgent | ToAgent | FromFiles | ToFiles"
"""Everything that can be said."""

_OF_WORKER = (Hello, Ready, SetupFailed, Report, Logged, Saved, Finished, Failed, Stopped)


def _named(*kinds: type[Any]) -> dict[str, type[Any]]:
    return {kind.__name__: kind for kind in kinds}


_FROM_WORKER = _named(*_OF_WORKER, Heartbeat)
_TO_WORKER = _named(Refused, Setup, Run, Stop, Quit)
_FROM_AGENT = _named(*_OF_WORKER, Ack, Exited)
_TO_AGENT = _named(Refused, Welcome, Setup, Hire, Fire, Leave, Ack, Run, Stop, Quit)
_FROM_FILES = _named(Hello, Fetch, Store)
_TO_FILES = _named(Refused, Part, Stored)

_Check: TypeAlias = "Callable[[str, Any], Any]"


def _checks(kind: type[Any]) -> dict[str, _Check]:
    own: dict[str, _Check] = {"size": total_size} if kind is Part else {}
    return {f.name: own.get(f.name, CHECKS[f.name]) for f in fields(kind)}


_FIELDS: dict[type[Any], dict[str, _Check]] = {
    kind: _checks(kind)
    for kinds in (_FROM_AGENT, _TO_AGENT, _FROM_WORKER, _FROM_FILES, _TO_FILES)
    for kind in kinds.values()
}
"""The check of each field of each kind of message."""


def encode(message: Message) -> bytes:
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


def decode_from_agent(data: bytes) -> FromAgent:
    """The message in these bytes.

    Raises:
        WireError: They hold no message that an agent may send.
    """
    message: FromAgent = _decode(data, _FROM_AGENT)
    return message


def decode_to_agent(data: bytes) -> ToAgent:
    """The message in these bytes.

    Raises:
        WireError: They hold no message that a driver may send to an agent.
    """
    message: ToAgent = _decode(data, _TO_AGENT)
    return message


def decode_from_files(data: bytes) -> FromFiles:
    """The message in these bytes.

    Raises:
        WireError: They hold no message that an agent may send on a connection for files.
    """
    message: FromFiles = _decode(data, _FROM_FILES)
    return message


def decode_to_files(data: bytes) -> ToFiles:
    """The message in these bytes.

    Raises:
        WireError: They hold no message that a driver may send on a connection for files.
    """
    message: ToFiles = _decode(data, _TO_FILES)
    return message


def _decode(data: bytes, kinds: Mapping[str, type[Any]]) -> Any:
    try:
        return _checked(JSON_DECODER.decode(data.decode()), kinds)
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
    checks = _FIELDS[kind]
    if body.keys() != checks.keys():
        msg = f"{name} must have {tuple(checks)}, but got {reprlib.repr(sorted(body))}."
        raise WireError(msg)
    return kind(**{name: checks[name](name, value) for name, value in body.items()})


def _error_to_json(error: TrialError) -> dict[str, str]:
    return {
        "type": error.type,
        "message": error.message,
        "traceback": error.traceback,
        "output": error.output,
    }
