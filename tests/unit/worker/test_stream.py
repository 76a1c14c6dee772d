"""An agent's connection: what is written leaves as the peer takes it."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import TYPE_CHECKING

import pytest

from maggy.wire.framing import RAW, FrameDecoder, encode_frame
from maggy.wire.handshake import DriverHandshake
from maggy.wire.token import Token
from maggy.worker.stream import KeyNotTaken, adopt, reach

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from maggy.worker.stream import Stream

LIMIT = 2**24
DEADLINE = 20.0


def _run(script: Callable[[Stream, socket.socket], Awaitable[None]]) -> None:
    """Run `script(stream, peer)` over a socket pair."""

    async def main() -> None:
        ours, theirs = socket.socketpair()
        theirs.settimeout(0)
        stream = await adopt(ours, limit=LIMIT)
        try:
            await script(stream, theirs)
        finally:
            stream.abort()
            theirs.close()

    asyncio.run(asyncio.wait_for(main(), DEADLINE))


async def _take(peer: socket.socket, decoder: FrameDecoder) -> list[bytes]:
    """What has come, 64 KiB at most."""
    data = await asyncio.get_running_loop().sock_recv(peer, 2**16)
    return [frame.payload for frame in decoder.feed(data)]


def test_long_and_short_frames_keep_their_order() -> None:
    """Whatever is written while a long frame leaves comes behind it, whole."""

    async def script(stream: Stream, peer: socket.socket) -> None:
        said = [b"first", bytes(range(256)) * 8000, b"second", bytes(2**16), b"third"]
        heard: list[bytes] = []
        decoder = FrameDecoder(LIMIT)
        for payload in said[:3]:
            stream.write(encode_frame(RAW, payload))
        heard += await _take(peer, decoder)
        for payload in said[3:]:
            stream.write(encode_frame(RAW, payload))
        while len(heard) < len(said):
            heard += await _take(peer, decoder)
        assert heard == said
        await stream.drain()

    _run(script)


def test_a_long_frame_is_seen_to_move() -> None:
    """`moved_at` grows as the peer takes a long frame, and stays when it takes nothing."""

    async def script(stream: Stream, peer: socket.socket) -> None:
        decoder = FrameDecoder(LIMIT)
        stream.write(encode_frame(RAW, bytes(4_000_000)))
        stamps = {stream.moved_at}
        heard: list[bytes] = []
        while not heard:
            heard = await _take(peer, decoder)
            await asyncio.sleep(0.002)
            stamps.add(stream.moved_at)
        assert len(stamps) > 10
        stream.write(encode_frame(RAW, bytes(4_000_000)))
        await asyncio.sleep(0.1)
        before = stream.moved_at
        await asyncio.sleep(0.1)
        assert stream.moved_at == before

    _run(script)


def test_part_of_a_frame_counts_as_heard() -> None:
    """`moved_at` grows with every read, whether or not a frame is whole."""

    async def script(stream: Stream, peer: socket.socket) -> None:
        frame = encode_frame(RAW, bytes(1000))
        before = stream.moved_at
        waiting = asyncio.create_task(stream.receive())
        await asyncio.sleep(0.01)
        peer.send(frame[:500])
        while stream.moved_at == before:
            await asyncio.sleep(0.001)
        assert not waiting.done()
        peer.send(frame[500:])
        assert await waiting is not None

    _run(script)


def test_the_end_lets_out_what_was_written() -> None:
    """`close` waits for a peer that takes a long frame, and `drain` for one that is slow."""

    async def script(stream: Stream, peer: socket.socket) -> None:
        decoder = FrameDecoder(LIMIT)
        stream.write(encode_frame(RAW, bytes(1_000_000)))
        draining = asyncio.create_task(stream.drain())
        await asyncio.sleep(0.05)
        assert not draining.done()
        closing = asyncio.create_task(stream.close(patience=DEADLINE))
        heard: list[bytes] = []
        while not heard:
            heard = await _take(peer, decoder)
        await draining
        await closing
        assert await asyncio.get_running_loop().sock_recv(peer, 1) == b""

    _run(script)


def test_a_peer_that_takes_nothing_does_not_hold_the_end() -> None:
    """`close` gives up after its patience; what is written afterwards goes nowhere."""

    async def script(stream: Stream, _: socket.socket) -> None:
        stream.write(encode_frame(RAW, bytes(4_000_000)))
        await stream.close(patience=0.05)
        stream.write(b"more")
        await asyncio.sleep(0)
        assert await stream.receive() is None

    _run(script)


def test_a_peer_that_is_gone_is_told() -> None:
    """`drain` raises when the peer hangs up in the middle of a frame, and `receive` ends."""

    async def script(stream: Stream, peer: socket.socket) -> None:
        stream.write(encode_frame(RAW, bytes(4_000_000)))
        draining = asyncio.create_task(stream.drain())
        await asyncio.sleep(0.01)
        peer.close()
        with pytest.raises(OSError, match=r"lost|reset|pipe|closed"):
            await draining
        assert await stream.receive() is None

    _run(script)


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (
            OSError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 4040)"),
            "connection refused at node1:4040",
        ),
        (
            OSError(
                f"Multiple exceptions: [Errno {errno.ECONNREFUSED}] Connect call failed ('::1', "
                f"4040, 0, 0), [Errno {errno.ECONNREFUSED}] Connect call failed ('127.0.0.1', "
                "4040)"
            ),
            "connection refused at node1:4040",
        ),
        (
            socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
            "name or service not known at node1:4040",
        ),
    ],
)
def test_why_nobody_is_reached_is_told_once(
    monkeypatch: pytest.MonkeyPatch, trouble: OSError, told: str
) -> None:
    """In the system's words with the address that the user gave, however many ways were tried."""

    async def fail(*args: object, **options: object) -> None:
        raise trouble

    monkeypatch.setattr(asyncio, "open_connection", fail)
    with pytest.raises(OSError, match=told) as caught:
        asyncio.run(reach("node1", 4040, Token.new(), timeout=5))
    assert (caught.value.strerror or str(caught.value)) == told


@pytest.mark.parametrize("greets", [True, False])
def test_a_driver_that_hangs_up_at_the_proof_has_another_key(*, greets: bool) -> None:
    """One that does so before it has said anything may have another reason."""

    async def script() -> None:
        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if greets:
                writer.write(DriverHandshake(bytes(32)).greeting)
                await reader.read(1)
            writer.transport.abort()

        async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(ConnectionResetError, match=f"127.0.0.1:{port}") as caught:
                await reach("127.0.0.1", port, Token.new(), timeout=5)
        assert isinstance(caught.value, KeyNotTaken) == greets

    asyncio.run(asyncio.wait_for(script(), DEADLINE))
