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
    Ack,
    Exited,
    Failed,
    Fetch,
    Finished,
    Fire,
    Heartbeat,
    Hello,
    Hire,
    Leave,
    Logged,
    Part,
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
    Store,
    Stored,
    Welcome,
    decode_from_agent,
    decode_from_files,
    decode_from_worker,
    decode_to_agent,
    decode_to_files,
    decode_to_worker,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from maggy.wire.messages import Message

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
        Hello,
        worker=text,
        pid=count,
        host=text,
        python=text,
        version=text,
        protocol=count,
        role=st.sampled_from(["worker", "agent", "files"]),
        incarnation=count,
        received=count,
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
    Refused: st.builds(Refused, reason=text, again=st.booleans()),
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
OF_AGENT: dict[type[Any], st.SearchStrategy[Any]] = {
    Ack: st.builds(Ack, received=count),
    Exited: st.builds(Exited, worker=text, reason=text, output=text),
    Welcome: st.builds(Welcome, received=count, hb_interval=number, silence_limit=number),
    Hire: st.builds(Hire, worker=text),
    Fire: st.builds(Fire, worker=text),
    Leave: st.builds(Leave, reason=text),
    Fetch: st.builds(Fetch, name=text, offset=count, size=count),
    Store: st.builds(Store, name=text, offset=count, last=st.booleans()),
    Part: st.builds(Part, size=count | st.just(-1)),
    Stored: st.builds(Stored),
}
EVERY = {**FROM_WORKER, **TO_WORKER, **OF_AGENT}
DECODERS: list[tuple[Callable[[bytes], Message], dict[str, type[Any]]]] = [
    (decode_from_worker, messages._FROM_WORKER),
    (decode_to_worker, messages._TO_WORKER),
    (decode_from_agent, messages._FROM_AGENT),
    (decode_to_agent, messages._TO_AGENT),
    (decode_from_files, messages._FROM_FILES),
    (decode_to_files, messages._TO_FILES),
]
message_of_any_kind = st.one_of(*EVERY.values())


def test_every_kind_is_here() -> None:
    """No message was added without being tested here, and each is heard by somebody."""
    assert set(FROM_WORKER) == set(messages._FROM_WORKER.values())
    assert set(TO_WORKER) == set(messages._TO_WORKER.values())
    assert set(EVERY) == {kind for _, kinds in DECODERS for kind in kinds.values()}


@given(message_of_any_kind)
def test_there_and_back(message: Message) -> None:
    """What is said is what is heard by those whom it is for, types included; others refuse it."""
    for decode, kinds in DECODERS:
        if type(message) in kinds.values():
            back = decode(encode(message))
            assert back == message
            assert repr(back) == repr(message)
        else:
            with pytest.raises(WireError):
                decode(encode(message))


@given(st.binary(max_size=200))
def test_random_bytes(data: bytes) -> None:
    """Random bytes are a WireError on either side."""
    for decode, _ in DECODERS:
        with pytest.raises(WireError):
            decode(data)


@given(message_of_any_kind, st.data())
def test_damaged(message: Message, data: st.DataObject) -> None:
    """A message with bytes changed is another message or a WireError, never another error."""
    damaged = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    for decode, _ in DECODERS:
        with contextlib.suppress(WireError):
            assert encode(decode(bytes(damaged)))


@given(st.sampled_from([*EVERY]), st.data())
def test_wrong_values(kind: type[Any], data: st.DataObject) -> None:
    """Any JSON in any field is a message or a WireError, never another error."""
    body = {"t": kind.__name__, **{f.name: data.draw(free) for f in fields(kind)}}
    for decode, _ in DECODERS:
        with contextlib.suppress(WireError):
            assert encode(decode(json.dumps(body).encode()))
