"""Agents of other machines: TLS, connections that come again, and further ones for files."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from maggy.engines.certificate import new_identity
from maggy.engines.server import Server
from maggy.errors import ConfigError, WireError
from maggy.wire.dialing import dial
from maggy.wire.framing import JSON, PIECE_LIMIT, RAW, FrameDecoder, encode_frame
from maggy.wire.handshake import GREETING_SIZE, PROOF_SIZE, WorkerHandshake, introduce
from maggy.wire.link import parcel
from maggy.wire.messages import (
    Ack,
    Exited,
    Fetch,
    Hire,
    Logged,
    Part,
    Quit,
    Ready,
    Refused,
    Setup,
    Store,
    Stored,
    Welcome,
    decode_to_agent,
    decode_to_files,
)
from maggy.wire.token import Token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from maggy.engines.certificate import Identity
    from maggy.wire.messages import Hello, Message, ToFiles

pytestmark = pytest.mark.integration

DEADLINE = 60.0
WELCOME = Welcome(received=0, hb_interval=1.0, silence_limit=10.0)
SETUP = Setup(sys_path=["/a"], cwd="/", log_dir="/l", hb_interval=1.0, plan={})


@pytest.fixture(scope="module")
def identity() -> Identity:
    """The driver's certificate."""
    return new_identity()


class Driver:
    """A server with TLS, and everything that it was told, in order."""

    def __init__(self, identity: Identity | None, **options: Any) -> None:
        self.token = Token.new(None if identity is None else identity.certificate)
        self.told: list[tuple[Any, ...]] = []
        self.answer: Callable[[Hello], bytes | Refused | None] = lambda _: parcel(WELCOME)
        self.act: Callable[[Any], None] = lambda _: None
        self._tls = None if identity is None else identity.context
        self._peers: list[Peer] = []
        self.server = Server(
            key=self.token.key,
            on_hello=self._hello,
            on_gone=lambda agent, reason: self._tell("gone", agent, reason),
            on_error=lambda error: self._tell("error", str(error)),
            **{"on_agent": self._message, **options},
        )

    async def start(self) -> None:
        """Listen."""
        _, self.port = await self.server.start(tls=self._tls)

    async def close(self) -> None:
        """Close the server, and whatever was dialled."""
        for peer in self._peers:
            peer.leave()
        await self.server.close()

    async def wait_for(self, *wanted: Any) -> tuple[Any, ...]:
        """The first thing told that begins with `wanted`, waiting for it."""
        async with asyncio.timeout(DEADLINE):
            while True:
                for entry in self.told:
                    if entry[: len(wanted)] == wanted:
                        return entry
                await asyncio.sleep(0.005)

    def _hello(self, hello: Hello) -> bytes | Refused | None:
        self._tell("hello", hello.worker)
        return self.answer(hello)

    def _message(self, agent: str, message: Any) -> None:
        self._tell("message", agent, message)
        self.act(message)

    def _tell(self, *entry: Any) -> None:
        self.told.append(entry)

    async def dial(self) -> Peer:
        """A connection that has proved the key."""
        tls = None
        if self._tls is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=tls)
        handshake = WorkerHandshake(self.token.key)
        writer.write(handshake.answer(await reader.readexactly(GREETING_SIZE)))
        handshake.verify(await reader.readexactly(PROOF_SIZE))
        self._peers.append(Peer(reader, writer))
        return self._peers[-1]

    async def join(self, name: str = "a.0", **changes: Any) -> Peer:
        """An agent that was welcomed."""
        peer = await self.dial()
        peer.say(replace(introduce(name, "agent"), **changes))
        assert await peer.hear() == WELCOME
        return peer

    async def files(self, name: str = "a.0") -> Peer:
        """A connection for files."""
        peer = await self.dial()
        peer.say(introduce(name, "files"))
        return peer


