"""The driver's door: accepts connections and lets in those that prove the run's key.

An unproven peer, a *stranger*, costs one socket and 64 bytes for a limited time, whatever it
sends.  At most ``max_strangers`` are held.  When one more waits, the oldest is dropped, but not
before it had ``GRACE`` seconds: so a crowd of honest workers that arrive at once is let in batch
by batch, and a crowd of silent strangers delays an honest worker by about ``GRACE``.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
import socket
from typing import TYPE_CHECKING

from maggy.errors import ConfigError, WireError
from maggy.wire.handshake import ANSWER_SIZE, DriverHandshake

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["GRACE", "Listener"]

logger = logging.getLogger(__name__)

GRACE = 0.25
"""Seconds that a stranger has before it may be dropped for the next one."""

_BACKLOG = 1024
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
        self._strangers: dict[_Stranger, asyncio.Task[None]] = {}  # oldest first
        self._socket: socket.socket | None = None
        self._resume: asyncio.TimerHandle | None = None

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; the address that was bound.

        Raises:
            ConfigError: The address can be reached from other machines.
            OSError: The address cannot be bound.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, *_, address = found[0]
        if not ipaddress.ip_address(address[0]).is_loopback:
            msg = (
                f"`host` must be an address of this machine alone, such as 127.0.0.1, but got "
                f"{host!r}: the connection is not encrypted."
            )
            raise ConfigError(msg)
        self._socket = socket.create_server(
            (str(address[0]), port), family=family, backlog=_BACKLOG
        )
        self._socket.settimeout(0)
        self._listen(self._socket)
        name = self._socket.getsockname()
        return str(name[0]), int(name[1])

    async def close(self) -> None:
        """Stop listening and drop all strangers; those let in are not touched."""
        if self._socket is None:
            return
        self._stop_listening(self._socket)
        self._socket.close()
        self._socket = None
        await asyncio.gather(*self._strangers.values())
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
        oldest = next(iter(self._strangers))
        wait = oldest.since + GRACE - asyncio.get_running_loop().time()
        if wait > 0:
            self._pause(sock, min(wait, GRACE))
            return False
        oldest.drop("others are waiting")
        self._forget(oldest)
        return True

    def _welcome(self, peer: socket.socket) -> None:
        peer.settimeout(0)
        stranger = _Stranger(DriverHandshake(self._key), self._timeout, self._let_in, self._forget)
        task = asyncio.get_running_loop().create_task(self._greet(stranger, peer))
        self._strangers[stranger] = task

    async def _greet(self, stranger: _Stranger, peer: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: stranger, peer)
        except OSError as error:
            logger.info("a connection was gone before it was greeted: %s", error)
            peer.close()
            stranger.gone.set_result(None)
            self._forget(stranger)

    def _let_in(self, stranger: _Stranger, transport: asyncio.Transport) -> None:
        self._forget(stranger)
        self._admit(transport)

    def _forget(self, stranger: _Stranger) -> None:
        if self._strangers.pop(stranger, None) and self._resume and self._socket is not None:
            self._stop_listening(self._socket)
            self._listen(self._socket)


class _Stranger(asyncio.BufferedProtocol):
    """A peer before its proof; reads ``ANSWER_SIZE`` bytes and never one more."""

    def __init__(
        self,
        handshake: DriverHandshake,
        timeout: float,
        proven: Callable[[_Stranger, asyncio.Transport], None],
        lost: Callable[[_Stranger], None],
    ) -> None:
        self.since = math.inf
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._handshake = handshake
        self._timeout = timeout
        self._proven = proven
        self._lost = lost
        self._answer = bytearray()
        self._inbox = bytearray(ANSWER_SIZE)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        loop = asyncio.get_running_loop()
        self.since = loop.time()
        self._transport = transport
        self._timer = loop.call_later(self._timeout, self.drop, "it did not prove the key in time")
        transport.write(self._handshake.greeting)

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self._inbox)[: ANSWER_SIZE - len(self._answer)]

    def buffer_updated(self, nbytes: int) -> None:
        self._answer += self._inbox[:nbytes]
        if len(self._answer) < ANSWER_SIZE:
            return
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
        peer = self._transport.get_extra_info("peername")
        logger.info("dropped an unproven connection from %s: %s", peer, why)
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._lost(self)
        self.gone.set_result(None)
