"""The worker's loop: get set up, run one trial after the other, say what came of each.

The main thread runs users' code, which may want signal handlers and the like.  One thread reads
what the driver says, another (``outbox``) sends.  When the driver is gone the whole process group
is killed at once, from the reading thread: users' code may never return.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
import time
import warnings
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol

from maggy.errors import WireError
from maggy.wire.messages import Quit, Ready, Refused, Run, Setup, SetupFailed, Stop
from maggy.worker import supervisor
from maggy.worker.checkpoints import Checkpoints
from maggy.worker.datasets import DataFile
from maggy.worker.home import Home, publish, settle
from maggy.worker.injection import Plan
from maggy.worker.outbox import Attempt, Outbox, Sender
from maggy.worker.output import Output
from maggy.worker.payload import Payload, load_payload
from maggy.worker.reporter import Reporter
from maggy.worker.runner import Outcome, describe, run_trial, unsendable
from maggy.worker.seeding import seed_everything

if TYPE_CHECKING:
    from collections.abc import Callable

    from maggy.wire.messages import ToWorker

__all__ = ["Connection", "kill_group", "serve"]

logger = logging.getLogger(__name__)

_LONG_TRIAL = 5.0  # seconds; after one, collecting its garbage costs next to nothing


class Connection(Sender, Protocol):
    """The part of ``wire.channel.Channel`` that a worker needs."""

    def receive(self) -> tuple[ToWorker, bytes | None] | None:
        """Wait for the next message; None when the driver is gone."""
        ...


def kill_group() -> None:
    """Kill this process and all its descendants, wherever they moved; at once.

    If it leads its process group, those go as well that were left in it by a parent that is gone.
    """
    try:
        supervisor.kill_descendants(os.getpid())
    finally:  # whatever stands in the way, such as a lack of file descriptors
        leader = os.getpgrp() == os.getpid()
        os.kill(0 if leader else os.getpid(), signal.SIGKILL)


def serve(
    connection: Connection, *, data_fd: int | None = None, lost: Callable[[], None] = kill_group
) -> None:
    """Do what the driver says until it says ``Quit``.

    Args:
        connection: To a driver that knows this worker.
        data_fd: The inherited descriptor of the run's data sets, if it has any.
        lost: Ends this process when the driver is gone; called from any thread.

    Raises:
        WireError: The driver refuses this worker, or does not start with ``Setup``.
    """
    received = connection.receive()
    if received is None:
        msg = "the driver was gone before it set this worker up."
        raise WireError(msg)
    setup, blob = received
    if isinstance(setup, Refused):
        msg = f"the driver refused this worker: {setup.reason}"
        raise WireError(msg)
    if not isinstance(setup, Setup) or blob is None:
        msg = f"the driver must begin with `Setup`, but sent `{type(setup).__name__}`."
        raise WireError(msg)
    output = Output(Path(setup.log_dir))
    try:
        _Worker(connection, setup, output, lost).work(blob, data_fd)
    finally:
        output.close()


class _Worker:
    """One worker between ``Setup`` and ``Quit``."""

    def __init__(
        self, connection: Connection, setup: Setup, output: Output, lost: Callable[[], None]
    ) -> None:
        self._connection = connection
        self._setup = setup
        self._output = output
        self._lost = lost
        self._outbox = Outbox(connection, setup.hb_interval, lost=lost, between=output.trim)
        self._queue: SimpleQueue[Attempt | None] = SimpleQueue()
        self._attempts: dict[tuple[int, int], Attempt] = {}  # received, not yet answered

    def work(self, blob: bytes, data_fd: int | None) -> None:
        """Load the training function, then run trials until ``Quit``."""
        self._outbox.start()
        threading.Thread(target=self._read, name="maggy-reader", daemon=True).start()
        try:
            call = self._load(blob, data_fd)
            if call is not None:
                self._outbox.deliver(Ready())
                self._run_trials(call)
        except OSError as error:
            logger.debug("the driver is gone: %s", error)
            self._lost()
        finally:
            self._outbox.close()

    def _load(self, blob: bytes, data_fd: int | None) -> _TrainingCall | None:
        try:
            settle(self._setup.sys_path, self._setup.cwd)
            plan = Plan.from_json(self._setup.plan)
            payload = load_payload(blob, None if data_fd is None else DataFile.open(data_fd))
            publish(payload)
        except BaseException as error:  # noqa: BLE001 - imports run users' code
            self._outbox.deliver(SetupFailed(error=describe(error)))
            return None
        return _TrainingCall(payload, plan)

    def _run_trials(self, call: _TrainingCall) -> None:
        home = Home()
        while (attempt := self._queue.get()) is not None:
            started = time.monotonic()
            self._run(attempt, call)
            home.restore()
            if time.monotonic() - started > _LONG_TRIAL:
                gc.collect()  # models in reference cycles hold the accelerator's memory

    def _run(self, attempt: Attempt, call: _TrainingCall) -> None:
        run = attempt.run
        reporter = Reporter(attempt, self._checkpoints(run))
        process = os.getpid()
        with self._output.trial(run.trial, run.attempt), warnings.catch_warnings():
            seed_everything(run.seed)
            outcome = run_trial(
                run,
                lambda: call(run, reporter),
                reporter,
                optimization_key=self._setup.optimization_key,
                output=self._output.tail,
            )
            if os.getpid() != process:  # a child that users' code has forked came back here
                os._exit(1)
            attempt.close()
        self._deliver(outcome)
        del self._attempts[run.trial, run.attempt]

    def _checkpoints(self, run: Run) -> Checkpoints | None:
        folder = self._setup.checkpoint_dir
        if folder is None:
            return None
        limit = self._setup.checkpoint_limit
        return Checkpoints(Path(folder), run.trial, run.attempt, limit=limit)

    def _deliver(self, outcome: Outcome) -> None:
        try:
            self._outbox.deliver(outcome)
        except ValueError as error:
            self._outbox.deliver(unsendable(outcome, error))

    def _read(self) -> None:
        try:
            while (received := self._connection.receive()) is not None:
                if self._take(received[0]):
                    return
        except WireError as error:
            logger.warning("the driver cannot be understood: %s", error)
        self._lost()

    def _take(self, message: ToWorker) -> bool:
        """Act on one message; True for the last one."""
        match message:
            case Run():
                attempt = Attempt(message, self._outbox)
                self._attempts[message.trial, message.attempt] = attempt
                self._queue.put(attempt)
            case Stop():
                told = self._attempts.get((message.trial, message.attempt))
                if told is not None:
                    told.stop(message.reason)
            case Quit():
                for attempt in list(self._attempts.values()):
                    attempt.stop("the run is over")
                self._queue.put(None)
                return True
            case Setup() | Refused():
                msg = f"`{type(message).__name__}` came twice or too late."
                raise WireError(msg)
        return False


class _TrainingCall:
    """Calls the training function with data of its own for each trial."""

    def __init__(self, payload: Payload, plan: Plan) -> None:
        self._payload = payload
        self._plan = plan

    def __call__(self, run: Run, reporter: Reporter) -> object:
        return self._plan.call(
            self._payload.train_fn,
            hparams=dict(run.hparams),
            reporter=reporter,
            budget=run.budget,
            seed=run.seed,
            provided=self._payload.provided(self._plan.provided),
        )
