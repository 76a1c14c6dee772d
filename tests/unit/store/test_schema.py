"""Unit tests of ``maggy.store.schema``: what people query with SQL."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from maggy.events import (
    ExperimentFinished,
    MetricReported,
    StopDecided,
    Suggested,
    TrialFailed,
    TrialFinished,
    TrialStarted,
    TrialStopped,
    WorkerJoined,
    WorkerLost,
)
from maggy.store.sqlite import SqliteLog
from maggy.testing.stores import story
from maggy.trial import TrialError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from maggy.events import Event


def query(log: SqliteLog, sql: str) -> list[tuple[Any, ...]]:
    """Rows of a query on a log."""
    return log._connection.execute(sql).fetchall()


@pytest.fixture
def log() -> Iterator[SqliteLog]:
    """An empty log in memory."""
    with SqliteLog.in_memory() as log:
        yield log


def fill(log: SqliteLog, events: Iterable[Event]) -> None:
    """Append and commit."""
    for event in events:
        log.append(event)
    log.commit()


def started(
    trial: int, attempt: int = 0, at: float = 0.0, budget: int | None = None
) -> list[Event]:
    """Trial ``trial`` is suggested, if new, and given to a worker of its own name."""
    run = TrialStarted(at=at, trial=trial, attempt=attempt, worker=f"w{trial}.{attempt}")
    new = Suggested(at=at, trial=trial, hparams={"x": trial}, budget=budget)
    return [run] if attempt else [new, run]


def test_trials_of_the_story(path_of_story: Path) -> None:
    """Every column of every trial, read by a plain SQLite client."""
    with closing(sqlite3.connect(path_of_story)) as connection:
        cursor = connection.execute("SELECT * FROM trials")
        names = [column[0] for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor]
    assert [row["id"] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert [row["status"] for row in rows] == [
        *("completed", "failed", "stopped", "completed", "interrupted", "pending")
    ]
    assert [row["value"] for row in rows] == [0.625, None, 0.125, 0.875, None, None]
    assert [row["budget"] for row in rows] == [None, None, None, 3, None, None]
    assert [row["attempts"] for row in rows] == [1, 1, 1, 2, 1, 0]
    assert [row["worker"] for row in rows] == ["w0", "w1", "w0", "w0", "w2", None]
    assert [row["started"] for row in rows] == [0.5, 0.5, 2.5, 2.5, 4.0, None]
    assert [row["ended"] for row in rows] == [2.5, 1.5, 3.5, 5.5, None, None]
    assert [row["duration"] for row in rows] == [2.0, 1.0, 1.0, 3.0, 2.5, None]
    assert rows[2]["stop_reason"] == "0.1 at step 1 is below the median 0.55 of 1 trial"
    assert [row["error"] for row in rows if row["error"]] == ["ValueError: no such unit"]
    assert json.loads(rows[0]["hparams"]) == {"lr": 0.1, "units": 32, "shape": [3, [4, 5]]}


@pytest.fixture
def path_of_story(tmp_path: Path) -> Path:
    """A finished log that holds the story."""
    path = tmp_path / "run.sqlite"
    with SqliteLog.create(path) as log:
        fill(log, story())
    return path


def test_metrics_of_the_story(path_of_story: Path) -> None:
    """The second run of trial 3 replaces the report of its first."""
    with closing(sqlite3.connect(path_of_story)) as connection:
        rows = connection.execute("SELECT * FROM metrics").fetchall()
    assert rows == [
        (0, 0, 0, 0.5, 1.0, None),
        (0, 0, 1, 0.6, 1.5, '{"loss":1.25}'),
        (2, 0, 0, 0.25, 3.0, None),
        (2, 0, 1, 0.125, 3.5, None),
        (3, 1, 0, 0.75, 4.5, None),
    ]


def test_pandas_reads_the_views(path_of_story: Path) -> None:
    """``pandas.read_sql`` gives typed columns."""
    pandas = pytest.importorskip("pandas")
    with closing(sqlite3.connect(path_of_story)) as connection:
        trials = pandas.read_sql("SELECT * FROM trials", connection)
        metrics = pandas.read_sql("SELECT * FROM metrics", connection)
    assert trials.query("status == 'completed'")["value"].max() == 0.875
    assert metrics.groupby("trial")["value"].last().to_dict() == {0: 0.6, 2: 0.125, 3: 0.75}


def test_a_live_run(log: SqliteLog) -> None:
    """While the run is on, its trials are running, stopping or pending."""
    fill(log, [*started(0), *started(1), Suggested(at=1.0, trial=2, hparams={})])
    fill(log, [StopDecided(at=1.0, trial=1, attempt=0, reason="hopeless")])
    rows = query(log, "SELECT status, stop_reason, ended, duration FROM trials")
    assert rows == [
        ("running", None, None, None),
        ("stopping", "hopeless", None, None),
        ("pending", None, None, None),
    ]


def test_a_resumed_checkpoint_keeps_the_steps_before_it(log: SqliteLog) -> None:
    """A new attempt voids earlier points only from its first step on."""
    fill(log, started(0))
    fill(log, [MetricReported(at=1.0, trial=0, attempt=0, step=s, value=0.1) for s in range(4)])
    fill(log, [WorkerLost(at=2.0, worker="w0.0", reason="gone"), *started(0, 1, at=3.0)])
    fill(log, [MetricReported(at=4.0, trial=0, attempt=1, step=s, value=0.2) for s in (2, 3)])
    rows = query(log, "SELECT step, attempt FROM metrics")
    assert rows == [(0, 0), (1, 0), (2, 1), (3, 1)]


def test_late_messages_do_not_count(log: SqliteLog) -> None:
    """What arrives of an attempt after its worker was lost changes nothing."""
    lost = WorkerLost(at=2.0, worker="w0.0", reason="gone")
    late = TrialFinished(at=2.5, trial=0, attempt=0, value=9.0)
    fill(log, [*started(0), lost, late])
    assert query(log, "SELECT status, value, duration FROM trials") == [("pending", None, 2.0)]
    fill(log, [*started(0, 1, at=3.0), TrialFinished(at=5.0, trial=0, attempt=1, value=1.0)])
    rows = query(log, "SELECT status, value, duration, attempts, worker FROM trials")
    assert rows == [("completed", 1.0, 4.0, 2, "w0.1")]


def test_a_trial_given_up(log: SqliteLog) -> None:
    """A trial that lost too many workers is failed, with its error."""
    error = TrialError(type="WorkerLost", message="3 times")
    fill(log, [*started(0), WorkerLost(at=2.0, worker="w0.0", reason="gone")])
    fill(log, [TrialFailed(at=2.0, trial=0, attempt=1, error=error)])
    rows = query(log, "SELECT status, error, ended, duration FROM trials")
    assert rows == [("failed", "WorkerLost: 3 times", 2.0, 2.0)]


def test_a_worker_lost_while_stopping(log: SqliteLog) -> None:
    """A trial that was told to stop and lost its worker is stopped, at its last value."""
    fill(log, started(0))
    fill(log, [MetricReported(at=1.0, trial=0, attempt=0, step=0, value=0.5)])
    fill(log, [StopDecided(at=1.0, trial=0, attempt=0, reason="hopeless")])
    fill(log, [WorkerLost(at=2.0, worker="w0.0", reason="gone")])
    rows = query(log, "SELECT status, value, stop_reason, ended FROM trials")
    assert rows == [("stopped", 0.5, "hopeless", 2.0)]


def test_an_interruption_is_no_early_stop(log: SqliteLog) -> None:
    """A trial that left without being told is pending, and interrupted when the run is over."""
    fill(log, [*started(0), TrialStopped(at=1.0, trial=0, attempt=0)])
    assert query(log, "SELECT status, ended FROM trials") == [("pending", None)]
    fill(log, [ExperimentFinished(at=2.0, outcome="interrupted")])
    assert query(log, "SELECT status, ended FROM trials") == [("interrupted", None)]
    fill(log, started(0, 1, at=3.0))
    assert query(log, "SELECT status, ended FROM trials") == [("running", None)]


def test_a_promotion(log: SqliteLog) -> None:
    """A trial suggested again keeps budget and value until its next run has completed."""
    fill(log, [WorkerJoined(at=0.0, worker="w0.0"), *started(0, budget=3)])
    fill(log, [TrialFinished(at=1.0, trial=0, attempt=0, value=0.5)])
    fill(log, [Suggested(at=1.0, trial=0, hparams={"x": 0}, budget=9)])
    rows = query(log, "SELECT status, value, budget FROM trials")
    assert rows == [("pending", 0.5, 3)]
    fill(log, [*started(0, 1, at=2.0), TrialFinished(at=4.0, trial=0, attempt=1, value=0.75)])
    rows = query(log, "SELECT status, value, budget, attempts, duration FROM trials")
    assert rows == [("completed", 0.75, 9, 2, 3.0)]


def test_values_are_typed(log: SqliteLog) -> None:
    """The table refuses text where a number belongs, where SQLite can."""
    if sqlite3.sqlite_version_info < (3, 37):
        pytest.skip("this SQLite has no STRICT tables")
    with pytest.raises(sqlite3.IntegrityError, match="cannot store TEXT value in REAL column"):
        query(log, "INSERT INTO events (seq, at, kind, crc) VALUES (0, 'now', 'Tick', 0)")
