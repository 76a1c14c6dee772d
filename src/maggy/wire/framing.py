"""Frames: how messages are cut out of a stream of bytes.

A frame is the length of its payload (4 bytes, big-endian), one byte for its kind, and the payload.
Nothing here touches a socket: bytes in, frames out.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from maggy.errors import WireError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "JSON",
    "LIMIT",
    "MAX_PAYLOAD",
    "PIECE_LIMIT",
    "RAW",
    "Frame",
    "FrameDecoder",
    "encode_frame",
]

JSON = b"J"
"""The kind of a frame that holds one message of ``wire.messages``."""

RAW = b"R"
"""The kind of a frame that holds bytes as they are: a payload, or a piece of a file."""

LIMIT = 16 * 2**20
"""The longest message that a driver accepts, bytes."""

PIECE_LIMIT = 2 * 2**20
"""The longest raw frame that a driver accepts, bytes: a piece of a file, with room to spare."""

MAX_PAYLOAD = 2**32 - 1
"""The longest payload that a frame can hold, bytes."""

_HEADER = struct.Struct("!Ic")


class Frame(NamedTuple):
    """One frame: ``kind`` is ``JSON`` or ``RAW``."""

    kind: bytes
    payload: bytes


def encode_frame(kind: bytes, payload: bytes) -> bytes:
    """The frame as bytes.

    Raises:
        ValueError: The payload is longer than ``MAX_PAYLOAD``.
    """
    if len(payload) > MAX_PAYLOAD:
        msg = (
            f"a frame holds at most {MAX_PAYLOAD} bytes, but got {len(payload)}. "
            "Pass large data by file."
        )
        raise ValueError(msg)
    return _HEADER.pack(len(payload), kind) + payload


class FrameDecoder:
    """Cuts frames out of bytes that arrive in pieces of any size.

    Costs time in proportion to the bytes fed.  Holds at most one unfinished frame, and none that
    is too long: its header is refused before its payload is waited for.  After a ``WireError`` the
    stream cannot be understood any more; feed no more of it.

    Args:
        limit: The longest payload to accept, bytes.
        raw_limit: The same for frames of kind ``RAW``; None: as ``limit``.
    """

    def __init__(self, limit: int = LIMIT, raw_limit: int | None = None) -> None:
        self._limits = {JSON: limit, RAW: limit if raw_limit is None else raw_limit}
        self._buffer = bytearray()

    @property
    def unfinished(self) -> bool:
        """True while part of a frame is held."""
        return bool(self._buffer)

    def feed(self, data: bytes | memoryview) -> Iterator[Frame]:
        """The frames that these bytes complete, oldest first; ``data`` is taken at once.

        Raises:
            WireError: While iterating: a frame is too long or of no known kind.
        """
        self._buffer += data
        return self._frames()

    def _frames(self) -> Iterator[Frame]:
        while len(self._buffer) >= _HEADER.size:
            end = _HEADER.size + self._payload_size()
            if len(self._buffer) < end:
                return
            kind = bytes(self._buffer[_HEADER.size - 1 : _HEADER.size])
            payload = bytes(self._buffer[_HEADER.size : end])
            del self._buffer[:end]  # moves a start pointer, not the rest of the buffer
            yield Frame(kind, payload)

    def _payload_size(self) -> int:
        size: int
        size, kind = _HEADER.unpack_from(self._buffer)
        limit = self._limits.get(kind)
        if limit is None:
            msg = f"a frame must be of kind {JSON!r} or {RAW!r}, but got {kind!r}."
            raise WireError(msg)
        if size > limit:
            msg = f"a frame may hold at most {limit} bytes here, but one announces {size}."
            raise WireError(msg)
        return size
