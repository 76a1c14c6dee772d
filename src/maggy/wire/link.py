"""One conversation over many connections: what was said, and what has surely arrived.

Driver and agent each hold a ``Link`` for the other.  Every message but ``Hello``, ``Welcome``,
``Refused`` and ``Ack`` is numbered, by counting it on both sides; ``Setup`` and its payload are
one.  When a connection breaks, each side says on the next one how many it has had
(``Hello.received``, ``Welcome.received``), and the other sends the rest again.  So each message
arrives once, and in order, as long as each side begins a connection with ``resume``, and hears
nothing more from the older ones.

Nothing here touches a socket or a clock.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from maggy.errors import WireError
from maggy.wire.framing import JSON, RAW, encode_frame
from maggy.wire.messages import encode

if TYPE_CHECKING:
    from maggy.wire.messages import Message

__all__ = ["Link", "parcel"]


def parcel(message: Message, blob: bytes | None = None) -> bytes:
    """The frames of a message, with the raw bytes that follow it.

    Raises:
        ValueError: The message is no JSON, or too long for a frame.
    """
    frame = encode_frame(JSON, encode(message))
    return frame if blob is None else frame + encode_frame(RAW, blob)


class Link:
    """One side's account of the conversation with one peer.

    Attributes:
        received: How many numbered messages have come from the peer.
        unacknowledged_bytes: The size of what is kept to be sent again.
    """

    def __init__(self) -> None:
        self.received = 0
        self.unacknowledged_bytes = 0
        self._acknowledged = 0
        self._kept: deque[bytes] = deque()  # the first is message number `_acknowledged`

    def sent(self, parcel: bytes) -> None:
        """A numbered message was said, even if no connection is there; keep its frames."""
        self._kept.append(parcel)
        self.unacknowledged_bytes += len(parcel)

    def took(self) -> None:
        """A numbered message came and was acted on."""
        self.received += 1

    def acknowledged(self, count: int) -> None:
        """The peer has had so many of our messages, in all; forget these.

        Raises:
            WireError: It has had fewer than it said before, or more than were sent.
        """
        most = self._acknowledged + len(self._kept)
        if not self._acknowledged <= count <= most:
            msg = (
                f"the peer must have had {self._acknowledged} to {most} messages, but it says "
                f"{count}: it is not the one that this conversation began with."
            )
            raise WireError(msg)
        for _ in range(count - self._acknowledged):
            self.unacknowledged_bytes -= len(self._kept.popleft())
        self._acknowledged = count

    def resume(self, count: int) -> list[bytes]:
        """A new connection, over which the peer says that it has had ``count`` messages.

        Returns:
            The frames to send again, oldest first; they stay kept.

        Raises:
            WireError: See ``acknowledged``.
        """
        self.acknowledged(count)
        return list(self._kept)
