"""What a worker sends, and in which order."""

from __future__ import annotations

import math
import os
import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING

import pytest

from maggy.errors import OutcomeError
from maggy.wire.messages import Finished, Heartbeat, Logged, Ready, Report, Run, Saved, encode
from maggy.worker.outbox import Attempt, Outbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from maggy.wire.messages import FromWorker

FINISHED = Finished(trial=1, attempt=0, value=1.0, info=None)


class Wire:
    """A connection that keeps what is sent, and can be held or cut."""

    def __init__(self) -> None:
        self.sends: SimpleQueue[tuple[FromWorker, ...]] = SimpleQueue()
        self.open = threading.Event()
        self.open.set()
        self.cut = False

    def send(self, *messages: FromWorker) -> None:
        assert self.open.wait(10)
        if self.cut:
            raise BrokenPipeError
        for message in messages:
            encode(message)
        self.sends.put(messages)

    def next(self) -> tuple[FromWorker, ...]:
        """The next send, waited for."""
        return self.sends.get(timeout=10)


def nothing() -> None:
    """Do nothing."""


def attempt_of(outbox: Outbox, trial: int = 1) -> Attempt:
    """Attempt 0 of a trial."""
    return Attempt(Run(trial=trial, attempt=0, hparams={}, budget=None, seed=0), outbox)


@pytest.fixture
def wire() -> Wire:
    """A wire."""
    return Wire()


@pytest.fixture
def lost() -> threading.Event:
    """Set when the driver is lost."""
    return threading.Event()


@pytest.fixture
def outbox(wire: Wire, lost: threading.Event) -> Iterator[Outbox]:
    """A started outbox whose heartbeat never comes in a test's time."""
    outbox = Outbox(wire, 1000.0, lost=lost.set, between=nothing)
    outbox.start()
    yield outbox
    wire.open.set()
    outbox.close()


def test_a_report_leaves_at_once(wire: Wire, outbox: Outbox) -> None:
    """Nothing waits for the heartbeat."""
    attempt_of(outbox).report(0, 0.5, {"loss": 1.0})
    assert wire.next() == (Report(trial=1, attempt=0, points=[(0, 0.5, {"loss": 1.0})]),)


def test_while_a_send_is_in_progress_reports_collect(wire: Wire, outbox: Outbox) -> None:
    """What is broadcast during a send leaves with the next one, in order, in few messages."""
    attempt = attempt_of(outbox)
    wire.open.clear()
    for step in range(1000):
        attempt.report(step, 1.0, None)
        if step == 499:
            attempt.log("half way")
    wire.open.set()
    messages: list[FromWorker] = []
    outbox.deliver(FINISHED)
    while FINISHED not in messages:
        messages += wire.next()
    steps = [point[0] for m in messages if isinstance(m, Report) for point in m.points]
    assert steps == list(range(1000))
    half = messages.index(Logged(trial=1, attempt=0, text="half way"))
    assert sum(len(m.points) for m in messages[:half] if isinstance(m, Report)) == 500
    assert len(messages) <= 6
    assert messages[-1] == FINISHED


def test_the_outcome_leaves_with_the_points_before_it(wire: Wire) -> None:
    """``deliver`` sends what is pending and the outcome in one piece, points first."""
    outbox = Outbox(wire, 1000.0, lost=nothing, between=nothing)
    attempt_of(outbox).report(0, 0.5, None)
    attempt_of(outbox, trial=2).report(0, 0.7, None)
    outbox.deliver(FINISHED)
    assert wire.next() == (
        Report(trial=1, attempt=0, points=[(0, 0.5, None)]),
        Report(trial=2, attempt=0, points=[(0, 0.7, None)]),
        FINISHED,
    )


def test_many_points_are_split_into_messages_of_bounded_size(wire: Wire) -> None:
    """Neither a report nor a single send grows without bounds."""
    outbox = Outbox(wire, 1000.0, lost=nothing, between=nothing)
    attempt = attempt_of(outbox)
    others = {str(i): 1.0 for i in range(999)}
    for step in range(12_000):
        attempt.report(step, 1.0, others if step < 10 else None)
    outbox.deliver(FINISHED)
    sends = [wire.next() for _ in range(3)]
    reports = [m for send in sends for m in send if isinstance(m, Report)]
    assert [len(report.points) for report in reports][:2] == [5, 5]
    assert sum(len(report.points) for report in reports) == 12_000
    assert sends[-1][-1] == FINISHED


