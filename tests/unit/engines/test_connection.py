"""One connection of the driver, on a transport that only writes down what was done to it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from maggy.engines.connection import Connection
from maggy.errors import WireError
from maggy.wire.framing import JSON, PIECE_LIMIT, RAW, Frame, encode_frame

if TYPE_CHECKING:
    from collections.abc import Callable


class _Transport(asyncio.Transport):
    def __init__(self) -> None:
        self.done: list[str] = []

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        self.done.append(data.decode())

    def close(self) -> None:
        self.done.append("<close>")

    def abort(self) -> None:
        self.done.append("<abort>")

    def pause_reading(self) -> None:
        self.done.append("<pause>")

    def resume_reading(self) -> None:
        self.done.append("<resume>")


class _Case:
    """A connection and all that happened around it."""

    def __init__(self) -> None:
        self.transport = _Transport()
        self.frames: list[bytes] = []
        self.departed: list[tuple[str, str]] = []
        self.inbox = memoryview(bytearray(1000))
        self.connection = Connection(
            self.transport,
            self.inbox,
            limit=100,
            hello_timeout=60.0,
            take=self._take,
            depart=lambda _, worker, reason: self.departed.append((worker, reason)),
        )

    def feed(self, data: bytes) -> None:
        assert self.connection.get_buffer(-1) is self.inbox
        self.inbox[: len(data)] = data
        self.connection.buffer_updated(len(data))

    def _take(self, connection: Connection, frame: Frame) -> None:
        self.frames.append(frame.payload)
        if frame.payload == b"end":
            connection.close("said so")
        if frame.payload == b"bad":
            msg = "bad word."
            raise WireError(msg)


def _run(script: Callable[[_Case], None]) -> _Case:
    """`script`, then two turns of the loop, then the end of the transport."""

    async def main() -> _Case:
        case = _Case()
        script(case)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        case.connection.connection_lost(None)
        return case

    return asyncio.run(main())


def test_one_write() -> None:
    """What is written within one turn of the loop leaves in one piece."""

    def script(case: _Case) -> None:
        case.connection.accept("w0", b"setup,")
        case.connection.write(b"run,")
        case.connection.write(b"stop")
        assert case.transport.done == []

    assert _run(script).transport.done[0] == "setup,run,stop"


def test_each_turn_writes() -> None:
    """A later turn of the loop writes again, and nothing twice."""

    async def main() -> list[str]:
        case = _Case()
        for word in (b"one", b"two"):
            case.connection.write(word)
            await asyncio.sleep(0)
        case.connection.connection_lost(None)
        return case.transport.done

    assert asyncio.run(main())[:2] == ["one", "two"]


def test_close_writes_first() -> None:
    """What was written before a close leaves before it, what comes after does not leave."""

    def script(case: _Case) -> None:
        case.connection.accept("w0", b"setup")
        case.connection.close("done")
        case.connection.write(b"late")
        case.connection.abort("again")

    case = _run(script)
    assert case.transport.done == ["setup", "<close>"]
    assert case.departed == [("w0", "done")]


def test_departure_is_never_from_within() -> None:
    """The owner hears of an end on a later turn of the loop, once, with the first reason."""

    def script(case: _Case) -> None:
        case.connection.accept("w0", b"")
        case.connection.abort("first")
        case.connection.abort("second")
        assert case.connection.reason == "first"
        assert case.departed == []

    case = _run(script)
    assert case.departed == [("w0", "first")]
    assert case.connection.lost.done()


def test_unaccepted_peers_do_not_depart() -> None:
    """A peer that was never accepted ends without a word to the owner."""
    case = _run(lambda case: case.connection.abort("rude"))
    assert case.departed == []
    assert case.connection.lost.done()


def test_frames_after_the_end() -> None:
    """Frames that arrived together with the one that ended the connection are not taken."""
    data = b"".join(encode_frame(JSON, word) for word in (b"one", b"end", b"two"))
    assert _run(lambda case: case.feed(data)).frames == [b"one", b"end"]


def test_broken_protocol() -> None:
    """A `WireError` of the owner, or of the decoder, ends the connection at once."""
    for data in (encode_frame(JSON, b"bad"), encode_frame(JSON, b"x" * 101)):
        case = _run(lambda case, data=data: case.feed(data))  # type: ignore[misc]
        assert case.transport.done == ["<abort>"]
        assert case.connection.reason is not None
        assert case.connection.reason.startswith("it broke the protocol: ")


def test_every_read_is_a_sign_of_life() -> None:
    """Half a frame counts as having been heard."""

    def script(case: _Case) -> None:
        case.connection.heard_at = -1.0
        case.feed(b"\x00")
        assert case.connection.heard_at >= 0

    _run(script)


def test_lost_connection() -> None:
    """A transport that broke departs with what broke it, without another turn of the loop."""

    async def main() -> _Case:
        case = _Case()
        case.connection.accept("w0", b"")
        case.connection.connection_lost(ConnectionResetError("reset by peer"))
        return case

    assert asyncio.run(main()).departed == [("w0", "its connection broke: reset by peer")]


def test_replaced() -> None:
    """A connection whose peer has a newer one ends at once, and does not depart."""

    def script(case: _Case) -> None:
        case.connection.accept("w0", b"")
        case.connection.replace()

    case = _run(script)
    assert case.transport.done[-1] == "<abort>"
    assert case.connection.reason == "it connected again"
    assert case.departed == []


def test_accepted_for_something_else() -> None:
    """Who accepts a peer may take its frames from then on, in the same read; without a name."""
    taken: list[bytes] = []

    def script(case: _Case) -> None:
        case.connection.accept(None, b"", lambda _, frame: taken.append(frame.payload))
        case.feed(encode_frame(JSON, b"one") + encode_frame(RAW, b"two"))

    case = _run(script)
    assert taken == [b"one", b"two"]
    assert (case.frames, case.departed) == ([], [])


def test_piece_of_a_file() -> None:
    """A piece of a file may be longer than a message, but not by much."""
    taken: list[int] = []

    def script(case: _Case) -> None:
        case.connection.accept(None, b"", lambda _, frame: taken.append(len(frame.payload)))
        data = encode_frame(RAW, bytes(PIECE_LIMIT)) + encode_frame(RAW, bytes(PIECE_LIMIT + 1))
        for start in range(0, len(data), 1000):
            case.feed(data[start : start + 1000])

    case = _run(script)
    assert taken == [PIECE_LIMIT]
    assert case.transport.done[-1] == "<abort>"


def test_drained() -> None:
    """Waiting for room sends what was written first, and ends with the connection."""

    async def main() -> None:
        case = _Case()
        case.connection.write(b"part")
        await case.connection.drained()
        assert case.transport.done == ["part"]
        for end in (
            case.connection.resume_writing,
            partial(case.connection.connection_lost, None),
        ):
            case.connection.pause_writing()
            waiting = asyncio.ensure_future(case.connection.drained())
            await asyncio.sleep(0)
            assert not waiting.done()
            end()
            await asyncio.wait_for(waiting, 10)

    asyncio.run(main())


def test_pause() -> None:
    """Reading pauses and goes on; after the end, the transport is left alone."""

    def script(case: _Case) -> None:
        case.connection.pause()
        case.connection.resume()
        case.connection.abort("enough")
        case.connection.pause()
        case.connection.resume()

    assert _run(script).transport.done == ["<pause>", "<resume>", "<abort>"]


def test_closed_without_a_word() -> None:
    """A transport that closes without an error or an end of its stream was closed by the peer."""

    async def main() -> _Case:
        case = _Case()
        case.connection.accept("w0", b"")
        case.feed(b"\x00")
        case.connection.connection_lost(None)
        return case

    departed = asyncio.run(main()).departed
    assert departed == [("w0", "it closed the connection in the middle of a message")]
