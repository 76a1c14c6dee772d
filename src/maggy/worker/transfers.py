"""An agent's second connection: the files it asks the driver for, and those it brings there.

Requests go out one by one, each for a piece of 1 MiB at most, and each may be made again: when the
connection breaks, a new one goes on with the piece that was due.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING

from maggy.errors import WireError
from maggy.wire.framing import JSON, LIMIT
from maggy.wire.handshake import introduce
from maggy.wire.link import parcel
from maggy.wire.messages import Fetch, Part, Refused, Store, Stored, decode_to_files

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from maggy.wire.messages import ToFiles
    from maggy.worker.stream import Stream

__all__ = ["PIECE", "RefusedFile", "Transfers"]

logger = logging.getLogger(__name__)

PIECE = 2**20
"""Bytes of a file in one message, at most."""

_ONE_TRY = 20.0
"""Seconds for one piece on one connection."""

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0


class RefusedFile(WireError):
    """The driver does not give or take this file; says why.  No use to try again."""


class Transfers:
    """Fetches and stores files of one agent; calls take turns.

    Args:
        agent: The agent's name.
        dial: Connects to the driver, within so many seconds.
        patience: Seconds to try one piece for, from when its turn has come.
    """

    def __init__(
        self, agent: str, dial: Callable[[float], Awaitable[Stream]], *, patience: float
    ) -> None:
        self._agent = agent
        self._dial = dial
        self._patience = patience
        self._stream: Stream | None = None
        self._turn = asyncio.Lock()

    async def fetch(self, name: str) -> AsyncIterator[bytes] | None:
        """The pieces of a file, in order; None if there is no such file.

        Raises:
            RefusedFile: It cannot be read there.
            OSError: The driver could not be reached for too long; also while iterating.
        """
        first, total = await self._piece(name, 0)
        return None if total < 0 else self._pieces(name, first, total)

    async def fetch_bytes(self, name: str, limit: int = LIMIT) -> bytes | None:
        """A file whole; None if there is no such file.

        Raises:
            WireError: It is longer than ``limit`` bytes.
            RefusedFile: It cannot be read there.
            OSError: The driver could not be reached for too long.
        """
        pieces = await self.fetch(name)
        if pieces is None:
            return None
        data = bytearray()
        async for piece in pieces:
            data += piece
            if len(data) > limit:
                msg = f"{name} may have at most {limit} bytes, but has more."
                raise WireError(msg)
        return bytes(data)

    async def store(self, name: str, data: bytes) -> None:
        """Bring these bytes there under this name.

        Raises:
            RefusedFile: They cannot be written there.
            OSError: The driver could not be reached for too long.
        """
        for offset in range(0, max(len(data), 1), PIECE):
            piece = data[offset : offset + PIECE]
            await self._store(name, offset, piece, last=offset + PIECE >= len(data))

    async def store_file(self, name: str, path: Path) -> None:
        """Bring a file there under this name, as long as it is now.

        Raises:
            RefusedFile: It cannot be written there.
            OSError: It cannot be read, or the driver could not be reached for too long.
        """
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            offset, last = 0, False
            while not last:
                piece = await asyncio.to_thread(file.read, min(PIECE, size - offset))
                last = offset + len(piece) >= size or not piece  # somebody may have cut it
                await self._store(name, offset, piece, last=last)
                offset += len(piece)

    async def close(self) -> None:
        """End the connection."""
        if self._stream is not None:
            await self._stream.close()
            self._stream = None

    async def _pieces(self, name: str, piece: bytes, total: int) -> AsyncIterator[bytes]:
        offset = 0
        while True:
            yield piece
            offset += len(piece)
            if offset >= total:
                return
            piece, total_now = await self._piece(name, offset)
            if total_now != total or not piece:
                msg = f"{name} has changed while it was fetched."
                raise RefusedFile(msg)

    async def _piece(self, name: str, offset: int) -> tuple[bytes, int]:
        """A piece of the file, and how long the file is."""
        answer, blob = await self._ask(Fetch(name=name, offset=offset, size=PIECE), None)
        if not isinstance(answer, Part) or blob is None:
            msg = f"`Part` must answer a request for {name}, but got {type(answer).__name__}."
            raise RefusedFile(msg)
        return blob, answer.size

    async def _store(self, name: str, offset: int, piece: bytes, *, last: bool) -> None:
        answer, _ = await self._ask(Store(name=name, offset=offset, last=last), piece)
        if not isinstance(answer, Stored):
            msg = f"`Stored` must answer {name}, but got {type(answer).__name__}."
            raise RefusedFile(msg)

    async def _ask(
        self, request: Fetch | Store, blob: bytes | None
    ) -> tuple[ToFiles, bytes | None]:
        frames = parcel(request, blob)
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE
        async with self._turn:
            deadline = loop.time() + self._patience
            while True:
                try:
                    return await self._exchange(frames, min(deadline - loop.time(), _ONE_TRY))
                except RefusedFile:
                    raise
                except OSError as error:
                    logger.info("%s has to wait: %s", request.name, str(error) or "no answer")
                    if loop.time() + pause > deadline:
                        raise
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    async def _exchange(self, frames: bytes, timeout: float) -> tuple[ToFiles, bytes | None]:
        """Send one request and wait for its answer, on a connection that ends if that fails."""
        try:
            async with asyncio.timeout(timeout):
                stream = await self._connected(timeout)
                stream.write(frames)
                await stream.drain()
                answer, blob = await _answer(stream)
        except BaseException:  # an answer that comes late would be taken for the next one's
            if self._stream is not None:
                self._stream.abort()
                self._stream = None
            raise
        if isinstance(answer, Refused):
            raise RefusedFile(answer.reason)
        return answer, blob

    async def _connected(self, timeout: float) -> Stream:
        if self._stream is None:
            self._stream = await self._dial(timeout)
            self._stream.write(parcel(introduce(self._agent, "files")))
        return self._stream


async def _answer(stream: Stream) -> tuple[ToFiles, bytes | None]:
    frame = await stream.receive()
    if frame is None:
        msg = "the connection for files ended."
        raise ConnectionResetError(msg)
    if frame.kind != JSON:
        msg = "an answer was due, but raw bytes came."
        raise WireError(msg)
    answer = decode_to_files(frame.payload)
    blob = await stream.blob() if isinstance(answer, Part) else None
    if isinstance(answer, Part) and blob is None:
        msg = "the connection for files ended."
        raise ConnectionResetError(msg)
    return answer, blob