class Peer:
    """The other end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._decoder = FrameDecoder(2**30)
        self._frames: list[Any] = []

    def say(self, message: Message, blob: bytes | None = None) -> None:
        """Send a message."""
        self.writer.write(parcel(message, blob))

    async def frame(self) -> Any:
        """The next frame; None at the end."""
        while not self._frames:
            try:
                data = await self.reader.read(2**16)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._frames += self._decoder.feed(data)
        return self._frames.pop(0)

    async def hear(self) -> Any:
        """The next message to an agent; None at the end."""
        frame = await self.frame()
        return None if frame is None else decode_to_agent(frame.payload)

    async def ask(self, message: Message, blob: bytes | None = None) -> tuple[ToFiles, bytes]:
        """A request for a file, and its answer."""
        self.say(message, blob)
        return await self.answer()

    async def answer(self) -> tuple[ToFiles, bytes]:
        """The next answer to a request for a file."""
        answer = decode_to_files((await self.frame()).payload)
        return answer, (await self.frame()).payload if isinstance(answer, Part) else b""

    def leave(self) -> None:
        """Close at once."""
        self.writer.transport.abort()


class Files:
    """One file of 3 MB to fetch, and a place for what is stored."""

    data = bytes(range(250)) * 12_000

    def __init__(self) -> None:
        self.stored: list[tuple[str, Store, bytes | None]] = []
        self.busy = self.most = 0

    async def answer(
        self, agent: str, request: Fetch | Store, blob: bytes | None
    ) -> tuple[ToFiles, bytes | None]:
        """As `engines.filing.FileService` says."""
        self.busy += 1
        self.most = max(self.most, self.busy)
        await asyncio.sleep(0)
        self.busy -= 1
        if isinstance(request, Store):
            self.stored.append((agent, request, blob))
            return Stored(), None
        if request.name != "data":
            return Part(size=-1), b""
        part = self.data[request.offset : request.offset + request.size]
        return Part(size=len(self.data)), part


@asynccontextmanager
async def _driving(identity: Identity | None, **options: Any) -> AsyncIterator[Driver]:
    driver = Driver(identity, **options)
    await driver.start()
    try:
        yield driver
    finally:
        await driver.close()


def _run(
    script: Callable[[Driver], Awaitable[None]], identity: Identity | None = None, **options: Any
) -> Driver:
    """Run the script against a driver; the driver."""

    async def main() -> Driver:
        async with _driving(identity, **options) as driver:
            await script(driver)
        return driver

    return asyncio.run(asyncio.wait_for(main(), DEADLINE))


def test_twenty_agents(identity: Identity) -> None:
    """Under TLS everything arrives once and in order, both ways, long frames included."""
    payload = bytes(range(256)) * 4000

    async def talk(driver: Driver, name: str) -> None:
        peer = await driver.join(name)
        said: list[Message] = [Ack(received=number) for number in range(50)]
        for message in said:
            peer.say(message)
        peer.say(Exited(worker="w0", reason="it ended", output="x" * 100_000))
        await driver.wait_for(
            "message", name, Exited(worker="w0", reason="it ended", output="x" * 100_000)
        )
        assert [entry[2] for entry in driver.told if entry[:2] == ("message", name)][:50] == said
        assert driver.server.send(name, SETUP, payload)
        assert driver.server.post(name, parcel(Hire(worker="w1")) + parcel(Quit()))
        assert await peer.hear() == SETUP
        assert (await peer.frame()) == (RAW, payload)
        assert [await peer.hear(), await peer.hear()] == [Hire(worker="w1"), Quit()]
        peer.writer.close()
        await driver.wait_for("gone", name, "it closed the connection")

    async def script(driver: Driver) -> None:
        await asyncio.gather(*(talk(driver, f"a.{number}") for number in range(20)))

    driver = _run(script, identity)
    assert sum(entry[0] == "gone" for entry in driver.told) == 20
    assert not [entry for entry in driver.told if entry[0] == "error"]


def test_two_hundred_silent_strangers(identity: Identity) -> None:
    """They take bounded room under TLS, too, and an honest agent is served promptly."""

    async def script(driver: Driver) -> None:
        crowd = [socket.create_connection(("127.0.0.1", driver.port)) for _ in range(200)]
        try:
            start = time.monotonic()
            peer = await driver.join()
            assert time.monotonic() - start < 10  # measured: 0.6 s
            assert len(driver.server._listener._strangers) <= 128
            peer.leave()
        finally:
            for sock in crowd:
                sock.close()

    _run(script, identity, handshake_timeout=600.0)


@pytest.mark.parametrize("words", [b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n", bytes(70_000)])
def test_no_tls(identity: Identity, words: bytes) -> None:
    """Whoever speaks no TLS, or stops in the middle of it, is dropped in time and told nothing."""

    async def script(driver: Driver) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", driver.port)
        writer.write(words)
        try:
            rest = await reader.read()
        except ConnectionResetError:
            rest = b""
        assert len(rest) < GREETING_SIZE  # an alert of TLS at most
        while driver.server._listener._strangers:
            await asyncio.sleep(0.005)
        writer.transport.abort()
        (await driver.join()).leave()

    _run(script, identity, handshake_timeout=1.0)


def test_plain_worker_at_a_tls_door(identity: Identity) -> None:
    """A worker without the pin waits for a greeting that does not come, and both give up."""

    async def script(driver: Driver) -> None:
        with pytest.raises(WireError, match=r"proof of the key|proved the key"):
            await asyncio.to_thread(dial, "127.0.0.1", driver.port, Token.new(), DEADLINE)

    _run(script, identity, handshake_timeout=0.2)


def test_wrong_key(identity: Identity) -> None:
    """An agent with the right pin and another key is dropped, and the owner told nothing."""

    async def script(driver: Driver) -> None:
        token = Token.new(identity.certificate)
        with pytest.raises(WireError, match=r"proof of the key|proved the key"):
            await asyncio.to_thread(dial, "127.0.0.1", driver.port, token, DEADLINE)

    assert _run(script, identity).told == []


def test_cut_without_a_word(identity: Identity) -> None:
    """A connection that ends without TLS's own end, as a killed process does, is gone at once."""

    async def script(driver: Driver) -> None:
        peer = await driver.join()
        sock = peer.writer.get_extra_info("socket")
        sock.shutdown(socket.SHUT_WR)
        await driver.wait_for("gone", "a.0", "it closed the connection")
        peer.leave()

    _run(script, identity)


