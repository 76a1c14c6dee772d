"""Unit tests of ``maggy.store.sqlite``."""

from __future__ import annotations

import os
import resource
import sqlite3
import stat
import subprocess
import sys
import tempfile
import textwrap
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from maggy.errors import RunError
from maggy.events import ExperimentStarted, LogWritten, MetricReported, Tick
from maggy.store import sqlite as module
from maggy.store.codec import checksum
from maggy.store.sqlite import SqliteLog, is_live
from maggy.testing.stores import EventLogContract, story

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from maggy.contracts import EventLog
    from maggy.store.codec import Row


class TestFileLog(EventLogContract):
    """A log in a file does what every event log must do."""

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> Iterator[None]:
        """Keep the test's folder, and close what it opened."""
        self.path = tmp_path / "run.sqlite"
        self.opened: list[SqliteLog] = []
        yield
        for log in self.opened:
            log.close()

    def make_log(self) -> EventLog:
        self.opened.append(SqliteLog.create(self.path))
        return self.opened[-1]

    def reopen(self, log: EventLog) -> EventLog:
        self.opened.append(SqliteLog.open(self.path))
        return self.opened[-1]


class TestMemoryLog(EventLogContract):
    """A log in memory does what every event log must do."""

    @pytest.fixture(autouse=True)
    def keep(self) -> Iterator[None]:
        """Close what the test opened."""
        self.opened: list[SqliteLog] = []
        yield
        for log in self.opened:
            log.close()

    def make_log(self) -> EventLog:
        self.opened.append(SqliteLog.in_memory())
        return self.opened[-1]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the test's log goes."""
    return tmp_path / "run.sqlite"


def write_story(path: Path) -> int:
    """A finished log at ``path``; how many events it holds."""
    with SqliteLog.create(path) as log:
        for event in story():
            log.append(event)
    return len(story())


def test_the_file_belongs_to_its_owner_alone(path: Path) -> None:
    """Nobody else can read hyperparameters and errors, nor the write-ahead log."""
    with SqliteLog.create(path) as log:
        log.append(Tick(at=0.0))
        log.commit()
        files = [file for file in path.parent.iterdir() if file.is_file()]
        assert {file.name for file in files} >= {"run.sqlite", "run.sqlite-wal", "run.lock"}
        for file in files:
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_create_never_overwrites(path: Path) -> None:
    """A log that exists is not touched."""
    write_story(path)
    with pytest.raises(RunError, match="exists already"):
        SqliteLog.create(path)
    with SqliteLog.open(path) as log:
        assert list(log.read()) == story()


def test_create_needs_a_folder(tmp_path: Path) -> None:
    """A missing folder is an error that names the file."""
    with pytest.raises(RunError, match=r"gone/run\.sqlite cannot be created: No such file"):
        SqliteLog.create(tmp_path / "gone" / "run.sqlite")


def test_a_closed_log_is_one_plain_file(path: Path) -> None:
    """After a clean end no write-ahead log is left, so the file can be copied alone."""
    write_story(path)
    assert sorted(file.name for file in path.parent.iterdir()) == ["run.lock", "run.sqlite"]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_closing_while_somebody_reads(path: Path) -> None:
    """A reader does not keep the writer from closing, nor loses anything by it."""
    log = SqliteLog.create(path)
    log.append(Tick(at=0.0))
    log.commit()
    with SqliteLog.open(path) as reader:
        assert len(list(reader.read())) == 1
        log.append(Tick(at=1.0))
        log.close()
        assert len(list(reader.read())) == 2


def test_close_commits_and_is_final(path: Path) -> None:
    """What was appended is kept; afterwards the log refuses, and closing again is harmless."""
    log = SqliteLog.create(path)
    log.append(Tick(at=0.0))
    log.close()
    log.close()
    with pytest.raises(RunError, match="it is closed"):
        log.append(Tick(at=1.0))
    with SqliteLog.open(path) as reader:
        assert list(reader.read()) == [Tick(at=0.0)]


def test_a_reader_cannot_write(path: Path) -> None:
    """Neither through the log nor through its connection."""
    write_story(path)
    with SqliteLog.open(path) as log:
        with pytest.raises(RunError, match="opened for reading"):
            log.append(Tick(at=0.0))
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            log._connection.execute("DELETE FROM events")
        log.commit()


