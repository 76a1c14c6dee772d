"""Unit tests of ``maggy.views.closing``."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from maggy.core.summary import Summary
from maggy.events import ExperimentFinished, ExperimentStarted, TrialFailed, WorkerJoined
from maggy.testing.stores import story
from maggy.trial import TrialError
from maggy.views.closing import closing, failure, failure_story, first_failure, from_here

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pytest

    from maggy.events import Event


def fold(events: Sequence[Event]) -> Summary:
    """The summary of some events."""
    summary = Summary()
    for event in events:
        summary.apply(event)
    return summary


def test_the_story_in_a_few_lines(tmp_path: Path) -> None:
    """Outcome, best, counts, workers, and how to find it again."""
    assert closing(fold(story()), tmp_path / "my run") == [
        ("", "story interrupted after 6.50 s"),
        ("best", "0.875  trial 3  lr=0.4  units=16  shape=(2,)"),
        ("trials", "2 completed, 1 stopped early, 1 failed, 1 unfinished"),
        ("workers", "2, busy 84.6% of the time, 1 lost"),
        ("run", f"{tmp_path}/my run"),
        ("load", f"experiment.load('{tmp_path}/my run')"),
        ("show", f"maggy show '{tmp_path}/my run'"),
    ]


def test_paths_are_written_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run below the working directory has a short path."""
    monkeypatch.chdir(tmp_path)
    lines = dict(closing(fold(story()), tmp_path / "runs" / "x"))
    assert lines["show"] == "maggy show runs/x"


def test_a_run_without_a_value_says_so() -> None:
    """No best is told as such; an unfinished run is called what the caller says."""
    lines = dict(closing(fold(story()[:8]), None, unfinished="killed"))
    assert lines[""] == "story killed after 1.00 s"
    assert lines["best"] == "none: no trial completed or reported"
    assert lines["trials"] == "2 running"
    assert "run" not in lines


def test_only_workers_that_came_are_counted() -> None:
    """A search by hand wants up to 16 workers; one that came is one."""
    begun, *rest = story()
    assert isinstance(begun, ExperimentStarted)
    wanted = dataclasses.replace(begun, config={**begun.config, "num_workers": 16})
    came = len({event.worker for event in rest if isinstance(event, WorkerJoined)})
    assert dict(closing(fold([wanted, *rest]), None))["workers"].startswith(f"{came}, busy")


def test_an_empty_run() -> None:
    """Nothing happened: still an outcome and counts."""
    assert closing(Summary(), None) == [
        ("", "experiment not finished after 0.00 s"),
        ("trials", "none ended"),
    ]


def test_the_first_failure_is_told_whole(tmp_path: Path) -> None:
    """Its traceback once, and where its output is."""
    assert failure(fold(story()), tmp_path).splitlines() == [
        "1 trial failed; the first, trial 1:",
        "  lr=0.2  units=64  shape=()",
        "  Traceback (most recent call last):",
        "    ...",
        "  ValueError: no such unit",
        f"  Its output: {tmp_path}/trials/000001.log",
    ]


def test_no_file_is_named_that_is_not_there(tmp_path: Path) -> None:
    """What an inline trial printed went to the driver's own output."""
    first = first_failure(fold(story()))
    assert first is not None
    inline = dataclasses.replace(first, worker="inline")
    assert failure_story(inline, tmp_path)[-1] == "ValueError: no such unit"


def test_without_failures_nothing_is_told() -> None:
    """Neither for a good run, nor for one whose only failures are raised as its own error."""
    events = [event for event in story() if not isinstance(event, TrialFailed)]
    assert failure(fold(events), None) == ""
    hopeless = [*story()[:11], ExperimentFinished(at=9.0, outcome="failed")]
    assert failure(fold(hopeless), None) == ""


def test_errors_without_a_traceback_and_with_escapes() -> None:
    """The message stands in for the traceback; control characters are shown, not sent."""
    error = TrialError(type="E", message="\x1b[2J[red]")
    events = [
        dataclasses.replace(event, error=error) if isinstance(event, TrialFailed) else event
        for event in story()
    ]
    assert failure(fold(events), None).splitlines()[2:] == [r"  E: \x1b[2J[red]"]


def test_the_first_failure_by_itself(tmp_path: Path) -> None:
    """For displays that tell it in their own way: the trial, and its story without indentation."""
    first = first_failure(fold(story()))
    assert first is not None
    assert first.id == 1
    assert failure_story(first, tmp_path)[-2:] == [
        "ValueError: no such unit",
        f"Its output: {tmp_path}/trials/000001.log",
    ]
    assert failure_story(first, None)[-1] == "ValueError: no such unit"
    assert first_failure(fold(story()[:8])) is None


def test_a_path_elsewhere_stays_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what lies below the working directory is shortened."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert str(from_here(tmp_path / "here" / "a" / "b")) == "a/b"
    assert from_here(tmp_path / "there") == tmp_path / "there"
