"""A file without a name that grows in memory, and moves to disk before memory gets short.

Only the driver writes one, so workers do not import this module.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maggy.errors import ConfigError
from maggy.worker.cgroups import own_groups, read_number

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Storage", "StorageError"]

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_AT_ONCE = 1 << 30  # bytes; the kernel takes no more than 2 GB in one call


class StorageError(ConfigError):
    """The file cannot be written; a class of its own to tell it from what user code raises."""


class Storage:
    """An anonymous file that grows; in memory while it takes at most half of the free memory."""

    def __init__(self) -> None:
        self.size = 0
        self._in_memory = hasattr(os, "memfd_create")
        self._memory = _free_memory() // 2 if self._in_memory else 0
        self.fd = os.memfd_create("maggy-data-sets") if self._in_memory else _temporary_file(0)

    def write(self, data: Any, /) -> int:
        """Append these bytes.

        Raises:
            StorageError: They found no room, or the file system failed.
        """
        view = memoryview(data).cast("B")
        if self._in_memory:
            self.reserve(view.nbytes)
        with self._explained(view.nbytes):
            done = 0
            while done < view.nbytes:
                done += os.write(self.fd, view[done : done + _AT_ONCE])
        self.size += view.nbytes
        return view.nbytes

    def reserve(self, more: int) -> None:
        """Make sure that so many more bytes have room, on disk if memory is short.

        Raises:
            StorageError: They have none, or the file system failed.
        """
        needed = self.size + more
        with self._explained(more):
            if self._in_memory and needed > self._memory:
                self._move_to_disk(needed)
            elif not self._in_memory and more > shutil.disk_usage(self.fd).free:
                raise _full(needed, self.size + shutil.disk_usage(self.fd).free)

    def _move_to_disk(self, needed: int) -> None:
        disk = _temporary_file(needed)
        memory, self.fd, self._in_memory = self.fd, disk, False
        with os.fdopen(memory, "rb") as source, os.fdopen(disk, "wb", closefd=False) as target:
            source.seek(0)
            shutil.copyfileobj(source, target)

    @contextlib.contextmanager
    def _explained(self, more: int) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                free = shutil.disk_usage(self.fd).free
                raise _full(self.size + more, self.size + free) from error
            msg = f"The data sets could not be written for the workers: {error}."
            raise StorageError(msg) from error

    def close(self) -> None:
        """Give up the file."""
        os.close(self.fd)


def _full(needed: int, free: int) -> StorageError:
    return StorageError(
        f"The data sets need {needed / 1e6:,.0f} MB, but only {free / 1e6:,.0f} MB are free in "
        f"{_roomiest()}. Set TMPDIR to a folder with more room, free some, or pass a path and "
        "read the data inside the training function."
    )


def _temporary_file(needed: int) -> int:
    """A descriptor of a temporary file without a name, in the folder with most room."""
    folder = _roomiest()
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise _full(needed, free)
    with tempfile.TemporaryFile(dir=folder) as file:
        return os.dup(file.fileno())


def _roomiest() -> Path:
    """TMPDIR where the user set it; else of the usual folders the one with most room."""
    usual = Path(tempfile.gettempdir())
    if os.environ.get("TMPDIR"):
        return usual
    folders = [f for f in (usual, Path("/var/tmp")) if os.access(f, os.W_OK)]  # noqa: S108
    return max(folders, key=lambda folder: shutil.disk_usage(folder).free, default=usual)


def _free_memory() -> int:
    """Bytes that this process may still take without pushing others out."""
    free = []
    with contextlib.suppress(OSError, StopIteration, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free.append(next(int(x.split()[1]) for x in lines if x.startswith("MemAvailable:")) * 1024)
    for folder in own_groups("memory"):
        for limit, usage in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            allowed, used = read_number(folder / limit), read_number(folder / usage)
            if allowed is not None and used is not None:
                free.append(allowed - used)
    return max(0, min(free, default=0))
