"""The event log of a run: one SQLite file, one writer, any number of readers.

On a local file system the write-ahead log is used: a commit is a few writes to the page cache, so
it survives the death of every process; a power cut may cost the last moments, never more.  Network
file systems share no memory between machines, so there the older rollback journal is used.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from maggy.errors import RunError
from maggy.store.codec import checksum, decode, encode
from maggy.store.filesystem import WriterLock, is_network, is_written
from maggy.store.schema import APPLICATION_ID, COLUMNS, EVENTS, SCHEMA_VERSION, VIEWS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from maggy.events import Event

__all__ = ["SqliteLog", "is_live"]

_BATCH = 2000
_BUSY = 30.0
"""Seconds to wait for a lock of the database; readers hold one for milliseconds at a time."""

_INSERT = f"INSERT INTO events ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - a constant
_SELECT = f"SELECT {COLUMNS} FROM events WHERE seq >= ? AND seq < ? ORDER BY seq LIMIT ?"  # noqa: S608 - a constant
_OUTLINE = f"""
SELECT {COLUMNS} FROM events WHERE kind NOT IN ('MetricReported', 'LogWritten', 'Tick',
    'WaitSuggested') OR seq IN (SELECT MAX(seq) FROM events WHERE kind = 'MetricReported'
    GROUP BY trial, attempt) OR seq IN (SELECT MIN(seq) FROM events WHERE kind = 'MetricReported'
    GROUP BY trial, attempt) OR seq = (SELECT MAX(seq) FROM events) ORDER BY seq
