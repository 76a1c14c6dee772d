"""Workers in slots that agents hold: the staff of every engine whose workers are elsewhere.

A worker that is hired gets a free agent, now or when one joins; an agent whose worker is gone is
free again.  Agents that nobody needs wait.  ``docs/adr/0015-agents.md`` tells the whole story.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVarTuple

from maggy.engines.server import Server
from maggy.wire.link import Link, parcel
from maggy.wire.messages import (
    Ack,
    Exited,
    Fire,
    Hire,
    Leave,
    Quit,
    Refused,
    SetupFailed,
    Welcome,
)

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable

    from maggy.engines.files import Files
    from maggy.engines.launcher import Invitation, Launcher
    from maggy.engines.staff import Order, Owner
    from maggy.wire.messages import FromAgent, Hello, Setup, ToAgent

__all__ = ["Door", "RemoteStaff", "silence_limit"]

logger = logging.getLogger(__name__)

_Args = TypeVarTuple("_Args")

_RETURN = 1.0
"""Seconds that an agent has to come back after its connection has ended."""
_LEAVE = 2.0
"""Seconds that agents have to leave at the end."""
_FORCE = 60.0
"""Seconds that the launcher has to end what is left of them."""
_LONELY = 20.0
"""Seconds without any agent after which that is said."""
_OVER = "the run is over"
_LEAST_SILENCE = 10.0


def silence_limit(hb_interval: float) -> float:
    """Seconds of silence after which driver and agent give each other up."""
    return max(3 * hb_interval, _LEAST_SILENCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Where agents come in.

    Attributes:
        socket: Bound, not listening.
        tls: How the driver proves who it is; None: without encryption.
        insecure: Without encryption is what the user wants, or nobody else can reach the socket.
        invitation: What agents are told.
    """

    socket: socket.socket
    tls: ssl.SSLContext | None
    insecure: bool
    invitation: Invitation


@dataclass(slots=True, eq=False)
class _Agent:
    """An agent as the staff knows it.

    ``worker`` is whom it works for, None: nobody.  ``unfit`` says why no worker can be set up
    there.
    """

    name: str
    link: Link = field(default_factory=Link)
    incarnation: int = -1
    connected: bool = False
    vanished: str = ""
    unfit: str = ""
    worker: str | None = None
    set_up: bool = False
    leaving: bool = False
    timer: asyncio.TimerHandle | None = None