def test_half_open(identity: Identity) -> None:
    """An agent whose machine is gone says nothing: after the limit, it is gone."""

    async def script(driver: Driver) -> None:
        _, lively = await driver.join("a.0"), await driver.join("a.1")
        while not any(entry[0] == "gone" for entry in driver.told):
            lively.say(Ack(received=0))
            await asyncio.sleep(0.02)
        assert (await driver.wait_for("gone"))[1:] == ("a.0", driver.told[-1][2])
        assert driver.told[-1][2].startswith("silent for")

    _run(script, identity, silence_limit=0.5)


def test_closing_during_handshakes(identity: Identity) -> None:
    """A server that is closed drops those who are still at TLS, without waiting for them."""

    async def script(driver: Driver) -> None:
        strangers = [await asyncio.open_connection("127.0.0.1", driver.port) for _ in range(5)]
        while len(driver.server._listener._strangers) < 5:
            await asyncio.sleep(0.01)
        start = time.monotonic()
        await driver.server.close()
        assert time.monotonic() - start < 5
        for reader, writer in strangers:
            assert await reader.read() == b""
            writer.transport.abort()

    _run(script, identity, handshake_timeout=600.0)


def test_comes_again() -> None:
    """An agent that comes again replaces its older connection, which is never said to be gone."""

    async def script(driver: Driver) -> None:
        first = await driver.join()
        second = await driver.join(incarnation=1)
        assert await first.hear() is None
        assert driver.server.send("a.0", Quit())
        assert await second.hear() == Quit()
        second.leave()
        await driver.wait_for("gone", "a.0")

    driver = _run(script)
    assert [entry[0] for entry in driver.told] == ["hello", "hello", "gone"]


def test_may_not_come_again() -> None:
    """A second connection that the owner does not take leaves the first one alone."""

    async def script(driver: Driver) -> None:
        first = await driver.join()
        driver.answer = lambda _: Refused(reason="You were given up.", again=True)
        second = await driver.dial()
        second.say(introduce("a.0", "agent", incarnation=1))
        assert await second.hear() == Refused(reason="You were given up.", again=True)
        assert await second.hear() is None
        first.say(Ready())
        await driver.wait_for("message", "a.0", Ready())
        assert driver.server.send("a.0", Quit())
        assert await first.hear() == Quit()

    driver = _run(script)
    assert [entry[0] for entry in driver.told][:3] == ["hello", "hello", "message"]


@pytest.mark.parametrize("role", ["worker", "agent", "files"])
def test_nobody_expects_it(role: Any) -> None:
    """A role that a run does not have is refused with a sentence, and its owner is not asked."""

    async def script(driver: Driver) -> None:
        peer = await driver.dial()
        peer.say(introduce("x.0", role))
        answer = await peer.hear()
        assert isinstance(answer, Refused)
        what = "worker" if role == "worker" else "agent"
        assert f"expects no {what} 'x.0'" in answer.reason
        assert await peer.hear() is None

    assert _run(script, on_agent=None).told == []


def test_another_version_of_an_agent() -> None:
    """An agent is refused by version as a worker is, and called an agent."""

    async def script(driver: Driver) -> None:
        peer = await driver.dial()
        peer.say(replace(introduce("a.0", "agent"), version="1.1.2"))
        answer = await peer.hear()
        assert isinstance(answer, Refused)
        assert "agent 'a.0'" in answer.reason

    assert _run(script).told == []


