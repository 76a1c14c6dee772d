"""Frames."""

from __future__ import annotations

import struct
import time

import pytest

from maggy.errors import WireError
from maggy.wire.framing import JSON, LIMIT, RAW, Frame, FrameDecoder, encode_frame


class _Huge(bytes):
    """Claims to be longer than a frame can hold."""

    def __len__(self) -> int:
        return 2**32


def test_layout() -> None:
    """A frame is four bytes of length, one of kind, and the payload."""
    assert encode_frame(JSON, b"{}") == b"\x00\x00\x00\x02J{}"
    assert encode_frame(RAW, b"") == b"\x00\x00\x00\x00R"


def test_too_long_to_encode() -> None:
    """A payload whose length does not fit the header is refused with both numbers."""
    with pytest.raises(ValueError, match=r"at most 4294967295 bytes, but got 4294967296"):
        encode_frame(RAW, _Huge())


def test_byte_by_byte() -> None:
    """A frame comes out exactly when its last byte went in."""
    decoder = FrameDecoder()
    data = encode_frame(JSON, b'{"t":1}')
    for i in range(len(data) - 1):
        assert list(decoder.feed(data[i : i + 1])) == []
        assert decoder.unfinished
    assert list(decoder.feed(data[-1:])) == [Frame(JSON, b'{"t":1}')]
    assert not decoder.unfinished


def test_many_in_one() -> None:
    """Several frames in one piece, empty ones among them, come out in order."""
    frames = [Frame(JSON, b"a"), Frame(RAW, b""), Frame(RAW, b"\x00" * 9)]
    data = b"".join(encode_frame(*frame) for frame in frames)
    assert list(FrameDecoder().feed(memoryview(data))) == frames


def test_data_is_kept_when_nobody_iterates() -> None:
    """What was fed is decoded later even if the frames of one call were not asked for."""
    decoder = FrameDecoder()
    data = encode_frame(JSON, b"first") + encode_frame(JSON, b"second")
    decoder.feed(data[:7])
    assert [frame.payload for frame in decoder.feed(data[7:])] == [b"first", b"second"]


@pytest.mark.parametrize("size", [11, 2**32 - 1])
def test_oversized(size: int) -> None:
    """A header that announces too much is refused at once, naming size and limit."""
    decoder = FrameDecoder(limit=10)
    with pytest.raises(WireError, match=rf"at most 10 bytes here, but one announces {size}"):
        list(decoder.feed(struct.pack("!I", size) + b"J"))


def test_at_the_limit() -> None:
    """A payload of exactly the limit is accepted."""
    assert len(next(FrameDecoder(limit=10).feed(encode_frame(RAW, b"x" * 10))).payload) == 10
    assert LIMIT == 16 * 1024 * 1024


def test_frames_before_nonsense_come_out() -> None:
    """Good frames in front of a bad one are delivered before the error."""
    frames = FrameDecoder().feed(encode_frame(JSON, b"good") + b"GET / HTTP/1.1\r\n")
    assert next(frames).payload == b"good"
    with pytest.raises(WireError, match=r"kind b'J' or b'R', but got b'/'|got b' '"):
        next(frames)


def test_cost_is_linear() -> None:
    """Many frames in one piece, and one large frame byte by byte, take no quadratic time."""
    start = time.monotonic()
    assert sum(1 for _ in FrameDecoder().feed(encode_frame(JSON, b"x" * 20) * 100_000)) == 100_000
    decoder = FrameDecoder()
    data = encode_frame(RAW, bytes(2**18))
    assert sum(1 for byte in data for _ in decoder.feed(bytes((byte,)))) == 1
    assert time.monotonic() - start < 20  # quadratic: minutes


def test_raw_frames_have_a_limit_of_their_own() -> None:
    """Messages and raw bytes are limited apart where both limits are given."""
    decoder = FrameDecoder(4, 2)
    data = encode_frame(JSON, b"1234") + encode_frame(RAW, b"12")
    assert [len(frame.payload) for frame in decoder.feed(data)] == [4, 2]
    with pytest.raises(WireError, match="at most 2 bytes here, but one announces 3"):
        list(decoder.feed(encode_frame(RAW, b"123")))
    with pytest.raises(WireError, match="at most 4 bytes here, but one announces 5"):
        list(FrameDecoder(4, 2).feed(encode_frame(JSON, b"12345")))
