"""Unit tests of ``maggy.views.follow``."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from maggy.errors import RunError
from maggy.store.folder import RunFolder, create_run
from maggy.store.sqlite import SqliteLog
from maggy.testing.stores import story
from maggy.views.follow import Follower, state_json
from maggy.views.result import load_result

if TYPE_CHECKING:
    from pathlib import Path

    from maggy.events import Event


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def add(log: SqliteLog, *events: Event) -> None:
    """Let these things happen."""
    for event in events:
        log.append(event)
    log.commit()


@pytest.fixture
def place(tmp_path: Path) -> RunFolder:
    """The folder of a run."""
    return create_run(tmp_path, "live", now=datetime.now(UTC))


def test_each_event_is_told_once(place: RunFolder) -> None:
    """In order, whenever one asks; the summary is that of the whole run."""
    events = story()
    told: list[Event] = []
    clock = Clock()
    follower = Follower(place, clock, clock)
    with SqliteLog.create(place.database) as log:
        for start in range(0, len(events), 7):
            add(log, *events[start : start + 7])
            told += follower.poll()
            assert follower.poll() == []
    assert told == events
    assert follower.over
    assert follower.summary.standing.best == (3, 0.875)
    assert load_result(place.path)["best_val"] == 0.875


def test_a_live_run_is_not_over_and_a_killed_one_is(place: RunFolder) -> None:
    """As long as a driver is there more may come."""
    clock = Clock()
    follower = Follower(place, clock, clock)
    with SqliteLog.create(place.database) as log:
        add(log, *story()[:8])
        follower.poll()
        assert (follower.over, follower.unfinished) == (False, "running")
    follower.poll()
    assert (follower.over, follower.unfinished) == (True, "killed")


def test_the_log_is_left_as_it_was(place: RunFolder) -> None:
    """Following keeps no file open: the writer ends with one plain file."""
    clock = Clock()
    with SqliteLog.create(place.database) as log:
        add(log, *story())
        Follower(place, clock, clock).poll()
    assert [path.name for path in place.path.iterdir() if path.suffix.startswith(".sqlite")] == [
        "run.sqlite"
    ]
    assert not list(place.path.glob("*-wal"))


def test_time_goes_on_between_events(place: RunFolder) -> None:
    """From the age of the log when it was first read, and from each event on."""
    clock, wall = Clock(), Clock()
    follower = Follower(place, clock, wall)
    assert follower.now() == 0.0
    with SqliteLog.create(place.database) as log:
        add(log, *story()[:8])
        for path in place.path.glob("run.sqlite*"):
            os.utime(path, (wall.now - 30.0, wall.now - 30.0))
        follower.poll()
        assert follower.now() == pytest.approx(1.0 + 30.0)
        clock.now += 2.0
        assert follower.now() == pytest.approx(1.0 + 32.0)
        add(log, story()[8])
        follower.poll()
        assert follower.now() == pytest.approx(1.5)
        clock.now += 2.0
        assert follower.now() == pytest.approx(3.5)
        add(log, *story()[9:])
    follower.poll()
    clock.now += 100.0
    assert follower.now() == 6.5


def test_a_damaged_log_is_an_error(place: RunFolder) -> None:
    """It never looks like a run that waits."""
    with SqliteLog.create(place.database) as log:
        add(log, *story())
    place.database.write_bytes(place.database.read_bytes()[:5000])
    clock = Clock()
    with pytest.raises(RunError):
        Follower(place, clock, clock).poll()


def test_the_state_for_programs(place: RunFolder) -> None:
    """What the display shows, as JSON."""
    clock = Clock()
    follower = Follower(place, clock, clock)
    with SqliteLog.create(place.database) as log:
        add(log, *story()[:-3])
        follower.poll()
        state = state_json(follower.summary, 6.25, follower.unfinished)
    assert state.pop("time_left") == pytest.approx(0.75, abs=2)
    assert state == {
        "name": "story",
        "outcome": "running",
        "at": 6.25,
        "num_trials": 6,
        "ended": 4,
        "running": 1,
        "completed": 2,
        "early_stopped": 1,
        "failed": 1,
        "best_id": 3,
        "best_val": 0.875,
        "best_hp": {"lr": 0.4, "units": 16, "shape": (2,)},
        "workers": 2,
        "utilisation": pytest.approx(0.846, abs=0.001),
    }
