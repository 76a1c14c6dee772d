"""One proven peer of the driver: frames in, bytes out, and one reason for its end."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, TypeAlias

from maggy.errors import WireError
from maggy.wire.framing import PIECE_LIMIT, FrameDecoder

if TYPE_CHECKING:
    from collections.abc import Callable

    from maggy.wire.framing import Frame

__all__ = ["CLOSE_GRACE", "Connection", "Take"]

logger = logging.getLogger(__name__)

CLOSE_GRACE = 1.0
"""Seconds that a peer has to take what was sent before its connection was closed."""


Take: TypeAlias = "Callable[[Connection, Frame], None]"
"""Acts on a frame; may raise ``WireError`` to end the connection."""


class Connection(asyncio.BufferedProtocol):
    """What happens on one transport, from the proof of the key to the end.

    Args:
        transport: A transport whose peer proved the key.
        inbox: Memory to read into; may be shared, since each read is used up at once.
        limit: The longest message to accept, bytes; a raw frame may have ``PIECE_LIMIT``.
        hello_timeout: Seconds until ``accept`` must have been called.
        take: Called with each frame until ``accept`` names another.
        depart: Called once with ``(worker, reason)`` after an accepted peer's connection ended,
            never from within ``close`` or ``abort``.

    Attributes:
        worker: The name under which the peer was accepted, None before that and after its end.
        reason: Why the connection ended, a clause; None while it lives.
        heard_at: When the last bytes came, in the loop's time, seconds.
        lost: Done when the transport is gone.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        inbox: memoryview,
        *,
        limit: int,
        hello_timeout: float,
        take: Take,
        depart: Callable[[Connection, str, str], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self.worker: str | None = None
        self.reason: str | None = None
        self.heard_at = loop.time()
        self.lost: asyncio.Future[None] = loop.create_future()
        self._transport = transport
        self._inbox = inbox
        self._decoder = FrameDecoder(limit, PIECE_LIMIT)
        self._take = take
        self._depart = depart
        self._out: list[bytes] = []
        self._room = asyncio.Event()
        self._room.set()
        self._timer = loop.call_later(hello_timeout, self.abort, "it did not say hello in time")

    def accept(self, worker: str | None, answer: bytes, take: Take | None = None) -> None:
        """Keep the peer, and send ``answer``.

        Args:
            worker: Its name from now on; None: it has none, and does not depart.
            answer: Whole frames.
            take: Called with each frame from now on; None: as before.
        """
        self._timer.cancel()
        self.worker = worker
        self._take = take or self._take
        self.write(answer)

    def write(self, data: bytes) -> None:
        """Send whole frames; those of one iteration of the loop leave in one piece."""
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(data)

    async def drained(self) -> None:
        """Wait until the peer took most of what was written, or is gone."""
        self._flush()
        await self._room.wait()

    def pause(self) -> None:
        """Read nothing more for now."""
        if self.reason is None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self.reason is None:
            self._transport.resume_reading()

    def close(self, reason: str) -> None:
        """End the connection as soon as the peer took what was written, or after a second."""
        if self._end(reason):
            self._transport.close()
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(CLOSE_GRACE, self._transport.abort)

    def abort(self, reason: str) -> None:
        """End the connection at once."""
        if self._end(reason):
            self._transport.abort()

    def replace(self) -> None:
        """End the connection at once, without a word: its peer has a newer one."""
        self.worker = None
        self.abort("it connected again")

    def depart(self) -> None:
        """Tell the owner that an accepted peer's connection ended, if that was not done yet."""
        worker, self.worker = self.worker, None
        if worker is not None and self.reason is not None:
            self._depart(self, worker, self.reason)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the transport reads into."""
        return self._inbox

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes came."""
        self.heard_at = asyncio.get_running_loop().time()
        try:
            for frame in self._decoder.feed(self._inbox[:nbytes]):
                if self.reason is not None:
                    return
                self._take(self, frame)
        except WireError as error:
            self.abort(f"it broke the protocol: {error}")

    def eof_received(self) -> None:
        """The peer closed its side."""
        self.abort(self._closed())

    def pause_writing(self) -> None:
        """The peer does not take what was written."""
        self._room.clear()

    def resume_writing(self) -> None:
        """The peer took it."""
        self._room.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone, whoever ended it."""
        self.abort(self._closed() if exc is None else f"its connection broke: {exc}")
        self._timer.cancel()
        self._room.set()
        self.depart()
        self.lost.set_result(None)

    def _closed(self) -> str:
        where = " in the middle of a message" if self._decoder.unfinished else ""
        return f"it closed the connection{where}"

    def _end(self, reason: str) -> bool:
        if self.reason is not None:
            return False
        logger.info("the connection of %s ended: %s", self.worker or "a peer", reason)
        self._timer.cancel()
        self._flush()
        self.reason = reason
        asyncio.get_running_loop().call_soon(self.depart)
        return True

    def _flush(self) -> None:
        if self._out and self.reason is None:
            self._transport.write(b"".join(self._out))
        self._out.clear()
