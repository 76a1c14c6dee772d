"""The driver's end of the wire: all connections on one event loop.

Workers of this machine connect by themselves; for each of another machine its agent does, and
opens further connections for files.  Everything runs on the loop's thread, callbacks included.
Nothing that arrives is unpickled; what breaks the protocol ends its connection and no other.
"""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, TypeVarTuple

from maggy.engines.connection import Connection
from maggy.engines.filing import Filing
from maggy.engines.listener import Listener
from maggy.errors import WireError
from maggy.wire.framing import JSON, LIMIT
from maggy.wire.handshake import introduce, refusal
from maggy.wire.link import parcel
from maggy.wire.messages import (
    Heartbeat,
    Hello,
    Refused,
    Setup,
    decode_from_agent,
    decode_from_worker,
)

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable

    from maggy.engines.connection import Take
    from maggy.engines.filing import FileService
    from maggy.wire.framing import Frame
    from maggy.wire.messages import FromAgent, FromWorker, ToAgent, ToWorker

__all__ = ["Answer", "Server"]

logger = logging.getLogger(__name__)

_Args = TypeVarTuple("_Args")

_CHUNK = 2**16
_LATE_HELLO = "`Hello` comes once, first."

Answer: TypeAlias = "bytes | tuple[Setup, bytes] | Refused | None"
"""What a peer that says hello gets: whole frames (``wire.link.parcel``), or ``Setup`` and its
payload, if it is taken in; else ``Refused``, or None for the usual sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Callbacks:
    hello: Callable[[Hello], Answer]
    message: Callable[[str, FromWorker], None] | None
    agent: Callable[[str, FromAgent], None] | None
    gone: Callable[[str, str], None]
    error: Callable[[BaseException], None]

    def call(self, callback: Callable[[*_Args], None], *args: *_Args) -> None:
        try:
            callback(*args)
        except Exception as error:  # noqa: BLE001  the owner's own error goes back to the owner
            self.error(error)

    def tell(self, callback: Callable[[*_Args], None], *args: *_Args) -> None:
        """Pass on what a peer said, and let through what the owner finds wrong with it."""
        try:
            callback(*args)
        except WireError:
            raise
        except Exception as error:  # noqa: BLE001  see above
            self.error(error)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limits:
    frame: int
    silence: float | None
    hello: float


class Server:
    """Serves the workers and agents of one run.

    For each of them the calls come in this order: ``on_hello``; if that took the peer in,
    ``on_message`` or ``on_agent`` for each message but heartbeats, and ``on_gone`` once and last.
    A peer may connect again while its older connection still seems alive: ``on_hello`` is asked,
    and if it takes the new one, nothing more comes from the older, not even ``on_gone``.  No call
    is made from within a method, and none after ``close``.  A callback that finds what a peer said
    impossible raises ``WireError``, which ends the connection.

    Args:
        key: The run's key, 32 bytes.
        on_hello: A worker or agent of the right versions asks to come in.  It must not use
            ``send``: what it returns is sent first.
        on_gone: ``(worker or agent, reason)``: the connection ended; ``reason`` is a clause.
        on_error: Gets what another callback raised; the server goes on.
        on_message: ``(worker, message)``; None: no worker of this machine is expected.
        on_agent: ``(agent, message)``; None: no agent is expected.
        files: Serves what agents fetch and store; None: nothing is.
        silence_limit: Seconds after which a peer that sent nothing is gone; None for never.
        limit: The longest message to accept, bytes.
        handshake_timeout: Seconds for TLS and the proof of the key, and again for ``Hello``.
        max_strangers: How many connections without a proof are held (see ``listener``).
    """

    def __init__(
        self,
        *,
        key: bytes,
        on_hello: Callable[[Hello], Answer],
        on_gone: Callable[[str, str], None],
        on_error: Callable[[BaseException], None],
        on_message: Callable[[str, FromWorker], None] | None = None,
        on_agent: Callable[[str, FromAgent], None] | None = None,
        files: FileService | None = None,
        silence_limit: float | None = None,
        limit: int = LIMIT,
        handshake_timeout: float = 10.0,
        max_strangers: int = 128,
    ) -> None:
        self._callbacks = _Callbacks(
            hello=on_hello, message=on_message, agent=on_agent, gone=on_gone, error=on_error
        )
        self._files = files
        self._limits = _Limits(frame=limit, silence=silence_limit, hello=handshake_timeout)
        self._listener = Listener(
            key=key,
            admit=self._admit,
            handshake_timeout=handshake_timeout,
            max_strangers=max_strangers,
        )
        self._inbox = memoryview(bytearray(_CHUNK))  # each read is used up before the next one
        self._open: set[Connection] = set()
        self._workers: dict[str, Connection] = {}
        self._filings: set[Filing] = set()
        self._closing = False

    async def start(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        tls: ssl.SSLContext | None = None,
        insecure: bool = False,
    ) -> tuple[str, int]:
        """Listen on the running event loop; the address and port that were bound.

        Args:
            host: A name or address of this machine.
            port: 0 for any that is free.
            tls: Encrypts everything (``certificate.new_identity``); None: nothing is.
            insecure: The user wants just that, even where other machines can reach it.

        Raises:
            ConfigError: Other machines can reach the address, and nothing is encrypted.
            OSError: The address cannot be bound.
        """
        address = await self._listener.start(host, port, tls=tls, insecure=insecure)
        self._watch()
        return address

    def serve(
        self, sock: socket.socket, *, tls: ssl.SSLContext | None = None, insecure: bool = False
    ) -> tuple[str, int]:
        """Listen on a socket that is bound already; otherwise as ``start``.

        Args:
            sock: It belongs to the server from now on.
            tls: See ``start``.
            insecure: See ``start``.

        Raises:
            ConfigError: Other machines can reach the address, and nothing is encrypted.
            OSError: Somebody else listens there.
        """
        address = self._listener.serve(sock, tls=tls, insecure=insecure)
        self._watch()
        return address

    def send(self, worker: str, message: ToWorker | ToAgent, blob: bytes | None = None) -> bool:
        """Queue a message, and the raw bytes that follow it; False if the peer is gone.

        What is sent within one iteration of the loop leaves in one piece.

        Raises:
            ValueError: The message is no JSON, or too long for a frame.
        """
        connection = self._present(worker)
        if connection is not None:
            connection.write(parcel(message, blob))
        return connection is not None

    def post(self, worker: str, frames: bytes) -> bool:
        """Queue whole frames, as ``wire.link.parcel`` makes them; False if the peer is gone."""
        connection = self._present(worker)
        if connection is not None:
            connection.write(frames)
        return connection is not None

    def disconnect(self, worker: str, reason: str) -> None:
        """End a peer's connection after what was sent; ``on_gone`` follows with ``reason``."""
        connection = self._workers.get(worker)
        if connection is not None:
            connection.close(reason)

    def silence(self, worker: str) -> float:
        """Seconds since the last bytes of a peer; infinite if it is gone.

        Within its ``on_gone`` this tells of the connection that has ended.
        """
        connection = self._workers.get(worker)
        if connection is None:
            return math.inf
        return asyncio.get_running_loop().time() - connection.heard_at

    async def close(self) -> None:
        """Stop listening, let out what was sent (for a second at most), and close everything."""
        self._closing = True
        await self._listener.close()
        connections, filings = list(self._open), list(self._filings)
        for connection in connections:
            connection.close("the driver is closing")
        await asyncio.gather(*(connection.lost for connection in connections))
        await asyncio.gather(*(filing.finished() for filing in filings))

    def _present(self, worker: str) -> Connection | None:
        connection = self._workers.get(worker)
        return None if connection is None or connection.reason is not None else connection

    def _admit(self, transport: asyncio.Transport) -> None:
        connection = Connection(
            transport,
            self._inbox,
            limit=self._limits.frame,
            hello_timeout=self._limits.hello,
            take=self._greet,
            depart=self._depart,
        )
        self._open.add(connection)
        connection.lost.add_done_callback(lambda _: self._open.discard(connection))
        transport.set_protocol(connection)

    def _greet(self, connection: Connection, frame: Frame) -> None:
        driver, payload = introduce("driver"), _message(frame)
        try:
            hello = decode_from_worker(payload)
        except WireError as error:
            _refuse(connection, f"{error} Install maggy {driver.version} where the worker runs.")
            return
        if not isinstance(hello, Hello):
            msg = f"`Hello` comes first, but got {type(hello).__name__}."
            raise WireError(msg)
        sentence = refusal(hello, driver)
        if sentence is not None:
            _refuse(connection, sentence)
        elif not self._closing:
            self._receive(connection, hello)

    def _receive(self, connection: Connection, hello: Hello) -> None:
        """Somebody who could work here is at the door."""
        if hello.role == "files" and self._files is not None:
            self._file(connection, hello.worker, self._files)
        elif hello.role == "agent" and self._callbacks.agent is not None:
            self._enrol(connection, hello, partial(self._take_agent, self._callbacks.agent))
        elif hello.role == "worker" and self._callbacks.message is not None:
            self._enrol(connection, hello, partial(self._take_worker, self._callbacks.message))
        else:
            _refuse(connection, _unexpected(hello))

    def _enrol(self, connection: Connection, hello: Hello, take: Take) -> None:
        answers: list[Answer] = []
        try:
            self._callbacks.tell(lambda: answers.append(self._callbacks.hello(hello)))
        except WireError as error:
            answers.append(Refused(reason=str(error), again=True))
        if not answers:
            _refuse(connection, "The driver failed while it took this worker in; see its log.")
            return
        answer = answers[0]
        if answer is None:
            _refuse(connection, _unexpected(hello))
        elif isinstance(answer, Refused):
            _refuse(connection, answer.reason, again=answer.again)
        else:
            older = self._workers.get(hello.worker)
            if older is not None:
                older.replace()
            self._workers[hello.worker] = connection
            frames = parcel(*answer) if isinstance(answer, tuple) else answer
            connection.accept(hello.worker, frames, take)

    def _file(self, connection: Connection, agent: str, files: FileService) -> None:
        filing = Filing(agent, connection, files, self._callbacks.error)
        self._filings.add(filing)
        connection.lost.add_done_callback(lambda _: self._filings.discard(filing))
        connection.accept(None, b"", filing.take)

    def _take_worker(
        self,
        callback: Callable[[str, FromWorker], None],
        connection: Connection,
        frame: Frame,
    ) -> None:
        message = decode_from_worker(_message(frame))
        if isinstance(message, Hello):
            raise WireError(_LATE_HELLO)
        worker = connection.worker
        if worker is not None and not isinstance(message, Heartbeat) and not self._closing:
            self._callbacks.tell(callback, worker, message)

    def _take_agent(
        self,
        callback: Callable[[str, FromAgent], None],
        connection: Connection,
        frame: Frame,
    ) -> None:
        message = decode_from_agent(_message(frame))
        if isinstance(message, Hello):
            raise WireError(_LATE_HELLO)
        if connection.worker is not None and not self._closing:
            self._callbacks.tell(callback, connection.worker, message)

    def _depart(self, connection: Connection, worker: str, reason: str) -> None:
        if not self._closing:
            self._callbacks.call(self._callbacks.gone, worker, reason)
        if self._workers.get(worker) is connection:
            del self._workers[worker]

    def _watch(self) -> None:
        if self._limits.silence is not None:
            self._sweep(self._limits.silence)

    def _sweep(self, silence: float) -> None:
        if self._closing:
            return
        loop = asyncio.get_running_loop()
        for connection in list(self._workers.values()):
            silent = loop.time() - connection.heard_at
            if silent > silence:
                connection.abort(f"silent for {silent:.1f} s")
        loop.call_later(silence / 8, self._sweep, silence)


def _message(frame: Frame) -> bytes:
    if frame.kind != JSON:
        msg = f"a worker sends messages only, but got {len(frame.payload)} raw bytes."
        raise WireError(msg)
    return frame.payload


def _unexpected(hello: Hello) -> str:
    what = "worker" if hello.role == "worker" else "agent"
    return (
        f"This run expects no {what} {hello.worker!r}: its place was given up or never was. "
        f"Leave it to the driver to start {what}s."
    )


def _refuse(connection: Connection, sentence: str, *, again: bool = False) -> None:
    logger.warning("refused a worker: %s", sentence)
    connection.write(parcel(Refused(reason=sentence, again=again)))
    connection.close("it was refused")
