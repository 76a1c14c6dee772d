"""A checkpoint on its way to another machine, entry by entry, and how it becomes whole there.

A checkpoint holds one file or one folder.  Its *list* names everything in it, always in the same
order; entries are asked for and sent by their number in it.  What arrives is written as a draft
beside the trial's other checkpoints, and taken in under its name only when all of it is there
(``worker.checkpoints``).
"""

from __future__ import annotations

import json
import os
import reprlib
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

from maggy.errors import WireError
from maggy.worker.checkpoints import CHECKPOINT_ENTRIES, Checkpoints, content_of, draft_name, walk

if TYPE_CHECKING:
    from pathlib import Path

    from maggy.trial import CheckpointName

__all__ = ["Draft", "Entry", "list_entries", "pack", "unpack"]

_FOLDER = -1


class Entry(NamedTuple):
    """A file or folder of a checkpoint: its path from the checkpoint's folder, and its bytes.

    A folder's size is -1.
    """

    path: str
    size: int


def list_entries(checkpoint: Path) -> list[Entry]:
    """Everything in a checkpoint's folder, parents first.

    Raises:
        OSError: It cannot be read, or is gone.
    """
    content = content_of(checkpoint)
    return [
        Entry(name, _FOLDER if path.is_dir() else path.stat().st_size)
        for name, path in walk(content, content.name)
    ]


def pack(entries: list[Entry]) -> bytes:
    """The list as bytes; names that are no text stay what they are."""
    return json.dumps(entries, separators=(",", ":")).encode()


def unpack(data: bytes, name: CheckpointName, limit: int) -> list[Entry]:
    """The list in these bytes, of the checkpoint of this name.

    Args:
        data: What ``pack`` made.
        name: The checkpoint's.
        limit: The most bytes that it may have.

    Raises:
        WireError: It is none, could leave its folder, or does not fit the name or the limit.
    """
    entries = _parsed(data)
    if not 0 < len(entries) <= CHECKPOINT_ENTRIES or not _is_tree(entries):
        msg = f"a checkpoint's list must name its files, but got {reprlib.repr(data)}."
        raise WireError(msg)
    size = sum(max(entry.size, 0) for entry in entries)
    if size != name.size or size > limit:
        msg = f"a checkpoint must have its {name.size} bytes, at most {limit}, but has {size}."
        raise WireError(msg)
    return entries


def _parsed(data: bytes) -> list[Entry]:
    """The entries, each of which stays in its folder; none if that cannot be said of all."""
    try:
        pairs: list[tuple[Any, Any]] = [(path, size) for path, size in json.loads(data)]
    except (ValueError, TypeError, RecursionError):
        return []
    return [Entry(*pair) for pair in pairs] if all(_is_sound(*pair) for pair in pairs) else []


def _is_sound(path: Any, size: Any) -> bool:
    if not isinstance(path, str) or not isinstance(size, int) or size < _FOLDER or "\0" in path:
        return False
    try:
        os.fsencode(path)
    except UnicodeEncodeError:  # no file has such a name
        return False
    return all(part not in {"", ".", ".."} for part in path.split("/"))


def _is_tree(entries: list[Entry]) -> bool:
    """Whether every entry but the first lies in a folder that comes before it, once."""
    folders: set[str] = set()
    seen: set[str] = set()
    for index, (path, size) in enumerate(entries):
        parent = path.rpartition("/")[0]
        if path in seen or (parent not in folders if index else parent != ""):
            return False
        seen.add(path)
        if size == _FOLDER:
            folders.add(path)
    return True


class Draft:
    """A checkpoint that arrives.

    Args:
        folder: The run's folder for checkpoints, here.
        trial: The trial.
        name: The checkpoint's name.
        entries: Its list.

    Raises:
        OSError: There is no room for it.
    """

    def __init__(
        self, folder: Path, trial: int, name: CheckpointName, entries: list[Entry]
    ) -> None:
        self._checkpoints = Checkpoints(folder, trial, name.attempt)
        self._name = name
        self._entries = entries
        self._path = self._checkpoints.folder / draft_name(name)
        if self._path.exists():
            shutil.rmtree(self._path)
        self._path.mkdir(mode=0o700, parents=True)
        for path, size in entries:
            if size == _FOLDER:
                (self._path / path).mkdir(mode=0o700)
            else:
                os.close(os.open(self._path / path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))

    def write(self, number: int, offset: int, data: bytes) -> None:
        """Write part of one entry; again does no harm.

        Raises:
            WireError: There is no such entry, or no such place in it.
            OSError: It cannot be written.
        """
        entry = self._entries[number] if number < len(self._entries) else None
        if entry is None or offset + len(data) > entry.size:
            msg = f"entry {number} of the checkpoint has no place for bytes at {offset}."
            raise WireError(msg)
        descriptor = os.open(self._path / entry.path, os.O_WRONLY | os.O_NOFOLLOW)
        try:
            view = memoryview(data)
            while view:
                count = os.pwrite(descriptor, view, offset)
                view, offset = view[count:], offset + count
        finally:
            os.close(descriptor)

    def finish(self) -> None:
        """Take it in as a checkpoint, in place of older ones.

        Raises:
            CheckpointError: It is not what it should be.
            EarlyStopException: A later attempt has taken over.
            OSError: It cannot be written.
        """
        for path, size in self._entries:
            if size != _FOLDER:
                descriptor = os.open(self._path / path, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        self._checkpoints.adopt(self._path, self._name)

    def discard(self) -> None:
        """Remove what has arrived, unless it was taken in."""
        if self._path.exists():
            shutil.rmtree(self._path)