def test_owner_finds_a_lie() -> None:
    """A `WireError` of the owner ends the connection that is to blame, and nothing else."""

    def lie(_: object) -> None:
        msg = "it has had more than was sent."
        raise WireError(msg)

    def refuse(_: Hello) -> None:
        lie(None)

    async def script(driver: Driver) -> None:
        liar, honest = await driver.join("a.0"), await driver.join("a.1")
        driver.act = lie
        liar.say(Ack(received=10))
        reason = (await driver.wait_for("gone", "a.0"))[2]
        assert reason == "it broke the protocol: it has had more than was sent."
        driver.act = lambda _: None
        honest.say(Ready())
        await driver.wait_for("message", "a.1", Ready())
        driver.answer = refuse
        liar = await driver.dial()
        liar.say(introduce("a.0", "agent", received=10))
        assert await liar.hear() == Refused(reason="it has had more than was sent.", again=True)

    driver = _run(script)
    assert not [entry for entry in driver.told if entry[0] == "error"]


@pytest.mark.parametrize(
    "data",
    [
        encode_frame(RAW, b"abc"),
        encode_frame(JSON, b'{"t":"Heartbeat"}'),
        parcel(introduce("a.0", "agent")),
        parcel(Fetch(name="data", offset=0, size=1)),
    ],
)
def test_no_words_of_an_agent(data: bytes) -> None:
    """What an agent may not say ends its connection."""

    async def script(driver: Driver) -> None:
        peer = await driver.join()
        peer.say(Logged(trial=0, attempt=0, text="good"))
        peer.writer.write(data)
        reason = (await driver.wait_for("gone", "a.0"))[2]
        assert reason.startswith("it broke the protocol")
        assert await peer.hear() is None

    driver = _run(script)
    assert [entry[0] for entry in driver.told] == ["hello", "message", "gone"]


@pytest.mark.parametrize("encrypted", [True, False])
def test_files(identity: Identity, encrypted: bool) -> None:
    """Pieces are fetched and stored on several connections of one agent beside its own."""

    async def fetch(driver: Driver) -> bytes:
        peer, data = await driver.files(), b""
        while True:
            answer, part = await peer.ask(Fetch(name="data", offset=len(data), size=2**20))
            assert answer == Part(size=len(Files.data))
            data += part
            if len(data) == len(Files.data):
                return data

    async def script(driver: Driver) -> None:
        agent = await driver.join()
        assert await asyncio.gather(*(fetch(driver) for _ in range(3))) == [Files.data] * 3
        peer = await driver.files()
        assert await peer.ask(Fetch(name="none", offset=0, size=1)) == (Part(size=-1), b"")
        store = Store(name="trials/1", offset=0, last=True)
        assert await peer.ask(store, Files.data[:PIECE_LIMIT]) == (Stored(), b"")
        assert files.stored == [("a.0", store, Files.data[:PIECE_LIMIT])]
        agent.say(Ready())
        await driver.wait_for("message", "a.0", Ready())

    files = Files()
    driver = _run(script, identity if encrypted else None, files=files)
    assert {entry[0] for entry in driver.told} == {"hello", "message"}


def test_requests_take_turns() -> None:
    """Requests that come at once are answered one by one in order, as fast as they are taken."""

    async def script(driver: Driver) -> None:
        peer = await driver.files()
        for number in range(30):
            peer.say(Fetch(name="data", offset=number * 100_000, size=100_000))
        await asyncio.sleep(0.2)
        for number in range(30):
            _, part = await peer.answer()
            assert part == Files.data[number * 100_000 :][:100_000]

    files = Files()
    _run(script, files=files)
    assert files.most == 1


def test_closing_waits_for_answers() -> None:
    """A request that is being answered while the server closes comes to its end."""

    class Slow(Files):
        done = False

        async def answer(
            self, agent: str, request: Fetch | Store, blob: bytes | None
        ) -> tuple[ToFiles, bytes | None]:
            asked.set()
            await asyncio.sleep(0.2)
            Slow.done = True
            return await super().answer(agent, request, blob)

    asked = asyncio.Event()

    async def script(driver: Driver) -> None:
        peer = await driver.files()
        peer.say(Fetch(name="data", offset=0, size=1))
        await asked.wait()
        await driver.server.close()
        assert Slow.done

    assert _run(script, files=Slow()).told == []


def test_open_to_others_without_tls() -> None:
    """A server that others can reach needs TLS, or the user's word."""

    async def main() -> None:
        server = Driver(None).server
        with pytest.raises(ConfigError, match="not encrypted"):
            await server.start("0.0.0.0")
        assert (await server.start("0.0.0.0", insecure=True))[0] == "0.0.0.0"
        await server.close()

    asyncio.run(main())
