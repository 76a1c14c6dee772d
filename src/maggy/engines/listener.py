"""The driver's door: accepts connections and lets in those that prove the run's key.

An unproven peer, a *stranger*, costs one socket and 64 bytes for a limited time, whatever it
sends; under TLS, where it has to speak first, 0.3 MB as soon as it does, and its handshake is part
of that time.  At most ``max_strangers`` are held.  When one more waits, the oldest is dropped, but
not before it had ``GRACE`` seconds, or ``TLS_GRACE`` if it has begun with TLS.  So a crowd of
honest agents that arrive at once is let in batch by batch: those for whom there is no time yet
wait in the system's queue.  A crowd of silent strangers delays an honest worker by about
``GRACE``, and one of strangers that begin with TLS and go on to do nothing by ``TLS_GRACE``, for
each ``max_strangers`` of them.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from functools import partial
from typing import TYPE_CHECKING

from maggy.errors import ConfigError, WireError
from maggy.wire.dialing import keep_alive
from maggy.wire.handshake import ANSWER_SIZE, DriverHandshake

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

__all__ = ["GRACE", "TLS_GRACE", "Listener"]

logger = logging.getLogger(__name__)

GRACE = 0.25
"""Seconds that a stranger has before it may be dropped for the next one."""

TLS_GRACE = 2.0
"""The same for one that has begun with TLS: a crowd's handshakes keep each other waiting."""

_DEFERRED = 1
"""Seconds that Linux keeps back a connection under TLS on which nothing has come."""

_BACKLOG = 65_535  # more than any system allows, which cuts it down
_OUT_OF_RESOURCES_PAUSE = 1.0


