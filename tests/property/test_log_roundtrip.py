"""Property: every event survives the log, and no rotten byte goes unseen."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maggy import events as ev
from maggy.errors import RunError
from maggy.store.codec import checksum, decode, encode
from maggy.store.sqlite import SqliteLog
from maggy.trial import TrialError

if TYPE_CHECKING:
    from maggy.events import Event

AT = st.floats(min_value=0, max_value=1e9)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
NUMBER = st.floats(allow_nan=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
WHOLE = st.integers(0, 2**62)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
OBJECT = st.dictionaries(TEXT | st.just("$float"), JSON, max_size=4)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=5,
)
HPARAMS = st.dictionaries(TEXT | st.just("$float"), VALUE, max_size=5)
ERROR = st.builds(TrialError, type=TEXT, message=TEXT, traceback=TEXT, output=TEXT)
BUDGET = st.none() | st.integers(1, 10**6) | st.floats(0.1, 1e6)
RUN: dict[str, Any] = {"at": AT, "trial": WHOLE, "attempt": WHOLE}

EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(ev.ExperimentStarted, at=AT, config=OBJECT),
    st.builds(ev.WorkerJoined, at=AT, worker=TEXT, once=st.booleans()),
    st.builds(ev.WorkerLost, at=AT, worker=TEXT, reason=TEXT),
    st.builds(ev.Suggested, at=AT, trial=WHOLE, hparams=HPARAMS, budget=BUDGET, state=JSON),
    st.builds(ev.WaitSuggested, at=AT),
    st.builds(ev.SearchExhausted, at=AT, reason=TEXT),
    st.builds(ev.OptimizerFailed, at=AT, error=ERROR),
    st.builds(ev.EngineFailed, at=AT, error=ERROR),
    st.builds(
        ev.MetricReported,
        **RUN,
        step=WHOLE,
        value=NUMBER,
        others=st.none() | st.dictionaries(TEXT, NUMBER, max_size=3),
    ),
    st.builds(ev.LogWritten, **RUN, text=TEXT),
    st.builds(ev.CheckpointSaved, **RUN, step=WHOLE, size=WHOLE),
    st.builds(ev.TrialFinished, **RUN, value=NUMBER, info=st.none() | OBJECT),
    st.builds(ev.TrialFailed, **RUN, error=ERROR),
    st.builds(ev.TrialStopped, **RUN),
    st.builds(ev.CancelRequested, at=AT, grace=FINITE),
    st.builds(ev.Tick, at=AT),
    st.builds(ev.TrialStarted, **RUN, worker=TEXT),
    st.builds(ev.StopDecided, **RUN, reason=TEXT, threshold=st.none() | NUMBER),
    st.builds(ev.ExperimentFinished, at=AT, outcome=TEXT, reason=TEXT),
)


@given(EVENTS)
def test_log_codec_is_lossless(event: Event) -> None:
    """What is decoded equals what was encoded, and so does its repr, types and all."""
    back = decode(encode(event))
    assert back == event
    assert type(back) is type(event)


@given(st.lists(EVENTS, max_size=8))
def test_log_gives_back_what_it_took(events: list[Event]) -> None:
    """Through SQLite too, with every checksum right."""
    with SqliteLog.in_memory() as log:
        for event in events:
            log.append(event)
        log.commit()
        assert list(log.read()) == events


@given(EVENTS, st.integers(0, 9), st.data())
def test_log_checksums_see_every_column(event: Event, column: int, data: st.DataObject) -> None:
    """Changing any column of a stored event to anything else is found when it is read."""
    row = encode(event)
    other = data.draw(
        (st.none() | st.integers(-5, 5) | FINITE | TEXT).filter(
            lambda value: repr(value) != repr(row[column])
        )
    )
    changed: Any = (*row[:column], other, *row[column + 1 :])
    assert checksum(0, changed) != checksum(0, row)


@given(TEXT.filter(lambda kind: not hasattr(ev, kind)))
def test_log_refuses_unknown_kinds(kind: str) -> None:
    """Any kind that is not ours is an error, never an event."""
    with pytest.raises(RunError, match="does not know"):
        decode((0.0, kind, None, None, None, None, None, None, None, None))


@given(st.floats())
def test_log_keeps_nan_out_of_numbers(value: float) -> None:
    """The value column holds finite numbers alone."""
    row = encode(ev.MetricReported(at=0.0, trial=0, attempt=0, step=0, value=value))
    assert row[5] is None or math.isfinite(row[5])
    assert (row[5] is None) == (row[7] is not None)
