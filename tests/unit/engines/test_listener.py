"""The door: who may wait in front of it, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from typing import TYPE_CHECKING

import pytest

from maggy.engines import listener
from maggy.engines.certificate import new_identity
from maggy.engines.listener import Listener
from maggy.errors import ConfigError
from maggy.wire.dialing import pinned_context
from maggy.wire.framing import JSON, encode_frame
from maggy.wire.handshake import (
    GREETING_SIZE,
    PROOF_SIZE,
    DriverHandshake,
    WorkerHandshake,
    introduce,
    new_key,
)
from maggy.wire.messages import encode

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

KEY = new_key()
DEADLINE = 30.0


class _Room(asyncio.Protocol):
    """Behind the door: keeps what it hears."""

    def __init__(self) -> None:
        self.heard = b""
        self.left = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.heard += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.left.set_result(None)


def _run(
    script: Callable[[Listener, int], Awaitable[None]],
    *,
    max_strangers: int = 2,
    timeout: float = 600.0,
    tls: ssl.SSLContext | None = None,
) -> list[_Room]:
    """Run `script(listener, port)`; where those ended up that were let in."""
    rooms: list[_Room] = []

    def admit(transport: asyncio.Transport) -> None:
        rooms.append(_Room())
        transport.set_protocol(rooms[-1])

    async def main() -> None:
        door = Listener(
            key=KEY, admit=admit, handshake_timeout=timeout, max_strangers=max_strangers
        )
        _, port = await door.start("127.0.0.1", 0, tls=tls)
        await script(door, port)
        await door.close()
        await door.close()  # again does nothing
        for room in rooms:
            await room.left

    asyncio.run(asyncio.wait_for(main(), DEADLINE))
    return rooms


async def _connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


async def _enter(port: int) -> asyncio.StreamWriter:
    """An honest agent, which is let in by TLS."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=pinned_context())
    handshake = WorkerHandshake(KEY)
    writer.write(handshake.answer(await reader.readexactly(GREETING_SIZE)))
    handshake.verify(await reader.readexactly(PROOF_SIZE))
    return writer


async def _leave(*writers: asyncio.StreamWriter) -> None:
    for writer in writers:
        writer.close()
        await writer.wait_closed()


def test_oldest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """When one more waits, the oldest stranger is dropped, and no other."""
    monkeypatch.setattr(listener, "GRACE", 0.0)

    async def script(_: Listener, port: int) -> None:
        first, first_writer = await _connect(port)
        await first.readexactly(GREETING_SIZE)
        second, second_writer = await _connect(port)
        await second.readexactly(GREETING_SIZE)
        third, third_writer = await _connect(port)
        await third.readexactly(GREETING_SIZE)
        assert await first.read() == b""
        assert not second.at_eof()
        await _leave(first_writer, second_writer, third_writer)

    assert _run(script) == []


def test_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A young stranger is not dropped: the next one waits until somebody leaves."""
    monkeypatch.setattr(listener, "GRACE", 600.0)

    async def script(door: Listener, port: int) -> None:
        pairs = [await _connect(port) for _ in range(3)]
        for reader, _ in pairs[:2]:
            await reader.readexactly(GREETING_SIZE)
        while door._resume is None:
            await asyncio.sleep(0)
        assert len(door._strangers) == 2
        await _leave(pairs[0][1])
        await pairs[2][0].readexactly(GREETING_SIZE)
        await _leave(pairs[1][1], pairs[2][1])

    assert _run(script) == []


def test_close_while_somebody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A door that is full can be closed, and drops everybody."""
    monkeypatch.setattr(listener, "GRACE", 600.0)

    async def script(door: Listener, port: int) -> None:
        pairs = [await _connect(port) for _ in range(3)]
        while door._resume is None:
            await asyncio.sleep(0)
        await door.close()
        assert (await pairs[0][0].read())[GREETING_SIZE:] == b""
        assert not door._strangers
        await _leave(pairs[0][1], pairs[1][1])
        pairs[2][1].transport.abort()

    assert _run(script) == []


