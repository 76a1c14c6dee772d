"""An agent's conversation over links that are slow, or silent for a while."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from functools import partial
from typing import TYPE_CHECKING

import pytest

from maggy.wire.framing import LIMIT, FrameDecoder
from maggy.wire.handshake import ANSWER_SIZE, DriverHandshake
from maggy.wire.link import Link, parcel
from maggy.wire.messages import Ack, Hello, Logged, Quit, Setup, Welcome, decode_from_agent
from maggy.wire.token import Token
from maggy.worker.conversation import Conversation, End
from maggy.worker.stream import Stream, reach

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from maggy.wire.messages import FromAgent, ToAgent

pytestmark = pytest.mark.integration

HB = 0.1
SILENCE = 2.0
DEADLINE = 30.0
RATE = 800_000
SETUP = Setup(sys_path=[], cwd="/", log_dir="/", hb_interval=HB, plan={})


class Driver:
    """The driver's side; ``mute``: it answers nothing, as if the link swallowed it."""

    def __init__(self) -> None:
        self.token = Token.new()
        self.link = Link()
        self.events: list[tuple[str, int]] = []
        self.heard: list[FromAgent] = []
        self.mute = False
        self._writer: asyncio.StreamWriter | None = None
        self._latest = -1

    async def open(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """Let nobody else in."""
        self._server.close()

    def close(self) -> None:
        """End everything."""
        self._server.close()
        if self._writer is not None:
            self._writer.transport.abort()

    def say(self, message: ToAgent, blob: bytes | None = None) -> None:
        """Say one numbered message."""
        frames = parcel(message, blob)
        self.link.sent(frames)
        assert self._writer is not None
        self._writer.write(frames)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionResetError):
            handshake = DriverHandshake(self.token.key)
            writer.write(handshake.greeting)
            writer.write(handshake.verify(await reader.readexactly(ANSWER_SIZE)))
            await self._listen(reader, writer)
        writer.close()

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder, incarnation = FrameDecoder(LIMIT), -1
        try:
            while data := await reader.read(2**16):
                for frame in decoder.feed(data):
                    message = decode_from_agent(frame.payload)
                    if isinstance(message, Hello):
                        incarnation = self._latest = message.incarnation
                        self.events.append(("hello", incarnation))
                        self._welcome(message, writer)
                    elif incarnation == self._latest:
                        self._take(message, writer)
        finally:
            self.events.append(("end", incarnation))

    def _welcome(self, hello: Hello, writer: asyncio.StreamWriter) -> None:
        welcome = Welcome(received=self.link.received, hb_interval=HB, silence_limit=SILENCE)
        writer.write(b"".join([parcel(welcome), *self.link.resume(hello.received)]))
        self._writer, self.mute = writer, False

    def _take(self, message: FromAgent, writer: asyncio.StreamWriter) -> None:
        if not isinstance(message, Ack):
            self.link.took()
            self.heard.append(message)
        elif not self.mute:
            self.link.acknowledged(message.received)
            writer.write(parcel(Ack(received=self.link.received)))


