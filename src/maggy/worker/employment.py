"""One worker of an agent, from the order to start it to the news that it is gone.

What it says is passed on as it is and in order.  Three kinds of messages wait until files are
where they belong: ``Run``, until the trial's checkpoint is here; ``Saved``, until the checkpoint
is with the driver; the outcome of a trial, until its output is.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import re
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from maggy.errors import WireError
from maggy.wire.framing import JSON, LIMIT, encode_frame
from maggy.wire.link import parcel
from maggy.wire.messages import (
    Exited,
    Failed,
    Finished,
    Logged,
    Quit,
    Run,
    Saved,
    Stopped,
    decode_from_worker,
)
from maggy.worker.output import tail
from maggy.worker.stream import adopt

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from maggy.wire.framing import Frame
    from maggy.wire.messages import Setup, Stop
    from maggy.worker.carrier import Carrier
    from maggy.worker.children import Children
    from maggy.worker.stream import Stream

__all__ = ["ENDED", "Employment", "Order", "Workplace", "settled"]

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

Order: TypeAlias = "Run | Stop | Quit"
"""What a worker is told."""

_LAST_WORDS = 1.0
"""Seconds between the end of a worker's process and of its connection, either way round."""

_LAST_OUTPUT = 1.0
"""Seconds that the output of a trial may take whose worker is gone."""

ENDED = "ended by maggy"
"""Why a worker is gone, unless there is more to say."""

_KIND = re.compile(rb'\{"t":"(\w+)"')
_KEPT_HERE = frozenset({b"Hello", b"Heartbeat"})
_PASSED_ON = frozenset({b"Ready", b"SetupFailed", b"Report", b"Logged"})
_WITH_FILES = frozenset({b"Saved", b"Finished", b"Failed", b"Stopped"})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """What an agent has for its workers.

    Attributes:
        folder: The agent's scratch folder.
        children: Starts their processes.
        carrier: Brings their files.
        fetch_data: Gives a descriptor of the run's data sets, to be closed, or None.
        post: Says one numbered message to the driver, given its frames.
        full: Whether the driver is too far behind to be told more.
        room: Waits until it is not.
    """

    folder: Path
    children: Children
    carrier: Carrier
    fetch_data: Callable[[], Coroutine[None, None, int | None]]
    post: Callable[[bytes], None]
    full: Callable[[], bool]
    room: Callable[[], Coroutine[None, None, None]]


def settled(setup: Setup, folder: Path, carrier: Carrier) -> Setup:
    """What a worker on this machine is told instead of what the driver said.

    This process's own ``sys.path`` comes first, then those of the driver's entries that exist
    here.  The working directory is the driver's if it exists here.

    Args:
        setup: The driver's.
        folder: The agent's scratch folder.
        carrier: Knows where files are that travel.

    Raises:
        NotADirectoryError: The folder for checkpoints should be shared, but is not here.
    """
    shared = setup.checkpoint_limit is None
    if shared and setup.checkpoint_dir is not None and not Path(setup.checkpoint_dir).is_dir():
        msg = (
            f"the `checkpoint_dir` {setup.checkpoint_dir} is not there on {socket.gethostname()}. "
            "Mount it on every machine, or leave `checkpoint_dir` out of the config."
        )
        raise NotADirectoryError(msg)
    here = Path(setup.cwd).is_dir() and os.access(setup.cwd, os.X_OK)
    theirs = [str(Path(setup.cwd, entry)) for entry in setup.sys_path]
    own = [str(Path.cwd() / entry) for entry in sys.path]
    travels = setup.checkpoint_dir is not None and not shared
    return dataclasses.replace(
        setup,
        sys_path=list(dict.fromkeys([*own, *(entry for entry in theirs if Path(entry).exists())])),
        cwd=setup.cwd if here else str(folder / "work"),
        log_dir=str(carrier.trials),
        checkpoint_dir=str(carrier.checkpoints) if travels else setup.checkpoint_dir,
    )


async def _first(
    end: asyncio.Future[str], listening: asyncio.Task[str], telling: asyncio.Task[None]
) -> None:
    """Wait until the process or its connection has ended; raise what ``telling`` raised."""
    pending: set[asyncio.Future[Any]] = {end, listening, telling}
    while not end.done() and not listening.done():
        await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if telling in pending and telling.done():
            pending.remove(telling)
            telling.result()


