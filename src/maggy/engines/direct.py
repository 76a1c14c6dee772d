"""Workers whose processes the driver starts and reaps itself, each with a connection of its own.

A worker is lost when its process has exited *and* its connection has ended: what it said last
still counts.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from maggy.engines.server import Server
from maggy.wire.handshake import new_key
from maggy.wire.messages import Quit

if TYPE_CHECKING:
    from collections.abc import Callable

    from maggy.engines.staff import Order, Owner
    from maggy.wire.messages import Hello, Setup

__all__ = ["DirectStaff", "Processes"]

_LAST_WORDS = 1.0
"""Seconds between the end of a connection and of its process before the other is ended too."""


class Processes(Protocol):
    """Starts worker processes and notices that one is gone; for any thread."""

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
    """A worker as the staff knows it; ``exited`` says how its process ended."""

    name: str
    connected: bool = False
    greeted: bool = False
    leaving: bool = False
    exited: str | None = None


class DirectStaff:
    """See ``maggy.engines.staff.Staff``; starts nothing before ``open``.

    Args:
        owner: Told what happens.
        setup: What each worker needs before its first trial.
        payload: The training function, pickled.
        processes: Makes what starts the processes; it calls its argument, from any thread, with
            the name of a worker that is gone and a clause that says how.
    """

    def __init__(
        self,
        owner: Owner,
        setup: Setup,
        payload: bytes,
        processes: Callable[[Callable[[str, str], None]], Processes],
    ) -> None:
        self._owner = owner
        self._setup = setup
        self._payload = payload
        self._make_processes = processes
        self._processes: Processes | None = None
        self._key = new_key()
        self._members: dict[str, _Member] = {}
        self._server = Server(
            key=self._key,
            on_hello=self._on_hello,
            on_message=owner.heard,
            on_gone=self._on_gone,
            on_error=owner.fail,
        )

    async def open(self) -> None:
        """Start listening, and whatever starts processes."""
        self._aio = asyncio.get_running_loop()
        self._processes = self._make_processes(self._left)
        self._address = await self._server.start()

    def hire(self, worker: str) -> None:
        """Start a process for this worker."""
        assert self._processes is not None
        self._processes.hire(worker, self._address, self._key)
        self._members[worker] = _Member(worker)

    def send(self, worker: str, order: Order) -> None:
        """Send it; a worker that is gone will be reported as lost."""
        member = self._members.get(worker)
        if member is not None and isinstance(order, Quit):
            member.leaving = True
        self._server.send(worker, order)

    def fire(self, worker: str) -> None:
        """Kill its process and all children of that."""
        assert self._processes is not None
        self._processes.fire(worker)

    def last_words(self, worker: str) -> str:
        """The end of what its process printed outside trials."""
        assert self._processes is not None
        return self._processes.last_words(worker)

    async def close(self) -> None:
        """Kill and reap every process, then hang up."""
        try:
            if self._processes is not None:
                self._processes.close()
        finally:
            await self._server.close()

    def _on_hello(self, hello: Hello) -> tuple[Setup, bytes] | None:
        member = self._members.get(hello.worker)
        if member is None or member.exited is not None or member.greeted:
            return None  # nobody that was started just now
        member.connected = member.greeted = True
        return self._setup, self._payload

    def _on_gone(self, worker: str, reason: str) -> None:
        member = self._members.get(worker)
        if member is None:
            return
        member.connected = False
        if member.exited is None:  # its exit is about to be reported, and says more
            self._aio.call_later(_LAST_WORDS, self._see_off, member)
        else:
            self._lose(member)

    def _left(self, worker: str, reason: str) -> None:
        """From the processes, on any thread: this one is gone."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            self._aio.call_soon_threadsafe(self._on_exit, worker, reason)

    def _on_exit(self, worker: str, reason: str) -> None:
        member = self._members.get(worker)
        if member is None:
            return
        member.exited = reason
        if member.connected:
            self._aio.call_later(_LAST_WORDS, self._hang_up, member)
        else:
            self._lose(member)

    def _see_off(self, member: _Member) -> None:
        """End a process that has hung up, unless it was asked to leave: it has its own time."""
        if member.exited is None and not member.connected and not member.leaving:
            self.fire(member.name)

    def _hang_up(self, member: _Member) -> None:
        if member.connected:
            self._server.disconnect(member.name, "its process is gone")

    def _lose(self, member: _Member) -> None:
        assert member.exited is not None
        del self._members[member.name]
        self._owner.lost(member.name, member.exited)