def test_a_run_can_be_continued(path: Path) -> None:
    """Opened for writing, a log goes on counting where it ended."""
    count = write_story(path)
    with SqliteLog.open(path, writable=True) as log:
        assert len(log) == count
        log.append(Tick(at=9.0))
    with SqliteLog.open(path) as log:
        assert list(log.read(count)) == [Tick(at=9.0)]
        assert len(log) == count + 1


def test_only_one_writer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second writer is refused with the first one's process id; after its end there is none."""
    monkeypatch.setattr("maggy.store.filesystem._PATIENCE", 0.0)
    with SqliteLog.create(path):
        assert is_live(path)
        with pytest.raises(RunError, match=f"written by process {os.getpid()} on "):
            SqliteLog.open(path, writable=True)
        assert is_live(path)
    assert not is_live(path)
    SqliteLog.open(path, writable=True).close()


def test_a_reader_follows_a_writer(path: Path) -> None:
    """A reader sees each commit, in any order of opening, and never blocks the writer."""
    with SqliteLog.create(path) as log, SqliteLog.open(path) as reader:
        seen = 0
        for i in range(50):
            log.append(Tick(at=float(i)))
            log.commit()
            seen += len(list(reader.read(seen)))
            assert seen == i + 1


def test_a_slow_reader_does_not_block(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A half-read iterator holds no lock: the writer commits, the reader goes on to the end."""
    monkeypatch.setattr(module, "_BATCH", 3)
    with SqliteLog.create(path) as log, SqliteLog.open(path) as reader:
        for i in range(10):
            log.append(Tick(at=float(i)))
        log.commit()
        events = reader.read()
        first = [next(events) for _ in range(4)]
        log.append(Tick(at=10.0))
        log.commit()
        (busy, _, _) = log._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        assert busy == 0
        assert [*first, *events] == [Tick(at=float(i)) for i in range(11)]


def test_the_outline_leaves_out_reports(path: Path) -> None:
    """It keeps first and last report of each attempt, and all that is no report or log line."""
    write_story(path)
    with SqliteLog.open(path) as log:
        outline = list(log.outline())
    kept = [event for event in outline if isinstance(event, MetricReported)]
    assert [(event.trial, event.attempt, event.value) for event in kept] == [
        (0, 0, 0.5),
        (0, 0, 0.6),
        (2, 0, 0.25),
        (3, 0, 0.5),
        (2, 0, 0.125),
        (3, 1, 0.75),
    ]
    silent = ("MetricReported", "LogWritten", "Tick", "WaitSuggested")
    rest = [event for event in story() if type(event).__name__ not in silent]
    assert [event for event in outline if not isinstance(event, MetricReported)] == rest


# Damage


def flip(path: Path, column: str, seq: int, value: object) -> None:
    """Change one value behind the log's back."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE events SET {column} = ? WHERE seq = ?", (value, seq))


@pytest.mark.parametrize(
    ("column", "value"), [("value", 0.75), ("at", 3.0), ("step", 9), ("kind", "Tick"), ("crc", 1)]
)
def test_a_changed_value_is_found(path: Path, column: str, value: object) -> None:
    """The checksum tells of any changed column, and what came before can still be read."""
    write_story(path)
    flip(path, column, 7, value)
    with SqliteLog.open(path) as log:
        events = log.read()
        assert [next(events) for _ in range(7)] == story()[:7]
        with pytest.raises(RunError, match=r"event 7 of .*run\.sqlite is damaged"):
            next(events)


def test_every_flipped_byte_is_found_or_harmless(path: Path) -> None:
    """Whatever byte of a text rots on the disk, the log never gives back a wrong event."""
    text = "the quick brown fox" * 20
    with SqliteLog.create(path) as log:
        log.append(ExperimentStarted(at=0.0, config={}))
        log.append(LogWritten(at=0.0, trial=0, attempt=0, text=text))
    raw = bytearray(path.read_bytes())
    start = raw.index(text.encode())
    for offset in range(-12, len(text), 7):
        damaged = bytearray(raw)
        damaged[start + offset] ^= 0x11
        path.write_bytes(bytes(damaged))
        with pytest.raises(RunError), SqliteLog.open(path) as log:
            list(log.read())


def test_a_missing_event_is_found(path: Path) -> None:
    """A gap in the numbers is an error, not a shorter log."""
    write_story(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM events WHERE seq = 4")
    with SqliteLog.open(path) as log, pytest.raises(RunError, match=r"event 4 of .* is missing"):
        list(log.read())


def test_a_kind_from_the_future_names_the_version(path: Path) -> None:
    """A log with an event that this version does not know says who wrote it."""
    write_story(path)
    row: Row = (1.0, "TrialCloned", None, None, None, None, None, None, None, None)
    seq = len(story())
    with closing(sqlite3.connect(path)) as connection, connection:
        stored = (seq, *row, checksum(seq, row))
        connection.execute(module._INSERT, stored)
    with SqliteLog.open(path) as log, pytest.raises(RunError, match=r"written by maggy 2\.0\.0"):
        list(log.read())


def test_a_newer_schema_is_refused(path: Path) -> None:
    """A log of a later layout names both versions."""
    write_story(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 7")
    with pytest.raises(RunError, match=r"version 7 of the event log.*up to 1"):
        SqliteLog.open(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no event log of maggy"),
        (b"hello, world" * 100, "not a database"),
        (None, "there is no event log at"),
    ],
)
def test_what_is_no_log_is_refused(path: Path, content: bytes | None, message: str) -> None:
    """An empty file, any other file and a missing one are errors; nothing is made or changed."""
    if content is not None:
        path.write_bytes(content)
    for writable in (False, True):
        with pytest.raises(RunError, match=message):
            SqliteLog.open(path, writable=writable)
    assert (path.read_bytes() if path.exists() else None) == content
    assert not is_live(path)


def test_another_database_is_left_alone(path: Path) -> None:
    """Somebody's own SQLite file is not turned into a log."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE events (x)")
    before = path.read_bytes()
    for writable in (False, True):
        with pytest.raises(RunError, match="no event log of maggy"):
            SqliteLog.open(path, writable=writable)
    assert path.read_bytes() == before


# A full disk


def fill(log: SqliteLog, commit_every: int) -> int:
    """Append until it fails; how many events had been committed."""
    committed = 0
    text = "x" * 1000
    with pytest.raises(RunError, match=r"cannot be written: .*events are safe"):  # noqa: PT012
        for i in range(5000):
            log.append(LogWritten(at=float(i), trial=0, attempt=0, text=text))
            if i % commit_every == commit_every - 1:
                log.commit()
                committed = i + 1
    return committed


@pytest.mark.parametrize("commit_every", [1, 7, 300])
def test_a_full_disk_keeps_what_was_committed(path: Path, commit_every: int) -> None:
    """When the database may not grow, the error is clear, later appends say the same, no gaps."""
    with SqliteLog.create(path) as log:
        log._connection.execute("PRAGMA max_page_count = 150")
        committed = fill(log, commit_every)
        assert len(log) == committed
        for _ in range(2):
            with pytest.raises(RunError, match="takes no more events: database or disk is full"):
                log.append(Tick(at=0.0))
        log.commit()
        assert len(list(log.read())) == committed
    with SqliteLog.open(path) as log:
        assert len(list(log.read())) == committed


def test_a_limit_on_file_size_is_like_a_full_disk(path: Path) -> None:
    """An error of the operating system while writing is told, and what was committed stays."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with SqliteLog.create(path) as log:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
        try:
            committed = fill(log, 10)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert committed > 50
    with SqliteLog.open(path) as log:
        assert len(list(log.read())) == committed


def test_too_large_a_number_is_refused_without_harm(path: Path) -> None:
    """A step beyond 64 bits is an error of that event alone."""
    with SqliteLog.create(path) as log:
        with pytest.raises(RunError, match="too large"):
            log.append(MetricReported(at=0.0, trial=0, attempt=0, step=2**64, value=0.0))
        log.append(Tick(at=1.0))
        log.commit()
        assert list(log.read()) == [Tick(at=1.0)]


# File systems


def test_network_file_systems_get_a_rollback_journal(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where memory cannot be shared, no write-ahead log is used, and all else is the same."""
    monkeypatch.setattr(module, "is_network", lambda _: True)
    with SqliteLog.create(path) as log, SqliteLog.open(path) as reader:
        for i, event in enumerate(story()):
            log.append(event)
            log.commit()
            assert len(list(reader.read(i))) == 1
        assert not path.with_name("run.sqlite-wal").exists()
        assert log._connection.execute("PRAGMA journal_mode").fetchone() == ("truncate",)
    with SqliteLog.open(path, writable=True) as log:
        assert list(log.read()) == story()


def test_local_file_systems_get_a_write_ahead_log(path: Path) -> None:
    """Commits are cheap there: no waiting for the disk."""
    with SqliteLog.create(path) as log:
        assert log._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert log._connection.execute("PRAGMA synchronous").fetchone() == (1,)


READ_AS_STRANGER = """
    import os, sys
    from pathlib import Path
    from maggy.store.sqlite import SqliteLog
    if os.geteuid() == 0:
        os.setuid(65534)
    with SqliteLog.open(Path(sys.argv[1])) as log:
        sys.stdout.write(str(len(list(log.read()))))
"""


@pytest.mark.integration
@pytest.mark.parametrize("killed", [False, True])
def test_a_read_only_folder_can_be_read(
    killed: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A run on a read-only medium opens, after a clean end and after a killed writer."""
    folder = Path(tmp_path_factory.mktemp("medium"))
    for parent in folder.parents:
        if parent == Path(tempfile.gettempdir()):
            break
        parent.chmod(parent.stat().st_mode | 0o011)  # lets the stranger through to the folder
    path = folder / "run.sqlite"
    code = "import os; log.commit(); os._exit(9)" if killed else "log.close()"
    run_python(
        f"""
        import sys
        from pathlib import Path
        from maggy.store.sqlite import SqliteLog
        from maggy.testing.stores import story
        log = SqliteLog.create(Path(sys.argv[1]))
        for event in story():
            log.append(event)
        {code}
    """,
        path,
    )
    assert path.with_name("run.sqlite-wal").exists() == killed
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)
    try:
        assert run_python(READ_AS_STRANGER, path) == str(len(story()))
    finally:
        folder.chmod(0o755)


def test_a_database_in_wal_mode_without_its_log_can_be_read_only(path: Path) -> None:
    """A copy of the database alone, from a run that was killed, opens in a read-only folder."""
    write_story(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    path.with_name("run.sqlite-wal").unlink(missing_ok=True)
    with closing(module._connect_reader_as(path, "mode=ro&immutable=1")) as reader:
        assert reader.execute("SELECT COUNT(*) FROM events").fetchone() == (len(story()),)


def run_python(code: str, *arguments: object) -> str:
    """Run a script in a process of its own and give back what it wrote."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode in (0, 9), done.stderr
    return done.stdout


def test_logs_are_independent(tmp_path: Path) -> None:
    """Two logs in one process know nothing of each other."""
    make: Callable[[str], SqliteLog] = lambda name: SqliteLog.create(tmp_path / name)  # noqa: E731
    with make("a.sqlite") as one, make("b.sqlite") as two:
        one.append(Tick(at=1.0))
        two.append(Tick(at=2.0))
        one.commit()
        two.commit()
        assert [list(log.read()) for log in (one, two)] == [[Tick(at=1.0)], [Tick(at=2.0)]]


def test_a_lock_of_another_program_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that somebody keeps locked says so, and its events are still there later."""
    write_story(path)
    monkeypatch.setattr(module, "_BUSY", 0.0)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(RunError, match=r"is locked\. Another program holds it"):
            SqliteLog.open(path)
        other.execute("ROLLBACK")
    with SqliteLog.open(path) as log:
        assert list(log.read()) == story()


def test_a_truncated_database_is_told(path: Path) -> None:
    """Half a file is damaged, and the error says how to salvage it."""
    write_story(path)
    path.write_bytes(path.read_bytes()[:5000])
    with (
        pytest.raises(RunError, match=r"malformed\. It is damaged: restore"),
        SqliteLog.open(path) as log,
    ):
        list(log.read())