class RemoteStaff:
    """See ``maggy.engines.staff.Staff``; starts nothing before ``open``.

    Args:
        owner: Told what happens.
        setup: What each worker needs before its first trial.
        payload: The training function, pickled.
        door: Where agents come in.
        launcher: Gets them started.
        count: How many are wanted.
        files: Serves what agents fetch, and takes what they store.
        attended: Whether users see how an agent ends: one that could not load the training
            function then fails, with the reason, even if that is how the run ended.

    Raises:
        ValueError: The payload is longer than a frame can be.
    """

    def __init__(
        self,
        owner: Owner,
        *,
        setup: Setup,
        payload: bytes,
        door: Door,
        launcher: Launcher,
        count: int,
        files: Files,
        attended: bool = False,
    ) -> None:
        self._owner = owner
        self._setup = setup
        self._set_up = parcel(setup, payload)  # one for all agents: it may be large
        self._door = door
        self._launcher = launcher
        self._count = count
        self._attended = attended
        self._opened = False
        self._closing = False
        self._agents: dict[str, _Agent] = {}
        self._wanted: deque[str] = deque()
        self._at: dict[str, _Agent] = {}
        self._words = ("", "")  # of the worker that was lost last
        self._joined = False
        self._lonely: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._limit = silence_limit(setup.hb_interval)
        self._server = Server(
            key=door.invitation.token.key,
            on_hello=self._on_hello,
            on_agent=self._on_message,
            files=files,
            on_gone=self._on_gone,
            on_error=owner.fail,
            silence_limit=self._limit,
        )

    # What the run wants

    async def open(self) -> None:
        """Listen, and have agents started."""
        self._aio = asyncio.get_running_loop()
        door = self._door
        self._server.serve(door.socket, tls=door.tls, insecure=door.insecure)
        self._opened = True
        self._await_company()
        self._launcher.open(door.invitation, self, self._count)

    def hire(self, worker: str) -> None:
        """Put the worker in line for a free agent."""
        self._wanted.append(worker)
        self._match()

    def send(self, worker: str, order: Order) -> None:
        """Send it by way of the agent."""
        agent = self._at.get(worker)
        if isinstance(order, Quit):  # nothing is left to do for those in line either
            self._wanted.clear()
        if agent is not None:
            self._say(agent, order)

    def fire(self, worker: str) -> None:
        """Have the agent kill it; one on whose machine none can be set up is sent away."""
        agent = self._at.get(worker)
        if agent is None:
            self._forget(worker)
        elif agent.unfit:
            self._send_away(agent)
        else:
            self._say(agent, Fire(worker=worker))

    def last_words(self, worker: str) -> str:
        """What its agent had of its output, of the one that was lost last.

        Nothing if its agent was lost itself.
        """
        who, words = self._words
        return words if who == worker else ""

    async def close(self) -> None:
        """Have the agents leave, then end what is left of them by force."""
        self._closing = True
        self._stop_waiting()
        try:
            for agent in self._agents.values():
                if self._attended and agent.unfit and agent.connected:
                    self._send_away(agent)
                else:
                    self._say(agent, Leave(reason=_OVER))
            if self._agents:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._empty.wait(), _LEAVE)
            await self._end_launcher()
        finally:
            if self._opened:
                await self._server.close()
            else:
                self._door.socket.close()

    async def _end_launcher(self) -> None:
        """Let it end what is left, but not for ever: a cluster may not answer any more."""
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()

        def end() -> None:
            try:
                self._launcher.close()
            except Exception:  # the run has its result
                logger.exception("what is left of the agents could not be ended")
            with contextlib.suppress(RuntimeError):  # the loop is closed: it took too long
                loop.call_soon_threadsafe(ended.set)

        threading.Thread(target=end, name="maggy-launcher", daemon=True).start()
        try:
            await asyncio.wait_for(ended.wait(), _FORCE)
        except TimeoutError:
            logger.warning("what is left of the agents was not ended within %.0f s", _FORCE)

    # What launchers report, from any thread

    def vanished(self, slot: str, reason: str) -> None:
        """The processes of this slot's agents are gone."""
        self._post(self._on_vanished, slot, reason)

    def hopeless(self, reason: str, output: str = "") -> None:
        """No agent can be had."""
        self._post(self._on_hopeless, reason, output)

    def _post(self, call: Callable[[*_Args], None], *args: *_Args) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            self._aio.call_soon_threadsafe(self._guard, call, *args)

    def _guard(self, call: Callable[[*_Args], None], *args: *_Args) -> None:
        """Call it from the loop itself, where nobody else would hear of an error."""
        try:
            call(*args)
        except Exception as error:  # noqa: BLE001 - ends the run
            self._owner.fail(error)

    def _on_vanished(self, slot: str, reason: str) -> None:
        for agent in list(self._agents.values()):
            if agent.name.rpartition(".")[0] == slot:
                agent.vanished = reason
                if not agent.connected:  # else its last words are on their way
                    self._give_up(agent, reason)

    def _on_hopeless(self, reason: str, output: str) -> None:
        if not self._agents and not self._closing:
            self._owner.unable(reason, output)

    # What agents do

    def _on_hello(self, hello: Hello) -> bytes | Refused | None:
        """Take an agent in, or back."""
        agent = self._agents.get(hello.worker)
        if agent is None and (hello.incarnation or hello.received):
            reason = f"Agent {hello.worker!r} was silent for so long that it was given up."
            return Refused(reason=reason, again=True)
        if agent is None and self._closing:
            return self._welcome(Link()) + parcel(Leave(reason=_OVER))
        if agent is None:
            agent = self._take_in(hello)
        elif hello.incarnation <= agent.incarnation:
            return Refused(reason=f"There is an agent {hello.worker!r} already.", again=True)
        missed = agent.link.resume(hello.received)
        if agent.timer is not None:
            agent.timer.cancel()
        agent.incarnation, agent.connected, agent.vanished = hello.incarnation, True, ""
        self._aio.call_soon(self._guard, self._match)
        return b"".join([self._welcome(agent.link), *missed])

    def _take_in(self, hello: Hello) -> _Agent:
        agent = self._agents[hello.worker] = _Agent(hello.worker)
        logger.info("agent %s joined from %s, process %d", agent.name, hello.host, hello.pid)
        self._joined = True
        self._empty.clear()
        self._stop_waiting()
        return agent

    def _welcome(self, link: Link) -> bytes:
        interval = self._setup.hb_interval
        welcome = Welcome(received=link.received, hb_interval=interval, silence_limit=self._limit)
        return parcel(welcome)

    def _on_message(self, name: str, message: FromAgent) -> None:
        agent = self._agents.get(name)
        if agent is None:
            return
        if isinstance(message, Ack):
            agent.link.acknowledged(message.received)
            self._server.send(name, Ack(received=agent.link.received))
            return
        agent.link.took()
        if isinstance(message, Exited):
            self._words = (message.worker, message.output)
            self._part(agent, message.worker, message.reason)
        elif agent.worker is not None:
            if isinstance(message, SetupFailed):
                agent.unfit = str(message.error)
            self._owner.heard(agent.worker, message)

    def _on_gone(self, name: str, reason: str) -> None:
        """A connection has ended: the agent may come back on another one, for a while."""
        agent = self._agents.get(name)
        if agent is None:
            return
        agent.connected = False
        left = self._limit - self._server.silence(name)
        if agent.leaving or agent.vanished or left <= 0:
            self._give_up(agent, agent.vanished or reason)
        else:
            wait = min(_RETURN, left)
            agent.timer = self._aio.call_later(wait, self._guard, self._give_up, agent, reason)

    def _give_up(self, agent: _Agent, reason: str) -> None:
        if self._agents.get(agent.name) is not agent or agent.connected:
            return
        del self._agents[agent.name]
        if not self._agents:
            self._empty.set()
            if not self._closing:
                self._await_company()
        if agent.worker is not None:
            self._part(agent, agent.worker, f"its agent {agent.name} is gone: {reason}")

    def _part(self, agent: _Agent, worker: str, reason: str) -> None:
        """A worker is gone, and its agent free for the next one if it is there."""
        if self._at.get(worker) is not agent:
            return
        del self._at[worker]
        agent.worker = None
        if agent.name in self._agents:  # to the end of the line: another one may do better
            self._agents[agent.name] = self._agents.pop(agent.name)
        self._owner.lost(worker, reason)
        self._match()

    def _match(self) -> None:
        """Give workers that are wanted to agents that are free."""
        if self._closing or not self._wanted:
            return
        for agent in self._agents.values():
            if agent.worker is None and agent.connected and not agent.leaving:
                agent.worker = self._wanted.popleft()
                self._at[agent.worker] = agent
                if not agent.set_up:
                    agent.set_up = True
                    self._send(agent, self._set_up)
                self._say(agent, Hire(worker=agent.worker))
                if not self._wanted:
                    return

    def _say(self, agent: _Agent, message: ToAgent) -> None:
        agent.leaving = agent.leaving or isinstance(message, Leave)
        self._send(agent, parcel(message))

    def _send(self, agent: _Agent, frames: bytes) -> None:
        """Send a message now, or when the agent is back; each arrives once."""
        agent.link.sent(frames)
        if agent.connected:
            self._server.post(agent.name, frames)

    def _forget(self, worker: str) -> None:
        with contextlib.suppress(ValueError):  # nobody knows it
            self._wanted.remove(worker)

    def _send_away(self, agent: _Agent) -> None:
        """Tell an agent why no worker can be had from it; another one may come in its place."""
        agent.vanished = f"the training function cannot be loaded there: {agent.unfit}"
        reason = f"the training function cannot be loaded here: {agent.unfit}"
        self._server.post(agent.name, parcel(Refused(reason=reason)))
        self._server.disconnect(agent.name, "the training function cannot be loaded there")

    def _await_company(self) -> None:
        """Say after a while that nobody is there, unless somebody comes."""
        self._stop_waiting()
        self._lonely = self._aio.call_later(_LONELY, self._say_lonely)

    def _stop_waiting(self) -> None:
        if self._lonely is not None:
            self._lonely.cancel()
            self._lonely = None

    def _say_lonely(self) -> None:
        where = self._door.invitation
        logger.warning(
            "no worker %s: the search waits at %s, port %d, for as long as it takes.",
            "is left" if self._joined else "has joined yet", where.host, where.port,
        )  # fmt: skip
