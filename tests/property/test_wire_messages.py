"""Every message survives the wire, and no bytes raise anything but a WireError."""

from __future__ import annotations

import contextlib
import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maggy.errors import WireError
from maggy.trial import TrialError
from maggy.wire import messages
from maggy.wire.messages import (
    Failed,
    Finished,
    Heartbeat,
    Hello,
    Logged,
    Quit,
    Ready,
    Refused,
    Report,
    Run,
    Saved,
    Setup,
    SetupFailed,
    Stop,
    Stopped,
    decode_from_worker,
    decode_to_worker,
    encode,
)

if TYPE_CHECKING:
    from maggy.wire.messages import FromWorker, ToWorker

text = st.text(st.characters(codec="utf-8"), max_size=20)
count = st.integers(0, 2**63 - 1)
step = st.integers(-(2**63), 2**63 - 1)
number = st.floats(allow_nan=False, allow_infinity=False)
plain = st.none() | st.booleans() | st.integers() | number | text
free = st.recursive(
    plain, lambda s: st.lists(s, max_size=3) | st.dictionaries(text, s, max_size=3)
)
free_object = st.dictionaries(text, free, max_size=4)
value = st.recursive(plain, lambda s: st.lists(s, max_size=3).map(tuple))
point = st.tuples(step, number, st.none() | st.dictionaries(text, number, max_size=3))
error = st.builds(TrialError, type=text, message=text, traceback=text, output=text)
of_trial = {"trial": count, "attempt": count}

FROM_WORKER: dict[type[Any], st.SearchStrategy[Any]] = {
    Hello: st.builds(
        Hello, worker=text, pid=count, host=text, python=text, version=text, protocol=count
    ),
    Ready: st.builds(Ready),
    SetupFailed: st.builds(SetupFailed, error=error),
    Report: st.builds(Report, **of_trial, points=st.lists(point, max_size=5)),
    Logged: st.builds(Logged, **of_trial, text=text),
    Saved: st.builds(Saved, **of_trial, step=count, size=count),
    Finished: st.builds(Finished, **of_trial, value=number, info=st.none() | free_object),
    Failed: st.builds(Failed, **of_trial, error=error),
    Stopped: st.builds(Stopped, **of_trial),
    Heartbeat: st.builds(Heartbeat),
}
TO_WORKER: dict[type[Any], st.SearchStrategy[Any]] = {
    Refused: st.builds(Refused, reason=text),
    Setup: st.builds(
        Setup,
        sys_path=st.lists(text, max_size=3),
        cwd=text,
        log_dir=text,
        hb_interval=number,
        plan=free_object,
        optimization_key=text,
        checkpoint_dir=st.none() | text,
    ),
    Run: st.builds(
        Run,
        **of_trial,
        hparams=st.dictionaries(text, value, max_size=4),
        budget=st.none() | count | number,
        seed=st.integers(0, 2**31 - 1),
    ),
    Stop: st.builds(Stop, **of_trial, reason=text),
    Quit: st.builds(Quit),
}
from_worker = st.one_of(*FROM_WORKER.values())
to_worker = st.one_of(*TO_WORKER.values())


def test_every_kind_is_here() -> None:
    """No message was added without being tested here."""
    assert set(FROM_WORKER) == set(messages._FROM_WORKER.values())
    assert set(TO_WORKER) == set(messages._TO_WORKER.values())


@given(from_worker)
def test_from_worker(message: FromWorker) -> None:
    """What a worker says is what the driver hears."""
    assert decode_from_worker(encode(message)) == message


@given(to_worker)
def test_to_worker(message: ToWorker) -> None:
    """What the driver says is what a worker hears, types of hyperparameters included."""
    back = decode_to_worker(encode(message))
    assert back == message
    assert repr(back) == repr(message)


@given(st.binary(max_size=200))
def test_random_bytes(data: bytes) -> None:
    """Random bytes are a WireError on either side."""
    for decode in (decode_from_worker, decode_to_worker):
        with pytest.raises(WireError):
            decode(data)


@given(from_worker | to_worker, st.data())
def test_damaged(message: FromWorker | ToWorker, data: st.DataObject) -> None:
    """A message with bytes changed is another message or a WireError, never another error."""
    damaged = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    for decode in (decode_from_worker, decode_to_worker):
        with contextlib.suppress(WireError):
            assert encode(decode(bytes(damaged)))


@given(st.sampled_from([*FROM_WORKER, *TO_WORKER]), st.data())
def test_wrong_values(kind: type[Any], data: st.DataObject) -> None:
    """Any JSON in any field is a message or a WireError, never another error."""
    body = {"t": kind.__name__, **{f.name: data.draw(free) for f in fields(kind)}}
    for decode in (decode_from_worker, decode_to_worker):
        with contextlib.suppress(WireError):
            assert encode(decode(json.dumps(body).encode()))
