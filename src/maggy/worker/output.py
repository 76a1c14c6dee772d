"""Each trial's output in a file of its own, caught at the file descriptors.

What a training function prints, what C code and child processes write to descriptors 1 and 2: all
of it lands in one file per trial, which later attempts continue.  Of a file over 20 MB only the
first and the last 10 MB are kept.  While a trial runs, its file is looked at whenever the worker
sends something, so at least once a heartbeat, and cut at 30 MB; bytes that a child process writes
in the very moment of a cut are lost with those that are cut.  Trouble with the file (a full disk,
a folder that is gone) costs output, never the trial.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import logging
import os
import re
import sys
import threading
from typing import TYPE_CHECKING, TextIO

from maggy.trial import log_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from _typeshed import ReadableBuffer

__all__ = ["Output", "add_output", "tail"]

logger = logging.getLogger(__name__)

_KEPT = 10_000_000  # bytes, at the head and again at the tail
_SLACK = 10_000_000  # bytes over both that a running trial's file may grow to
_TAIL_BYTES = 16_384
_COPIED = 2**20  # bytes at a time
_MARK = re.compile(rb"\n\[maggy cut (\d+) bytes here\]\n")


class Output:
    """Sends descriptors 1 and 2 of this process to one trial's file at a time.

    Python's own ``sys.stdout`` and ``sys.stderr`` are replaced for as long as this lives: line
    buffered, so that ``print`` and C code stay in order, and deaf to errors of the disk.

    Args:
        folder: Where the files go; made if it is missing.
        kept: Bytes to keep at each end of a file.
        slack: Bytes over both ends that a running trial's file may grow to.
    """

    def __init__(self, folder: Path, *, kept: int = _KEPT, slack: int = _SLACK) -> None:
        self._folder = folder
        self._kept = kept
        self._slack = slack
        self._file: _TrialFile | None = None
        self._lock = threading.Lock()  # between a trial's end and ``trim`` on another thread
        self._flush_c = _c_flush()
        self._before = (sys.stdout, sys.stderr)
        _flush(self._before)
        self._saved = (os.dup(1), os.dup(2))
        self._own = (_stream(1), _stream(2))
        sys.stdout, sys.stderr = self._own
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            logger.warning("no output of trials is kept: %s", error)

    def close(self) -> None:
        """Put the streams of before back."""
        self._flush()
        sys.stdout, sys.stderr = self._before
        for fd in self._saved:
            os.close(fd)

    @contextlib.contextmanager
    def trial(self, trial: int, attempt: int) -> Iterator[None]:
        """Catch all output of one attempt; an empty file is removed at the end."""
        self._flush()
        self._put_streams_back()
        try:
            file = _TrialFile(self._folder / log_name(trial), attempt, self._kept)
        except OSError as error:
            logger.warning("the output of trial %d is not kept: %s", trial, error)
            yield
            return
        os.dup2(file.fd, 1)
        os.dup2(file.fd, 2)
        self._file = file
        try:
            yield
        finally:
            self._flush()
            os.dup2(self._saved[0], 1)
            os.dup2(self._saved[1], 2)
            self._put_streams_back()
            with self._lock:
                self._file = None
                file.close()

    def trim(self) -> None:
        """Cut the middle of the running trial's file if it has grown too long; any thread."""
        with self._lock:
            if self._file is not None:
                self._file.shorten(slack=self._slack)

    def tail(self, lines: int = 20) -> str:
        """The last lines of the running attempt's output."""
        self._flush()
        file = self._file
        return "" if file is None else tail(file.path, lines, start=file.start)

    def _flush(self) -> None:
        """Write out what Python and C hold back."""
        _flush((sys.stdout, sys.stderr, *self._own))
        self._flush_c()

    def _put_streams_back(self) -> None:
        """Undo what anyone did to ``sys.stdout`` and ``sys.stderr``."""
        if any(stream.closed for stream in self._own):
            self._own = (_stream(1), _stream(2))
        sys.stdout, sys.stderr = self._own


