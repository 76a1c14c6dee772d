"""The data sets of a run, fetched once per machine and mapped by all its workers."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from maggy.worker.transfers import Transfers

__all__ = ["fetch_data"]

_NAME = "data"
_LOOK = 0.05
"""Seconds between two looks at whether another agent has finished fetching."""


async def fetch_data(transfers: Transfers, folder: Path) -> int | None:
    """A descriptor of the run's data sets, to be closed; None if it has none.

    The first agent of a machine fetches them, the others wait for it; if it is killed the next
    one begins anew.

    Args:
        transfers: Where they come from.
        folder: The run's folder on this machine, which all agents of the run hold.

    Raises:
        OSError: They cannot be fetched, or find no room.
    """
    path = folder / _NAME
    if not path.exists():
        async with _alone(folder / "fetching"):
            if not path.exists():
                await _fetch(transfers, path)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    if os.fstat(descriptor).st_size:
        return descriptor
    os.close(descriptor)
    return None


async def _fetch(transfers: Transfers, path: Path) -> None:
    """Write the file, empty if there are no data sets, and give it its name when it is whole."""
    draft = path.with_suffix(".part")
    pieces = await transfers.fetch(_NAME)
    try:
        with draft.open("wb", buffering=0) as file:
            if pieces is not None:
                async for piece in pieces:
                    await asyncio.to_thread(_write_all, file.fileno(), piece)
    except OSError as error:
        draft.unlink(missing_ok=True)
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            msg = (
                f"the data sets find no room in {path.parent}: {error.strerror}. Set TMPDIR to a "
                "folder with more room where the workers run."
            )
            raise OSError(error.errno, msg) from error
        raise
    draft.rename(path)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


@contextlib.asynccontextmanager
async def _alone(lock: Path) -> AsyncIterator[None]:
    """Hold this lock, which no two agents of the machine do."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_LOOK)
        yield
    finally:
        os.close(descriptor)
