"""One run with workers in processes of their own: loop and staff on one thread.

The thread that called ``run`` only waits, shows what happened and passes Ctrl-C on; everything
else happens on the driver's thread, so nothing here needs a lock.  What other threads and signal
handlers want is put in line (``_post``) and never waits for the driver's thread.  How workers are
started and reached is the staff's business (``staff``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from maggy.engines.advisor import InlineAdvisor, ThreadedAdvisor
from maggy.engines.loop import Loop
from maggy.engines.retention import Retention
from maggy.engines.seeds import trial_seed
from maggy.engines.translate import events_of
from maggy.events import CancelRequested, EngineFailed, WorkerLost
from maggy.trial import TrialError
from maggy.wire.messages import Quit, Ready, Run, SetupFailed, Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from maggy.commands import Assign, Interrupt, StopTrial
    from maggy.engines.advisor import Advisor
    from maggy.engines.job import Job
    from maggy.engines.staff import MakeStaff
    from maggy.events import Event
    from maggy.wire.messages import FromWorker

__all__ = ["Session"]

logger = logging.getLogger(__name__)

_FEED_INTERVAL = 0.1
_CANCEL_GRACE = 1.0
_QUIT_GRACE = 2.0
"""Seconds that a worker gets to leave by itself, for the exit handlers of user code."""
_EARLY_DEATHS = 3
"""So many workers in a row that die before they are ready end the run, if no other is left."""
_MANY_EARLY_DEATHS = 20
"""So many end it even if others wait for a place, unless one is ready."""
_BACK_OFF = 0.1
"""Seconds before the first replacement of a worker that died early; doubles."""
_LONGEST_BACK_OFF = 60.0


@dataclass(slots=True)
class _Member:
    """A worker that was hired; it has joined once it is ready to run trials."""

    name: str
    joined: bool = False


class Session:
    """Runs one job; starts nothing before ``run``.

    Args:
        job: What to run.
        staff: Makes the staff, which tells its argument what happens.
    """

    def __init__(self, job: Job, staff: MakeStaff) -> None:
        self._job = job
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
        self._staff = staff(self)

    # On the caller's thread

    def run(self, feed: Callable[[Sequence[Event]], None]) -> None:
        """Run to the end; however this is left, no worker outlives it.

        Raises:
            MaggyError: The log failed.
            OSError: The server, or what starts workers, could not be started.
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
        async with contextlib.AsyncExitStack() as closing:  # whatever fails: all of it, last first
            closing.callback(self._retention.close)
            closing.push_async_callback(self._staff.close)
            advisor = self._make_advisor()
            closing.callback(advisor.close)
            self._core.advise(self._retention.listen(advisor))
            closing.callback(self._stop_timer)
            await self._staff.open()
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
        return ThreadedAdvisor(
            inline,
            lambda event: self._post(lambda: self._dispatch(event)),
            preload=getattr(job.optimizer, "preload", ()),
        )

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
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """End the run with this error."""
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

    def _dispatch(self, event: Event, sender: str | None = None) -> None:
        if self._error is not None:  # perhaps the log's: nothing may follow what is not in it
            return
        self._core.dispatch(event, sender)
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

    # What the staff tells

    def heard(self, worker: str, message: FromWorker) -> None:
        """A worker says this."""
        member = self._members.get(worker)
        if member is None:
            return
        if isinstance(message, Ready):
            member.joined = True
            self._early_deaths = 0
        if isinstance(message, SetupFailed) and self._anyone_ready():
            logger.warning(
                "worker %s cannot be set up, and the others go on: %s", worker, message.error
            )
            self._staff.fire(worker)  # it is replaced as one that died early
            return
        for event in events_of(worker, message, self._clock()):
            self._dispatch(event, sender=worker)

    def lost(self, worker: str, reason: str) -> None:
        """Replace it, unless none is wanted any more."""
        member = self._members.get(worker)
        if member is not None:
            self._guard(lambda: self._lose(member, reason))

    def unable(self, reason: str, output: str = "") -> None:
        """End the run: there will be no worker."""
        error = TrialError(type="WorkerLost", message=reason, output=output)
        self._guard(lambda: self._dispatch(EngineFailed(at=self._clock(), error=error)))

    def _lose(self, member: _Member, reason: str) -> None:
        del self._members[member.name]
        if self._over.is_set() and not self._anyone_ready():
            self._empty.set()
        if not member.joined:
            self._replace_early(member, reason)
        elif self._job.machine.finish is None:
            self._dispatch(WorkerLost(at=self._clock(), worker=member.name, reason=reason))
            self._hire()

    def _replace_early(self, member: _Member, how: str) -> None:
        """Replace a worker that died before it was ready, unless that seems hopeless."""
        if self._leaving():
            return
        self._early_deaths += 1
        hopeless = self._early_deaths >= _MANY_EARLY_DEATHS and not self._anyone_ready()
        if self._early_deaths < _EARLY_DEATHS or (self._members and not hopeless):
            delay = min(_BACK_OFF * 2 ** min(self._early_deaths - 1, 20), _LONGEST_BACK_OFF)
            logger.warning(
                "worker %s died before it was ready: %s. Trying again in %.1f s.",
                member.name, how, delay,
            )  # fmt: skip
            self._aio.call_later(delay, self._guard, self._hire)
            return
        message = f"{self._early_deaths} workers died before they were ready: {how}"
        self.unable(message, self._staff.last_words(member.name))

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
            self._staff.hire(member.name)
        except OSError as error:
            self._lose(member, f"it could not be started: {error}")

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
        self._staff.send(command.worker, run)

    def stop(self, command: StopTrial | Interrupt) -> None:
        """Send the stop to the worker."""
        stop = Stop(trial=command.trial, attempt=command.attempt, reason=command.reason)
        self._staff.send(command.worker, stop)

    def kill(self, worker: str) -> None:
        """End the worker's process."""
        self._staff.fire(worker)

    def shutdown(self, worker: str) -> None:
        """Ask the worker to leave."""
        self._staff.send(worker, Quit())