"""  # noqa: S608 - a constant
_NO_LIMIT = 2**62


_CHECKPOINT = 8000
"""Pages of 4 kB in the write-ahead log before it is merged: each merge waits for the disk."""


class SqliteLog:
    """An ``EventLog`` in a file; use ``create``, ``open`` or ``in_memory``.

    One thread at a time may use it, not always the same one.  A context manager: leaving it
    closes it.
    """

    def __init__(
        self, connection: sqlite3.Connection, path: Path | None, lock: WriterLock | None
    ) -> None:
        self._connection = connection
        self._insert = connection.cursor().execute
        self._path = path
        self._lock = lock
        self._writable = path is None or lock is not None
        self._failure = ""
        self._length = self._committed = _length(connection)

    @classmethod
    def create(cls, path: Path) -> Self:
        """Start the log of a new run, readable by its owner alone.

        Raises:
            RunError: The file exists already, or cannot be written.
        """
        path = Path(os.path.abspath(path))  # noqa: PTH100 - links stay links
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            msg = f"the event log {path} exists already. Give the new run a folder of its own."
            raise RunError(msg) from None
        except OSError as error:
            msg = f"the event log {path} cannot be created: {error.strerror}."
            raise RunError(msg) from error
        return cls._open_writable(path, new=True)

    @classmethod
    def open(cls, path: Path, *, writable: bool = False) -> Self:
        """Open an existing log, also while its run is on or after its driver was killed.

        Raises:
            RunError: There is no such log, it is damaged or of a newer version, or it is to be
                written and another process writes it.
        """
        path = Path(os.path.abspath(path))  # noqa: PTH100 - links stay links
        if not path.is_file():
            msg = f"there is no event log at {path}. `maggy ls` lists the runs of a folder."
            raise RunError(msg)
        if writable:
            return cls._open_writable(path, new=False)
        with _explained(path, "read"):
            return cls(_connect_reader(path), path, None)

    @classmethod
    def in_memory(cls) -> Self:
        """A log that lives and dies with this object."""
        connection = _connect("file::memory:")
        _create_schema(connection)
        return cls(connection, None, None)

    @classmethod
    def _open_writable(cls, path: Path, *, new: bool) -> Self:
        lock = WriterLock(_lock_path(path))
        try:
            with _explained(path, "written"):
                connection = _connect(f"{path.as_uri()}?mode=rw")
                with _closed_on_error(connection):
                    if not new:
                        _check_schema(connection, path)
                    _choose_journal(connection, path)
                    if new:
                        _create_schema(connection)
                    return cls(connection, path, lock)
        except BaseException:
            lock.release()
            raise

    def __len__(self) -> int:
        """How many events have been appended; a reader counts those committed when it opened."""
        return self._length

    def append(self, event: Event) -> None:
        """Add an event; it is on its way to the disk, and safe after ``commit``.

        Raises:
            RunError: It cannot be written.  What was committed stays; after an error of the disk
                the log takes no more events, so that it never has gaps.
        """
        self._check_writable()
        row = encode(event)
        seq = self._length
        try:
            if not self._connection.in_transaction:
                self._insert("BEGIN IMMEDIATE")
            self._insert(_INSERT, (seq, *row, checksum(seq, row)))
        except OverflowError as error:
            msg = f"a number is too large for the event log: {event!r:.300}"
            raise RunError(msg) from error
        except sqlite3.Error as error:
            raise self._failed(error) from error
        self._length = seq + 1

    def commit(self) -> None:
        """Make everything appended so far survive the death of this process.

        Raises:
            RunError: The disk is full or broken; what was committed before stays.
        """
        if not self._connection.in_transaction:
            return
        try:
            self._insert("COMMIT")
        except sqlite3.Error as error:
            raise self._failed(error) from error
        self._committed = self._length

    def read(self, start: int = 0) -> Iterator[Event]:
        """The committed events from number ``start``, in order, up to the newest one.

        Raises:
            RunError: An event is damaged, missing, or of a kind that this version does not know.
        """
        end = self._committed if self._writable else _NO_LIMIT
        expected = start
        while True:
            rows = self._fetch(_SELECT, (expected, end, _BATCH))
            for row in rows:
                if row[0] != expected:
                    msg = f"event {expected} of {self._place} is missing."
                    raise RunError(msg)
                yield self._decode(row)
                expected += 1
            if len(rows) < _BATCH:
                return

    def outline(self) -> Iterator[Event]:
        """The committed events but for ticks, log lines, and most reports of each attempt.

        They give every number of a ``Summary`` except curves, at a fraction of the time.  The
        very last event is always among them.

        Raises:
            RunError: As in ``read``.
        """
        for row in self._fetch(_OUTLINE, ()):
            yield self._decode(row)

    def close(self) -> None:
        """Commit and let the file go; it becomes one plain file again unless somebody reads it."""
        if self._lock is None:
            self._connection.close()
            self._failure = self._failure or "it is closed"
            return
        try:
            if not self._failure:
                self.commit()
                with contextlib.suppress(sqlite3.OperationalError):  # somebody reads: it stays WAL
                    self._connection.execute("PRAGMA busy_timeout = 0")
                    self._connection.execute("PRAGMA journal_mode = DELETE")
        finally:
            self._connection.close()
            self._lock.release()
            self._lock = None
            self._failure = self._failure or "it is closed"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _place(self) -> str:
        return str(self._path or "the event log in memory")

    def _check_writable(self) -> None:
        if not self._writable:
            msg = f"{self._place} was opened for reading. Use SqliteLog.open(path, writable=True)."
            raise RunError(msg)
        if self._failure:
            msg = f"{self._place} takes no more events: {self._failure}."
            raise RunError(msg)

    def _failed(self, error: sqlite3.Error) -> RunError:
        """Give up what was not committed, for good."""
        self._failure = str(error)
        with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back by itself
            self._connection.rollback()
        self._length = self._committed
        return RunError(
            f"{self._place} cannot be written: {error}. Its first {self._committed} events are "
            f"safe. Make room or repair the disk, then load the run."
        )

    def _fetch(self, query: str, arguments: tuple[int, ...]) -> list[tuple[Any, ...]]:
        with _explained(self._path, "read"):
            return self._connection.execute(query, arguments).fetchall()

    def _decode(self, stored: tuple[Any, ...]) -> Event:
        seq, row, crc = stored[0], stored[1:-1], stored[-1]
        if checksum(seq, row) != crc:
            msg = (
                f"event {seq} of {self._place} is damaged: its checksum is wrong. "
                f"The {seq} events before it can still be read."
            )
            raise RunError(msg)
        return decode(row, self._written_by)

    def _written_by(self) -> str:
        """The version of maggy that began this log."""
        rows = self._fetch("SELECT json_extract(body, '$.version') FROM events WHERE seq = 0", ())
        return str(rows[0][0]) if rows else "unknown"


def is_live(path: Path) -> bool:
    """Whether a process is writing the log at ``path`` right now; disturbs nobody."""
    return is_written(_lock_path(path))


def _lock_path(path: Path) -> Path:
    return path.with_suffix(".lock")


def _connect(uri: str) -> sqlite3.Connection:
    return sqlite3.connect(
        uri, uri=True, timeout=_BUSY, isolation_level=None, check_same_thread=False
    )


def _connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that changes nothing.

    It is opened for writing where possible: a killed writer may have left changes that SQLite has
    to fold in first.  ``immutable`` helps where the folder is read-only and nothing was left.
    """
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        modes = ["mode=rw"]
    elif path.with_name(f"{path.name}-wal").exists():
        modes = ["mode=ro"]
    else:
        modes = ["mode=ro", "mode=ro&immutable=1"]
    for mode in modes[:-1]:
        with contextlib.suppress(sqlite3.OperationalError):  # the next mode tells
            return _connect_reader_as(path, mode)
    return _connect_reader_as(path, modes[-1])