class _Fired(Exception):
    """The worker is not wanted any more."""


class Employment:
    """One worker: its process, what it is told and what it says.

    Args:
        worker: Its name.
        setup: What it needs before its first trial, as the driver said it.
        payload: The training function.
        place: What the agent has for it.
    """

    def __init__(self, worker: str, setup: Setup, payload: bytes, place: Workplace) -> None:
        self.worker = worker
        self._setup = setup
        self._payload = payload
        self._place = place
        self._orders: asyncio.Queue[tuple[Order, bytes]] = asyncio.Queue()
        self._fired = asyncio.Event()
        self._why = ""  # it was fired
        self._running: dict[int, int] = {}  # the attempt of each trial that has no outcome yet
        self._leaving = False
        self._dead = False
        self._waiting: asyncio.Timeout | None = None

    def order(self, message: Order, payload: bytes) -> None:
        """Tell the worker, after what it was told before.

        Args:
            message: What.
            payload: The same as it came, and as it is passed on.
        """
        self._orders.put_nowait((message, payload))

    def fire(self, why: str = ENDED) -> None:
        """End the worker by force, now or as soon as it is started.

        Args:
            why: For the driver, a clause; that of the first call counts.
        """
        if not self._fired.is_set():
            self._why = why
        self._fired.set()
        self._place.children.kill(self.worker)

    async def run(self) -> None:
        """Start the worker, and return when it is gone and the driver was told so."""
        log = self._place.folder / "worker.log"
        log.unlink(missing_ok=True)
        try:
            reason = await self._work(log)
            if self._fired.is_set():
                reason = self._why
        except _Fired:
            reason = self._why
        except OSError as error:
            reason = f"its agent could not serve it: {error.strerror or error}"
        for trial, attempt in self._running.items():
            await self._send_output(trial, attempt, _LAST_OUTPUT)
        words = tail(log)
        self._place.post(parcel(Exited(worker=self.worker, reason=reason, output=words)))

    async def _work(self, log: Path) -> str:
        """The worker's life; how its process ended."""
        setup = settled(self._setup, self._place.folder, self._place.carrier)
        if setup.cwd != self._setup.cwd:
            Path(setup.cwd).mkdir(exist_ok=True)
        data = await self._unless_fired(self._place.fetch_data())
        ours, end = self._start(data, log)
        if self._fired.is_set():
            self._place.children.kill(self.worker)
        stream = await adopt(ours, limit=LIMIT)
        stream.write(parcel(setup, self._payload))
        telling = asyncio.create_task(self._tell(stream))
        listening = asyncio.create_task(self._listen(stream))
        try:
            await _first(end, listening, telling)
            if not end.done():
                await self._see_off(end, listening)
            reason = await end
            self._hurry()
            return await listening or reason
        finally:
            telling.cancel()
            listening.cancel()
            stream.abort()
            self._place.children.kill(self.worker)
            await asyncio.wait({end}, timeout=_LAST_WORDS)

    def _start(self, data: int | None, log: Path) -> tuple[socket.socket, asyncio.Future[str]]:
        """Our end of the connection to the worker, and how it ends; ``data`` is closed."""
        with contextlib.ExitStack() as stack:
            inherited = {}
            if data is not None:
                stack.callback(os.close, data)
                inherited["data_fd"] = data
            ours, theirs = socket.socketpair()
            stack.callback(theirs.close)
            inherited["fd"] = theirs.fileno()
            try:
                end = self._place.children.start(
                    self.worker,
                    bootstrap={"worker": self.worker, **inherited},
                    pass_fds=inherited.values(),
                    output=log,
                )
            except BaseException:
                ours.close()
                raise
            return ours, end

    async def _see_off(self, end: asyncio.Future[str], listening: asyncio.Task[str]) -> None:
        """End a process that has hung up, unless it was asked to leave: it has its own time."""
        if self._leaving and not listening.result():
            return
        await asyncio.wait({end}, timeout=_LAST_WORDS)
        self._place.children.kill(self.worker)

    def _hurry(self) -> None:
        """The process is gone: only what it has said already is still to come."""
        self._dead = True
        if self._waiting is not None:
            self._waiting.reschedule(asyncio.get_running_loop().time() + _LAST_WORDS)

    async def _tell(self, stream: Stream) -> None:
        """Pass the orders on."""
        try:
            await stream.drain()
            while True:
                message, payload = await self._orders.get()
                if isinstance(message, Run):
                    self._running[message.trial] = message.attempt
                    if self._place.carrier.brings(message.attempt):
                        await self._bring(message)
                self._leaving = self._leaving or isinstance(message, Quit)
                stream.write(encode_frame(JSON, payload))
                await stream.drain()
        except (_Fired, ConnectionError) as error:
            logger.debug("worker %s is told nothing more: %s", self.worker, error)

    async def _listen(self, stream: Stream) -> str:
        """Pass on what the worker says, to its last word; what was wrong with that, or ""."""
        try:
            while (frame := await self._next(stream)) is not None:
                await self._pass_on(frame)
        except WireError as error:
            return f"it broke the protocol: {error}"
        return ""

    async def _next(self, stream: Stream) -> Frame | None:
        """The worker's next message; None when there is no more."""
        try:
            async with asyncio.timeout(_LAST_WORDS if self._dead else None) as self._waiting:
                return await stream.receive()
        except TimeoutError:  # a child of the worker holds the connection open
            return None
        finally:
            self._waiting = None

    async def _pass_on(self, frame: Frame) -> None:
        match = _KIND.match(frame.payload) if frame.kind == JSON else None
        kind = match[1] if match else b""
        if kind in _KEPT_HERE:
            return
        if kind not in _PASSED_ON | _WITH_FILES:  # it would end the agent's connection
            msg = f"{len(frame.payload)} bytes are no message of a worker."
            raise WireError(msg)
        if kind in _PASSED_ON or await self._attend(frame.payload):
            self._place.post(encode_frame(JSON, frame.payload))
            if self._place.full():
                with contextlib.suppress(_Fired):
                    await self._unless_fired(self._place.room())

    async def _attend(self, payload: bytes) -> bool:
        """Bring the files that go with a message; whether to pass it on."""
        message = decode_from_worker(payload)
        if isinstance(message, Saved):
            return await self._save(message)
        assert isinstance(message, (Finished, Failed, Stopped))
        attempt = self._running.pop(message.trial, None)
        if attempt is not None:
            with contextlib.suppress(_Fired):
                await self._unless_fired(self._send_output(message.trial, attempt, None))
        try:
            await self._place.carrier.forget(message.trial)
        except OSError as error:
            logger.warning("checkpoints of trial %d stay behind: %s", message.trial, error)
        return True

    async def _bring(self, run: Run) -> None:
        """Have the trial's checkpoint here, or tell why it begins anew."""
        try:
            await self._unless_fired(self._place.carrier.bring(run.trial, run.attempt))
        except OSError as error:
            self._log(run, f"maggy: the trial begins anew, its checkpoint did not come: {error}")

    async def _save(self, saved: Saved) -> bool:
        """Bring a checkpoint to the driver; False if it is not there."""
        try:
            return await self._unless_fired(self._place.carrier.take(saved))
        except _Fired:
            return False
        except OSError as error:
            self._log(saved, f"maggy: the checkpoint at step {saved.step} is not kept: {error}")
            return False

    async def _send_output(self, trial: int, attempt: int, seconds: float | None) -> None:
        """Bring what an attempt has printed to the driver, in so many seconds at most."""
        try:
            async with asyncio.timeout(seconds):
                await self._place.carrier.take_output(trial, attempt)
        except OSError as error:  # TimeoutError is one
            logger.warning("the output of trial %d stays behind: %s", trial, error)

    def _log(self, about: Run | Saved, text: str) -> None:
        logger.info("trial %d: %s", about.trial, text)
        message = Logged(trial=about.trial, attempt=about.attempt, text=text)
        self._place.post(parcel(message))

    async def _unless_fired(self, work: Coroutine[None, None, _T]) -> _T:
        """The result of this work, which is given up when the worker is fired.

        Raises:
            _Fired: It was.
        """
        working = asyncio.create_task(work)
        firing = asyncio.create_task(self._fired.wait())
        try:
            await asyncio.wait({working, firing}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise _Fired
            return working.result()
        finally:
            firing.cancel()
            working.cancel()
