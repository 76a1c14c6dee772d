"""Requests for files, which agents make on further connections: one at a time on each."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from maggy.errors import WireError
from maggy.wire.framing import JSON
from maggy.wire.link import parcel
from maggy.wire.messages import Hello, Store, decode_from_files

if TYPE_CHECKING:
    from collections.abc import Callable

    from maggy.engines.connection import Connection
    from maggy.wire.framing import Frame
    from maggy.wire.messages import Fetch, ToFiles

__all__ = ["FileService", "Filing"]


class FileService(Protocol):
    """Knows which files there are, and where those go that come."""

    async def answer(
        self, agent: str, request: Fetch | Store, blob: bytes | None
    ) -> tuple[ToFiles, bytes | None]:
        """The answer, and the raw bytes that follow ``Part``; ``blob`` came with ``Store``."""
        ...


class Filing:
    """Serves one connection for files.

    Nothing more is read while a request is answered, or while the peer does not take the answer:
    so a peer costs a few pieces of memory, whatever it asks for.

    Args:
        agent: Whose it is.
        connection: The connection.
        files: Answers the requests.
        fail: Gets what ``files`` raised; the connection ends then.
    """

    def __init__(
        self,
        agent: str,
        connection: Connection,
        files: FileService,
        fail: Callable[[BaseException], None],
    ) -> None:
        self._agent = agent
        self._connection = connection
        self._files = files
        self._fail = fail
        self._store: Store | None = None
        self._requests: list[tuple[Fetch | Store, bytes | None]] = []  # came in one read
        self._task: asyncio.Task[None] | None = None

    def take(self, connection: Connection, frame: Frame) -> None:
        """A frame came; see ``Connection``.

        Raises:
            WireError: It is not the one that is due.
        """
        store, self._store = self._store, None
        if (frame.kind == JSON) == (store is not None):
            due = "a message" if store is None else "the raw bytes of a file"
            msg = f"{due} must come next, but got a frame of kind {frame.kind!r}."
            raise WireError(msg)
        if store is not None:
            self._ask(store, frame.payload)
            return
        message = decode_from_files(frame.payload)
        if isinstance(message, Hello):
            msg = "`Hello` comes once, first."
            raise WireError(msg)
        if isinstance(message, Store):
            self._store = message
        else:
            self._ask(message, None)

    async def finished(self) -> None:
        """Wait for the request that is being answered."""
        if self._task is not None:
            await self._task

    def _ask(self, request: Fetch | Store, blob: bytes | None) -> None:
        self._requests.append((request, blob))
        if self._task is None:
            self._connection.pause()
            self._task = asyncio.get_running_loop().create_task(self._answer())

    async def _answer(self) -> None:
        connection = self._connection
        try:
            while self._requests and connection.reason is None:
                request, blob = self._requests.pop(0)
                connection.write(parcel(*await self._files.answer(self._agent, request, blob)))
                await connection.drained()
        except Exception as error:  # noqa: BLE001  the owner's own error goes back to the owner
            connection.abort("the driver failed to answer")
            self._fail(error)
        self._task = None
        connection.resume()
