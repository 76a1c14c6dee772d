"""Unit tests of ``maggy.cli.following``."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from maggy import cli
from maggy.cli import following
from maggy.events import (
    ExperimentFinished,
    TrialFinished,
    TrialStarted,
    WorkerJoined,
    WorkerLost,
)
from maggy.store.folder import create_run
from maggy.store.sqlite import SqliteLog
from maggy.testing.stores import story

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from click.testing import Result

    from maggy.events import Event
    from maggy.store.folder import RunFolder


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


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """What happens while a command waits, in this order; a command that waits longer is a bug."""
    todo: list[Callable[[], None]] = []
    monkeypatch.setattr(time, "sleep", lambda _: todo.pop(0)())
    return todo


@pytest.fixture
def live(here: Path) -> Iterator[tuple[RunFolder, SqliteLog]]:
    """A run that goes on: its folder and its log."""
    run = create_run(here, "live", now=datetime.now(UTC))
    with SqliteLog.create(run.database) as log:
        yield run, log


def add(log: SqliteLog, *events: Event) -> None:
    """Let these things happen."""
    for event in events:
        log.append(event)
    log.commit()


def interrupt() -> None:
    """What Ctrl-C does."""
    raise KeyboardInterrupt


# watch


def test_watch_of_a_completed_run() -> None:
    """It is told as it was told when it ran, and the exit code is 0."""
    write([*story()[:-5], ExperimentFinished(at=5.5, outcome="completed")])
    done = maggy("watch", "story")
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert lines[0].startswith("story: randomsearch, 6 trials, maximising accuracy; run")
    assert "trial 3 completed: 0.875 (best so far)" in done.output
    assert "story completed after 5.50 s" in lines


def test_watch_of_an_interrupted_run_is_told_by_the_exit_code() -> None:
    """So that ``maggy watch RUN && next`` does not go on."""
    write(story())
    assert maggy("watch", "story").exit_code == 3


def test_watch_of_a_killed_run_ends() -> None:
    """Without a driver nothing will come."""
    write(story()[:12])
    done = maggy("watch", "story")
    assert done.exit_code == 3
    assert "story killed after" in done.output


def test_watch_goes_on_until_the_end(
    live: tuple[RunFolder, SqliteLog], naps: list[Callable[[], None]]
) -> None:
    """What is written meanwhile is shown, once."""
    _, log = live
    events = story()
    add(log, *events[:8])
    naps += [lambda: None, lambda: add(log, *events[8:-1]), lambda: add(log, events[-1])]
    done = maggy("watch", "live")
    assert done.exit_code == 3
    assert done.output.count("trial 3 completed: 0.875") == 1
    assert "story interrupted after 6.50 s" in done.output
    assert naps == []


def test_ctrl_c_leaves_the_run_alone(
    live: tuple[RunFolder, SqliteLog], naps: list[Callable[[], None]]
) -> None:
    """How it stands is told, and that it goes on; the exit code is the one of Ctrl-C."""
    add(live[1], *story()[:8])
    naps += [lambda: None, interrupt]
    done = maggy("watch", "live")
    assert done.exit_code == 130
    assert "story still running after" in done.stdout
    assert done.stderr == "No longer watching; the run goes on.\n"


def test_watch_as_json(
    live: tuple[RunFolder, SqliteLog],
    naps: list[Callable[[], None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A line when something has changed, once a second at most, and one at the end."""
    monkeypatch.setattr(following, "_SELDOM", 0.0)
    _, log = live
    events = story()
    add(log, *events[:8])
    naps += [lambda: None, lambda: None, lambda: add(log, *events[8:])]
    lines = [json.loads(line) for line in maggy("watch", "live", "--json").stdout.splitlines()]
    assert [line["outcome"] for line in lines] == ["running", "interrupted"]
    assert lines[-1]["best_val"] == 0.875
    monkeypatch.setattr(following, "_SELDOM", 1e9)
    assert len(maggy("watch", "live", "--json").stdout.splitlines()) == 1


# logs


def log_file(run: RunFolder, trial: int, text: str) -> Path:
    """Let a trial have printed this."""
    path = run.log_path(trial)
    path.write_bytes(text.encode())
    return path


def test_logs_shows_what_a_trial_printed() -> None:
    """Byte for byte."""
    text = "epoch 1\r\nepoch 2 \x1b[31mred\x1b[0m süß\nno newline at the end"
    log_file(write(story()), 0, text)
    done = maggy("logs", "story", 0)
    assert done.exit_code == 0
    assert done.stdout_bytes == text.encode()


