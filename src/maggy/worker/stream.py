"""One connection of an agent on its event loop: frames in, frames out.

TLS and two directions at a time are not safe on one blocking socket from two threads, so an agent
uses asyncio where a worker uses ``wire.channel``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
from collections import deque
from typing import TYPE_CHECKING

from maggy.errors import WireError
from maggy.wire.dialing import check_pin, keep_alive, pinned_context
from maggy.wire.framing import MAX_PAYLOAD, RAW, FrameDecoder
from maggy.wire.handshake import GREETING_SIZE, PROOF_SIZE, WorkerHandshake

if TYPE_CHECKING:
    from maggy.wire.framing import Frame
    from maggy.wire.token import Token

__all__ = ["KeyNotTaken", "Stream", "adopt", "reach"]

logger = logging.getLogger(__name__)

_CHUNK = 2**16
_NUMBER = re.compile(r"\[Errno (\d+)\]")


class KeyNotTaken(ConnectionResetError):
    """A driver listens there, and hung up when it had seen the proof of the key."""


async def reach(host: str, port: int, token: Token, *, timeout: float) -> Stream:
    """A connection to the driver, both sides proven; nothing was said on it yet.

    Args:
        host: Where the driver listens.
        port: Its port.
        token: The run's.
        timeout: Seconds for all of it.

    Raises:
        WireError: Whoever listens there is not this run's driver.
        KeyNotTaken: It is a driver that does not take this token.
        OSError: Nobody can be reached there in time; says where.
    """
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    context = None if token.pin is None else pinned_context()
    async with asyncio.timeout(timeout):
        try:
            reader, writer = await asyncio.open_connection(host, port, ssl=context)
        except OSError as error:
            raise _plain(error, place) from error
        try:
            sock = writer.get_extra_info("socket")
            keep_alive(sock)
            _keep_little(sock)
            if token.pin is not None:
                certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
                check_pin(certificate, token.pin)
            await _prove(reader, writer, token.key, place)
        except BaseException:
            writer.transport.abort()
            raise
    return Stream(reader, writer)


def _keep_little(sock: socket.socket) -> None:
    """Have the system take no more than it can send soon, so that a slow link shows."""
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _CHUNK)


async def adopt(sock: socket.socket, *, limit: int) -> Stream:
    """The stream over a connected socket, which belongs to it from now on.

    Args:
        sock: One end of a socket pair.
        limit: The longest payload of a frame to accept, bytes.
    """
    reader, writer = await asyncio.open_connection(sock=sock)
    return Stream(reader, writer, limit=limit)


async def _prove(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: bytes, place: str
) -> None:
    handshake = WorkerHandshake(key)
    try:
        greeting = await reader.readexactly(GREETING_SIZE)
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        msg = f"the connection to {place} was closed without a word."
        raise ConnectionResetError(msg) from error
    writer.write(handshake.answer(greeting))
    try:
        proof = await reader.readexactly(PROOF_SIZE)
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        msg = f"the driver at {place} does not accept this key."
        raise KeyNotTaken(msg) from error
    handshake.verify(proof)


def _plain(error: OSError, place: str) -> OSError:
    """Why nobody was reached, without the address once more for each way there was."""
    numbers = list(dict.fromkeys(map(int, _NUMBER.findall(str(error)))))
    reason = ", ".join(map(os.strerror, numbers)) or error.strerror or str(error)
    text = f"{reason[:1].lower()}{reason[1:]} at {place}"
    return OSError(numbers[0], text) if numbers else OSError(text)


class Stream:
    """Frames over a pair of asyncio streams; made by ``reach`` or ``adopt``.

    What is written leaves in pieces, as the peer takes them, so that a long frame on a slow link
    is seen to move.

    Attributes:
        moved_at: When bytes last moved, in the loop's time, seconds: some came, or the peer took
            some that had to wait for it.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        limit: int = MAX_PAYLOAD,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = FrameDecoder(limit)
        self._frames: deque[Frame] = deque()
        self._out: list[bytes] = []
        self._pouring: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self.moved_at = self._loop.time()
        writer.transport.set_write_buffer_limits(high=_CHUNK)

    def write(self, data: bytes) -> None:
        """Send whole frames; those of one iteration of the loop leave in one piece."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    async def drain(self) -> None:
        """Wait until little of what was written is still here.

        Raises:
            OSError: The connection is gone.
        """
        await self._poured()
        await self._writer.drain()

    async def receive(self) -> Frame | None:
        """Wait for the next frame; None at the end of the connection.

        Raises:
            WireError: The peer sent nonsense.
        """
        while not self._frames:
            try:
                data = await self._reader.read(_CHUNK)
            except OSError as error:
                logger.debug("a connection broke: %s", error)
                return None
            if not data:
                return None
            self.moved_at = self._loop.time()
            self._frames.extend(self._decoder.feed(data))
        return self._frames.popleft()

    async def blob(self) -> bytes | None:
        """The payload of a raw frame that is due; None at the end of the connection.

        Raises:
            WireError: The peer sent something else.
        """
        frame = await self.receive()
        if frame is None:
            return None
        if frame.kind != RAW:
            msg = "raw bytes were due, but a message came."
            raise WireError(msg)
        return frame.payload

    async def close(self, *, patience: float = 1.0) -> None:
        """Let out what was written, for so many seconds at most, and end the connection."""
        try:
            async with asyncio.timeout(patience):
                await self._poured()
                self._writer.close()
                await self._writer.wait_closed()
        except OSError as error:  # TimeoutError is one
            logger.debug("a connection did not end in order: %s", error)
            self.abort()

    def abort(self) -> None:
        """End the connection at once; a ``receive`` that waits returns None."""
        self._writer.transport.abort()

    def _flush(self) -> None:
        """Hand over what was written, unless that is being done already."""
        if self._pouring is not None:
            return
        data = self._collect()
        if not data or self._writer.is_closing():
            return
        if len(data) <= _CHUNK and not self._writer.transport.get_write_buffer_size():
            self._writer.write(data)
        else:
            self._pouring = self._loop.create_task(self._pour(data))

    async def _pour(self, data: bytes) -> None:
        """Hand over these bytes, and what is written meanwhile, as the peer takes them."""
        try:
            while data:
                for offset in range(0, len(data), _CHUNK):
                    self._writer.write(data[offset : offset + _CHUNK])
                    await self._writer.drain()
                    self.moved_at = self._loop.time()
                data = self._collect()
        except OSError as error:  # ``receive`` tells it
            logger.debug("a connection broke: %s", error)
        finally:
            self._pouring = None

    async def _poured(self) -> None:
        """Wait until all that was written is handed over, or the connection is gone."""
        self._flush()
        if self._pouring is not None:
            await asyncio.wait({self._pouring})

    def _collect(self) -> bytes:
        data = b"".join(self._out)
        self._out.clear()
        return data
