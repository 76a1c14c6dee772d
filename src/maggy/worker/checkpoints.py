"""What a trial saves for its next run, as files that are whole or not there at all.

Theory of operation: each checkpoint is a folder ``<run>/checkpoints/<trial>/<name>/`` that holds
one thing, the saved bytes, file or folder.  It is written under another name, forced to disk, and
renamed; the name carries the size and a checksum, so that a damaged one is never mistaken for a
good one (``maggy.trial.CheckpointName``).  Older ones go when the new one has its name.

A next attempt takes over what it restores by renaming it into its own.  From then on an earlier
attempt that was given up for dead but lives can neither delete nor replace it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import shutil
import stat
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from maggy.errors import CheckpointError, EarlyStopException
from maggy.trial import CheckpointName, checkpoints_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["CHECKPOINT_ENTRIES", "Checkpoint", "Checkpoints", "content_of", "draft_name", "walk"]

logger = logging.getLogger(__name__)

CHECKPOINT_ENTRIES = 10_000
"""The most files and folders that a checkpoint may hold that has to travel."""

_DRAFT = "draft-"
_BYTES = "data"
"""The name of the file that holds saved bytes."""
_CHUNK = 1 << 20
_FICLONE = 0x40049409
"""Linux's ioctl that makes one file share the blocks of another, where the file system can."""

