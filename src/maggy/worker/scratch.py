"""Folders for a while, which go when nobody holds them any more, however their holders ended.

A holder has a shared lock on the folder's lock file, which the system drops with the process.  A
folder is deleted under the exclusive lock, by the last holder or, after a holder that was killed,
by whoever comes next (``sweep``).
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["held", "sweep", "temporary_root"]

logger = logging.getLogger(__name__)

_PREFIX = "maggy-"
_LOCK = "lock"


def temporary_root() -> Path:
    """Where this machine's temporary folders are."""
    return Path(tempfile.gettempdir())


@contextlib.contextmanager
def held(name: str, root: Path) -> Iterator[Path]:
    """Hold the folder of this name, which is made if it is missing, mode 0700.

    Everyone of this user who holds the same name has the same folder.

    Args:
        name: Letters, digits and ``-``.
        root: The folder that it is in.

    Raises:
        OSError: It cannot be made, or it is not this user's alone.
    """
    folder = root / f"{_PREFIX}{os.getuid()}-{name}"
    lock = _hold(folder)
    try:
        yield folder
    finally:
        _delete_if_last(folder, lock)
        os.close(lock)


def sweep(root: Path) -> None:
    """Delete this user's folders whose holders were killed."""
    for folder in root.glob(f"{_PREFIX}{os.getuid()}-*"):
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:  # somebody is just making or deleting it, or it is no folder
            logger.debug("%s is left alone: %s", folder, error)
            continue
        try:
            _delete_if_last(folder, lock)
        finally:
            os.close(lock)


def _hold(folder: Path) -> int:
    """A descriptor with a shared lock on this folder, which exists and is ours."""
    while True:
        folder.mkdir(mode=0o700, exist_ok=True)
        _check_owner(folder)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            lock = os.open(folder / _LOCK, flags, 0o600)
        except FileNotFoundError:  # it was deleted in between
            continue
        fcntl.flock(lock, fcntl.LOCK_SH)
        if _is_current(folder, lock):
            return lock
        os.close(lock)


def _check_owner(folder: Path) -> None:
    status = folder.lstat()
    private = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077
    if status.st_uid != os.getuid() or not private:
        msg = (
            f"{folder} must be a folder of this user alone, but is not. Remove it, or set TMPDIR "
            "to a folder of your own."
        )
        raise PermissionError(msg)


def _is_current(folder: Path, lock: int) -> bool:
    """Whether the folder's lock file is still the one that is locked."""
    try:
        return os.path.samestat((folder / _LOCK).lstat(), os.fstat(lock))
    except FileNotFoundError:
        return False


def _delete_if_last(folder: Path, lock: int) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    if not _is_current(folder, lock):
        return
    doomed = folder.with_name(f".{folder.name}-{os.getpid()}")
    try:
        folder.rename(doomed)  # at once: whoever comes now makes a new one
        shutil.rmtree(doomed)
    except OSError as error:
        logger.warning("%s could not be deleted: %s", folder, error)
