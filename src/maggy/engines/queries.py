"""One trial per query, for clusters whose executors cannot reach this process.

A worker is then no process but a place in line: it is ready at once, and each of its trials is a
query that returns all that the trial has said when it has ended.  So trials are not stopped before
their end, and reports come late; everything else is as ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from maggy.engines.interrupts import interrupts
from maggy.engines.query_task import LOG, MESSAGE, Errand
from maggy.engines.session import Session
from maggy.engines.spark_errors import explain
from maggy.errors import ConfigError
from maggy.trial import log_name
from maggy.wire.messages import Quit, Ready, Run, Setup, decode_from_worker, encode
from maggy.worker.datasets import DataFile
from maggy.worker.payload import dump_payload

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from maggy.config import OptimizationConfig
    from maggy.engines.job import Job
    from maggy.engines.staff import Order, Owner
    from maggy.events import Event

__all__ = ["Queries", "QueryEngine", "QueryStaff"]

logger = logging.getLogger(__name__)

_MOST = 64 * 2**20
"""The most bytes that travel with each query; servers take messages of 128 MB."""
_PATIENCE = 10.0
"""Seconds that interrupted queries get to end."""


class Queries(Protocol):
    """A cluster that answers queries; every method may be called from any thread."""

    reason: str
    """Why it takes queries, a clause."""

    def ask(self, worker: str, errand: Errand) -> Sequence[tuple[str, bytes]]:
        """Run one trial and wait for what ``query_task.run_one`` returns.

        Called on a thread whose target was wrapped by ``inheriting``.  Whatever the cluster raises
        is passed on.
        """
        ...

    def interrupt(self, worker: str) -> None:
        """End this worker's query, if there is one."""
        ...

    def inheriting(self) -> Callable[[Callable[[], None]], None]:
        """See ``maggy.engines.spark_jobs.Cluster``."""
        ...


class QueryEngine:
    """Runs each trial as a query.

    Args:
        train_fn: The training function.
        config: The options.
        queries: Answers them.

    Raises:
        UnpicklableError: The function or what it is given cannot be sent to a worker.
        ConfigError: They are too large to travel with each query.

    Attributes:
        notes: What the user should know before the run begins.
    """

    def __init__(
        self, train_fn: Callable[..., Any], config: OptimizationConfig, queries: Queries
    ) -> None:
        provided = config.provided()
        sets = {name: value for name, value in provided.items() if name != "model"}
        self._payload = dump_payload(train_fn, model=provided.get("model"), travels=True)
        data = DataFile.publish(sets, travels=True) if sets else None
        size = len(self._payload) + (0 if data is None else data.size)
        if size > _MOST:
            msg = (
                f"the training function and its data sets have {size / 1e6:,.0f} MB, but a query "
                f"for each trial takes {_MOST / 1e6:,.0f} MB at most, and {queries.reason}. Let "
                "the function read its data itself, or make this process reachable."
            )
            raise ConfigError(msg)
        self._data = None if data is None else _whole(data)
        self._checkpoints = config.checkpoint_dir is not None
        cpus = (config.resources or {}).get("cpu")
        self._threads = None if cpus is None else int(cpus)
        self._queries = queries
        self.notes = (
            f"each trial is one query, without early stopping in mid-trial: {queries.reason}",
        )

    def run(self, job: Job, feed: Callable[[Sequence[Event]], None]) -> None:
        """See ``maggy.engines.job.Engine``."""
        setup = Setup(
            sys_path=sys.path,
            cwd=str(Path.cwd()),
            log_dir=str(job.trial_logs),
            hb_interval=job.hb_interval,
            plan=job.plan.to_json(),
            optimization_key=job.optimization_key,
            checkpoint_dir=str(job.checkpoints) if self._checkpoints else None,
        )

        def errand(run: Run) -> Errand:
            return Errand(encode(setup), self._payload, self._data, encode(run), self._threads)

        session = Session(
            job, lambda owner: QueryStaff(owner, self._queries, errand, job.trial_logs)
        )
        with interrupts(session.cancel, heeded=lambda: job.ended_early):
            session.run(feed)


