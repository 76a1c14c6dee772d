"""Keeps Spark jobs running, each of which is one agent, or more where there are many.

Each agent is a job of its own, with one task, so that nothing that happens to one of them ends
another: Spark gives a whole job up when one of its tasks has failed four times (in local mode:
once), may run a copy of a task that seems slow, and kills the original when the copy has ended.
For many agents a job has more tasks than one (``_MOST_JOBS``): each job costs a thread here and
one in the driver's JVM.

A job that ends while the run goes on is submitted again, after a pause that doubles.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Protocol

from maggy.engines.spark_errors import explain, was_lost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from maggy.engines.launcher import Desk, Invitation

__all__ = ["Cluster", "JobKeeper", "slot_name"]

logger = logging.getLogger(__name__)

_MOST_JOBS = 100
_BACK_OFF = 0.1
"""Seconds before a job that ended is submitted again; doubles while jobs end soon."""
_LONGEST_BACK_OFF = 30.0
_SOON = 30.0
"""Seconds: a job that lasted longer had a working agent, or waited for a slot."""
_HOPELESS = 3
"""So many jobs that end soon with an error, and none between that lasted, mean that none will."""
_HOPELESS_LOST = 20
"""The same for jobs that lost their processes or machines."""
_GRACE = 1.0
"""Seconds that agents which were told to leave get before their jobs are cancelled."""
_PATIENCE = 20.0
"""Seconds that cancelled jobs get to end."""


class Cluster(Protocol):
    """A way to Spark: the classic one, or Spark Connect."""

    def slots(self) -> int:
        """How many of our tasks can run at a time, as far as Spark knows now; at least 1."""
        ...

    def hosts(self) -> tuple[str, str]:
        """The address to listen on, and the one by which executors reach it.

        Raises:
            ConfigError: There is none.
        """
        ...

    def where(self) -> str:
        """Where to find our jobs in Spark's own displays, a clause."""
        ...

    def submit(self, invitation: Invitation, slots: Sequence[int]) -> None:
        """Run one job with an agent for each of these slots, and wait for its end.

        Called on a thread whose target was wrapped by ``inheriting``.  Whatever Spark raises is
        passed on.
        """
        ...

    def cancel(self) -> None:
        """Cancel all the jobs of this run that have begun."""
        ...

    def inheriting(self) -> Callable[[Callable[[], None]], None]:
        """Calls its argument, on any one thread, with what this thread has set for Spark."""
        ...


def slot_name(slot: int) -> str:
    """What the agents of a slot are called before the random part of their names."""
    return f"spark-{slot}"


class JobKeeper:
    """Keeps as many agents running as a run wants; each job has a thread of its own.

    Args:
        cluster: Runs the jobs.
        inside: ``cluster.inheriting()`` of the thread whose settings the jobs get.
    """

    def __init__(self, cluster: Cluster, inside: Callable[[Callable[[], None]], None]) -> None:
        self._cluster = cluster
        self._inside = inside
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._failures = {True: 0, False: 0}
        self._thread: threading.Thread | None = None

    def start(self, invitation: Invitation, desk: Desk, count: int) -> None:
        """Submit jobs with ``count`` slots in all; returns at once."""
        self._invitation, self._desk = invitation, desk
        self._thread = threading.Thread(
            target=self._inside,
            args=(lambda: self._oversee(_batches(count)),),
            name="maggy-spark",
            daemon=True,
        )
        self._thread.start()

    def close(self) -> None:
        """Cancel what has not ended, and wait for it for some seconds."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()

    def _oversee(self, batches: Sequence[range]) -> None:
        threads = []
        for slots in batches:
            thread = threading.Thread(
                target=self._cluster.inheriting(),
                args=(lambda slots=slots: self._keep(slots),),
                name=f"maggy-spark-{slots[0]}",
                daemon=True,
            )
            thread.start()
            threads.append(thread)
        self._closing.wait()
        self._end(threads)

    def _keep(self, slots: range) -> None:
        """Run jobs for these slots, one after the other, until ``close``."""
        delay = _BACK_OFF
        while not self._closing.is_set():
            began = time.monotonic()
            failure = self._run(slots)
            if self._closing.is_set():
                return
            reason = "its Spark job ended" if failure is None else explain(failure)
            for slot in slots:
                self._desk.vanished(slot_name(slot), reason)
            if time.monotonic() - began > _SOON:
                delay = _BACK_OFF
                self._forgive()
            elif failure is not None:
                self._count(failure, reason)
            logger.info("agent %d of Spark: %s. Again in %.1f s.", slots[0], reason, delay)
            self._closing.wait(delay)
            delay = min(2 * delay, _LONGEST_BACK_OFF)

    def _run(self, slots: range) -> Exception | None:
        try:
            self._cluster.submit(self._invitation, slots)
        except Exception as error:  # noqa: BLE001 - py4j and the tasks raise anything
            return error
        return None

    def _forgive(self) -> None:
        with self._lock:
            self._failures = dict.fromkeys(self._failures, 0)

    def _count(self, failure: Exception, reason: str) -> None:
        lost = was_lost(failure)
        with self._lock:
            self._failures[lost] += 1
            count = self._failures[lost]
        if count >= (_HOPELESS_LOST if lost else _HOPELESS):
            text = str(failure)
            output = "" if text.rstrip(".") == reason else text
            self._desk.hopeless(f"Spark could not run any agent: {reason}.", output)

    def _end(self, threads: Sequence[threading.Thread]) -> None:
        _join(threads, _GRACE)
        deadline = time.monotonic() + _PATIENCE
        while any(thread.is_alive() for thread in threads) and time.monotonic() < deadline:
            try:  # again and again: a job may have been about to be submitted
                self._cluster.cancel()
            except Exception as error:  # noqa: BLE001 - the session may be gone, and its jobs
                logger.debug("the jobs cannot be cancelled: %s", error)
            _join(threads, 0.5)
        left = sum(thread.is_alive() for thread in threads)
        if left:
            logger.warning(
                "%d Spark jobs of the agents have not ended %.0f s after they were cancelled; "
                "see the Spark UI.", left, _PATIENCE,
            )  # fmt: skip


def _join(threads: Iterable[threading.Thread], timeout: float) -> None:
    """Wait for all of them, so long together."""
    deadline = time.monotonic() + timeout
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def _batches(count: int) -> list[range]:
    size = -(-count // _MOST_JOBS)
    return [range(first, min(first + size, count)) for first in range(0, count, size)]
