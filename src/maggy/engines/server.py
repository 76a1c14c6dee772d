"""The driver's end of the wire: all workers' connections on one event loop.

Everything runs on the loop's thread, callbacks included.  Nothing that arrives is unpickled; what
breaks the protocol ends its connection and no other.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVarTuple

from maggy.engines.connection import Connection
from maggy.engines.listener import Listener
from maggy.errors import WireError
from maggy.wire.framing import JSON, LIMIT, RAW, encode_frame
from maggy.wire.handshake import introduce, refusal
from maggy.wire.messages import Heartbeat, Hello, Refused, decode_from_worker, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from maggy.wire.framing import Frame
    from maggy.wire.messages import FromWorker, Setup, ToWorker

__all__ = ["Server"]

logger = logging.getLogger(__name__)

_Args = TypeVarTuple("_Args")

_CHUNK = 2**16


@dataclass(frozen=True, slots=True, kw_only=True)
class _Callbacks:
    hello: Callable[[Hello], tuple[Setup, bytes] | None]
    message: Callable[[str, FromWorker], None]
    gone: Callable[[str, str], None]
    error: Callable[[BaseException], None]

    def call(self, callback: Callable[[*_Args], None], *args: *_Args) -> None:
        try:
            callback(*args)
        except Exception as error:  # noqa: BLE001  the owner's own error goes back to the owner
            self.error(error)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limits:
    frame: int
    silence: float | None
    hello: float


class Server:
    """Serves the workers of one run.

    For each connection the calls come in this order: ``on_hello`` once; if that took the worker
    in, ``on_message`` for each message but heartbeats, and ``on_gone`` once and last.  They are
    never made from within ``send`` or ``disconnect``.  After ``close`` none is made.

    Args:
        key: The run's key, 32 bytes.
        on_hello: A worker of the right versions asks to come in: what to send it, ``Setup`` and
            its payload, or None to refuse a worker that nobody started.
        on_message: ``(worker, message)``.
        on_gone: ``(worker, reason)``: the connection ended; ``reason`` is a clause.
        on_error: Gets what another callback raised; the server goes on.
        silence_limit: Seconds after which a worker that sent nothing is gone; None for never.
        limit: The longest payload of a frame to accept, bytes.
        handshake_timeout: Seconds for the proof of the key, and again for ``Hello``.
        max_strangers: How many connections without a proof are held (see ``listener``).
    """

    def __init__(
        self,
        *,
        key: bytes,
        on_hello: Callable[[Hello], tuple[Setup, bytes] | None],
        on_message: Callable[[str, FromWorker], None],
        on_gone: Callable[[str, str], None],
        on_error: Callable[[BaseException], None],
        silence_limit: float | None = None,
        limit: int = LIMIT,
        handshake_timeout: float = 10.0,
        max_strangers: int = 128,
    ) -> None:
        self._callbacks = _Callbacks(
            hello=on_hello, message=on_message, gone=on_gone, error=on_error
        )
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
        self._closing = False

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> tuple[str, int]:
        """Listen on the running event loop; the address and port that were bound.

        Raises:
            ConfigError: The address can be reached from other machines.
            OSError: The address cannot be bound.
        """
        address = await self._listener.start(host, port)
        if self._limits.silence is not None:
            self._sweep(self._limits.silence)
        return address

    def send(self, worker: str, message: ToWorker, blob: bytes | None = None) -> bool:
        """Queue a message, and the raw bytes that follow it; False if the worker is gone.

        What is sent within one iteration of the loop leaves in one piece.

        Raises:
            ValueError: The message is no JSON, or too long for a frame.
        """
        connection = self._workers.get(worker)
        if connection is None or connection.reason is not None:
            return False
        connection.write(_frames(message, blob))
        return True

    def disconnect(self, worker: str, reason: str) -> None:
        """End a worker's connection after what was sent; ``on_gone`` follows with ``reason``."""
        connection = self._workers.get(worker)
        if connection is not None:
            connection.close(reason)

    async def close(self) -> None:
        """Stop listening, let out what was sent (for a second at most), and close everything."""
        self._closing = True
        await self._listener.close()
        connections = list(self._open)
        for connection in connections:
            connection.close("the driver is closing")
        await asyncio.gather(*(connection.lost for connection in connections))

    def _admit(self, transport: asyncio.Transport) -> None:
        connection = Connection(
            transport,
            self._inbox,
            limit=self._limits.frame,
            hello_timeout=self._limits.hello,
            take=self._take,
            depart=self._depart,
        )
        self._open.add(connection)
        connection.lost.add_done_callback(lambda _: self._open.discard(connection))
        transport.set_protocol(connection)

    def _take(self, connection: Connection, frame: Frame) -> None:
        if frame.kind != JSON:
            msg = f"a worker sends messages only, but got {len(frame.payload)} raw bytes."
            raise WireError(msg)
        if connection.worker is None:
            self._greet(connection, frame.payload)
            return
        message = decode_from_worker(frame.payload)
        if isinstance(message, Hello):
            msg = "`Hello` comes once, first."
            raise WireError(msg)
        if not isinstance(message, Heartbeat) and not self._closing:
            self._callbacks.call(self._callbacks.message, connection.worker, message)

    def _greet(self, connection: Connection, payload: bytes) -> None:
        driver = introduce("driver")
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
            self._enrol(connection, hello)

    def _enrol(self, connection: Connection, hello: Hello) -> None:
        older = self._workers.get(hello.worker)
        if older is not None:
            older.abort("it connected again")
            older.depart()
        answers: list[bytes | None] = []
        self._callbacks.call(lambda: answers.append(self._answer(hello)))
        if not answers:
            _refuse(connection, "The driver failed while it took this worker in; see its log.")
        elif answers[0] is None:
            _refuse(
                connection,
                f"This run expects no worker {hello.worker!r}: its place was given up or never "
                "was. Leave it to the driver to start workers.",
            )
        else:
            self._workers[hello.worker] = connection
            connection.accept(hello.worker, answers[0])

    def _answer(self, hello: Hello) -> bytes | None:
        answer = self._callbacks.hello(hello)
        return None if answer is None else _frames(*answer)

    def _depart(self, connection: Connection, worker: str, reason: str) -> None:
        if self._workers.get(worker) is connection:
            del self._workers[worker]
        if not self._closing:
            self._callbacks.call(self._callbacks.gone, worker, reason)

    def _sweep(self, silence: float) -> None:
        if self._closing:
            return
        loop = asyncio.get_running_loop()
        for connection in list(self._workers.values()):
            silent = loop.time() - connection.heard_at
            if silent > silence:
                connection.abort(f"silent for {silent:.1f} s")
        loop.call_later(silence / 8, self._sweep, silence)


def _refuse(connection: Connection, sentence: str) -> None:
    logger.warning("refused a worker: %s", sentence)
    connection.write(_frames(Refused(reason=sentence), None))
    connection.close("it was refused")


def _frames(message: ToWorker, blob: bytes | None) -> bytes:
    frame = encode_frame(JSON, encode(message))
    return frame if blob is None else frame + encode_frame(RAW, blob)
