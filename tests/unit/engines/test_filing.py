"""Requests for files: whole, in turn, and never more than one at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from maggy.engines.filing import Filing
from maggy.errors import WireError
from maggy.wire.framing import JSON, RAW, FrameDecoder, encode_frame
from maggy.wire.handshake import introduce
from maggy.wire.link import parcel
from maggy.wire.messages import Fetch, Part, Ready, Store, Stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from maggy.engines.connection import Connection
    from maggy.wire.messages import ToFiles

FETCH = Fetch(name="data", offset=0, size=3)
STORE = Store(name="x", offset=0, last=True)


class _Connection:
    """As much of a connection as is needed; what happened to it, in order."""

    def __init__(self) -> None:
        self.done: list[str | bytes] = []
        self.reason: str | None = None
        self.room = asyncio.Event()
        self.room.set()

    def write(self, data: bytes) -> None:
        self.done.append(data)

    async def drained(self) -> None:
        await self.room.wait()

    def pause(self) -> None:
        self.done.append("<pause>")

    def resume(self) -> None:
        self.done.append("<resume>")

    def abort(self, reason: str) -> None:
        self.reason = reason


class _Case:
    """One connection for files; `answers` are given in turn."""

    def __init__(self) -> None:
        self.connection = _Connection()
        self.asked: list[tuple[str, Fetch | Store, bytes | None]] = []
        self.failed: list[BaseException] = []
        self.answers: list[tuple[ToFiles, bytes | None] | Exception] = []
        connection = cast("Connection", self.connection)
        self.filing = Filing("a.0", connection, self, self.failed.append)

    async def answer(
        self, agent: str, request: Fetch | Store, blob: bytes | None
    ) -> tuple[ToFiles, bytes | None]:
        self.asked.append((agent, request, blob))
        await asyncio.sleep(0)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def feed(self, data: bytes) -> None:
        for frame in FrameDecoder().feed(data):
            self.filing.take(cast("Connection", self.connection), frame)


def _run(script: Callable[[_Case], Any]) -> _Case:
    async def main() -> _Case:
        case = _Case()
        await script(case)
        await case.filing.finished()
        return case

    return asyncio.run(asyncio.wait_for(main(), 20))


def test_turns() -> None:
    """Requests are answered one after the other, and nothing is read meanwhile."""

    async def script(case: _Case) -> None:
        case.answers = [(Part(size=3), b"abc"), (Stored(), None)]
        case.feed(parcel(FETCH) + parcel(STORE, b"xyz"))
        assert case.connection.done == ["<pause>"]

    case = _run(script)
    assert case.asked == [("a.0", FETCH, None), ("a.0", STORE, b"xyz")]
    answers = [parcel(Part(size=3), b"abc"), parcel(Stored())]
    assert case.connection.done == ["<pause>", *answers, "<resume>"]


def test_again() -> None:
    """After all were answered, further ones are heard."""

    async def script(case: _Case) -> None:
        for _ in range(2):
            case.answers = [(Part(size=-1), b"")]
            case.feed(parcel(FETCH))
            await case.filing.finished()

    case = _run(script)
    assert len(case.asked) == 2
    assert case.connection.done.count("<resume>") == 2


def test_a_peer_that_takes_nothing() -> None:
    """The next request waits until the peer took the answer to the one before."""

    async def script(case: _Case) -> None:
        case.answers = [(Part(size=3), b"abc")] * 2
        case.connection.room.clear()
        case.feed(parcel(FETCH) + parcel(FETCH))
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(case.asked) == 1
        assert "<resume>" not in case.connection.done
        case.connection.room.set()

    assert len(_run(script).asked) == 2


def test_a_peer_that_left() -> None:
    """What a peer asked for is not looked up when it is gone."""

    async def script(case: _Case) -> None:
        case.answers = [(Part(size=3), b"abc")] * 2
        case.feed(parcel(FETCH) + parcel(FETCH))
        await asyncio.sleep(0)
        case.connection.reason = "it closed the connection"

    assert len(_run(script).asked) == 1


def test_owner_raises() -> None:
    """What the owner raises goes back to the owner, and the connection ends."""
    error = RuntimeError("the disk is broken")

    async def script(case: _Case) -> None:
        case.answers = [error]
        case.feed(parcel(FETCH) + parcel(FETCH))

    case = _run(script)
    assert case.failed == [error]
    assert case.connection.reason == "the driver failed to answer"
    assert len(case.asked) == 1


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (encode_frame(RAW, b"abc"), "a message must come next"),
        (parcel(STORE) + parcel(FETCH), "the raw bytes of a file must come next"),
        (parcel(introduce("a.0", "files")), "`Hello` comes once"),
        (parcel(Ready()), "must be one of Hello, Fetch, Store"),
        (encode_frame(JSON, b"{"), "is no message"),
    ],
)
def test_no_request(data: bytes, match: str) -> None:
    """Whatever is no request is a `WireError`, and nothing is asked of anybody."""

    async def script(case: _Case) -> None:
        with pytest.raises(WireError, match=match):
            case.feed(data)

    assert _run(script).asked == []