def test_proof_opens_the_door() -> None:
    """A peer with the key is let in; not one byte behind its proof was read before that."""

    async def script(door: Listener, port: int) -> None:
        reader, writer = await _connect(port)
        handshake = WorkerHandshake(KEY)
        writer.write(handshake.answer(await reader.readexactly(GREETING_SIZE)) + b"more")
        handshake.verify(await reader.readexactly(PROOF_SIZE))
        assert not door._strangers
        await _leave(writer)

    (room,) = _run(script)
    assert room.heard == b"more"


@pytest.mark.parametrize(
    "words",
    [
        WorkerHandshake(new_key()).answer(DriverHandshake(KEY).greeting),
        encode_frame(JSON, encode(introduce("w0"))),
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: a browser\r\nAccept: */*\r\n\r\n",
        bytes(10**6),
    ],
    ids=["wrong-key", "no-proof", "http", "flood"],
)
def test_no_proof(words: bytes) -> None:
    """Whoever does not prove the key is cut off at once, whatever he says instead."""

    async def script(door: Listener, port: int) -> None:
        reader, writer = await _connect(port)
        writer.write(words)
        await reader.readexactly(GREETING_SIZE)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        assert not door._strangers
        writer.transport.abort()

    assert _run(script) == []


def test_slow_proof() -> None:
    """A proof that drips in byte by byte is understood."""

    async def script(_: Listener, port: int) -> None:
        reader, writer = await _connect(port)
        handshake = WorkerHandshake(KEY)
        for byte in handshake.answer(await reader.readexactly(GREETING_SIZE)):
            writer.write(bytes((byte,)))
            await asyncio.sleep(0)
        handshake.verify(await reader.readexactly(PROOF_SIZE))
        await _leave(writer)

    assert len(_run(script)) == 1


def test_timeout() -> None:
    """A stranger that says nothing, or too little, is dropped in time."""

    async def script(_: Listener, port: int) -> None:
        for words in (b"", b"x" * 63):
            reader, writer = await _connect(port)
            writer.write(words)
            assert len(await reader.read()) == GREETING_SIZE
            await _leave(writer)

    assert _run(script, timeout=0.05) == []


def test_honest_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that arrive at once, more than may be unproven, all get in: none is dropped."""
    monkeypatch.setattr(listener, "GRACE", 600.0)

    async def script(door: Listener, port: int) -> None:
        crowd = await asyncio.gather(*(_connect(port) for _ in range(60)))
        for reader, writer in crowd:
            handshake = WorkerHandshake(KEY)
            writer.write(handshake.answer(await reader.readexactly(GREETING_SIZE)))
            assert len(door._strangers) <= 4
            handshake.verify(await reader.readexactly(PROOF_SIZE))
        await _leave(*(writer for _, writer in crowd))

    assert len(_run(script, max_strangers=4)) == 60


@pytest.fixture(scope="module")
def tls() -> ssl.SSLContext:
    """The driver's side of TLS."""
    return new_identity().context


@pytest.fixture
def no_deferring(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that hands over connections on which nothing has come."""
    monkeypatch.delattr(socket, "TCP_DEFER_ACCEPT", raising=False)


@pytest.mark.usefixtures("no_deferring")
def test_silent_under_tls(tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger that has not spoken costs no TLS, and makes room soon for one that does."""
    monkeypatch.setattr(listener, "GRACE", 0.05)
    monkeypatch.setattr(listener, "TLS_GRACE", 600.0)

    async def script(door: Listener, port: int) -> None:
        silent = [await _connect(port) for _ in range(2)]
        while len(door._strangers) < 2:
            await asyncio.sleep(0)
        assert list(door._strangers.values()) == [None, None]
        writer = await _enter(port)
        assert await silent[0][0].read() == b""
        assert not silent[1][0].at_eof()
        await _leave(silent[0][1], silent[1][1], writer)

    assert len(_run(script, tls=tls)) == 1


@pytest.mark.usefixtures("no_deferring")
def test_one_byte_under_tls(tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger that begins with TLS keeps its place for longer, but not for ever."""
    monkeypatch.setattr(listener, "GRACE", 0.0)
    monkeypatch.setattr(listener, "TLS_GRACE", 0.5)

    async def script(door: Listener, port: int) -> None:
        loop = asyncio.get_running_loop()
        strangers = [await _connect(port) for _ in range(2)]
        start = loop.time()
        for _, writer in strangers:
            writer.write(b"\x16")
        while None in door._strangers.values() or len(door._strangers) < 2:
            await asyncio.sleep(0)
        writer = await _enter(port)
        assert loop.time() - start > 0.4
        assert await strangers[0][0].read() == b""
        await _leave(strangers[0][1], strangers[1][1], writer)

    assert len(_run(script, tls=tls)) == 1


@pytest.mark.parametrize("deferring", [True, False])
def test_honest_crowd_under_tls(
    tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, *, deferring: bool
) -> None:
    """Agents that arrive at once, more than may be unproven, all get in: none is dropped."""
    monkeypatch.setattr(listener, "GRACE", 600.0)
    monkeypatch.setattr(listener, "TLS_GRACE", 600.0)
    if not deferring:
        monkeypatch.delattr(socket, "TCP_DEFER_ACCEPT", raising=False)

    async def script(door: Listener, port: int) -> None:
        crowd = await asyncio.gather(*(_enter(port) for _ in range(30)))
        assert not door._strangers
        await _leave(*crowd)

    assert len(_run(script, max_strangers=4, tls=tls)) == 30


@pytest.mark.usefixtures("no_deferring")
def test_silent_and_gone_under_tls(tls: ssl.SSLContext) -> None:
    """A stranger that hangs up without a word, or has no time left, gives its place back."""

    async def script(door: Listener, port: int) -> None:
        _, writer = await _connect(port)
        while not door._strangers:
            await asyncio.sleep(0)
        writer.transport.abort()
        while door._strangers:
            await asyncio.sleep(0)
        reader, writer = await _connect(port)
        assert await reader.read() == b""
        await _leave(writer)

    assert _run(script, tls=tls, timeout=0.2) == []


@pytest.mark.usefixtures("no_deferring")
def test_close_while_somebody_is_silent(tls: ssl.SSLContext) -> None:
    """A door can be closed before TLS has begun."""

    async def script(door: Listener, port: int) -> None:
        reader, writer = await _connect(port)
        while not door._strangers:
            await asyncio.sleep(0)
        await door.close()
        assert await reader.read() == b""
        await _leave(writer)

    assert _run(script, tls=tls) == []


@pytest.mark.skipif(not hasattr(socket, "TCP_DEFER_ACCEPT"), reason="a matter of Linux")
def test_linux_keeps_the_silent_back(tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under TLS it hands over who has spoken, before those who came earlier and have not."""
    monkeypatch.setattr(listener, "_DEFERRED", 60)

    async def script(door: Listener, port: int) -> None:
        silent = [await _connect(port) for _ in range(5)]
        writer = await _enter(port)
        assert not door._strangers
        await _leave(writer, *(writer for _, writer in silent))

    assert len(_run(script, tls=tls, max_strangers=1)) == 1


def _door() -> Listener:
    return Listener(key=KEY, admit=lambda _: None, handshake_timeout=1.0, max_strangers=1)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_names_of_this_machine(host: str) -> None:
    """A name of this machine is resolved; the address returned is the one that was bound."""

    async def main() -> None:
        door = _door()
        address, port = await door.start(host, 0)
        reader, writer = await asyncio.open_connection(address, port)
        await reader.readexactly(GREETING_SIZE)
        await _leave(writer)
        await door.close()

    asyncio.run(asyncio.wait_for(main(), DEADLINE))


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_reachable_from_outside(host: str) -> None:
    """An address that other machines can reach is refused with the reason, and what to do."""
    if host == "::" and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 on this machine")
    with pytest.raises(ConfigError, match=rf"got '{host}': the connection is not encrypted") as it:
        asyncio.run(_door().start(host, 0))
    assert "maggy[cluster]" in str(it.value)
    assert "tls=False" in str(it.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_keep_alive(host: str) -> None:
    """On request the door opens to other machines; the system then looks for dead ones."""
    admitted: list[socket.socket] = []

    def admit(transport: asyncio.Transport) -> None:
        admitted.append(transport.get_extra_info("socket"))
        options = [socket.SO_KEEPALIVE, socket.TCP_KEEPIDLE]
        levels = [socket.SOL_SOCKET, socket.IPPROTO_TCP]
        on, idle = map(admitted[0].getsockopt, levels, options)
        assert bool(on) == (host == "0.0.0.0")
        assert (idle == 10) == (host == "0.0.0.0")
        transport.abort()

    async def main() -> None:
        door = Listener(key=KEY, admit=admit, handshake_timeout=600.0, max_strangers=1)
        _, port = await door.start(host, 0, insecure=True)
        reader, writer = await _connect(port)
        handshake = WorkerHandshake(KEY)
        writer.write(handshake.answer(await reader.readexactly(GREETING_SIZE)))
        handshake.verify(await reader.readexactly(PROOF_SIZE))
        assert await reader.read() == b""
        await _leave(writer)
        await door.close()

    asyncio.run(asyncio.wait_for(main(), DEADLINE))
    assert admitted


def test_bound_socket() -> None:
    """A socket that was bound before is listened on, and refused like an address."""

    async def main() -> None:
        door, sock = _door(), socket.socket()
        sock.bind(("127.0.0.1", 0))
        assert door.serve(sock) == sock.getsockname()
        _, port = sock.getsockname()
        reader, writer = await _connect(port)
        await reader.readexactly(GREETING_SIZE)
        await _leave(writer)
        await door.close()
        sock = socket.socket()
        sock.bind(("0.0.0.0", 0))
        with pytest.raises(ConfigError, match="not encrypted"):
            door.serve(sock)
        assert sock.fileno() == -1

    asyncio.run(asyncio.wait_for(main(), DEADLINE))


def test_never_started() -> None:
    """A door that never opened can be closed."""
    asyncio.run(_door().close())


def test_port_in_use() -> None:
    """A port that is taken is an OSError that names it."""

    async def script(_: Listener, port: int) -> None:
        with pytest.raises(OSError, match=str(port)):
            await _door().start("127.0.0.1", port)

    assert _run(script) == []


class _Flaky:
    """A listening socket whose first `accept` fails."""

    def __init__(self, sock: socket.socket, error: OSError) -> None:
        self._sock = sock
        self._errors = [error]

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()

    def accept(self) -> tuple[socket.socket, object]:
        if self._errors:
            raise self._errors.pop()
        return self._sock.accept()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ECONNABORTED])
def test_accept_fails(
    number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Too many open files, or a peer that gave up, does not end the listening."""
    monkeypatch.setattr(listener, "_OUT_OF_RESOURCES_PAUSE", 0.01)

    async def script(door: Listener, port: int) -> None:
        assert door._socket is not None
        door._stop_listening(door._socket)
        door._socket = _Flaky(door._socket, OSError(number, "no"))  # type: ignore[assignment]
        door._listen(door._socket)  # type: ignore[arg-type]
        reader, writer = await _connect(port)
        await reader.readexactly(GREETING_SIZE)
        await _leave(writer)

    with caplog.at_level(logging.WARNING):
        _run(script)
    assert len(caplog.records) == (number == errno.EMFILE)


def test_gone_before_the_greeting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that breaks while it is taken over gives its place back."""

    async def script(door: Listener, port: int) -> None:
        loop = asyncio.get_running_loop()
        failed = asyncio.Event()

        async def fail(*_: object, **__: object) -> None:
            failed.set()
            raise OSError(errno.EINVAL, "Invalid argument")

        with monkeypatch.context() as patch:
            patch.setattr(loop, "connect_accepted_socket", fail)
            _, writer = await _connect(port)
            await failed.wait()
        while door._strangers:
            await asyncio.sleep(0)
        await _leave(writer)

    assert _run(script) == []