class _TrialFile:
    """The output file of one attempt, open."""

    def __init__(self, path: Path, attempt: int, kept: int) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self.path = path
        self.fd = os.open(path, flags, 0o600)
        self._kept = kept
        before = os.fstat(self.fd).st_size
        header = f"--- attempt {attempt} ---\n".encode() if attempt else b""
        try:
            _write_all(self.fd, header)
        except OSError as error:
            logger.debug("no header in %s: %s", path, error)
        self._size_if_silent = 0 if before else len(header)
        self._end_of_header = before + len(header)

    @property
    def start(self) -> int:
        """Where this attempt's own output begins, or a place behind that after a cut."""
        return min(self._end_of_header, self._kept)

    def shorten(self, *, slack: int) -> None:
        """Keep both ends of a file that is longer than both and ``slack`` together."""
        try:
            _cut_middle(self.fd, self._kept, slack)
        except OSError as error:
            logger.warning("%s could not be shortened: %s", self.path, error)

    def close(self) -> None:
        """Shorten the file, remove it if the trial was silent, and close it."""
        try:
            if os.fstat(self.fd).st_size <= self._size_if_silent:
                self.path.unlink(missing_ok=True)
            else:
                self.shorten(slack=0)
        except OSError as error:
            logger.warning("%s could not be removed: %s", self.path, error)
        finally:
            os.close(self.fd)


def _cut_middle(fd: int, kept: int, slack: int) -> None:
    """In place, so that a child process goes on writing to the same file.

    A mark tells how much was cut; the count goes on where an earlier cut has left one.
    """
    size = os.fstat(fd).st_size
    earlier = _MARK.match(os.pread(fd, 100, kept)) if size > kept else None
    middle = kept + (earlier.end() if earlier else 0)
    cut = size - kept - middle
    if cut <= slack:
        return
    total = cut + (int(earlier[1]) if earlier else 0)
    end = os.pread(fd, kept, size - kept)
    os.ftruncate(fd, kept)
    _write_all(fd, b"\n[maggy cut %d bytes here]\n" % total + end)


def add_output(path: Path, part: Path, *, kept: int = _KEPT) -> None:
    """Continue a trial's file with the output of a further attempt, which ran elsewhere.

    Args:
        path: The trial's file; made if it is missing.
        part: What to add.
        kept: Bytes to keep at each end of the file.

    Raises:
        OSError: One of them cannot be read or written.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)
    try:
        with part.open("rb") as file:
            while data := file.read(_COPIED):
                _write_all(fd, data)
        _cut_middle(fd, kept, 0)
    finally:
        os.close(fd)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def tail(path: Path, lines: int = 20, *, start: int = 0) -> str:
    """The last lines of a file, at most 16 KiB; ``""`` if it cannot be read.

    Of a line that a progress bar has rewritten only the last state is shown.

    Args:
        path: The file.
        lines: How many lines at most.
        start: Where to begin at the earliest, bytes.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start, size - _TAIL_BYTES, 0))
            text = file.read(_TAIL_BYTES).decode("utf-8", "replace")
    except OSError as error:
        logger.debug("no tail of %s: %s", path, error)
        return ""
    rows = text.removesuffix("\n").split("\n")[-lines:]
    return "\n".join(row.rstrip("\r").rpartition("\r")[2] for row in rows)


class _Lenient(io.FileIO):
    """A descriptor to which writing never fails: what the disk does not take is lost."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def _flush(streams: Iterable[TextIO]) -> None:
    for stream in streams:
        try:
            stream.flush()
        except Exception as error:  # noqa: BLE001 - users put anything in place of our streams
            logger.debug("a stream could not be flushed: %s", error)


def _stream(fd: int) -> TextIO:
    raw = io.BufferedWriter(_Lenient(fd, "wb", closefd=False))
    return io.TextIOWrapper(raw, "utf-8", errors="backslashreplace", line_buffering=True)


def _c_flush() -> Callable[[], object]:
    """A call that flushes C's ``stdout``; not all of C's streams: that waits for busy ones."""
    library = ctypes.CDLL(None)
    for name in ("stdout", "__stdoutp"):  # glibc and musl, macOS
        try:
            return functools.partial(library.fflush, ctypes.c_void_p.in_dll(library, name))
        except ValueError as error:
            logger.debug("no such C stream: %s", error)
    return int
