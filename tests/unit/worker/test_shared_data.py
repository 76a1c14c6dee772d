"""Data sets that one agent of a machine fetches for all."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING, Any, cast

import pytest

from maggy.worker.shared_data import fetch_data

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from maggy.worker.transfers import Transfers


class Source:
    """Stands for ``Transfers``: gives pieces, or fails."""

    def __init__(self, *pieces: bytes | OSError) -> None:
        self.asked = 0
        self._pieces = pieces

    async def fetch(self, name: str) -> AsyncIterator[bytes] | None:
        """The pieces; None if there are none."""
        assert name == "data"
        self.asked += 1
        return self._all() if self._pieces else None

    async def _all(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            await asyncio.sleep(0)
            if isinstance(piece, OSError):
                raise piece
            yield piece


async def _fetch(source: Source, folder: Path) -> bytes | None:
    descriptor = await fetch_data(cast("Transfers", source), folder)
    if descriptor is None:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def test_all_agents_share_one_fetch(tmp_path: Path) -> None:
    """However many ask at once, the data sets come once."""
    source = Source(b"one, ", b"two")

    async def many() -> list[Any]:
        return await asyncio.gather(*(_fetch(source, tmp_path) for _ in range(5)))

    assert asyncio.run(many()) == [b"one, two"] * 5
    assert source.asked == 1


def test_that_there_are_none_is_known_once(tmp_path: Path) -> None:
    """A run without data sets is asked for them once per machine."""
    source = Source()
    assert [asyncio.run(_fetch(source, tmp_path)) for _ in range(2)] == [None, None]
    assert source.asked == 1


def test_after_a_failure_the_next_one_begins_anew(tmp_path: Path) -> None:
    """Half a file is never taken for a whole one, and nobody waits for ever."""
    broken = Source(b"one, ", ConnectionResetError("gone"))
    whole = Source(b"one, ", b"two")

    async def both() -> list[Any]:
        fetching = [_fetch(broken, tmp_path), _fetch(whole, tmp_path)]
        return await asyncio.gather(*fetching, return_exceptions=True)

    first, second = asyncio.run(both())
    assert isinstance(first, ConnectionResetError)
    assert second == b"one, two"


def test_what_a_killed_agent_left_is_no_matter(tmp_path: Path) -> None:
    """A draft without its lock is written over."""
    (tmp_path / "data.part").write_bytes(b"something long from before")
    (tmp_path / "fetching").touch()
    assert asyncio.run(_fetch(Source(b"new"), tmp_path)) == b"new"


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    """The message names the folder and what to set."""
    source = Source(b"one", OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(OSError, match="TMPDIR") as caught:
        asyncio.run(_fetch(source, tmp_path))
    assert str(tmp_path) in str(caught.value)
    assert not (tmp_path / "data.part").exists()