class Throttle:
    """Passes connections on, ``RATE`` bytes a second either way, and holds little of them."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> int:
        """The port where it listens."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**15)
        sock.bind(("127.0.0.1", 0))
        self._server = await asyncio.start_server(self._serve, sock=sock, limit=2**14)
        return int(sock.getsockname()[1])

    async def close(self) -> None:
        """End everything."""
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        for source, target in ((reader, back), (there, writer)):
            self._tasks.add(asyncio.create_task(self._pass_on(source, target)))

    async def _pass_on(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(2**13):
                target.write(data)
                await target.drain()
                await asyncio.sleep(len(data) / RATE)
        except ConnectionError:
            return
        finally:
            target.close()


class Agent:
    """A conversation, and what it has led to."""

    def __init__(self, driver: Driver, port: int, patience: float) -> None:
        self.taken: list[ToAgent] = []
        self.told: list[str] = []
        self.silences = 0
        self.conversation = Conversation(
            "slot",
            dial=partial(self._dial, driver.token, port),
            take=lambda message, *_: self.taken.append(message),
            silent=self._silent,
            tell=self.told.append,
            patience=patience,
        )
        self.holding = asyncio.create_task(self.conversation.hold())

    async def _dial(self, token: Token, port: int, timeout: float) -> Stream:
        return await reach("127.0.0.1", port, token, timeout=timeout)

    def _silent(self) -> None:
        self.silences += 1


@contextlib.asynccontextmanager
async def _meeting(
    *, slow: bool = False, patience: float = 10.0
) -> AsyncIterator[tuple[Driver, Agent]]:
    """A driver, and an agent that it has welcomed."""
    driver = Driver()
    await driver.open()
    throttle = Throttle(driver.port)
    agent = Agent(driver, await throttle.open() if slow else driver.port, patience)
    try:
        await _until(lambda: "connected" in agent.told)
        yield driver, agent
    finally:
        await agent.conversation.close()
        agent.holding.cancel()
        await asyncio.gather(agent.holding, return_exceptions=True)
        if slow:
            await throttle.close()
        driver.close()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.005)


def test_a_long_payload_on_a_slow_link_arrives() -> None:
    """A payload that takes longer than the limit is no silence: one connection carries it."""

    async def main() -> None:
        async with _meeting(slow=True) as (driver, agent):
            driver.say(SETUP, bytes(3 * RATE))
            driver.say(Quit())
            await _until(lambda: len(agent.taken) == 2)
            assert agent.taken == [SETUP, Quit()]
            assert driver.events == [("hello", 0)]
            assert agent.silences == 0

    asyncio.run(main())


def test_an_agent_that_says_much_on_a_slow_link_is_heard() -> None:
    """While what it says leaves, an agent that hears no answer does not doubt the connection."""

    async def main() -> None:
        async with _meeting(slow=True) as (driver, agent):
            said = [Logged(trial=0, attempt=0, text="x" * RATE) for _ in range(2)]
            for message in said:
                agent.conversation.post(parcel(message))
            await _until(lambda: len(driver.heard) == 2)
            assert driver.heard == said
            assert driver.events == [("hello", 0)]
            assert agent.silences == 0

    asyncio.run(main())


def test_a_silent_connection_is_left_for_a_new_one() -> None:
    """The new one is welcomed before the older one ends, and nothing is lost or done twice."""

    async def main() -> None:
        async with _meeting() as (driver, agent):
            driver.mute = True
            said = [Logged(trial=0, attempt=0, text=str(number)) for number in range(3)]
            for message in said:
                agent.conversation.post(parcel(message))
            await _until(lambda: len(driver.events) == 3)
            assert driver.events == [("hello", 0), ("hello", 1), ("end", 0)]
            assert driver.heard == said
            driver.say(Quit())
            await _until(lambda: agent.taken == [Quit()])
            assert agent.silences == 0
            assert not [text for text in agent.told if text.startswith("lost")]

    asyncio.run(main())


def test_a_silent_connection_is_kept_where_no_new_one_can_be_had() -> None:
    """When the driver speaks again on the only connection there is, the conversation goes on."""

    async def main() -> None:
        async with _meeting() as (driver, agent):
            driver.refuse()
            driver.mute = True
            await asyncio.sleep(0.8 * SILENCE)
            driver.mute = False
            driver.say(Quit())
            await _until(lambda: agent.taken == [Quit()])
            await asyncio.sleep(SILENCE)
            assert driver.events == [("hello", 0)]
            assert agent.silences == 0

    asyncio.run(main())


def test_a_connection_that_stays_silent_ends() -> None:
    """After the limit the worker is ended, once, and after its patience the agent leaves."""

    async def main() -> None:
        async with _meeting(patience=0.5) as (driver, agent):
            driver.refuse()
            driver.mute = True
            async with asyncio.timeout(DEADLINE):
                assert await agent.holding is End.SILENT
            assert agent.silences == 1
            assert driver.events == [("hello", 0), ("end", 0)]

    asyncio.run(main())
