"""Frames survive any split, and no bytes do harm."""

from __future__ import annotations

import contextlib
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from maggy.errors import WireError
from maggy.wire.framing import JSON, RAW, Frame, FrameDecoder, encode_frame

frames = st.builds(Frame, st.sampled_from([JSON, RAW]), st.binary(max_size=200))


@given(st.lists(frames, max_size=20), st.data())
def test_split_anywhere(sent: list[Frame], data: st.DataObject) -> None:
    """Whatever the pieces in which a stream arrives, its frames come out, in order, once."""
    stream = b"".join(encode_frame(*frame) for frame in sent)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=30))
    decoder = FrameDecoder(limit=200)
    received: list[Frame] = []
    for start, end in pairwise([0, *sorted(cuts), len(stream)]):
        received += decoder.feed(stream[start:end])
    assert received == sent
    assert not decoder.unfinished


@given(st.lists(frames, min_size=1, max_size=5), st.data())
def test_cut_off(sent: list[Frame], data: st.DataObject) -> None:
    """A stream that ends early gives exactly the frames that were whole."""
    stream = b"".join(encode_frame(*frame) for frame in sent)
    length = data.draw(st.integers(0, len(stream) - 1))
    received = list(FrameDecoder().feed(stream[:length]))
    assert received == sent[: len(received)]
    whole = sum(len(encode_frame(*frame)) for frame in received)
    assert whole <= length < whole + len(encode_frame(*sent[len(received)]))


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_random_bytes(pieces: list[bytes]) -> None:
    """Random bytes are frames or a WireError, and never more than a frame is held."""
    decoder = FrameDecoder(limit=100)
    with contextlib.suppress(WireError):
        for piece in pieces:
            for frame in decoder.feed(piece):
                assert frame.kind in {JSON, RAW}
                assert len(frame.payload) <= 100
            assert len(decoder._buffer) < 105
