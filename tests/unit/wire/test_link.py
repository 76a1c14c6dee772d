"""One conversation over many connections: the account that each side keeps."""

from __future__ import annotations

import pytest

from maggy.errors import WireError
from maggy.wire.framing import FrameDecoder
from maggy.wire.link import Link, parcel
from maggy.wire.messages import Quit, Setup, decode_to_agent

SETUP = Setup(sys_path=[], cwd="/", log_dir="/l", hb_interval=1.0, plan={})


def test_keeps_what_was_not_acknowledged() -> None:
    """What was said is kept until the peer has it, and sent again in order."""
    link = Link()
    for word in (b"one", b"four!", b"two"):
        link.sent(word)
    assert link.unacknowledged_bytes == 11
    link.acknowledged(1)
    assert link.unacknowledged_bytes == 8
    assert link.resume(1) == [b"four!", b"two"]
    assert link.resume(2) == [b"two"]
    link.acknowledged(2)  # the same again is no news
    link.acknowledged(3)
    assert link.resume(3) == []
    assert link.unacknowledged_bytes == 0


def test_counts_what_came() -> None:
    """Each message that was acted on counts one."""
    link = Link()
    assert link.received == 0
    link.took()
    link.took()
    assert link.received == 2


@pytest.mark.parametrize("count", [0, 1, 4, 10**9])
def test_impossible_counts(count: int) -> None:
    """A peer that has had fewer than it said, or more than were sent, is another one."""
    link = Link()
    for _ in range(3):
        link.sent(b"x")
    link.acknowledged(2)
    for answer in (link.acknowledged, link.resume):
        with pytest.raises(
            WireError, match=rf"must have had 2 to 3 messages, but it says {count}"
        ):
            answer(count)
    assert link.resume(2) == [b"x"]


def test_parcel() -> None:
    """A parcel is the message's frame, and the raw frame that belongs to it."""
    frames = list(FrameDecoder().feed(parcel(SETUP, b"payload") + parcel(Quit())))
    assert [frame.kind for frame in frames] == [b"J", b"R", b"J"]
    assert decode_to_agent(frames[0].payload) == SETUP
    assert frames[1].payload == b"payload"
    assert decode_to_agent(frames[2].payload) == Quit()
