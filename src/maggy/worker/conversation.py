"""An agent's conversation with the driver, over as many connections as it takes.

What is said while there is no connection is kept and goes out on the next one, and nothing is
acted on twice (``wire.link``).
"""

from __future__ import annotations

import asyncio
import enum
import logging
import random
import secrets
from typing import TYPE_CHECKING, TypeAlias

from maggy.errors import WireError
from maggy.wire.framing import JSON
from maggy.wire.handshake import introduce
from maggy.wire.link import Link, parcel
from maggy.wire.messages import Ack, Refused, Setup, Welcome, decode_to_agent
from maggy.worker.stream import KeyNotTaken

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from maggy.wire.framing import Frame
    from maggy.wire.messages import ToAgent
    from maggy.worker.stream import Stream

__all__ = ["Conversation", "End", "Take"]

logger = logging.getLogger(__name__)

Take: TypeAlias = "Callable[[ToAgent, bytes, bytes | None], None]"
"""``take(message, payload, blob)``: a numbered message, as it came, and its raw bytes."""

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
_DIAL = 10.0
"""Seconds for one attempt to connect."""

_ROOM = 64 * 2**20
"""Bytes that the driver has not acknowledged, above which nobody should say more."""


class End(enum.Enum):
    """Why a conversation is over."""

    TOLD = "the driver said so"
    GIVEN_UP = "the driver has given this agent up, and takes it as a new one"
    SILENT = "the driver was not heard for too long"
    STOPPED = "this process was told to stop"


