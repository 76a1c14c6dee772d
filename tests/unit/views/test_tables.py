"""Unit tests of ``maggy.views.tables``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from maggy.core.summary import Summary
from maggy.events import (
    ExperimentFinished,
    ExperimentStarted,
    Suggested,
    TrialFailed,
    TrialFinished,
    TrialStarted,
)
from maggy.testing.stores import story
from maggy.trial import TrialError
from maggy.views.result import Result
from maggy.views.tables import result_json, run_table, trial_tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maggy.events import Event


def result(events: Sequence[Event]) -> Result:
    """The result of some events."""
    summary = Summary()
    for event in events:
        summary.apply(event)
    return Result(summary)


def test_runs_are_aligned() -> None:
    """Columns line up, numbers to the right; a damaged run shows its error."""
    rows: list[dict[str, Any]] = [
        {"id": "a", "name": "x", "outcome": "completed", "num_trials": 1200, "best_val": 0.5}
        | {"duration": 3.0},
        {"id": "bbbb", "name": "y", "outcome": "damaged", "error": "event 3 is damaged"},
    ]
    assert run_table(rows, width=None) == [
        "id    experiment  outcome    trials  best  duration",
        "a     x           completed   1,200   0.5  3.00 s",
        "bbbb  y           damaged                  event 3 is damaged",
    ]
    assert run_table(rows, width=20)[1] == "a     x           c…"


def test_a_long_name_leaves_room_for_the_rest() -> None:
    """In a terminal of 80 columns the outcome and the best value are seen beside any name."""
    row = {"id": "20261124T222120Z-0658", "name": "n" * 100, "outcome": "completed"}
    rows = [row | {"num_trials": 20, "best_val": 0.97923, "duration": 6.7}]
    line = run_table(rows, width=80)[1]
    assert len(line) <= 80
    assert line.endswith("…  completed      20  0.97923  6.70 s")
    assert "n" * 100 in run_table(rows, width=None)[1]


def test_the_trials_of_the_story() -> None:
    """The best first, those without a value last, then failures and stops."""
    assert trial_tables(result(story()), every=False, width=None) == [
        "",
        "trial  status       value  budget    time  hparams",
        "    3  completed    0.875       3  3.00 s  lr=0.4  units=16  shape=(2,)",
        "    0  completed    0.625       -  2.00 s  lr=0.1  units=32  shape=(3, (4, 5))",
        "    2  stopped      0.125       -  1.00 s  lr=0.3  units=8  shape=(1,)",
        "    1  failed           -       -  1.00 s  lr=0.2  units=64  shape=()",
        "    4  interrupted      -       -  2.50 s  lr=0.5  units=4  shape=(9,)",
        "",
        "1 trial failed",
        "  trial 1: ValueError: no such unit",
        "",
        "1 trial stopped early",
        "  trial 2: 0.1 at step 1 is below the median 0.55 of 1 trial",
    ]


def many(count: int, direction: str = "max") -> list[Event]:
    """A run of many trials, of which one in ten fails, in seven ways."""
    events: list[Event] = [ExperimentStarted(at=0.0, config={"direction": direction})]
    for number in range(count):
        run: dict[str, Any] = {"at": 0.0, "trial": number, "attempt": 0}
        error = TrialError(type="E", message=str(number % 7))
        events += [
            Suggested(at=0.0, trial=number, hparams={"x": number}),
            TrialStarted(**run, worker="w"),
            TrialFailed(**run, error=error)
            if number % 10 == 9
            else TrialFinished(**run, value=float(number)),
        ]
    return [*events, ExperimentFinished(at=1.0, outcome="completed")]


def test_many_trials_are_limited() -> None:
    """Twenty of them, and how to see all; equal errors once, and only some kinds of them."""
    lines = trial_tables(result(many(1000)), every=False, width=60)
    assert lines[1] == "The best 20 of 1,000 trials; --all lists all:"
    assert lines[4].split() == ["998", "completed", "998", "0.00", "s", "x=998"]
    assert lines.index("100 trials failed") == 25
    assert lines[26:] == [
        "  trial 9 (and 14 more): E: 2",
        "  trial 19 (and 14 more): E: 5",
        "  trial 29 (and 13 more): E: 1",
        "  trial 39 (and 13 more): E: 4",
        "  trial 49 (and 13 more): E: 0",
        "  and 2 other reasons: see --json",
    ]


def test_all_trials_by_id() -> None:
    """With ``every`` each is listed once, in order; a minimisation's best is the smallest."""
    lines = trial_tables(result(many(100)), every=True, width=None)
    assert [line.split()[0] for line in lines[2:102]] == [str(i) for i in range(100)]
    best = trial_tables(result(many(100, "min")), every=False, width=None)
    assert best[4].split()[0] == "0"


def test_a_run_without_trials() -> None:
    """There is no table, and nothing raises."""
    assert trial_tables(result(story()[:1]), every=False, width=None) == []


def test_json_is_complete() -> None:
    """Every number of the result, every trial and the config, as plain JSON."""
    data = json.loads(json.dumps(result_json(result(story()))))
    assert data["best_val"] == 0.875
    assert data["outcome"] == "interrupted"
    assert data["config"]["seed"] == 1
    assert data["path"] is None
    assert [trial["status"] for trial in data["trials"]][:2] == ["completed", "failed"]
    assert data["trials"][1]["error"] == "ValueError: no such unit"
    assert data["trials"][0]["hparams"]["shape"] == [3, [4, 5]]
