"""The worker's end of the wire: a blocking socket, one thread that receives, many that send.

At the other end is the driver of this machine (``connect``), or the agent that started this worker
and holds its slot (``inherit``).
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections import deque
from typing import TYPE_CHECKING

from maggy.errors import WireError
from maggy.wire.dialing import dial
from maggy.wire.framing import JSON, LIMIT, MAX_PAYLOAD, Frame, FrameDecoder, encode_frame
from maggy.wire.messages import Setup, decode_to_worker, encode
from maggy.wire.token import Token

if TYPE_CHECKING:
    from maggy.wire.messages import FromWorker, Hello, ToWorker

__all__ = ["Channel", "connect", "inherit"]

logger = logging.getLogger(__name__)

_CHUNK = 2**16


def connect(host: str, port: int, key: bytes, hello: Hello, *, timeout: float = 10.0) -> Channel:
    """Reach the driver, prove the key to each other, and send ``hello``.

    The driver answers with ``Setup`` or ``Refused``, to be received from the channel.

    Args:
        host: Where the driver listens.
        port: Its port.
        key: The run's key, 32 bytes.
        hello: Who this worker is (``handshake.introduce``).
        timeout: Seconds for all of it.

    Raises:
        WireError: Whoever listens there is not this run's driver, or did not take this key, or
            took too long.
        OSError: Nobody can be reached there.
        ValueError: The key has not 32 bytes.
    """
    sock = dial(host, port, Token(key), timeout)
    try:
        channel = Channel(sock)
        channel.send(hello)
    except BaseException:
        sock.close()
        raise
    return channel


def inherit(descriptor: int) -> Channel:
    """The channel to the agent that started this process, over its socket pair.

    There is nothing to prove, and no ``Hello``: the agent sends ``Setup`` right away.

    Args:
        descriptor: This process's end; no child of this process will inherit it.

    Raises:
        OSError: It is no open socket.
    """
    os.set_inheritable(descriptor, False)  # noqa: FBT003 - it takes it so
    sock = socket.socket(fileno=descriptor)
    sock.settimeout(None)
    return Channel(sock)


class Channel:
    """A connection to the driver, or to an agent that passes everything on."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sending = threading.Lock()
        self._decoder = FrameDecoder(MAX_PAYLOAD)
        self._frames: deque[Frame] = deque()

    def send(self, *messages: FromWorker) -> None:
        """Send these in order, in one piece; from any thread.

        Raises:
            ValueError: A message is no JSON or too long for the driver; nothing was sent.
            OSError: The driver is gone, or the channel closed.
        """
        data = b"".join(_frame(message) for message in messages)
        with self._sending:
            try:
                self._sock.sendall(data)
            except BaseException:  # half a frame may be out: nothing more can follow it
                self.close()
                raise

    def receive(self) -> tuple[ToWorker, bytes | None] | None:
        """Wait for the next message; from one thread only.

        Returns:
            The message and, for ``Setup``, the payload that comes with it; None when the driver
            is gone or the channel closed.

        Raises:
            WireError: The driver sent nonsense.
        """
        frame = self._next_frame()
        if frame is None:
            return None
        if frame.kind != JSON:
            msg = f"a message was due, but the driver sent {len(frame.payload)} raw bytes."
            raise WireError(msg)
        message = decode_to_worker(frame.payload)
        if not isinstance(message, Setup):
            return message, None
        blob = self._next_frame()
        if blob is None:
            return None
        if blob.kind == JSON:
            msg = "raw bytes were due after `Setup`, but the driver sent a message."
            raise WireError(msg)
        return message, blob.payload

    def close(self) -> None:
        """End the connection, and a ``receive`` that waits; again does nothing."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError as error:  # the peer, or an earlier close, was faster
            logger.debug("closing a connection that is gone already: %s", error)
        self._sock.close()

    def _next_frame(self) -> Frame | None:
        while not self._frames:
            try:
                data = self._sock.recv(_CHUNK)
            except OSError as error:
                logger.debug("the driver is gone: %s", error)
                return None
            if not data:
                return None
            self._frames.extend(self._decoder.feed(data))
        return self._frames.popleft()


def _frame(message: FromWorker) -> bytes:
    payload = encode(message)
    if len(payload) > LIMIT:
        kind = type(message).__name__
        msg = (
            f"a message may have at most {LIMIT} bytes, but {kind} has {len(payload)}. "
            "Return or log less; save large data to a file."
        )
        raise ValueError(msg)
    return encode_frame(JSON, payload)