class Conversation:
    """One agent's part, under one name, from ``Hello`` to the end.

    Args:
        slot: The beginning of the agent's name; the rest is drawn.
        dial: Connects to the driver, within so many seconds.
        take: Called with each numbered message, once and in order; must not block.
        silent: Called when the driver was not heard for the limit that it set: by then it has
            given this agent up as well.
        tell: Called with one line whenever the connection changes, or why there is none.
        patience: Seconds to go on trying, at first and after ``silent``.
    """

    def __init__(
        self,
        slot: str,
        *,
        dial: Callable[[float], Awaitable[Stream]],
        take: Take,
        silent: Callable[[], None],
        tell: Callable[[str], None],
        patience: float,
    ) -> None:
        self.name = f"{slot}.{secrets.token_hex(4)}"
        self._dial = dial
        self._take = take
        self._silent = silent
        self._tell = tell
        self._patience = patience
        self._link = Link()
        self._stream: Stream | None = None
        self._welcome: Welcome | None = None
        self._incarnation = 0
        self._connections = 0
        self._heard_at = asyncio.get_running_loop().time()
        self._given_up = False
        self._closed = False
        self._doubted = asyncio.Event()  # the connection: another one may do better
        self._spare: Stream | None = None  # that one
        self._acknowledged = asyncio.Event()
        self._said = ""

    @property
    def silence_limit(self) -> float:
        """Seconds without the driver after which it has given this agent up."""
        return self._patience if self._welcome is None else self._welcome.silence_limit

    def post(self, frames: bytes) -> None:
        """Say one numbered message, now or as soon as there is a connection.

        Args:
            frames: Its frames (``wire.link.parcel``).
        """
        self._link.sent(frames)
        if self._stream is not None:
            self._stream.write(frames)

    @property
    def full(self) -> bool:
        """Whether the driver is too far behind to be told more."""
        return self._link.unacknowledged_bytes > _ROOM

    async def room(self) -> None:
        """Wait while the driver is too far behind to be told more."""
        while self.full:
            self._acknowledged.clear()
            await self._acknowledged.wait()

    async def hold(self) -> End:
        """Talk until it is over: ``GIVEN_UP``, ``SILENT``, or ``STOPPED`` by ``close``.

        Raises:
            WireError: The driver refuses this agent for good, speaks nonsense, or was never
                reached.
        """
        pulse = asyncio.create_task(self._pulse())
        try:
            return await self._connect_again_and_again()
        finally:
            pulse.cancel()
            if self._stream is not None:
                self._stream.abort()

    async def close(self) -> None:
        """Let out what was said, as far as there is a connection, and say nothing more.

        It takes a second at most.
        """
        self._closed = True
        stream = self._stream
        if stream is not None:
            await stream.close()

    async def _connect_again_and_again(self) -> End:
        pause = _FIRST_PAUSE
        while True:
            before = self._connections
            trouble = await self._one_connection()
            if isinstance(trouble, End):
                return trouble
            if self._closed:
                return End.STOPPED
            self._say(trouble)
            if self._silence() > self._limit():
                if self._welcome is None:
                    raise WireError(self._hopeless(trouble)) from trouble
                return End.SILENT
            pause = _FIRST_PAUSE if self._connections > before else min(2 * pause, _LONGEST_PAUSE)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  spreads agents

    def _hopeless(self, trouble: OSError) -> str:
        """Why a driver that was never reached will not be, and what to do."""
        if isinstance(trouble, KeyNotTaken):
            return f"{_clause(trouble)}: copy the run's key file again."
        return (
            f"no driver could be reached for {self._patience:g} s: {_clause(trouble)}. Check host "
            "and port, and that the search runs."
        )

    async def _one_connection(self) -> End | OSError:
        """Connect, and talk until that connection, and those that replace it, are over; why."""
        try:
            stream = await self._reach()
        except OSError as error:
            if isinstance(error, WireError) and self._welcome is None:
                raise
            return error
        older: Stream | None = None
        try:
            while (trouble := await self._talk(stream, older)) is None:
                assert self._spare is not None
                older, stream, self._spare = stream, self._spare, None
            return trouble
        finally:
            stream.abort()
            if self._spare is not None:
                self._spare.abort()
                self._spare = None

    async def _reach(self) -> Stream:
        try:
            return await self._dial(min(_DIAL, max(self._limit() - self._silence(), 1.0)))
        except WireError as error:
            if self._welcome is None:
                raise
            msg = "another program listens in the driver's place."
            raise ConnectionResetError(msg) from error

    async def _talk(self, stream: Stream, older: Stream | None) -> End | OSError | None:
        """Have this connection take the place of the older one; None: another one shall."""
        try:
            welcome = await self._introduce(stream)
        finally:
            if older is not None:
                older.abort()
        if not isinstance(welcome, Welcome):
            return welcome
        if not self._accept(welcome.received):
            return End.GIVEN_UP
        again = self._link.resume(welcome.received)
        self._connections += 1
        self._welcome = welcome
        for frames in again:
            stream.write(frames)
        self._stream = stream
        self._say(None)
        try:
            return await self._listen_until_replaced(stream)
        finally:
            self._stream = None
            self._heard_at = max(self._heard_at, stream.moved_at)

    async def _introduce(self, stream: Stream) -> Welcome | End | OSError:
        hello = introduce(
            self.name, "agent", incarnation=self._incarnation, received=self._link.received
        )
        self._incarnation += 1
        stream.write(parcel(hello))
        try:
            async with asyncio.timeout(_DIAL):
                frame = await stream.receive()
        except TimeoutError:
            return TimeoutError("the driver did not answer in time.")
        if frame is None:
            return ConnectionResetError("the driver closed the connection.")
        message = _message(frame)
        if isinstance(message, Refused):
            return self._refused(message)
        if not isinstance(message, Welcome):
            msg = f"the driver must begin with `Welcome`, but sent `{type(message).__name__}`."
            raise WireError(msg)
        self._heard_at = asyncio.get_running_loop().time()
        return message

    async def _listen_until_replaced(self, stream: Stream) -> End | OSError | None:
        """What ended this connection, or None as soon as there is a spare one."""
        listening = asyncio.create_task(self._listen(stream))
        replacing = asyncio.create_task(self._get_spare())
        try:
            await asyncio.wait({listening, replacing}, return_when=asyncio.FIRST_COMPLETED)
            if not listening.done():
                return replacing.result()
            return listening.result()
        finally:  # nothing more is taken from this connection
            listening.cancel()
            replacing.cancel()
            await asyncio.gather(listening, replacing, return_exceptions=True)

    async def _get_spare(self) -> None:
        """Connect once more when the connection was silent for so long that it may be dead.

        The older one stays meanwhile: only a ``Hello`` on the new one may end it, for the driver
        gives up an agent soon whose only connection has ended.
        """
        while self._spare is None:
            self._doubted.clear()
            await self._doubted.wait()
            try:
                spare = await self._reach()
            except OSError as error:
                logger.info("the driver is silent, and not to be reached: %s", _clause(error))
                continue
            if self._silence() > self._doubt():
                self._spare = spare
            else:
                spare.abort()

    async def _listen(self, stream: Stream) -> End | OSError:
        while (frame := await stream.receive()) is not None:
            message = _message(frame)
            match message:
                case Ack():
                    if not self._accept(message.received):
                        return End.GIVEN_UP
                    continue
                case Refused():
                    return self._refused(message)
                case Welcome():
                    msg = "`Welcome` came twice."
                    raise WireError(msg)
                case _:
                    pass
            blob = await stream.blob() if isinstance(message, Setup) else None
            if isinstance(message, Setup) and blob is None:
                break
            self._link.took()
            self._take(message, frame.payload, blob)
        return ConnectionResetError("the connection ended.")

    def _accept(self, received: int) -> bool:
        """Forget what the driver has had; False if it cannot be the one that we know."""
        try:
            self._link.acknowledged(received)
        except WireError as error:
            logger.warning("%s", error)
            return False
        self._acknowledged.set()
        return True

    def _refused(self, message: Refused) -> End:
        if message.again:
            logger.info("given up by the driver: %s", message.reason)
            return End.GIVEN_UP
        msg = f"the driver refused this agent: {message.reason}"
        raise WireError(msg)

    async def _pulse(self) -> None:
        """Acknowledge each interval, and notice silence."""
        while self._welcome is None:
            await asyncio.sleep(_FIRST_PAUSE)
        while True:
            await asyncio.sleep(min(self._welcome.hb_interval, self.silence_limit / 4))
            silence = self._silence()
            lost = silence > self.silence_limit
            if self._stream is not None:
                self._stream.write(parcel(Ack(received=self._link.received)))
                if silence > self._doubt():
                    self._doubted.set()
                if lost:
                    self._stream.abort()
            if lost and not self._given_up:
                self._silent()
            self._given_up = lost

    def _silence(self) -> float:
        """Seconds since bytes came from the driver, or it took some that had to wait for it."""
        moved_at = self._heard_at if self._stream is None else self._stream.moved_at
        return asyncio.get_running_loop().time() - max(self._heard_at, moved_at)

    def _doubt(self) -> float:
        """Seconds of silence after which a fresh connection may get through where one does not."""
        interval = 0.0 if self._welcome is None else self._welcome.hb_interval
        return max(self.silence_limit / 2, 2 * interval)

    def _limit(self) -> float:
        """Seconds of silence after which to stop trying."""
        return self._patience if self._welcome is None else self.silence_limit + self._patience

    def _say(self, trouble: OSError | None) -> None:
        if trouble is None:
            text = "connected" if self._connections == 1 else "connected again"
        elif self._welcome is None:
            text = f"waiting for the driver: {_clause(trouble)}"
        else:
            text = f"lost the driver, trying to reach it: {_clause(trouble)}"
        if text != self._said:
            self._said = text
            self._tell(text)


def _message(frame: Frame) -> ToAgent:
    if frame.kind != JSON:
        msg = f"a message was due, but the driver sent {len(frame.payload)} raw bytes."
        raise WireError(msg)
    return decode_to_agent(frame.payload)


def _clause(error: OSError) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer"
    return (error.strerror or str(error)).rstrip(".")