class Listener:
    """Accepts connections on the running event loop.

    Args:
        key: The run's key, 32 bytes.
        admit: Called with each transport whose peer proved the key; gives it its protocol.
        handshake_timeout: Seconds that a stranger has for its proof.
        max_strangers: How many strangers are held.
    """

    def __init__(
        self,
        *,
        key: bytes,
        admit: Callable[[asyncio.Transport], None],
        handshake_timeout: float,
        max_strangers: int,
    ) -> None:
        self._key = key
        self._admit = admit
        self._timeout = handshake_timeout
        self._max_strangers = max_strangers
        self._strangers: dict[_Stranger, asyncio.Task[object] | None] = {}  # oldest first
        self._socket: socket.socket | None = None
        self._resume: asyncio.TimerHandle | None = None
        self._tls: ssl.SSLContext | None = None

    async def start(
        self, host: str, port: int, *, tls: ssl.SSLContext | None = None, insecure: bool = False
    ) -> tuple[str, int]:
        """Bind an address, and listen there; the address and port that were bound.

        Args:
            host: A name or address of this machine.
            port: 0 for any that is free.
            tls: Encrypts everything; None: nothing is.
            insecure: The user wants just that, even where other machines can reach it.

        Raises:
            ConfigError: Other machines can reach the address, and nothing is encrypted.
            OSError: The address cannot be bound.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, *_, address = found[0]
        sock = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
        return self.serve(sock, tls=tls, insecure=insecure)

    def serve(
        self, sock: socket.socket, *, tls: ssl.SSLContext | None = None, insecure: bool = False
    ) -> tuple[str, int]:
        """Listen on a socket that is bound already; its address and port.

        Args:
            sock: It belongs to the listener from now on.
            tls: Encrypts everything; None: nothing is.
            insecure: The user wants just that, even where other machines can reach it.

        Raises:
            ConfigError: Other machines can reach the address, and nothing is encrypted; the
                socket is closed.
            OSError: Somebody else listens there.
        """
        host, port = sock.getsockname()[:2]
        reachable = not ipaddress.ip_address(host).is_loopback
        if reachable and tls is None and not insecure:
            sock.close()
            msg = (
                f"`host` must be an address of this machine alone, such as 127.0.0.1, but got "
                f"{host!r}: the connection is not encrypted. Install the extra maggy[cluster] "
                "(pip install cryptography), or say tls=False if nobody else can reach your "
                "network."
            )
            raise ConfigError(msg)
        if reachable:
            keep_alive(sock)  # those accepted inherit it
        if tls is not None and hasattr(socket, "TCP_DEFER_ACCEPT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _DEFERRED)
        self._tls, self._socket = tls, sock
        sock.settimeout(0)
        sock.listen(_BACKLOG)
        self._listen(sock)
        return str(host), int(port)

    async def close(self) -> None:
        """Stop listening and drop all strangers; those let in are not touched."""
        if self._socket is None:
            return
        self._stop_listening(self._socket)
        self._socket.close()
        self._socket = None
        strangers = list(self._strangers)
        for stranger in strangers:
            stranger.drop("the driver is closing")
        await asyncio.gather(*(stranger.gone for stranger in strangers))

    def _listen(self, sock: socket.socket) -> None:
        self._resume = None
        asyncio.get_running_loop().add_reader(sock, self._accept, sock)

    def _stop_listening(self, sock: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(sock)
        if self._resume is not None:
            self._resume.cancel()
            self._resume = None

    def _pause(self, sock: socket.socket, seconds: float) -> None:
        self._stop_listening(sock)
        self._resume = asyncio.get_running_loop().call_later(seconds, self._listen, sock)

    def _accept(self, sock: socket.socket) -> None:
        """Somebody waits: make room if there is none, then take all who fit."""
        if len(self._strangers) >= self._max_strangers and not self._make_room(sock):
            return
        while len(self._strangers) < self._max_strangers:
            try:
                peer, _ = sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # out of file descriptors or memory: those inside go on
                logger.warning("cannot accept a connection, waiting a second: %s", error)
                self._pause(sock, _OUT_OF_RESOURCES_PAUSE)
                return
            self._welcome(peer)

    def _make_room(self, sock: socket.socket) -> bool:
        first = min(self._strangers, key=_Stranger.due)
        wait = first.due() - asyncio.get_running_loop().time()
        if wait > 0:
            self._pause(sock, wait)
            return False
        first.drop("others are waiting")
        self._forget(first)
        return True

    def _welcome(self, peer: socket.socket) -> None:
        peer.settimeout(0)
        stranger = _Stranger(
            peer, DriverHandshake(self._key), self._timeout, self._let_in, self._forget
        )
        self._strangers[stranger] = None
        if self._tls is None:
            self._greet(stranger, peer)
        else:
            stranger.await_word(partial(self._greet, stranger, peer))

    def _greet(self, stranger: _Stranger, peer: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        limit = None if self._tls is None else self._timeout
        task: asyncio.Task[object] = loop.create_task(
            loop.connect_accepted_socket(
                lambda: stranger, peer, ssl=self._tls, ssl_handshake_timeout=limit
            )
        )
        self._strangers[stranger] = task
        task.add_done_callback(partial(_greeted, stranger))

    def _let_in(self, stranger: _Stranger, transport: asyncio.Transport) -> None:
        self._forget(stranger)
        self._admit(transport)

    def _forget(self, stranger: _Stranger) -> None:
        if stranger not in self._strangers:
            return
        del self._strangers[stranger]
        if self._resume is not None and self._socket is not None:
            self._stop_listening(self._socket)
            self._listen(self._socket)


def _greeted(stranger: _Stranger, task: asyncio.Task[object]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        level = logging.INFO if isinstance(error, OSError) else logging.ERROR
        logger.log(level, "a connection was gone before it was greeted: %s", error)
    if not stranger.met:
        stranger.leave()


class _Stranger(asyncio.BufferedProtocol):
    """A peer before its proof; reads ``ANSWER_SIZE`` bytes and never one more.

    Its time begins when its connection is accepted.  Until TLS is established there is no
    transport, and it is dropped by its socket.
    """

    def __init__(
        self,
        peer: socket.socket,
        handshake: DriverHandshake,
        timeout: float,
        proven: Callable[[_Stranger, asyncio.Transport], None],
        lost: Callable[[_Stranger], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self._since = loop.time()
        self._silent = False  # nothing waits for it but a reader
        self._spoke = False
        self.gone: asyncio.Future[None] = loop.create_future()
        self._peer = peer
        self._handshake = handshake
        self._proven = proven
        self._lost = lost
        self._answer = bytearray()
        self._inbox = bytearray(ANSWER_SIZE)
        self._transport: asyncio.Transport | None = None
        self._timer = loop.call_later(timeout, self.drop, "it did not prove the key in time")

    @property
    def met(self) -> bool:
        """True once the connection is there, TLS included."""
        return self._transport is not None

    def due(self) -> float:
        """When it may be dropped for the next one, in the loop's time."""
        return self._since + (TLS_GRACE if self._spoke else GRACE)

    def await_word(self, spoke: Callable[[], None]) -> None:
        """Call ``spoke`` as soon as something comes; nothing is read."""
        self._silent = True
        asyncio.get_running_loop().add_reader(self._peer, self._hear, spoke)

    def _hear(self, spoke: Callable[[], None]) -> None:
        self._stop_waiting()
        self._spoke = True
        spoke()

    def _stop_waiting(self) -> None:
        self._silent = False
        asyncio.get_running_loop().remove_reader(self._peer)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._handshake.greeting)

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self._inbox)[: ANSWER_SIZE - len(self._answer)]

    def buffer_updated(self, nbytes: int) -> None:
        self._answer += self._inbox[:nbytes]
        if len(self._answer) < ANSWER_SIZE:
            return
        assert self._transport is not None
        try:
            proof = self._handshake.verify(bytes(self._answer))
        except WireError:
            self.drop("it does not hold this run's key")
            return
        self._timer.cancel()
        self._transport.write(proof)
        self.gone.set_result(None)
        self._proven(self, self._transport)

    def drop(self, why: str) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            peer = self._transport.get_extra_info("peername")
            logger.info("dropped an unproven connection from %s: %s", peer, why)
            self._transport.abort()
            return
        logger.info("dropped a connection before it was greeted: %s", why)
        if self._silent:
            self._stop_waiting()
            self.leave()
            return
        try:
            self._peer.shutdown(socket.SHUT_RDWR)  # what waits for its handshake hears of it
        except OSError as error:
            logger.debug("it was gone already: %s", error)

    def connection_lost(self, exc: Exception | None) -> None:
        self.leave()

    def leave(self) -> None:
        """The connection is gone; again does nothing."""
        self._timer.cancel()
        if not self.gone.done():
            self._peer.close()
            self._lost(self)
            self.gone.set_result(None)
