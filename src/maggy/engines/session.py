"""One run with workers in processes of their own: server, loop and staff on one thread.

The thread that called ``run`` only waits, shows what happened and passes Ctrl-C on; everything
else happens on the driver's thread, so nothing here needs a lock.  A worker is lost when its
process has exited *and* its connection has ended: what it said last still counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from maggy.engines.advisor import InlineAdvisor, ThreadedAdvisor
from maggy.engines.loop import Loop
from maggy.engines.seeds import trial_seed
from maggy.engines.server import Server
from maggy.engines.translate import events_of
from maggy.events import CancelRequested, EngineFailed, WorkerLost
from maggy.trial import TrialError
from maggy.wire.handshake import new_key
from maggy.wire.messages import Quit, Ready, Run, Setup, Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from maggy.commands import Assign, Interrupt, StopTrial
    from maggy.engines.advisor import Advisor
    from maggy.engines.job import Job
    from maggy.events import Event
    from maggy.wire.messages import FromWorker, Hello

__all__ = ["Session", "Staff"]

_FEED_INTERVAL = 0.1
_CANCEL_GRACE = 1.0
_QUIT_GRACE = 2.0
"""Seconds that a worker gets to leave by itself, for the exit handlers of user code."""
_LAST_WORDS = 1.0
"""Seconds between the end of a connection and of its process before the other is ended too."""
_EARLY_DEATHS = 3
"""So many workers in a row that die before they are ready end the run."""
_BACK_OFF = 0.1
"""Seconds before the first replacement of a worker that died early; doubles."""


class Staff(Protocol):
    """Gets workers started and notices that one is gone; all that engines differ in."""

    def hire(self, worker: str, address: tuple[str, int], key: bytes) -> None:
        """Start a worker that connects to this address with this key."""
        ...

    def fire(self, worker: str) -> None:
        """End a worker by force; nothing happens when it is gone already."""
        ...

    def last_words(self, worker: str) -> str:
        """The end of what the worker's process printed outside trials."""
        ...

    def close(self) -> None:
        """End every worker by force; nothing is left afterwards."""
        ...


@dataclass(slots=True)
class _Member:
    """A worker as the driver knows it; ``exited`` says how its process ended."""

    name: str
    connected: bool = False
    joined: bool = False
    exited: str | None = None


