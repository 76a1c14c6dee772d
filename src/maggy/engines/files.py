"""The driver's side of the files that agents fetch and bring; for ``engines.server``.

Names are looked up in a closed grammar, and nothing in a request ever becomes a path as it is:
trials, attempts and entries are numbers, checkpoints' names are made of numbers, and the paths
inside a checkpoint are checked when its list arrives.  ::

    data                                          fetch    the data sets
    code                                          fetch    the archive of maggy and what it needs
    trials/TRIAL/ATTEMPT                          store    output, added to the trial's
    checkpoints/TRIAL/ATTEMPT                     fetch    the name of what this attempt restores
    checkpoints/TRIAL/CHECKPOINT                  both     its list
    checkpoints/TRIAL/CHECKPOINT/NUMBER           both     one entry of the list
    checkpoints/TRIAL/CHECKPOINT/whole            store    everything is there: take it in

Each request may come again, when its answer was lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from maggy.errors import CheckpointError, EarlyStopException, WireError
from maggy.trial import CheckpointName, checkpoints_name, log_name
from maggy.wire.messages import Fetch, Part, Refused, Stored
from maggy.worker.checkpoints import Checkpoints
from maggy.worker.drafts import Draft, list_entries, pack, unpack
from maggy.worker.output import add_output

if TYPE_CHECKING:
    from pathlib import Path

    from maggy.wire.messages import Store
    from maggy.worker.drafts import Entry

__all__ = ["CHECKPOINT_LIMIT", "Files"]

logger = logging.getLogger(__name__)

CHECKPOINT_LIMIT = 256 * 10**6
"""The most bytes of a checkpoint that has to travel."""

_PIECE = 2**20
_LONGEST_LIST = 2**24
_LISTED = 64
_LONGEST_NAME = 100
_THREADS = 4
_NAME = re.compile(
    r"(?P<file>data|code)"
    r"|trials/(?P<output>\d{6,18})/(?P<run>\d{4,18})"
    r"|checkpoints/(?P<trial>\d{6,18})/((?P<attempt>\d{4,18})"
    r"|(?P<checkpoint>[-0-9a-f]+)(/((?P<entry>\d{1,6})|(?P<whole>whole)))?)",
    re.ASCII,
)


class Files:
    """Answers the requests of all agents of one run.

    Args:
        data_fd: A descriptor of the data sets; it stays the caller's.  None: there are none.
        trials: The folder of the trials' output.
        checkpoints: The folder of the run's checkpoints; None: none are kept.
        code: The archive that engines ship; None: there is none.
        limit: The most bytes of a checkpoint.
    """

    def __init__(
        self,
        *,
        data_fd: int | None,
        trials: Path,
        checkpoints: Path | None,
        code: Path | None = None,
        limit: int = CHECKPOINT_LIMIT,
    ) -> None:
        self._data_fd = data_fd
        self._code = code
        self._outputs = _Outputs(trials)
        self._store = None if checkpoints is None else _CheckpointStore(checkpoints, limit)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="maggy-files")

    async def answer(
        self, agent: str, request: Fetch | Store, blob: bytes | None
    ) -> tuple[Part | Stored | Refused, bytes | None]:
        """The answer to one request, and the raw bytes that follow it.

        Args:
            agent: Who asks.
            request: What for.
            blob: What came with ``Store``.
        """
        loop = asyncio.get_running_loop()
        try:
            if isinstance(request, Fetch):
                return await loop.run_in_executor(self._pool, self._fetch, request)
            await loop.run_in_executor(self._pool, self._take, request, blob or b"")
        except (OSError, EarlyStopException) as error:  # maggy's own errors are OSErrors here
            name = request.name[:_LONGEST_NAME]
            logger.warning("agent %s: %s: %s", agent, name, error)
            return Refused(reason=_sentence(name, error)), None
        return Stored(), None

    def close(self) -> None:
        """Wait for what is being written, and remove what did not become whole."""
        self._pool.shutdown()
        self._outputs.close()
        if self._store is not None:
            self._store.close()

    def _fetch(self, request: Fetch) -> tuple[Part, bytes]:
        parts = _parsed(request.name)
        size = min(request.size, _PIECE)
        if parts["file"] == "data" and self._data_fd is not None:
            return _read(self._data_fd, request.offset, size)
        if parts["file"] == "code" and self._code is not None:
            return _read_file(self._code, request.offset, size)
        if parts["trial"] is not None and self._store is not None:
            return self._store.fetch(parts, request.offset, size)
        return _NOTHING

    def _take(self, request: Store, blob: bytes) -> None:
        parts = _parsed(request.name)
        if parts["output"] is not None:
            self._outputs.take(int(parts["output"]), int(parts["run"] or 0), request, blob)
        elif parts["checkpoint"] is not None and self._store is not None:
            self._store.take(parts, request, blob)
        else:
            msg = "nothing can be stored under this name."
            raise WireError(msg)


_NOTHING = Part(size=-1), b""


def _parsed(name: str) -> dict[str, str | None]:
    match = _NAME.fullmatch(name)
    if match is None:
        shown = name[:_LONGEST_NAME]
        msg = f"a file's name must be one that agents ask for, but got {shown!r}."
        raise WireError(msg)
    return match.groupdict()


def _sentence(name: str, error: BaseException) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{name} cannot be had or kept on the driver's machine: {reason.rstrip('.')}."


def _read(descriptor: int, offset: int, size: int) -> tuple[Part, bytes]:
    total = os.fstat(descriptor).st_size
    return Part(size=total), os.pread(descriptor, size, min(offset, total))


def _read_file(path: Path, offset: int, size: int) -> tuple[Part, bytes]:
    with path.open("rb", buffering=0) as file:
        return _read(file.fileno(), offset, size)


def _slice(data: bytes, offset: int, size: int) -> tuple[Part, bytes]:
    return Part(size=len(data)), data[offset : offset + size]


class _Outputs:
    """Output of trials, which is added to the trial's file when an attempt's is whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._added: set[tuple[int, int]] = set()

    def take(self, trial: int, attempt: int, request: Store, blob: bytes) -> None:
        with self._lock:
            if (trial, attempt) in self._added:
                return
            draft = self._folder / f".{log_name(trial)}.{attempt}"
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(draft, request.offset, blob)
            if request.last:
                add_output(self._folder / log_name(trial), draft)
                draft.unlink()
                self._added.add((trial, attempt))

    def close(self) -> None:
        for draft in self._folder.glob(".*.log.*"):
            draft.unlink()