def _connect_reader_as(path: Path, mode: str) -> sqlite3.Connection:
    connection = _connect(f"{path.as_uri()}?{mode}")
    with _closed_on_error(connection):
        connection.execute("PRAGMA query_only = ON")
        _check_schema(connection, path)
    return connection


def _create_schema(connection: sqlite3.Connection) -> None:
    strict = " STRICT" if sqlite3.sqlite_version_info >= (3, 37) else ""
    connection.execute("BEGIN")
    connection.execute(EVENTS + strict)
    for view in VIEWS:
        connection.execute(view)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        msg = f"{path} is no event log of maggy. Give the folder of a run, or its run.sqlite."
        raise RunError(msg)
    if schema > SCHEMA_VERSION:
        from importlib.metadata import version  # slow to load, rarely needed

        msg = (
            f"{path} has version {schema} of the event log, but maggy {version('maggy')} knows "
            f"versions up to {SCHEMA_VERSION}. Open it with a newer maggy."
        )
        raise RunError(msg)


def _choose_journal(connection: sqlite3.Connection, path: Path) -> None:
    journal = "TRUNCATE" if is_network(path) else "WAL"
    connection.execute(f"PRAGMA journal_mode = {journal}").fetchone()
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT}")


def _length(connection: sqlite3.Connection) -> int:
    (last,) = connection.execute("SELECT MAX(seq) FROM events").fetchone()
    return 0 if last is None else int(last) + 1


@contextlib.contextmanager
def _explained(path: Path | None, verb: str) -> Iterator[None]:
    """Turn SQLite's errors into a ``RunError`` that names the file."""
    try:
        yield
    except sqlite3.Error as error:
        msg = f"the event log {path or 'in memory'} cannot be {verb}: {error}. {_hint(error)}"
        raise RunError(msg) from error


def _hint(error: sqlite3.Error) -> str:
    if "locked" in str(error):
        return "Another program holds it; close that one and try again."
    if "unable to open" in str(error) or "readonly" in str(error):
        return "Copy the run's folder to a place that you may write, and open it there."
    if isinstance(error, sqlite3.OperationalError):
        return "Look for room and errors on its disk."
    return "It is damaged: restore it from a backup, or salvage it with `sqlite3 FILE .recover`."


@contextlib.contextmanager
def _closed_on_error(connection: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.close()
        raise
