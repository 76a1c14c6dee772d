"""One run with workers in processes of their own: server, loop and staff on one thread.

The thread that called ``run`` only waits, shows what happened and passes Ctrl-C on; everything
else happens on the driver's thread, so nothing here needs a lock.  What other threads and signal
handlers want is put in line (``_post``) and never waits for the driver's thread.  A worker is lost
when its process has exited *and* its connection has ended: what it said last still counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from maggy.engines.advisor import InlineAdvisor, ThreadedAdvisor
from maggy.engines.loop import Loop
from maggy.engines.retention import Retention
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

logger = logging.getLogger(__name__)

_FEED_INTERVAL = 0.1
_CANCEL_GRACE = 1.0
_QUIT_GRACE = 2.0
"""Seconds that a worker gets to leave by itself, for the exit handlers of user code."""
_LAST_WORDS = 1.0
"""Seconds between the end of a connection and of its process before the other is ended too."""
_EARLY_DEATHS = 3
"""So many workers in a row that die before they are ready end the run, if no other is left."""
_BACK_OFF = 0.1
"""Seconds before the first replacement of a worker that died early; doubles."""
_LONGEST_BACK_OFF = 60.0


class Staff(Protocol):
    """Gets workers started and notices that one is gone; all that engines differ in."""

    def hire(self, worker: str, address: tuple[str, int], key: bytes) -> None:
        """Start a worker that connects to this address with this key.

        Raises:
            OSError: It cannot be started now; it is tried again later.
        """
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
    """Runs one job; starts nothing before ``run``.

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
        self._make_staff = staff
        self._key = new_key()
        self._news: deque[Event] = deque()
        self._posts: deque[Callable[[], None]] = deque()
        self._listening = False
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
            machine=job.machine, log=job.log, crew=self, clock=self._clock, watch=self._watch
        )
        self._retention = Retention(job)

    # On the caller's thread

    def run(self, feed: Callable[[Sequence[Event]], None]) -> None:
        """Run to the end; however this is left, no worker outlives it.

        Raises:
            MaggyError: The log failed.
            OSError: The server, or what starts workers, could not be started.
        """
        self._staff = self._make_staff(self._left)
        thread = threading.Thread(target=self._work, name="maggy-driver", daemon=True)
        try:
            thread.start()
        except BaseException:
            self._staff.close()
            raise
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
        """Ask for the end: with grace the first time, at once the second; from anywhere."""
        again = self._interrupts > 0
        self._interrupts += 1
        self._post(lambda: self._cancel(at_once=again))

    def _take_news(self) -> Sequence[Event]:
        return [self._news.popleft() for _ in range(len(self._news))]

    def _post(self, call: Callable[[], None]) -> None:
        """Let the driver's thread call this, once the run has begun; unless that thread has ended.

        Safe in signal handlers: nothing is waited for.
        """
        self._posts.append(call)
        if self._listening:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
                self._aio.call_soon_threadsafe(self._take_posts)

    # On the driver's thread

    def _work(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # noqa: BLE001 - raised again on the caller's thread
            self._keep(error)
        finally:
            self._ended.set()

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
        async with contextlib.AsyncExitStack() as closing:  # whatever fails: all of it, last first
            closing.push_async_callback(self._server.close)
            closing.callback(self._retention.close)
            closing.callback(self._staff.close)
            advisor = self._make_advisor()
            closing.callback(advisor.close)
            self._core.advise(self._retention.listen(advisor))
            closing.callback(self._stop_timer)
            self._address = await self._server.start()
            self._guard(self._open)
            await self._over.wait()
            await self._dismiss()

    def _open(self) -> None:
        self._dispatch(self._job.started)
        self._hire_next(self._job.num_workers)
        self._listening = True
        self._take_posts()

    def _take_posts(self) -> None:
        while self._posts:
            self._guard(self._posts.popleft())

    def _cancel(self, *, at_once: bool) -> None:
        self._dispatch(CancelRequested(at=self._clock(), grace=0.0 if at_once else _CANCEL_GRACE))
        if at_once or self._over.is_set():
            self._empty.set()  # whoever waits for the workers to leave waits no longer

    def _make_advisor(self) -> Advisor:
        job = self._job
        inline = InlineAdvisor(job.optimizer, job.space, job.seed, self._clock)
        if getattr(job.optimizer, "suggests_inline", False):
            return inline
        return ThreadedAdvisor(inline, lambda event: self._post(lambda: self._dispatch(event)))

    async def _dismiss(self) -> None:
        """Let the workers leave; the others are ended by ``close``.

        Those are the workers that have not left in time, and those that were not ready yet: they
        have nothing to bring to an end.
        """
        if self._error is not None or self._job.machine.finish is None:
            return
        if self._anyone_ready():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), _QUIT_GRACE)

    def _watch(self, event: Event) -> None:
        self._news.append(event)
        self._retention.watch(event)

    def _clock(self) -> float:
        return time.monotonic() - self._began

    def _guard(self, call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - ends the run, raised by ``run``
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._keep(error)
        self._over.set()

    def _keep(self, error: BaseException) -> None:
        """The first error ends the run; those that follow from its end are for the diagnosis."""
        if self._error is None:
            self._error = error
        else:
            logger.error("after the error that ends the run came another one", exc_info=error)

    def _over_now(self) -> None:
        self._over.set()

    def _dispatch(self, event: Event) -> None:
        if self._error is not None:  # perhaps the log's: nothing may follow what is not in it
            return
        self._core.dispatch(event)
        if not self._flush_due:
            self._flush_due = True
            self._aio.call_soon(self._guard, self._flush)

    def _flush(self) -> None:
        """Once for all that arrived in this turn of the event loop."""
        self._flush_due = False
        if self._error is not None:
            return
        self._core.flush()
        self._retention.settle()
        self._set_timer()
        if self._job.machine.finish is not None:
            self._over.set()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self) -> None:
        self._stop_timer()
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
        if member is None or member.exited is not None or member.connected or member.joined:
            return None  # nobody that was started just now
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
        over = self._job.machine.finish is not None  # then it is leaving, and has its own time
        if member.exited is None and not member.connected and not over:
            self._staff.fire(member.name)

    def _hang_up(self, member: _Member) -> None:
        if member.connected:
            self._server.disconnect(member.name, "its process is gone")

    def _lose(self, member: _Member) -> None:
        assert member.exited is not None
        del self._members[member.name]
        if self._over.is_set() and not self._anyone_ready():
            self._empty.set()
        if not member.joined:
            self._replace_early(member, member.exited)
        elif self._job.machine.finish is None:
            at = self._clock()
            self._dispatch(WorkerLost(at=at, worker=member.name, reason=member.exited))
            self._hire()

    def _replace_early(self, member: _Member, how: str) -> None:
        """Replace a worker that died before it was ready, unless that seems hopeless."""
        if self._leaving():
            return
        self._early_deaths += 1
        if self._early_deaths < _EARLY_DEATHS or self._members:
            delay = min(_BACK_OFF * 2 ** min(self._early_deaths - 1, 20), _LONGEST_BACK_OFF)
            logger.warning(
                "worker %s died before it was ready: %s. Trying again in %.1f s.",
                member.name, how, delay,
            )  # fmt: skip
            self._aio.call_later(delay, self._guard, self._hire)
            return
        message = f"{self._early_deaths} workers died before they were ready: {how}"
        output = self._staff.last_words(member.name)
        error = TrialError(type="WorkerLost", message=message, output=output)
        self._dispatch(EngineFailed(at=self._clock(), error=error))

    def _anyone_ready(self) -> bool:
        return any(member.joined for member in self._members.values())

    def _leaving(self) -> bool:
        """True when no worker is wanted any more."""
        machine = self._job.machine
        return machine.ending or machine.finish is not None or self._over.is_set()

    def _hire_next(self, count: int) -> None:
        """Hire so many workers one by one, and hear in between those who are there already."""
        self._hire()
        if count > 1:
            self._aio.call_soon(self._guard, lambda: self._hire_next(count - 1))

    def _hire(self) -> None:
        if self._leaving():
            return
        member = _Member(f"w{self._hired}")
        self._hired += 1
        self._members[member.name] = member
        try:
            self._staff.hire(member.name, self._address, self._key)
        except OSError as error:
            member.exited = f"it could not be started: {error}"
            self._lose(member)

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
        stop = Stop(trial=command.trial, attempt=command.attempt, reason=command.reason)
        self._server.send(command.worker, stop)

    def kill(self, worker: str) -> None:
        """End the worker's process."""
        self._staff.fire(worker)

    def shutdown(self, worker: str) -> None:
        """Ask the worker to leave."""
        self._server.send(worker, Quit())