_MORE_ROOM = "Free some space, save less often, or choose a `folder` on a larger disk."
_ADVICE = {
    errno.ENOSPC: _MORE_ROOM,
    errno.EDQUOT: f"Your quota is used up. {_MORE_ROOM}",
    errno.EFBIG: "Raise the limit of file sizes (`ulimit -f`), or save less.",
    errno.ENAMETOOLONG: "Give what is saved a shorter name.",
    errno.ELOOP: "Save a folder without links to folders that hold it.",
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS),
        "Let the user that runs the workers read what is saved and write there.",
    ),
}
_OTHER_ADVICE = "Check what is saved and the file system; the system's log may say more."


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A saved checkpoint; it stays until the next one is saved, so read it before.

    Attributes:
        path: The file or folder that was saved, under its own name; to be read, not changed.
        step: The step at which it was saved.
    """

    path: Path
    step: int

    @property
    def bytes(self) -> bytes:
        """The content of the file.

        Raises:
            CheckpointError: It is a folder, or it cannot be read any more.
        """
        try:
            return self.path.read_bytes()
        except IsADirectoryError:
            msg = f"the checkpoint {self.path} is a folder. Read the files in its `.path`."
            raise CheckpointError(msg) from None
        except OSError as error:
            msg = (
                f"the checkpoint {self.path} cannot be read: {error.strerror}. "
                "Read it before the next `save`, which replaces it."
            )
            raise CheckpointError(msg) from error


class Checkpoints:
    """The checkpoints of one trial, as one of its attempts sees them; for any thread.

    Args:
        folder: The run's folder for checkpoints; made when it is needed.
        trial: The trial.
        attempt: The attempt that saves and restores.
        limit: The most bytes of one checkpoint, which has to travel then; None: any number.
    """

    def __init__(
        self, folder: Path, trial: int, attempt: int, *, limit: int | None = None
    ) -> None:
        self._folder = folder / checkpoints_name(trial)
        self._limit = limit
        self._trial = trial
        self._attempt = attempt
        self._lock = threading.RLock()  # a signal handler may save as well
        self._process = os.getpid()
        self._number = 0

    @property
    def folder(self) -> Path:
        """Where the checkpoints of this trial are."""
        return self._folder

    def save(self, data: bytes | Path, step: int) -> int:
        """Keep this instead of what was saved before; its size in bytes.

        A file or folder is copied: it may be changed or deleted afterwards.  Symbolic links are
        followed.  If it cannot be kept, what was saved before still stands.

        Raises:
            TypeError: It is neither bytes nor a path.
            CheckpointError: It cannot be read, or not be written, or is larger than allowed.
            EarlyStopException: A later attempt has taken over.
        """
        self._refuse(data)
        self._refuse_large(data, step)
        with self._lock:
            try:
                older = self._saved()
                self._leave_to_later(older)
                name = self._add(data, step, self._next_number(older))
            except OSError as error:
                raise CheckpointError(self._explain(error, data, step)) from error
            self._forget(older)
        return name.size

    def restore(self, warn: Callable[[str], None]) -> Checkpoint | None:
        """The newest checkpoint that this attempt or an earlier one saved, or None.

        Args:
            warn: Called with a sentence for each newer one that is damaged or unreadable.

        Raises:
            CheckpointError: It cannot be told what was saved.
        """
        with self._lock:
            try:
                names = self._saved()
            except OSError as error:
                msg = (
                    f"the checkpoints of trial {self._trial} in {self._folder} cannot be read: "
                    f"{error.strerror}. {_ADVICE.get(error.errno or 0, _OTHER_ADVICE)}"
                )
                raise CheckpointError(msg) from error
            for name in reversed(names):
                if name.attempt > self._attempt:
                    continue
                trouble = self._trouble(name)
                if trouble is None:
                    return Checkpoint(content_of(self._take_over(name)), name.step)
                warn(
                    f"the checkpoint {self._folder / str(name)} of trial {self._trial} at step "
                    f"{name.step} is not used, because {trouble}. An older one is used if there "
                    "is one; else the trial begins anew."
                )
        return None

    def adopt(self, draft: Path, name: CheckpointName) -> None:
        """Take in a checkpoint that was written elsewhere and has arrived whole; again is no harm.

        Args:
            draft: A folder that holds its content and nothing else; it is renamed.
            name: Its name, of this attempt.

        Raises:
            CheckpointError: The content does not fit the name.
            EarlyStopException: A later attempt has taken over.
            OSError: It cannot be read or renamed.
        """
        with self._lock:
            older = self._saved()
            if name in older:
                return
            self._leave_to_later(older)
            if _digest(content_of(draft), name.step) != (name.size, name.crc):
                msg = f"the checkpoint {name} of trial {self._trial} has arrived damaged."
                raise CheckpointError(msg)
            draft.rename(self._folder / str(name))
            self._forget(older)

    def newest(self) -> CheckpointName | None:
        """The newest checkpoint that is there, whoever saved it, or None.

        Raises:
            OSError: The folder cannot be read.
        """
        return max(self._saved(), default=None)

    def _refuse_large(self, data: bytes | Path, step: int) -> None:
        """Raise if this has to travel and is too large for that."""
        size = None if self._limit is None else _size(data)
        if self._limit is None or size is None:
            return
        entries = sum(1 for _ in walk(Path(data), "")) if isinstance(data, os.PathLike) else 1
        if size > self._limit or entries > CHECKPOINT_ENTRIES:
            msg = (
                f"the checkpoint of trial {self._trial} at step {step} has {_megabytes(size)} in "
                f"{entries:,} entries, but may have {_megabytes(self._limit)} in "
                f"{CHECKPOINT_ENTRIES:,}, because it has to travel to the driver's machine. Set "
                "`checkpoint_dir` in the config to a folder that all machines share: there it "
                "may have any size."
            )
            raise CheckpointError(msg)

    def _refuse(self, data: object) -> None:
        """Raise if this cannot be saved from here."""
        if not isinstance(data, (bytes, bytearray, memoryview, os.PathLike)):
            msg = (
                f"`data` of save() must be bytes or a pathlib.Path, but got "
                f"{type(data).__name__}. Pickle it, or write it to a file and save its Path."
            )
            raise TypeError(msg)
        if os.getpid() != self._process:
            msg = (
                "save() was called in a child process, which cannot tell the driver. Save in "
                "the process that runs the training function."
            )
            raise CheckpointError(msg)

    def _saved(self) -> list[CheckpointName]:
        """What is there, oldest first."""
        with contextlib.suppress(FileNotFoundError):  # nothing was saved yet
            names = [CheckpointName.parse(entry.name) for entry in self._folder.iterdir()]
            return sorted(name for name in names if name is not None)
        return []

    def _leave_to_later(self, names: list[CheckpointName]) -> None:
        """Raise if a later attempt has saved or restored something: then this one is over."""
        if names and names[-1].attempt > self._attempt:
            msg = f"attempt {names[-1].attempt} of trial {self._trial} has taken over"
            raise EarlyStopException(msg)

    def _next_number(self, names: list[CheckpointName]) -> int:
        numbers = [name.number for name in names if name.attempt == self._attempt]
        self._number = max(self._number, *numbers, 0) + 1
        return self._number

    def _add(self, data: bytes | Path, step: int, number: int) -> CheckpointName:
        """Write a checkpoint, and give it its name when it is whole.

        The rename needs no sync of its own: a file system that loses it to a power failure loses
        the later removal of the older checkpoint as well.
        """
        draft = self._folder / draft_name(CheckpointName(self._attempt, number, step, 0, 0))
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.mkdir(mode=0o700)
        try:
            size, crc = _write(data, draft, step)
            name = CheckpointName(self._attempt, number, step, size, crc)
            draft.rename(self._folder / str(name))
        except BaseException:
            _remove(draft)
            raise
        return name

    def _trouble(self, name: CheckpointName) -> str | None:
        """Why this checkpoint cannot be used, or None."""
        try:
            digest = _digest(content_of(self._folder / str(name)), name.step)
        except OSError as error:
            return f"it cannot be read ({error.strerror or error})"
        return None if digest == (name.size, name.crc) else "it is damaged"

    def _take_over(self, name: CheckpointName) -> Path:
        """Make a checkpoint of an earlier attempt this one's; its folder."""
        old = self._folder / str(name)
        if name.attempt == self._attempt:
            return old
        new = self._folder / str(name._replace(attempt=self._attempt, number=0))
        try:
            old.rename(new)
        except OSError as error:
            logger.debug("%s is used where it is: %s", old, error)
            return old
        return new

    def _forget(self, older: list[CheckpointName]) -> None:
        """Remove what the newest checkpoint replaces."""
        for name in older:
            _remove(self._folder / str(name))
        for entry in self._folder.glob(f"{_DRAFT}*"):
            attempt = entry.name.removeprefix(_DRAFT).partition("-")[0]
            if attempt.isdecimal() and int(attempt) < self._attempt:
                _remove(entry)

    def _explain(self, error: OSError, data: bytes | Path, step: int) -> str:
        what = f"the checkpoint of trial {self._trial} at step {step}"
        if isinstance(data, os.PathLike) and error.filename is not None:
            source = Path(error.filename)
            if source.is_relative_to(data) and not source.is_relative_to(self._folder):
                return (
                    f"{what} could not be read from {source}: {error.strerror}. "
                    f"{_ADVICE.get(error.errno or 0, 'Write what is to be saved before save().')}"
                )
        size, free = _size(data), _free(self._folder)
        return (
            f"{what}{'' if size is None else f' ({_megabytes(size)})'} could not be written to "
            f"{self._folder}: {error.strerror or error}. "
            f"{'' if free is None else f'{_megabytes(free)} are free there. '}"
            f"{_ADVICE.get(error.errno or 0, _OTHER_ADVICE)} "
            "What was saved before, if anything, is still there."
        )


