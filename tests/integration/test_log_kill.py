"""A writer that is killed at any moment leaves a log that holds everything committed."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import textwrap
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from maggy.errors import RunError
from maggy.events import LogWritten, Tick
from maggy.store import sqlite as module
from maggy.store.sqlite import SqliteLog, is_live

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

WRITER = """
    import sys
    from pathlib import Path
    from maggy.events import LogWritten
    from maggy.store import sqlite
    from maggy.store.sqlite import SqliteLog

    path, network = Path(sys.argv[1]), sys.argv[2] == "network"
    sqlite.is_network = lambda _: network
    log = SqliteLog.open(path, writable=True) if path.exists() else SqliteLog.create(path)
    count = len(log)
    while True:
        for _ in range(count % 5 + 1):
            text = "x" * (count % 900)
            log.append(LogWritten(at=float(count), trial=count, attempt=0, text=text))
            count += 1
        log.commit()
        sys.stdout.write(f"{count}\\n")
        sys.stdout.flush()
"""


def start_writer(path: Path, kind: str) -> subprocess.Popen[str]:
    """A process that appends and commits without end, and tells each commit."""
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(path), kind]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def kill_after(writer: subprocess.Popen[str], commits: int, delay: float) -> int:
    """Kill it some time after so many commits; how many events it surely committed."""
    assert writer.stdout is not None
    told = 0
    for _ in range(commits):
        told = int(writer.stdout.readline())
    deadline = time.monotonic() + delay
    while time.monotonic() < deadline:  # keep its pipe empty, so that it goes on writing
        told = int(writer.stdout.readline())
    writer.kill()
    rest = writer.stdout.read().split("\n")
    writer.stdout.close()
    writer.wait()
    complete = [int(line) for line in rest[:-1]]
    return complete[-1] if complete else told


def check(events: list[Any], committed: int) -> None:
    """Nothing that was committed is missing, nothing is damaged, nothing is made up."""
    assert len(events) >= committed
    expected = [
        LogWritten(at=float(i), trial=i, attempt=0, text="x" * (i % 900))
        for i in range(len(events))
    ]
    assert events == expected


@pytest.mark.parametrize("kind", ["local", "network"])
def test_a_killed_writer_loses_nothing_that_was_committed(tmp_path: Path, kind: str) -> None:
    """Killed again and again at random moments and continued, the log is always whole."""
    rng = random.Random(2026)
    path = tmp_path / "run.sqlite"
    for _ in range(6):
        writer = start_writer(path, kind)
        committed = kill_after(writer, rng.randint(1, 30), rng.uniform(0.0, 0.1))
        assert not is_live(path)
        with SqliteLog.open(path) as log:
            check(list(log.read()), committed)
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """A writer at work."""
    path = tmp_path / "run.sqlite"
    writer = start_writer(path, "local")
    assert writer.stdout is not None
    writer.stdout.readline()
    yield path, writer
    writer.kill()
    writer.stdout.close()
    writer.wait()


def test_others_read_while_a_process_writes(live: tuple[Path, subprocess.Popen[str]]) -> None:
    """Readers in other processes see every commit that they were told of, and stay in order."""
    path, writer = live
    assert writer.stdout is not None
    seen: list[Any] = []
    with SqliteLog.open(path) as log:
        for _ in range(100):
            told = int(writer.stdout.readline())
            seen += log.read(len(seen))
            assert len(seen) >= told
    check(seen, 100)
    assert writer.poll() is None


def test_a_second_process_may_not_write(
    live: tuple[Path, subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told which process writes; after that one was killed, it may."""
    path, writer = live
    monkeypatch.setattr("maggy.store.filesystem._PATIENCE", 0.0)
    assert is_live(path)
    with pytest.raises(RunError, match=rf"written by process {writer.pid} on "):
        SqliteLog.open(path, writable=True)
    writer.kill()
    writer.wait()
    with SqliteLog.open(path, writable=True) as log:
        count = len(log)
        log.append(Tick(at=0.0))
        log.commit()
        assert list(log.read(count)) == [Tick(at=0.0)]


def test_a_dead_writers_log_can_be_read_in_small_batches(
    live: tuple[Path, subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a killed writer left in the write-ahead log is read in any number of steps."""
    path, writer = live
    monkeypatch.setattr(module, "_BATCH", 2)
    writer.kill()
    writer.wait()
    assert path.with_name("run.sqlite-wal").exists()
    with SqliteLog.open(path) as log:
        check(list(log.read()), 1)
