"""Unit tests of ``maggy.views.compare``."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from maggy.errors import RunError
from maggy.events import (
    ExperimentFinished,
    ExperimentStarted,
    Suggested,
    TrialFailed,
    TrialFinished,
    TrialStarted,
    WorkerJoined,
)
from maggy.store.folder import create_run
from maggy.store.sqlite import SqliteLog
from maggy.testing.stores import story
from maggy.trial import TrialError
from maggy.views.compare import comparison, comparison_json, doubts, load_contestant

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from maggy.events import Event
    from maggy.views.compare import Contestant


def contestant(folder: Path, events: Sequence[Event], name: str = "run") -> Contestant:
    """A run with these events, read again."""
    run = create_run(folder, name, now=datetime.now(UTC))
    with SqliteLog.create(run.database) as log:
        for event in events:
            log.append(event)
    return load_contestant(run)


def run(values: Sequence[float | None], seconds: float, **config: Any) -> list[Event]:
    """Trials of so many seconds, one after the other; None is a failure."""
    events: list[Event] = [
        ExperimentStarted(at=0.0, config={"name": "r", "num_workers": 1, **config}),
        WorkerJoined(at=0.0, worker="w"),
    ]
    error = TrialError(type="E", message="")
    for number, value in enumerate(values):
        this: dict[str, Any] = {"trial": number, "attempt": 0}
        begin, end = number * seconds, (number + 1) * seconds
        events.append(Suggested(at=begin, trial=number, hparams={"x": number}))
        events.append(TrialStarted(at=begin, worker="w", **this))
        events.append(
            TrialFailed(at=end, error=error, **this)
            if value is None
            else TrialFinished(at=end, value=value, **this)
        )
    return [*events, ExperimentFinished(at=len(values) * seconds, outcome="completed")]


def row(lines: Sequence[str], label: str) -> list[str]:
    """The cells of one row, without its label."""
    line = next(line for line in lines if line.startswith(f"{label} "))
    return [cell.strip() for cell in line[len(label) :].split("  ") if cell.strip()]


def test_who_was_ahead_when(tmp_path: Path) -> None:
    """The best after equal time and after equally many trials, up to what both have reached."""
    quick = contestant(tmp_path, run([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8], 1.0))
    good = contestant(tmp_path, run([None, 0.9], 2.0))
    lines = comparison([quick, good], width=None)
    assert row(lines, "best after 0.50 s") == ["-", "-"]
    assert row(lines, "best after 1.00 s") == ["0.1", "-"]
    assert row(lines, "best after 2.00 s") == ["0.2", "-"]
    assert row(lines, "best after 4.00 s") == ["0.4", "0.9 *"]
    assert row(lines, "best after 1 trial") == ["0.1", "-"]
    assert row(lines, "best after 2 trials") == ["0.2", "0.9 *"]
    assert not any("after 8" in line for line in lines)


def test_what_each_came_to(tmp_path: Path) -> None:
    """Outcome, counts, effort, and the best configuration, a row for each hyperparameter."""
    one = contestant(tmp_path, run([0.5, None, 0.7], 1.0, optimizer="gp", num_trials=3))
    two = contestant(tmp_path, story(), "story")
    lines = comparison([one, two], width=None)
    assert lines[0].split() == ["run", one.id, two.id]
    assert row(lines, "outcome") == ["completed", "interrupted"]
    assert row(lines, "search")[0] == "gp, 3 trials, maximising metric"
    assert row(lines, "trials") == ["3", "5"]
    assert row(lines, "  failed") == ["1", "1"]
    assert row(lines, "  stopped early") == ["0", "1"]
    assert row(lines, "duration") == ["3.00 s", "6.50 s"]
    assert row(lines, "  busy") == ["100.0%", "84.6%"]
    assert row(lines, "  x") == ["2", "-"]
    assert row(lines, "  units") == ["-", "16"]
    assert max(map(len, comparison([one, two], width=40))) <= 40


def test_smaller_is_better_when_minimising(tmp_path: Path) -> None:
    """The star goes to the smallest value; among equal ones there is none."""
    runs = [contestant(tmp_path, run([v], 1.0, direction="min")) for v in (0.3, 0.1, 0.2)]
    assert row(comparison(runs, width=None), "best") == ["0.3", "0.1 *", "0.2"]
    assert "*" not in "".join(comparison([runs[0], runs[0]], width=None))


def test_what_cannot_be_compared_gets_no_star(tmp_path: Path) -> None:
    """Another metric or another direction: said in a sentence."""
    runs = [
        contestant(tmp_path, run([0.3], 1.0, optimization_key="accuracy", direction="max")),
        contestant(tmp_path, run([0.1], 1.0, optimization_key="loss", direction="min")),
    ]
    assert doubts(runs) == (
        f"These runs do not search for the same, so their values cannot be compared: "
        f"{runs[0].id} is maximising accuracy, {runs[1].id} is minimising loss."
    )
    assert "*" not in "".join(comparison(runs, width=None))
    assert doubts(runs[:1]) == ""


def test_runs_without_anything(tmp_path: Path) -> None:
    """An empty log, a run that has only begun: dashes, no error."""
    runs = [contestant(tmp_path, []), contestant(tmp_path, story()[:1]), contestant(tmp_path, [])]
    lines = comparison(runs, width=None)
    assert row(lines, "best") == ["-", "-", "-"]
    assert row(lines, "outcome") == ["killed", "killed", "killed"]
    assert not any(line.startswith("best after") for line in lines)
    json.dumps(comparison_json(runs))


def test_users_names_send_no_escapes(tmp_path: Path) -> None:
    """Names and hyperparameters are made printable."""
    evil = "\x1b[2Jx"
    events = run([0.5], 1.0, name=evil, optimization_key=evil)
    events[2] = Suggested(at=0.0, trial=0, hparams={evil: evil})
    assert "\x1b" not in "\n".join(comparison([contestant(tmp_path, events)], width=None))


def test_json_has_the_same_numbers(tmp_path: Path) -> None:
    """For programs."""
    (data,) = comparison_json([contestant(tmp_path, run([0.5, None, 0.7], 1.0))])
    assert data["best_val"] == 0.7
    assert data["best_hp"] == {"x": 2}
    assert (data["num_trials"], data["completed"], data["failed"]) == (3, 2, 1)
    assert data["best_after"]["3.00 s"] == data["best_after"]["3 trials"] == 0.7
    assert data["best_after"]["1.50 s"] == 0.5
    assert (data["outcome"], data["utilisation"], data["time_saved"]) == ("completed", 1.0, None)


def test_a_damaged_run_is_an_error(tmp_path: Path) -> None:
    """It never looks like a bad run."""
    place = create_run(tmp_path, "broken", now=datetime.now(UTC))
    place.database.write_bytes(b"nothing")
    with pytest.raises(RunError):
        load_contestant(place)
