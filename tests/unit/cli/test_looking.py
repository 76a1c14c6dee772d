"""Unit tests of ``maggy.cli`` itself and of ``maggy.cli.looking``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from maggy import cli
from maggy.events import (
    ExperimentFinished,
    ExperimentStarted,
    MetricReported,
    Suggested,
    TrialFinished,
    TrialStarted,
    WorkerJoined,
)
from maggy.store.folder import create_run
from maggy.store.sqlite import SqliteLog
from maggy.testing.stores import story

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from click.testing import Result

    from maggy.events import Event
    from maggy.store.folder import RunFolder
    from maggy.trial import Json, Value


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory; the folder where runs go by default."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "maggy-runs"


def maggy(*arguments: object) -> Result:
    """Call the command line."""
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def write(events: Sequence[Event], name: str = "story", later: int = 0) -> RunFolder:
    """A run with these events, where runs go by default."""
    began = datetime(2026, 1, 31, 12, 0, later, tzinfo=UTC)
    run = create_run("maggy-runs", name, now=began)
    with SqliteLog.create(run.database) as log:
        for event in events:
            log.append(event)
    return run


def long_run(count: int) -> list[Event]:
    """A long run with a few reports a trial."""
    config: dict[str, Json] = {"name": "big", "direction": "max", "num_trials": count}
    events: list[Event] = [ExperimentStarted(at=0.0, config=config)]
    events += [WorkerJoined(at=0.0, worker="w")]
    for number in range(count):
        run: dict[str, Any] = {"trial": number, "attempt": 0}
        hparams: dict[str, Value] = {"lr": number / 7, "units": number, "activation": "relu"}
        events.append(Suggested(at=float(number), trial=number, hparams=hparams))
        events.append(TrialStarted(at=float(number), worker="w", **run))
        events += [
            MetricReported(at=number + 0.1, step=step, value=step / 10, **run) for step in range(5)
        ]
        events.append(TrialFinished(at=number + 0.5, value=number / count, **run))
    return [*events, ExperimentFinished(at=float(count), outcome="completed")]


def test_ls_lists_runs() -> None:
    """Oldest first, with outcome, trials, best and duration."""
    first = write(story())
    second = write(story()[:21], "other", later=5)
    lines = maggy("ls").output.splitlines()
    assert lines[0].split() == ["id", "experiment", "outcome", "trials", "best", "duration"]
    assert lines[1].split() == [first.id, "story", "interrupted", "5", "0.875", "6.50", "s"]
    assert lines[2].split() == [second.id, "story", "killed", "4", "0.625", "3.50", "s"]


def test_ls_shows_a_live_run(here: Path) -> None:
    """A run that is being written is running."""
    run = create_run(here, "live", now=datetime.now(UTC))
    with SqliteLog.create(run.database) as log:
        log.append(story()[0])
        log.commit()
        assert "running" in maggy("ls").output


def test_ls_of_nothing_says_how_to_get_something(here: Path) -> None:
    """No runs is no error, but a hint; as JSON it is an empty list."""
    done = maggy("ls")
    assert done.exit_code == 0
    assert "No runs in maggy-runs: a search makes one" in done.output
    assert json.loads(maggy("ls", "--json", "--folder", here).output) == []


def test_ls_survives_a_damaged_run() -> None:
    """One broken log does not hide the others."""
    broken = write(story())
    broken.database.write_bytes(b"not a database at all" * 100)
    write(story(), later=5)
    done = maggy("ls")
    assert done.exit_code == 0
    assert "damaged" in done.output.splitlines()[1]
    assert "interrupted" in done.output.splitlines()[2]
    assert [row["outcome"] for row in json.loads(maggy("ls", "--json").output)] == [
        *("damaged", "interrupted")
    ]


def test_ls_as_json() -> None:
    """Numbers stay numbers."""
    run = write(story())
    (row,) = json.loads(maggy("ls", "--json").output)
    assert row == {
        "id": run.id,
        "name": "story",
        "path": str(run.path),
        "outcome": "interrupted",
        "num_trials": 5,
        "best_val": 0.875,
        "duration": 6.5,
    }


def test_show_tells_what_a_run_came_to() -> None:
    """Outcome, best, trials, failures, stops, and where it is; by name, id and path."""
    run = write(story())
    for way in ("story", run.id, run.id[-4:], run.path):
        done = maggy("show", way)
        assert done.exit_code == 0
        lines = done.output.splitlines()
        assert lines[0] == "story interrupted after 6.50 s"
        assert "   best  0.875  trial 3  lr=0.4  units=16  shape=(2,)" in lines
        assert f"    run  maggy-runs/story/{run.id}" in lines
        assert "  trial 1: ValueError: no such unit" in lines
        assert "  trial 2: 0.1 at step 1 is below the median 0.55 of 1 trial" in lines


def test_show_as_json() -> None:
    """One object, readable by a program."""
    run = write(story())
    data = json.loads(maggy("show", "story", "--json").output)
    assert data["id"] == run.id
    assert data["best_val"] == 0.875
    assert len(data["trials"]) == 5


def test_show_of_an_unknown_run_is_an_error(here: Path) -> None:
    """Exit code 1, and the runs that there are; a wrong command is exit code 2."""
    run = write(story())
    done = maggy("show", "storm")
    assert done.exit_code == 1
    assert f"Error: there is no run 'storm' in {here}. The latest are: story/{run.id}" in (
        done.output
    )
    assert maggy("show").exit_code == 2
    assert maggy("look").exit_code == 2


def test_show_of_a_damaged_run_is_an_error() -> None:
    """Its message says what is wrong; there is no traceback."""
    run = write(story())
    run.database.write_bytes(run.database.read_bytes()[:6000])
    done = maggy("show", "story")
    assert done.exit_code == 1
    assert "Error: the event log" in done.output
    assert "Traceback" not in done.output


def test_helps_teach() -> None:
    """Every command says what it is for and what its argument may be."""
    assert "Run and look at searches" in maggy("-h").output
    assert all(command in maggy("--help").output for command in ("ls", "show", "demo"))
    assert "four characters" in maggy("show", "-h").output
    assert "[default:maggy-runs]" in "".join(maggy("ls", "-h").output.split())


def test_the_version() -> None:
    """``--version`` names the installed one."""
    assert maggy("--version").output == "maggy, version 2.0.0.dev0\n"


def test_python_dash_m_is_the_same_program() -> None:
    """``python -m maggy`` works and calls itself maggy."""
    command = [sys.executable, "-m", "maggy", "ls", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith("Usage: maggy ls")


def test_a_closed_pipe_is_no_error(here: Path) -> None:
    """``maggy show RUN --all | head`` ends quietly."""
    write(long_run(300), "big")
    command = [sys.executable, "-m", "maggy", "show", "big", "--all", "--folder", str(here)]
    read, out = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, check=False, timeout=60)
    finally:
        os.close(out)
    assert (done.returncode, done.stderr) == (1, b"")


def test_ten_thousand_trials_are_quick() -> None:
    """``ls`` and ``show`` need about a second of work; the output stays short."""
    write(long_run(10_000), "big")
    for command in (["ls"], ["show", "big"], ["show", "big", "--json"], ["export", "big"]):
        began = time.process_time()
        done = maggy(*command)
        assert done.exit_code == 0
        assert time.process_time() - began < 3.0
        whole = "--json" in command or "export" in command
        assert whole or len(done.output.splitlines()) < 60


def test_notes_are_shown() -> None:
    """What the search said at its start stands under the outcome."""
    started, *rest = story()
    assert isinstance(started, ExperimentStarted)
    notes = {**started.config, "notes": ["The grid has 6 points."]}
    write([ExperimentStarted(at=0.0, config=notes), *rest])
    assert maggy("show", "story").output.splitlines()[1] == "   note  The grid has 6 points."


def test_compare_shows_runs_side_by_side() -> None:
    """A column for each run, and as JSON an object for each."""
    one, two = write(long_run(40), "one"), write(long_run(80), "two", later=5)
    done = maggy("compare", "one", two.id)
    assert done.exit_code == 0
    assert done.output.splitlines()[0].split() == ["run", one.id, two.id]
    assert [run["id"] for run in json.loads(maggy("compare", "one", "two", "--json").output)] == [
        *(one.id, two.id)
    ]


def test_compare_says_what_cannot_be_compared() -> None:
    """Runs with different aims are shown all the same, with a warning."""
    write(long_run(5), "one")
    write(story(), "two")
    done = maggy("compare", "one", "two")
    assert done.exit_code == 0
    assert "their values cannot be compared" in done.stderr
    assert "*" not in done.stdout


def test_compare_of_an_unknown_run_is_an_error() -> None:
    """Nothing is shown of the others then; no run at all is a mistake in the command."""
    write(story())
    done = maggy("compare", "story", "storm")
    assert (done.exit_code, done.stdout) == (1, "")
    assert maggy("compare").exit_code == 2
