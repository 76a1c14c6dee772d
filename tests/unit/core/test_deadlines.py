"""Whose time is up, and when the next one's will be."""

from __future__ import annotations

import pytest

from maggy.core.deadlines import Deadlines
from maggy.core.losses import Sense
from maggy.trial import Trial


def deadlines(trial_timeout: float | None = None, time_limit: float | None = None) -> Deadlines:
    return Deadlines(trial_timeout=trial_timeout, time_limit=time_limit)


def test_without_limits_nothing_is_ever_due() -> None:
    """No wake-up, nobody expired, nobody killed, whoever runs for however long."""
    times = deadlines()
    times.begin("w", 1.0)
    assert times.wake_at(ending=False) is None
    assert not times.over(1e9)
    assert times.expire(1e9) == []
    assert times.kills(1e9) == []


def test_each_worker_expires_once_and_is_killed_once_after_its_grace() -> None:
    """A tenth of the limit is the grace; both moments are announced."""
    times = deadlines(trial_timeout=100.0)
    times.begin("a", 1.0)
    times.begin("b", 2.0)
    assert times.wake_at(ending=False) == 101.0
    assert times.expire(100.9) == []
    assert [worker for worker, _ in times.expire(101.0)] == ["a"]
    assert times.wake_at(ending=False) == 102.0
    assert [worker for worker, _ in times.expire(105.0)] == ["b"]
    assert times.expire(106.0) == []
    assert times.wake_at(ending=False) == 111.0
    assert times.kills(110.9) == []
    assert times.kills(111.0) == ["a"]
    assert times.kills(200.0) == ["b"]
    assert times.kills(300.0) == []


def test_who_has_left_is_left_alone() -> None:
    """A worker that became free before its limit, or in its grace, is neither told nor killed."""
    times = deadlines(trial_timeout=100.0)
    times.begin("a", 0.0)
    times.forget("a")
    times.begin("b", 0.0)
    times.expire(100.0)
    times.forget("b")
    assert times.wake_at(ending=False) is None
    assert times.expire(1e9) == []
    assert times.kills(1e9) == []


def test_the_earlier_kill_counts() -> None:
    """A second order to kill does not postpone the first."""
    times = deadlines()
    times.kill("w", 5.0)
    times.kill("w", 9.0)
    times.kill("w", 4.0)
    assert times.wake_at(ending=True) == 4.0


def test_only_kills_are_due_once_the_run_is_ending() -> None:
    """Otherwise the engine would wake up for ever at limits that no longer matter."""
    times = deadlines(trial_timeout=10.0, time_limit=50.0)
    times.begin("w", 0.0)
    assert times.wake_at(ending=False) == 10.0
    assert times.wake_at(ending=True) is None
    times.kill_late("w", 50.0)
    assert times.wake_at(ending=True) == 55.0


@pytest.mark.parametrize(("limit", "grace"), [(0.5, 1.0), (60.0, 6.0), (86_400.0, 30.0)])
def test_the_grace_is_a_tenth_within_bounds(limit: float, grace: float) -> None:
    """One second at least, so that a stop can arrive, and thirty at most."""
    times = deadlines(time_limit=limit)
    assert times.over(limit)
    times.kill_late("w", limit)
    assert times.wake_at(ending=True) == limit + grace


def test_the_error_says_the_limit_and_what_was_reached() -> None:
    """In the user's own sign; and that the worker had to be ended, if it had."""
    times = deadlines(trial_timeout=90.0)
    trial = Trial(id=0, hparams={}, steps=[0, 1], losses=[-0.1, -0.25])
    left = times.error(trial, Sense("max"), killed=False)
    assert left.type == "Timeout"
    assert left.message == (
        "it ran longer than `trial_timeout`, 90 s; its last report was 0.25 at step 1."
    )
    killed = times.error(Trial(id=1, hparams={}), Sense("max"), killed=True)
    assert "it had reported nothing. It did not leave" in killed.message
