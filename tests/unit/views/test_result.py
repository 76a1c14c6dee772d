"""Unit tests of ``maggy.views.result``."""

from __future__ import annotations

import copy
import json
import pickle
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from maggy.core.summary import Summary
from maggy.errors import RunError
from maggy.store.folder import create_run
from maggy.store.sqlite import SqliteLog
from maggy.testing.stores import story
from maggy.views.result import Result, load_outline, load_result

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from maggy.events import Event
    from maggy.store.folder import RunFolder


def fold(events: Sequence[Event]) -> Summary:
    """The summary of some events."""
    summary = Summary()
    for event in events:
        summary.apply(event)
    return summary


def write(folder: Path, events: Sequence[Event]) -> RunFolder:
    """A run with these events in its log."""
    run = create_run(folder, "story", now=datetime.now(UTC))
    with SqliteLog.create(run.database) as log:
        for event in events:
            log.append(event)
    return run


def test_the_dict_has_exactly_the_documented_keys() -> None:
    """It can be read, compared and dumped as JSON."""
    result = Result(fold(story()))
    assert dict(result) == {
        "best_id": 3,
        "best_val": 0.875,
        "best_hp": {"lr": 0.4, "units": 16, "shape": (2,)},
        "worst_id": 0,
        "worst_val": 0.625,
        "worst_hp": {"lr": 0.1, "units": 32, "shape": (3, (4, 5))},
        "avg": 0.875,
        "num_trials": 5,
        "early_stopped": 1,
        "failed": 1,
        "duration": 6.5,
    } | {"worst_id": 3, "worst_val": 0.875, "worst_hp": {"lr": 0.4, "units": 16, "shape": (2,)}}
    assert json.loads(json.dumps(result))["best_hp"]["shape"] == [2]


def test_nothing_completed_means_none() -> None:
    """Without a single value the best is None, and nothing raises."""
    for events in ([], story()[:8]):
        result = Result(fold(events))
        for key in ("best_id", "best_val", "best_hp", "worst_id", "worst_val", "worst_hp", "avg"):
            assert result[key] is None, key
        assert "Result of" in repr(result)


def test_trials_are_records(tmp_path: Path) -> None:
    """Only started trials, by id, with all that is known of them."""
    result = Result(fold(story()), tmp_path)
    assert [trial.id for trial in result.trials] == [0, 1, 2, 3, 4]
    assert [trial.status for trial in result.trials] == [
        *("completed", "failed", "stopped", "completed", "interrupted")
    ]
    first, failed, stopped, twice, _ = result.trials
    assert first.curve == ([0, 1], [0.5, 0.6])
    assert first.curve.steps == [0, 1]
    assert first.info == {"epochs": 2, "note": None}
    assert first.log_path == tmp_path / "trials" / "000000.log"
    assert str(failed.error) == "ValueError: no such unit"
    assert stopped.stop_reason.startswith("0.1 at step 1")
    assert (twice.runs, twice.budget, twice.duration, twice.worker) == (2, 3, 3.0, "w0")
    assert result.name == "story"
    assert result.outcome == "interrupted"
    assert result.reason == "The run was interrupted."
    assert result.config["seed"] == 1


def test_a_result_is_a_moment() -> None:
    """Later events do not change it."""
    summary = fold(story()[:8])
    result = Result(summary)
    for event in story()[8:]:
        summary.apply(event)
    assert result.trials[0].curve == ([0], [0.5])
    assert result.trials[0].status == "running"
    assert result.trials[0].duration == 0.5  # so far
    assert result.outcome == "running"


def test_a_key_that_does_not_exist_is_refused_with_a_hint() -> None:
    """Who writes another name is told the right one."""
    with pytest.raises(KeyError, match=r"no 'best_value'\. Did you mean 'best_val'"):
        Result(fold(story()))["best_value"]


def test_an_entry_that_is_asked_for_as_an_attribute_is_told() -> None:
    """The message is the line to write; another name is just refused."""
    result: Any = Result(Summary())
    with pytest.raises(AttributeError, match=r"write result\['best_val'\]"):
        _ = result.best_val
    with pytest.raises(AttributeError, match=r"a result has no attribute 'scores'\.$"):
        _ = result.scores
    assert not hasattr(result, "_repr_png_")
    assert copy.copy(result) == result


def test_a_result_can_be_pickled(tmp_path: Path) -> None:
    """With its records and its path."""
    result = Result(fold(story()), tmp_path)
    copy = pickle.loads(pickle.dumps(result))
    assert copy == result
    assert isinstance(copy, Result)
    assert (copy.trials, copy.path, copy.outcome) == (result.trials, tmp_path, "interrupted")
    assert repr(copy) == repr(result)


def test_the_repr_is_short(tmp_path: Path) -> None:
    """A handful of lines, whatever the run."""
    text = repr(Result(fold(story()), tmp_path))
    assert text.splitlines() == [
        "Result of story: interrupted after 6.50 s, 5 trials, 1 stopped early, 1 failed",
        "  best   0.875     trial 3   lr=0.4  units=16  shape=(2,)",
        "  worst  0.875     trial 3   lr=0.4  units=16  shape=(2,)",
        "  avg    0.875",
        f"  run    {tmp_path}",
    ]


def test_pandas() -> None:
    """One row for each trial, hyperparameters under a prefix."""
    pandas = pytest.importorskip("pandas")
    frame = Result(fold(story())).to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame["hp_lr"]) == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert list(frame.columns[:3]) == ["id", "status", "value"]
    assert frame.loc[1, "error"] == "ValueError: no such unit"


def test_pandas_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the error names the extra."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ModuleNotFoundError, match=r"maggy\[pandas\]"):
        Result(fold(story())).to_pandas()


def test_load_gives_the_same(tmp_path: Path) -> None:
    """A run on the disk gives the result that the live one gave, by path, database and name."""
    run = write(tmp_path, story())
    expected = Result(fold(story()), run.path)
    for way in (run.path, run.database, "story"):
        result = load_result(way, folder=tmp_path)
        assert result == expected
        assert result.trials == expected.trials
        assert result.path == run.path


def test_a_killed_run_is_told_from_a_live_one(tmp_path: Path) -> None:
    """While it is written it is running; without a writer and without an end it was killed."""
    run = create_run(tmp_path, "story", now=datetime.now(UTC))
    with SqliteLog.create(run.database) as log:
        for event in story()[:8]:
            log.append(event)
        log.commit()
        live = load_result(run.path)
        assert (live.outcome, live.trials[0].status) == ("running", "running")
    dead = load_result(run.path)
    assert (dead.outcome, dead.trials[0].status) == ("killed", "interrupted")


def test_the_outline_gives_the_same_numbers(tmp_path: Path) -> None:
    """Only the curves are shorter."""
    run = write(tmp_path, story())
    summary, unfinished = load_outline(run)
    assert dict(Result(summary)) == dict(load_result(run.path))
    assert unfinished == "killed"


def test_a_damaged_log_is_an_error(tmp_path: Path) -> None:
    """It is never loaded as a shorter run."""
    run = write(tmp_path, story())
    run.database.write_bytes(run.database.read_bytes()[:5000])
    with pytest.raises(RunError):
        load_result(run.path)
