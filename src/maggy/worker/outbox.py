"""What a worker sends: every report at once, from a thread of its own, and heartbeats.

A training function's thread only appends to a queue; the network's pace never reaches it.  While
one send is in progress further reports collect and leave together with the next.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Protocol

from maggy.errors import OutcomeError
from maggy.wire.messages import Heartbeat, Logged, Report, Saved

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from maggy.wire.fields import Point
    from maggy.wire.messages import FromWorker, Run

__all__ = ["Attempt", "Outbox", "Sender"]

logger = logging.getLogger(__name__)

_MAX_NUMBERS = 5000  # in one report: keeps it below the wire's limit of a frame
_MAX_ITEMS = 5000  # in one send


class Sender(Protocol):
    """The part of ``wire.channel.Channel`` that an outbox needs."""

    def send(self, *messages: FromWorker) -> None:
        """Send these in order; raises OSError when the driver is gone."""
        ...


class Outbox:
    """Collects what one worker has to say and sends it in order.

    Args:
        sender: Where to send.
        interval: The longest silence, seconds.
        lost: Called once, in the sending thread, when sending fails.
        between: Called in the sending thread after each send, so at least once an interval.
    """

    def __init__(
        self,
        sender: Sender,
        interval: float,
        *,
        lost: Callable[[], None],
        between: Callable[[], None],
    ) -> None:
        self._sender = sender
        self._interval = interval
        self._lost = lost
        self._between = between
        self._items: deque[tuple[Attempt, Point | str | Saved]] = deque()
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._sending = threading.Lock()  # held from taking items to having sent them
        self._sent_at = time.monotonic()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="maggy-outbox", daemon=True)

    def start(self) -> None:
        """Start the sending thread."""
        self._thread.start()

    def put(self, attempt: Attempt, item: Point | str | Saved) -> None:
        """Hand over a point, a logged text or the news of a checkpoint; returns at once."""
        self._items.append((attempt, item))
        self._wake.put(None)

    def deliver(self, *messages: FromWorker) -> None:
        """Send everything handed over so far and then these, in one piece.

        Raises:
            OSError: The driver is gone.
            ValueError: One of these cannot be sent; what was handed over before was sent.
        """
        with self._sending:
            while len(self._items) > _MAX_ITEMS:
                self._send(*self._taken())
            taken = self._taken()
            try:
                self._send(*taken, *messages)
            except ValueError:
                if taken:
                    self._send(*taken)
                raise

    def flush(self) -> None:
        """Send everything handed over so far; returns when the system has taken it.

        Raises:
            OSError: The driver is gone.
        """
        with self._sending:
            while self._items:
                self._send(*self._taken())

    def close(self) -> None:
        """End the sending thread; what was not sent yet stays unsent."""
        self._closed = True
        self._wake.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._closed:
                self._wait()
                with self._sending:
                    if self._items:
                        self._send(*self._taken())
                    elif time.monotonic() - self._sent_at >= self._interval:
                        self._send(Heartbeat())
                self._between()
        except OSError:
            if not self._closed:
                self._lost()

    def _wait(self) -> None:
        """Until there is something to send, or a heartbeat is due."""
        try:
            if not self._items:
                due = self._sent_at + self._interval
                self._wake.get(timeout=max(due - time.monotonic(), 0.0))
            while True:  # an item is there before its signal, so none of these is missed
                self._wake.get_nowait()
        except Empty:
            return

    def _send(self, *messages: FromWorker) -> None:
        self._sender.send(*messages)
        self._sent_at = time.monotonic()

    def _taken(self) -> list[FromWorker]:
        """The oldest items, taken out and packed: points in a row make one report."""
        messages: list[FromWorker] = []
        points: list[Point] = []
        owner, room = None, _MAX_NUMBERS
        for _ in range(min(len(self._items), _MAX_ITEMS)):
            attempt, item = self._items.popleft()
            if not isinstance(item, tuple):
                points, owner = [], None
                messages.append(_logged(attempt, item) if isinstance(item, str) else item)
                continue
            numbers = 1 + len(item[2] or ())
            if attempt is not owner or numbers > room:
                points, owner, room = [], attempt, _MAX_NUMBERS
                messages.append(
                    Report(trial=attempt.trial, attempt=attempt.attempt, points=points)
                )
            points.append(item)
            room -= numbers
        return messages


def _logged(attempt: Attempt, text: str) -> Logged:
    return Logged(trial=attempt.trial, attempt=attempt.attempt, text=text)


class Attempt:
    """One run of one trial as the worker sees it: the sink of its reporter.

    Once closed it takes nothing more and tells every caller to leave: a thread that a training
    function left behind cannot speak for a trial that is over.
    """

    def __init__(self, run: Run, outbox: Outbox) -> None:
        self.run = run
        self.trial = run.trial
        self.attempt = run.attempt
        self._outbox = outbox
        self._process = os.getpid()
        self._lock = threading.RLock()  # a signal handler may broadcast as well
        self._reason: str | None = None
        self._closed = False

    def report(self, step: int, value: float, others: Mapping[str, float] | None) -> None:
        """Hand one point to the outbox."""
        self._hand_over((step, value, others))

    def log(self, text: str) -> None:
        """Hand one text to the outbox."""
        self._hand_over(text)

    def flush(self) -> None:
        """Wait until what was handed over has left this process, or the driver is gone."""
        try:
            self._outbox.flush()
        except OSError as error:  # the sending thread finds out too, and ends this process
            logger.debug("the driver is gone: %s", error)

    def saved(self, step: int, size: int) -> None:
        """Hand the news of a checkpoint to the outbox."""
        self._hand_over(Saved(trial=self.trial, attempt=self.attempt, step=step, size=size))

    def stop_reason(self) -> str | None:
        """Why to leave, or None."""
        return self._reason

    def stop(self, reason: str) -> None:
        """Tell the training function to leave at its next broadcast."""
        self._reason = reason or "stopped"

    def close(self) -> None:
        """Take nothing more: the training function has returned."""
        with self._lock:
            self._closed = True
            self._reason = "this trial is over"

    def _hand_over(self, item: Point | str | Saved) -> None:
        if os.getpid() != self._process:
            msg = (
                "broadcast() and log() were called in a child process, from where nothing reaches "
                "the driver. Return the metric to the training function and broadcast it there."
            )
            raise OutcomeError(msg)
        with self._lock:
            if not self._closed:
                self._outbox.put(self, item)
