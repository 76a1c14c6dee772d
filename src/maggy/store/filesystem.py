"""What the file system under a run can do, and the lock that keeps out a second writer."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from maggy.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["WriterLock", "is_network", "is_written"]

_MOUNTS = Path("/proc/mounts")
_NETWORK = frozenset(
    {
        *("9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "glusterfs", "gpfs"),
        *("lustre", "mmfs", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb2"),
        *("smb3", "smbfs", "virtiofs", "vboxsf", "wekafs"),
    }
)
_PATIENCE = 0.5
"""Seconds: how long a would-be writer waits, since ``is_written`` holds the lock for a moment."""


def is_network(path: Path, mounts: Iterable[str] | None = None) -> bool:
    """Whether other machines may see this file: then memory cannot be shared through it.

    Args:
        path: A file or folder, absolute.
        mounts: Lines as in ``/proc/mounts``; read from there by default.  On a system without
            that file every file system counts as local.
    """
    if mounts is None:
        mounts = _MOUNTS.read_text(errors="replace").splitlines() if _MOUNTS.exists() else ()
    best, kind = "", ""
    for line in mounts:
        fields = line.split()
        if len(fields) < 3:
            continue
        point = _unescape(fields[1])
        if len(point) >= len(best) and path.is_relative_to(point):
            best, kind = point, fields[2]
    return kind in _NETWORK or (kind.startswith("fuse") and kind != "fuseblk")


def _unescape(text: str) -> str:
    """A mount point as the kernel writes it: blanks and the like as octal numbers."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text


class WriterLock:
    """The right to write a log; the system takes it back when the process dies.

    Args:
        path: The lock file; made if it is not there, and never removed.

    Raises:
        RunError: Another process, or this one, writes the log already.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            msg = f"the lock {path} cannot be made: {error.strerror}. Is its folder writable?"
            raise RunError(msg) from error
        try:
            self._acquire(path)
        except BaseException:
            os.close(self._file)
            raise
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)

    def _acquire(self, path: Path) -> None:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise RunError(self._refusal(path)) from None
                time.sleep(0.01)
            except OSError as error:
                msg = (
                    f"the file system of {path} has no locks ({error.strerror}). "
                    f"Choose a `folder` on another one."
                )
                raise RunError(msg) from error
            else:
                return

    def _refusal(self, path: Path) -> str:
        pid, _, host = os.pread(self._file, 300, 0).decode(errors="replace").strip().partition(" ")
        return (
            f"the run in {path.parent} is being written by process {pid or '(unknown)'} on "
            f"{host or 'this machine'}. Wait until it has ended, or end it."
        )

    def release(self) -> None:
        """Let others write."""
        os.ftruncate(self._file, 0)
        os.close(self._file)


def is_written(path: Path) -> bool:
    """Whether some process holds this ``WriterLock`` now; False when that cannot be told."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(file)
    return False