class Session:
    """Runs one job.

    Args:
        job: What to run.
        setup: What each worker needs before its first trial.
        payload: The training function, pickled.
        staff: Makes the staff; it calls its argument, from any thread, with the name of a worker
            that is gone and a clause that says how.
    """

    def __init__(
        self,
        job: Job,
        setup: Setup,
        payload: bytes,
        staff: Callable[[Callable[[str, str], None]], Staff],
    ) -> None:
        self._job = job
        self._setup = setup
        self._payload = payload
        self._staff = staff(self._left)
        self._key = new_key()
        self._news: deque[Event] = deque()
        self._running = threading.Event()
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self._interrupts = 0
        self._members: dict[str, _Member] = {}
        self._hired = 0
        self._early_deaths = 0
        self._flush_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._began = time.monotonic()
        self._core = Loop(
            machine=job.machine, log=job.log, crew=self, clock=self._clock, watch=self._news.append
        )

    # On the caller's thread

    def run(self, feed: Callable[[Sequence[Event]], None]) -> None:
        """Run to the end; however this is left, no worker outlives it.

        Raises:
            MaggyError: The log or the server failed.
        """
        thread = threading.Thread(target=self._work, name="maggy-driver", daemon=True)
        thread.start()
        try:
            while not self._ended.wait(_FEED_INTERVAL):
                feed(self._take_news())
        finally:
            self._post(self._over_now)
            thread.join()
        feed(self._take_news())
        if self._error is not None:
            raise self._error

    def cancel(self) -> None:
        """Ask for the end: with grace the first time, at once the second."""
        grace = 0.0 if self._interrupts else _CANCEL_GRACE
        self._interrupts += 1
        self._post(lambda: self._dispatch(CancelRequested(at=self._clock(), grace=grace)))

    def _take_news(self) -> Sequence[Event]:
        return [self._news.popleft() for _ in range(len(self._news))]

    def _post(self, call: Callable[[], None]) -> None:
        """Let the driver's thread call this, unless that thread has ended."""
        self._running.wait()
        if not self._ended.is_set():
            with contextlib.suppress(RuntimeError):  # it ended just now: nobody is left to tell
                self._aio.call_soon_threadsafe(self._guard, call)

    # On the driver's thread

    def _work(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # noqa: BLE001 - raised again on the caller's thread
            self._error = self._error or error
        finally:
            self._ended.set()
            self._running.set()

    async def _main(self) -> None:
        self._aio = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._empty = asyncio.Event()
        self._server = Server(
            key=self._key,
            on_hello=self._on_hello,
            on_message=self._on_message,
            on_gone=self._on_gone,
            on_error=self._fail,
        )
        advisor = self._make_advisor()
        self._core.advise(advisor)
        try:
            self._address = await self._server.start()
            self._running.set()
            self._guard(self._open)
            await self._over.wait()
            await self._dismiss()
        finally:
            if self._timer is not None:
                self._timer.cancel()
            advisor.close()
            self._staff.close()
            await self._server.close()

    def _open(self) -> None:
        self._dispatch(self._job.started)
        for _ in range(self._job.num_workers):
            self._hire()

    def _make_advisor(self) -> Advisor:
        job = self._job
        inline = InlineAdvisor(job.optimizer, job.space, job.seed, self._clock)
        if getattr(job.optimizer, "suggests_inline", False):
            return inline
        return ThreadedAdvisor(inline, lambda event: self._post(lambda: self._dispatch(event)))

    async def _dismiss(self) -> None:
        """Let the workers leave; those who have not left in time are ended by ``close``."""
        if self._error is None and self._job.machine.finish is not None and self._members:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), _QUIT_GRACE)

    def _clock(self) -> float:
        return time.monotonic() - self._began

    def _guard(self, call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - ends the run, raised by ``run``
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._error = self._error or error
        self._over.set()

    def _over_now(self) -> None:
        self._over.set()

    def _dispatch(self, event: Event) -> None:
        self._core.dispatch(event)
        if not self._flush_due:
            self._flush_due = True
            self._aio.call_soon(self._guard, self._flush)

    def _flush(self) -> None:
        """Once for all that arrived in this turn of the event loop."""
        self._flush_due = False
        self._core.flush()
        self._set_timer()
        if self._job.machine.finish is not None:
            self._over.set()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wake = self._job.machine.wake_at()
        if wake is not None:
            delay = max(0.0, wake - self._clock())
            self._timer = self._aio.call_later(delay, self._guard, self._tick)

    def _tick(self) -> None:
        self._core.tick()
        self._flush()

    # What workers do

    def _on_hello(self, hello: Hello) -> tuple[Setup, bytes] | None:
        member = self._members.get(hello.worker)
        if member is None or member.exited is not None:
            return None
        member.connected = True
        return self._setup, self._payload

    def _on_message(self, worker: str, message: FromWorker) -> None:
        if isinstance(message, Ready):
            self._members[worker].joined = True
            self._early_deaths = 0
        for event in events_of(worker, message, self._clock()):
            self._dispatch(event)

    def _on_gone(self, worker: str, reason: str) -> None:
        member = self._members.get(worker)
        if member is None:
            return
        member.connected = False
        if member.exited is None:  # its exit is about to be reported, and says more
            self._aio.call_later(_LAST_WORDS, self._guard, lambda: self._see_off(member))
        else:
            self._lose(member)

    def _left(self, worker: str, reason: str) -> None:
        """From the staff, on any thread: this worker's process is gone."""
        self._post(lambda: self._on_exit(worker, reason))

    def _on_exit(self, worker: str, reason: str) -> None:
        member = self._members.get(worker)
        if member is None:
            return
        member.exited = reason
        if member.connected:
            self._aio.call_later(_LAST_WORDS, self._guard, lambda: self._hang_up(member))
        else:
            self._lose(member)

    def _see_off(self, member: _Member) -> None:
        if member.exited is None:
            self._staff.fire(member.name)

    def _hang_up(self, member: _Member) -> None:
        if member.connected:
            self._server.disconnect(member.name, "its process is gone")

    def _lose(self, member: _Member) -> None:
        assert member.exited is not None
        del self._members[member.name]
        if not self._members:
            self._empty.set()
        if self._job.machine.finish is not None or self._over.is_set():
            return
        if member.joined:
            at = self._clock()
            self._dispatch(WorkerLost(at=at, worker=member.name, reason=member.exited))
            self._hire()
        else:
            self._replace_early(member)

    def _replace_early(self, member: _Member) -> None:
        self._early_deaths += 1
        if self._early_deaths < _EARLY_DEATHS:
            delay = _BACK_OFF * 2**self._early_deaths
            self._aio.call_later(delay, self._guard, self._hire)
            return
        message = f"{self._early_deaths} workers died before they were ready: {member.exited}"
        output = self._staff.last_words(member.name)
        error = TrialError(type="WorkerLost", message=message, output=output)
        self._dispatch(EngineFailed(at=self._clock(), error=error))

    def _hire(self) -> None:
        if self._job.machine.finish is not None or self._over.is_set():
            return
        name = f"w{self._hired}"
        self._hired += 1
        self._members[name] = _Member(name)
        self._empty.clear()
        self._staff.hire(name, self._address, self._key)

    # What the loop wants of the workers

    def assign(self, command: Assign) -> None:
        """Send the trial to its worker; one that is gone will be reported as lost."""
        seed = trial_seed(self._job.seed, command.trial)
        run = Run(
            trial=command.trial,
            attempt=command.attempt,
            hparams=command.hparams,
            budget=command.budget,
            seed=seed,
        )
        self._server.send(command.worker, run)

    def stop(self, command: StopTrial | Interrupt) -> None:
        """Send the stop to the worker."""
        reason = getattr(command, "reason", "the run ends")
        stop = Stop(trial=command.trial, attempt=command.attempt, reason=reason)
        self._server.send(command.worker, stop)

    def kill(self, worker: str) -> None:
        """End the worker's process."""
        self._staff.fire(worker)

    def shutdown(self, worker: str) -> None:
        """Ask the worker to leave."""
        self._server.send(worker, Quit())