def test_silence_is_broken_by_heartbeats(wire: Wire) -> None:
    """Whoever has nothing to say says so once an interval, and looks around in between."""
    looks: SimpleQueue[None] = SimpleQueue()
    outbox = Outbox(wire, 0.02, lost=nothing, between=lambda: looks.put(None))
    outbox.start()
    began = time.monotonic()
    assert [wire.next() for _ in range(3)] == [(Heartbeat(),)] * 3
    assert time.monotonic() - began >= 0.03
    looks.get(timeout=10)
    outbox.close()


def test_the_network_never_holds_a_broadcast(wire: Wire, outbox: Outbox) -> None:
    """Reports are taken although nothing can be sent."""
    wire.open.clear()
    attempt = attempt_of(outbox)
    for step in range(1000):
        attempt.report(step, 1.0, None)
    assert wire.sends.empty()


def test_a_lost_driver_is_noticed_when_sending(
    wire: Wire, outbox: Outbox, lost: threading.Event
) -> None:
    """A failing send in the sending thread calls ``lost``; in the caller's it raises."""
    wire.cut = True
    attempt_of(outbox).report(0, 1.0, None)
    assert lost.wait(10)
    with pytest.raises(BrokenPipeError):
        outbox.deliver(Ready())


def test_an_attempt_that_is_over_sends_nothing(wire: Wire) -> None:
    """A thread that goes on reporting after the end is told to leave and not heard."""
    outbox = Outbox(wire, 1000.0, lost=nothing, between=nothing)
    attempt = attempt_of(outbox)
    assert attempt.stop_reason() is None
    attempt.close()
    attempt.report(0, 1.0, None)
    attempt.log("hello?")
    outbox.deliver(FINISHED)
    assert wire.next() == (FINISHED,)
    assert attempt.stop_reason() == "this trial is over"


def test_a_checkpoint_is_told_in_its_place(wire: Wire) -> None:
    """After the points before it and before those behind it."""
    outbox = Outbox(wire, 1000.0, lost=nothing, between=nothing)
    attempt = attempt_of(outbox)
    attempt.report(0, 0.5, None)
    attempt.saved(0, 1000)
    attempt.report(1, 0.25, None)
    outbox.deliver(FINISHED)
    assert wire.next() == (
        Report(trial=1, attempt=0, points=[(0, 0.5, None)]),
        Saved(trial=1, attempt=0, step=0, size=1000),
        Report(trial=1, attempt=0, points=[(1, 0.25, None)]),
        FINISHED,
    )


def test_a_flush_leaves_nothing_behind(wire: Wire) -> None:
    """Everything handed over has been sent when it returns; a lost driver is no error."""
    outbox = Outbox(wire, 1000.0, lost=nothing, between=nothing)
    attempt = attempt_of(outbox)
    attempt.flush()
    attempt.report(0, 0.5, None)
    attempt.flush()
    assert wire.next() == (Report(trial=1, attempt=0, points=[(0, 0.5, None)]),)
    assert wire.sends.empty()
    wire.cut = True
    attempt.report(1, 0.5, None)
    attempt.flush()


def test_what_was_handed_over_survives_an_outcome_that_cannot_be_sent(wire: Wire) -> None:
    """The points leave, the outcome raises, and another one can follow."""
    outbox = Outbox(wire, 1000.0, lost=nothing, between=nothing)
    attempt_of(outbox).report(0, 0.5, None)
    broken = Finished(trial=1, attempt=0, value=1.0, info={"x": math.nan})
    with pytest.raises(ValueError, match="not JSON compliant"):
        outbox.deliver(broken)
    with pytest.raises(ValueError, match="not JSON compliant"):
        outbox.deliver(broken)
    outbox.deliver(FINISHED)
    assert wire.next() == (Report(trial=1, attempt=0, points=[(0, 0.5, None)]),)
    assert wire.next() == (FINISHED,)


def test_a_stop_reaches_its_attempt() -> None:
    """The reason is handed through; an empty one is still a stop."""
    outbox = Outbox(Wire(), 1000.0, lost=nothing, between=nothing)
    attempt = attempt_of(outbox)
    attempt.stop("hopeless")
    assert attempt.stop_reason() == "hopeless"
    attempt.stop("")
    assert attempt.stop_reason()


def test_a_child_process_is_told_that_it_cannot_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a fork a broadcast would reach nobody, so it raises."""
    attempt = attempt_of(Outbox(Wire(), 1000.0, lost=nothing, between=nothing))
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(OutcomeError, match="child process"):
        attempt.report(0, 1.0, None)