class QueryStaff:
    """See ``maggy.engines.staff.Staff``.

    Args:
        owner: Told what happens.
        queries: Answers them.
        errand: What a query needs for a run.
        logs: The folder for the output of the trials.
    """

    def __init__(
        self, owner: Owner, queries: Queries, errand: Callable[[Run], Errand], logs: Path
    ) -> None:
        self._owner = owner
        self._queries = queries
        self._errand = errand
        self._logs = logs
        self._workers: set[str] = set()
        self._busy: dict[str, threading.Thread] = {}
        self._leaving: set[str] = set()

    async def open(self) -> None:
        """Nothing has to be started."""
        self._aio = asyncio.get_running_loop()
        self._inherit = self._queries.inheriting

    def hire(self, worker: str) -> None:
        """It is ready at once."""
        self._workers.add(worker)
        self._aio.call_soon(self._tell, worker, Ready())

    def send(self, worker: str, order: Order) -> None:
        """Run a trial, or leave after it; a stop cannot be delivered."""
        if worker not in self._workers:
            return
        if isinstance(order, Run):
            thread = threading.Thread(
                target=self._inherit(),
                args=(lambda: self._ask(worker, order),),
                name=f"maggy-query-{worker}",
                daemon=True,
            )
            self._busy[worker] = thread
            thread.start()
        elif isinstance(order, Quit):
            self._leaving.add(worker)
            if worker not in self._busy:
                self._aio.call_soon(self._lose, worker, "it has left")

    def fire(self, worker: str) -> None:
        """Interrupt its query."""
        self._aio.call_soon(self._lose, worker, "ended by maggy")
        if worker in self._busy:
            threading.Thread(target=self._interrupt, args=(worker,), daemon=True).start()

    def last_words(self, worker: str) -> str:
        """They come with the error."""
        return ""

    async def close(self) -> None:
        """Interrupt what runs, and wait for it for some seconds."""
        self._workers.clear()
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        busy = dict(self._busy)
        for worker in busy:
            self._interrupt(worker)
        for worker, thread in busy.items():
            thread.join(_PATIENCE)
            if thread.is_alive():
                logger.warning("the query of %s has not ended; see Spark's own displays.", worker)

    def _interrupt(self, worker: str) -> None:
        try:
            self._queries.interrupt(worker)
        except Exception as error:  # noqa: BLE001 - the session may be gone, and its queries
            logger.debug("the query of %s cannot be interrupted: %s", worker, error)

    def _ask(self, worker: str, run: Run) -> None:
        """On a thread of its own: run the trial, and report what came of it."""
        try:
            said = self._queries.ask(worker, self._errand(run))
            failure = None
        except Exception as error:  # noqa: BLE001 - the cluster raises anything
            said, failure = (), explain(error)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            self._aio.call_soon_threadsafe(self._answered, worker, run, said, failure)

    def _answered(
        self, worker: str, run: Run, said: Sequence[tuple[str, bytes]], failure: str | None
    ) -> None:
        self._busy.pop(worker, None)
        try:
            self._pass_on(worker, run, said)
        except Exception as error:  # noqa: BLE001 - the log's, or the cluster returned nonsense
            self._owner.fail(error)
        if failure is not None:
            self._lose(worker, failure)
        elif worker in self._leaving:
            self._lose(worker, "it has left")

    def _pass_on(self, worker: str, run: Run, said: Sequence[tuple[str, bytes]]) -> None:
        for kind, content in said:
            if kind == LOG:
                _append(self._logs / log_name(run.trial), content)
            elif kind == MESSAGE:
                self._tell(worker, decode_from_worker(content))

    def _tell(self, worker: str, message: Any) -> None:
        if worker in self._workers:
            self._owner.heard(worker, message)

    def _lose(self, worker: str, reason: str) -> None:
        if worker in self._workers:
            self._workers.discard(worker)
            self._owner.lost(worker, reason)


def _append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)


def _whole(data: DataFile) -> bytes:
    """All of the file, which is closed."""
    try:
        return os.pread(data.fd, data.size, 0)
    finally:
        data.close()
