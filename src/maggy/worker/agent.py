"""The agent: holds a slot of another machine for a run, and runs one worker after the other in it.

It owns the connection to the driver and the heartbeat.  The worker is a child process that it can
kill and replace, and that does not outlive it, however it ends.  See ADR 15.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import hashlib
import logging
import secrets
import threading
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from maggy.errors import WireError
from maggy.wire.token import Token
from maggy.worker.children import Children
from maggy.worker.conversation import End
from maggy.worker.membership import Membership
from maggy.worker.scratch import held, sweep, temporary_root
from maggy.worker.stream import reach

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from maggy.trial import Json
    from maggy.worker.stream import Stream

__all__ = ["SupersededToken", "run_agent"]

logger = logging.getLogger(__name__)

_NOTHING: Mapping[str, str] = MappingProxyType({})
_IN_ORDER = 5.0
"""Seconds that an interrupted agent has to end its worker and tell the driver."""

_BEFORE_ANEW = 0.5
"""Seconds before an agent that was given up joins again."""


class SupersededToken(WireError):
    """The token was replaced before a driver took it.  Retry with the new one."""


def run_agent(
    bootstrap: Mapping[str, Json],
    *,
    environ: Mapping[str, str] = _NOTHING,
    command: Sequence[str] | None = None,
    patience: float = 30.0,
    tell: Callable[[str], None] = logger.info,
    superseded: Callable[[], bool] | None = None,
) -> bool:
    """Serve a driver until it says that the run is over, or is gone.

    It may be called from any thread and sets no signal handler; an exception that a handler of the
    caller raises ends the agent in order.

    Args:
        bootstrap: Where the driver is and how to prove that one belongs to it: ``host``, ``port``,
            ``token`` (``wire.token``) and ``slot``, the beginning of the agent's name.
        environ: Added to the environment of the workers.
        command: What to start instead of ``python -m maggy.worker``.
        patience: Seconds to wait for a driver that was not reached yet, and for one that has
            given this agent up.
        tell: Called with one line when something changes, from another thread.
        superseded: Asked, from another thread, whether the token was replaced, whenever nobody
            took it, until somebody does.  As long as it was not, whoever does not take it is
            borne with for ``patience``: the driver that will replace it may come yet.  None: the
            token is the right one.

    Returns:
        True when the driver said that it is over, False when it was not heard for too long.

    Raises:
        WireError: The driver refuses this agent, another program listens there, or nobody does;
            says what to do.
        SupersededToken: ``superseded`` said so.
        OSError: This machine has no room for the agent's files or processes.
    """
    agent = _Agent(_invited(bootstrap), environ, command, patience, tell, superseded)
    outcome: concurrent.futures.Future[bool] = concurrent.futures.Future()
    thread = threading.Thread(target=agent.run, args=(outcome,), name="maggy-agent", daemon=True)
    thread.start()
    try:
        return outcome.result()
    finally:
        agent.stop()
        thread.join(_IN_ORDER)


class _Invited(NamedTuple):
    host: str
    port: int
    token: Token
    slot: str


def _invited(bootstrap: Mapping[str, Any]) -> _Invited:
    try:
        host, port, slot = bootstrap["host"], int(bootstrap["port"]), bootstrap["slot"]
        return _Invited(str(host), port, Token.parse(str(bootstrap["token"])), str(slot))
    except (KeyError, TypeError, ValueError) as error:
        msg = (
            f"an agent must be told `host`, `port`, `token` and `slot`, but got "
            f"{sorted(bootstrap)}: {error}."
        )
        raise WireError(msg) from error


class _Agent:
    """One process's agent, under one name after the other."""

    def __init__(
        self,
        invited: _Invited,
        environ: Mapping[str, str],
        command: Sequence[str] | None,
        patience: float,
        tell: Callable[[str], None],
        superseded: Callable[[], bool] | None,
    ) -> None:
        self._invited = invited
        self._environ = environ
        self._command = command
        self._patience = patience
        self._tell = tell
        self._superseded = superseded  # None once the token is known to be right
        self._stopping = threading.Event()
        self._wake: Callable[[], object] | None = None
        self._lock = threading.Lock()

    def run(self, outcome: concurrent.futures.Future[bool]) -> None:
        """Serve, on a thread of its own."""
        try:
            outcome.set_result(asyncio.run(self._serve()))
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
            outcome.set_exception(error)

    def stop(self) -> None:
        """Have ``run`` end in order; from any thread."""
        with self._lock:
            self._stopping.set()
            if self._wake is not None:
                self._wake()

    async def _serve(self) -> bool:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        with self._lock:
            self._wake = partial(loop.call_soon_threadsafe, stopping.set)
            if self._stopping.is_set():
                stopping.set()
        try:
            return await self._stay(stopping)
        finally:
            with self._lock:
                self._wake = None

    async def _stay(self, stopping: asyncio.Event) -> bool:
        root = temporary_root()
        digest = hashlib.sha256(self._invited.token.text().encode()).hexdigest()[:32]
        sweep(root)
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(held(f"agent-{secrets.token_hex(8)}", root))
            shared = stack.enter_context(held(f"run-{digest}", root))
            children = Children(self._command, self._environ)
            try:
                while not stopping.is_set():
                    membership = self._join(folder, shared, children)
                    end = await membership.serve(stopping)
                    if end is not End.GIVEN_UP:
                        return end is End.TOLD
                    self._tell("given up by the driver, joining again")
                    await asyncio.sleep(_BEFORE_ANEW)
                return False
            finally:
                await children.close()

    def _join(self, folder: Path, shared: Path, children: Children) -> Membership:
        slot, patience, tell = self._invited.slot, self._patience, self._tell
        return Membership(slot, self._dial, folder, shared, children, patience=patience, tell=tell)

    async def _dial(self, timeout: float) -> Stream:
        host, port, token, _ = self._invited
        superseded = self._superseded
        try:
            stream = await reach(host, port, token, timeout=timeout)
        except OSError as error:  # WireError is one
            if superseded is None:
                raise
            if await asyncio.to_thread(superseded):
                msg = "the token was replaced before a driver took it; use the new one."
                raise SupersededToken(msg) from error
            if isinstance(error, WireError):
                raise ConnectionRefusedError(str(error)) from error
            raise
        self._superseded = None
        return stream