def test_logs_of_a_silent_trial() -> None:
    """There is no file then: that is no error, and said beside the output."""
    write(story())
    for options in ([], ["--follow"], ["--tail", 3]):
        done = maggy("logs", "story", 3, *options)
        assert (done.exit_code, done.stdout) == (0, "")
        assert done.stderr == "Trial 3 printed nothing.\n"


def test_logs_of_an_inline_trial() -> None:
    """Nobody kept what it printed, and nobody says that it printed nothing."""
    events = [
        dataclasses.replace(event, worker="inline")
        if isinstance(event, TrialStarted | WorkerJoined | WorkerLost)
        else event
        for event in story()
    ]
    write(events)
    done = maggy("logs", "story", 3)
    assert (done.exit_code, done.stdout) == (0, "")
    assert "what it printed went to the output of its search" in done.stderr


def test_logs_of_an_unknown_trial() -> None:
    """Neither of one that never started, nor of one that is no number."""
    run = write(story())
    for trial in (5, 99):
        done = maggy("logs", "story", trial)
        assert done.exit_code == 1
        assert f"trial {trial} has not started in {run.id}, which started 5 trials" in done.stderr
    assert maggy("logs", "story", "x").exit_code == 2
    assert maggy("logs", "story", 0, "--follow", "--json").exit_code == 2


@pytest.mark.parametrize("ending", ["\n", ""])
@pytest.mark.parametrize("lines", [0, 1, 3, 9, 10, 11, 4000])
def test_the_last_lines(lines: int, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as wanted, whatever the size of the blocks that are read."""
    text = "\n".join(f"line {number}" for number in range(10)) + ending
    log_file(write(story()), 0, text)
    expected = "".join(text.splitlines(keepends=True)[-lines:] if lines else [])
    for chunk in (1, 7, 65_536):
        monkeypatch.setattr(following, "_CHUNK", chunk)
        assert maggy("logs", "story", 0, "--tail", lines).stdout == expected


def test_logs_as_json() -> None:
    """Text and status in one object."""
    run = write(story())
    path = log_file(run, 0, "a\nb\n")
    assert json.loads(maggy("logs", "story", 0, "--json", "--tail", 1).stdout) == {
        "run": run.id,
        "trial": 0,
        "status": "completed",
        "path": str(path),
        "text": "b\n",
    }


def test_logs_follows_until_the_trial_has_ended(
    live: tuple[RunFolder, SqliteLog], naps: list[Callable[[], None]]
) -> None:
    """What is added is written, also after a cut of the middle; its last words are not missed."""
    run, log = live
    add(log, *story()[:8])
    path = log_file(run, 0, "one\n" * 10)

    def more() -> None:
        with path.open("a") as file:
            file.write("two\n")

    def finish() -> None:
        more()
        add(log, TrialFinished(at=2.0, trial=0, attempt=0, value=0.5))

    def cut() -> None:
        log_file(run, 0, "one\n[cut]\n")

    naps += [more, cut, more, finish]
    done = maggy("logs", "live", 0, "--follow")
    assert done.exit_code == 0
    assert done.stdout == "one\n" * 10 + "two\n" * 3
    assert naps == []


def test_logs_follows_until_the_run_has_ended(
    live: tuple[RunFolder, SqliteLog], naps: list[Callable[[], None]]
) -> None:
    """A trial that never ends does not keep it for ever, and neither does the user."""
    _, log = live
    add(log, *story()[:8])
    naps += [lambda: add(log, ExperimentFinished(at=3.0, outcome="interrupted"))]
    assert maggy("logs", "live", 0, "--follow").exit_code == 0


def test_ctrl_c_ends_following(
    live: tuple[RunFolder, SqliteLog], naps: list[Callable[[], None]]
) -> None:
    """With its exit code, without a traceback."""
    add(live[1], *story()[:8])
    naps += [interrupt]
    done = maggy("logs", "live", 0, "--follow")
    assert (done.exit_code, done.output) == (130, "")


def test_a_terminal_gets_no_escape_sequences_but_colours(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A title, a cursor move or a bell is shown as text; a letter cut in two stays one."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    copier = following._Copier()
    data = "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b[2J\t50 %\r100 %\nü".encode()
    copier.write(data[:-1])
    copier.write(data[-1:])
    shown = capsys.readouterr().out
    assert shown == "\x1b[31mred\x1b[0m \\x1b]0;title\\x07 \\x1b[2J\t50 %\r100 %\nü"