def draft_name(name: CheckpointName) -> str:
    """The name of the folder that holds a checkpoint until it is whole."""
    return f"{_DRAFT}{name.attempt:04d}-{name.number:06d}"


def content_of(folder: Path) -> Path:
    """The one thing in a checkpoint's folder.

    Raises:
        OSError: It is not there, or not alone.
    """
    entries = list(folder.iterdir())
    if len(entries) != 1:
        raise OSError(errno.EIO, f"{len(entries)} entries where there should be one", str(folder))
    return entries[0]


def _write(data: bytes | Path, draft: Path, step: int) -> tuple[int, int]:
    """Write ``data`` into the folder ``draft`` and force it to disk; its size and checksum."""
    if isinstance(data, os.PathLike):
        source = Path(data)
        target = draft / (source.resolve().name or _BYTES)
        if draft.is_relative_to(source.resolve()):
            raise OSError(errno.ELOOP, "it holds the run's own checkpoints", str(source))
        _copy(source, target, frozenset())
        return _digest(target, step)
    with (draft / _BYTES).open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    view = memoryview(data).cast("B")
    crc = zlib.crc32(view, _mark(0, step, _BYTES, view.nbytes))
    return view.nbytes, crc


def _copy(source: Path, target: Path, above: frozenset[tuple[int, int]]) -> None:
    """Copy a file or folder; ``above`` are the folders that lead here, by device and inode."""
    status = source.stat()
    if stat.S_ISREG(status.st_mode):
        _copy_file(source, target)
        return
    if not stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EINVAL, "it is neither a file nor a folder", str(source))
    here = (status.st_dev, status.st_ino)
    if here in above:
        raise OSError(errno.ELOOP, "links lead round in a circle", str(source))
    target.mkdir(mode=0o700)
    for entry in source.iterdir():
        _copy(entry, target / entry.name, above | {here})


def _copy_file(source: Path, target: Path) -> None:
    with source.open("rb") as there, target.open("xb") as here:
        if not _cloned(there, here):
            shutil.copyfileobj(there, here, _CHUNK)
        here.flush()
        os.fsync(here.fileno())


def _cloned(source: IO[bytes], target: IO[bytes]) -> bool:
    """Let ``target`` share the blocks of ``source``; False where the system cannot."""
    try:
        fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
    except OSError:
        return False
    return True


def _digest(content: Path, step: int) -> tuple[int, int]:
    """The size and the checksum of a file or folder, saved at ``step``.

    Raises:
        OSError: It cannot be read.
    """
    total = crc = 0
    buffer = memoryview(bytearray(_CHUNK))
    for name, path in walk(content, content.name):
        if path.is_dir():
            crc = _mark(crc, step, name, -1)
            continue
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            total += size
            crc = _mark(crc, step, name, size)
            while count := file.readinto(buffer):
                crc = zlib.crc32(buffer[:count], crc)
    return total, crc


def walk(path: Path, name: str) -> Iterator[tuple[str, Path]]:
    """Everything in ``path``, itself first, always in the same order, with names from there."""
    yield name, path
    if path.is_dir():
        for entry in sorted(path.iterdir()):
            yield from walk(entry, f"{name}/{entry.name}")


def _mark(crc: int, step: int, name: str, size: int) -> int:
    return zlib.crc32(f"{step}\0{name}\0{size}\0".encode(errors="surrogateescape"), crc)


def _remove(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except OSError as error:
        logger.warning("%s could not be deleted: %s", path, error)


def _size(data: bytes | Path) -> int | None:
    """How many bytes were to be saved, as far as that can be told."""
    if not isinstance(data, os.PathLike):
        return memoryview(data).nbytes
    try:
        return sum(path.stat().st_size for _, path in walk(Path(data), "") if path.is_file())
    except OSError:
        return None


def _free(folder: Path) -> int | None:
    """Free bytes where the checkpoints are, as far as that can be told."""
    for place in (folder, *folder.parents):
        try:
            return shutil.disk_usage(place).free
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