def _write(path: Path, offset: int, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb", buffering=0) as file:
        if offset > os.fstat(file.fileno()).st_size:
            msg = f"a piece at {offset} came before the ones in front of it."
            raise WireError(msg)
        file.truncate(offset)
        file.seek(offset)
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]


class _CheckpointStore:
    """Checkpoints that come and go; what arrives is kept as a draft until it is whole."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._lock = threading.Lock()
        self._lists: dict[str, bytearray] = {}
        self._drafts: dict[str, Draft] = {}
        self._listed: dict[str, list[Entry]] = {}  # what was asked for lately, oldest first

    def fetch(self, parts: dict[str, str | None], offset: int, size: int) -> tuple[Part, bytes]:
        trial = int(parts["trial"] or 0)
        if parts["attempt"] is not None:
            return self._newest(trial, int(parts["attempt"]), offset, size)
        name = _checkpoint(parts)
        path = self._folder / checkpoints_name(trial) / str(name)
        try:
            entries = self._entries(f"{trial}/{name}", path)
            if parts["entry"] is None:
                return _slice(pack(entries), offset, size)
            return _read_file(path / entries[int(parts["entry"])].path, offset, size)
        except (FileNotFoundError, IndexError):
            return _NOTHING

    def _newest(self, trial: int, attempt: int, offset: int, size: int) -> tuple[Part, bytes]:
        """The name of what an attempt restores: it takes it over, here as it would locally."""
        checkpoints = Checkpoints(self._folder, trial, attempt)
        found = checkpoints.restore(lambda text: logger.warning("%s", text))
        return _NOTHING if found is None else _slice(found.path.parent.name.encode(), offset, size)

    def _entries(self, key: str, path: Path) -> list[Entry]:
        """A checkpoint's list, which never changes."""
        with self._lock:
            entries = self._listed.get(key)
        if entries is None:
            entries = list_entries(path)
            with self._lock:
                self._listed[key] = entries
                while len(self._listed) > _LISTED:
                    del self._listed[next(iter(self._listed))]
        return entries

    def take(self, parts: dict[str, str | None], request: Store, blob: bytes) -> None:
        trial, name = int(parts["trial"] or 0), _checkpoint(parts)
        if name.size > self._limit:
            msg = f"a checkpoint may have {self._limit} bytes, but this one has {name.size}."
            raise CheckpointError(msg)
        key = f"{trial}/{name}"
        if parts["whole"] is not None:
            self._finish(key, trial, name)
        elif parts["entry"] is not None:
            self._draft(key).write(int(parts["entry"]), request.offset, blob)
        else:
            self._take_list(key, trial, name, request, blob)

    def _take_list(
        self, key: str, trial: int, name: CheckpointName, request: Store, blob: bytes
    ) -> None:
        with self._lock:
            if key in self._drafts and key not in self._lists and request.offset > 0:
                return  # its end was taken before, and the answer was lost
            data = self._lists.setdefault(key, bytearray())
            del data[request.offset :]
            data += blob
            if len(data) > _LONGEST_LIST:
                msg = "the list of a checkpoint is too long."
                raise WireError(msg)
            if request.last:
                entries = unpack(bytes(self._lists.pop(key)), name, self._limit)
                self._make_way(trial, name)
                self._drafts[key] = Draft(self._folder, trial, name, entries)

    def _make_way(self, trial: int, name: CheckpointName) -> None:
        """Drop what did not become whole of this trial; the lock is held.

        Raises:
            EarlyStopException: That is of a later attempt: who sends this was given up.
        """
        others = [key for key in self._drafts if key.startswith(f"{trial}/")]
        drafted = [CheckpointName.parse(key.partition("/")[2]) for key in others]
        if any(other is not None and other.attempt > name.attempt for other in drafted):
            msg = "a later attempt has taken over."
            raise EarlyStopException(msg)
        for key in others:
            self._drafts.pop(key).discard()

    def _draft(self, key: str) -> Draft:
        with self._lock:
            draft = self._drafts.get(key)
        if draft is None:
            msg = "the list of a checkpoint must come before its entries."
            raise WireError(msg)
        return draft

    def _finish(self, key: str, trial: int, name: CheckpointName) -> None:
        if Checkpoints(self._folder, trial, name.attempt).newest() == name:
            return  # it was taken in before, and the answer was lost
        draft = self._draft(key)
        try:
            draft.finish()
        finally:
            with self._lock:
                self._drafts.pop(key, None)
            draft.discard()

    def close(self) -> None:
        for draft in self._drafts.values():
            with contextlib.suppress(OSError):  # the run's end clears the folder as well
                draft.discard()


def _checkpoint(parts: dict[str, str | None]) -> CheckpointName:
    name = CheckpointName.parse(parts["checkpoint"] or "")
    if name is None:
        msg = f"a checkpoint's name must be one, but got {parts['checkpoint']!r}."
        raise WireError(msg)
    return name
