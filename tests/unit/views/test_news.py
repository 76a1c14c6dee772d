"""Unit tests of ``maggy.views.news``."""

from __future__ import annotations

import dataclasses

import pytest

from maggy.core.summary import Summary
from maggy.events import (
    ExperimentFinished,
    ExperimentStarted,
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
from maggy.testing.stores import story
from maggy.trial import TrialError
from maggy.views.news import headline, is_news, latest, notes, sentence


def told() -> list[str]:
    """The sentences of the story, each right after its event."""
    summary, sentences = Summary(), []
    for event in story():
        summary.apply(event)
        if is_news(event) and (text := sentence(event, summary)) is not None:
            sentences.append(text)
    return sentences


def test_the_story_in_sentences() -> None:
    """Ends, stops, failures, losses and the interruption are told; the rest is silent."""
    assert told() == [
        "trial 1 failed: ValueError: no such unit  lr=0.2  units=64  shape=()",
        "trial 0 completed: 0.625 (best so far)  lr=0.1  units=32  shape=(3, (4, 5))  [2.00 s]",
        "trial 2 stopped: 0.1 at step 1 is below the median 0.55 of 1 trial",
        "worker w1 lost: killed by signal 9 (SIGKILL); trial 3 will run again",
        "trial 3 completed: 0.875 (best so far)  lr=0.4  units=16  shape=(2,)  [budget 3, 3.00 s]",
        "All 6 configurations were tried.",
        "the optimizer failed: RuntimeError: no more ideas",
        "the workers failed: RuntimeError: no more ideas",
        "interrupted: running trials have 0.50 s to leave",
    ]


def test_what_is_silent_has_no_sentence() -> None:
    """An event that is no news has no words either."""
    summary = Summary()
    for event in story():
        if not is_news(event):
            assert sentence(event, summary) is None


def test_late_messages_are_not_told() -> None:
    """An end of an attempt that is over, or of no trial at all, is not told."""
    summary = Summary()
    for event in story():
        summary.apply(event)
    assert sentence(TrialFinished(at=9.0, trial=3, attempt=0, value=1.0), summary) is None
    assert sentence(TrialStopped(at=9.0, trial=99, attempt=0), summary) is None
    error = TrialError(type="E", message="")
    assert sentence(TrialFailed(at=9.0, trial=0, attempt=0, error=error), summary) is None
    assert sentence(TrialStopped(at=9.0, trial=0, attempt=0), summary) is None


def test_who_is_told_to_leave_at_the_last_rung_has_completed() -> None:
    """With ASHA's stopping variant this is how a trial completes, and it is told as completed."""
    summary = Summary()
    for event in (
        ExperimentStarted(at=0.0, config={"direction": "max"}),
        Suggested(at=0.0, trial=0, hparams={"x": 1}),
        WorkerJoined(at=0.0, worker="w"),
        TrialStarted(at=0.0, trial=0, attempt=0, worker="w"),
        MetricReported(at=2.0, trial=0, attempt=0, step=3, value=0.5),
        StopDecided(at=2.0, trial=0, attempt=0, reason="it has reached 4", final=0.5),
    ):
        summary.apply(event)
    end = TrialStopped(at=3.0, trial=0, attempt=0)
    summary.apply(end)
    assert sentence(end, summary) == "trial 0 completed: 0.5 (best so far)  x=1  [3.00 s]"


def test_what_a_promoted_trial_had_completed_is_told() -> None:
    """Though its next run has begun before the display was drawn; an older one is not."""
    summary = Summary()
    end = TrialFinished(at=2.0, trial=0, attempt=0, value=0.5)
    for event in (
        ExperimentStarted(at=0.0, config={"direction": "max"}),
        Suggested(at=0.0, trial=0, hparams={"x": 1}, budget=1),
        WorkerJoined(at=0.0, worker="w"),
        TrialStarted(at=0.0, trial=0, attempt=0, worker="w"),
        end,
        Suggested(at=2.0, trial=0, hparams={"x": 1}, budget=3),
        TrialStarted(at=2.0, trial=0, attempt=1, worker="w"),
    ):
        summary.apply(event)
    told = "trial 0 completed: 0.5 (best so far)  x=1  [budget 1, 2.00 s]"
    assert sentence(end, summary) == told
    summary.apply(TrialFinished(at=3.0, trial=0, attempt=1, value=0.75))
    assert sentence(end, summary) is None


def test_the_end_of_a_run_loses_no_workers() -> None:
    """Workers that go when the run is over, or was interrupted, are not lost."""
    summary = Summary()
    lost = WorkerLost(at=1.0, worker="w", reason="exited")
    assert sentence(lost, summary) == "worker w lost: exited"
    summary.apply(ExperimentFinished(at=1.0, outcome="completed"))
    assert sentence(lost, summary) is None


def test_users_text_stays_text() -> None:
    """Errors and names cannot send escape sequences or lines of their own."""
    summary = Summary()
    for event in story()[:12]:
        if isinstance(event, TrialFailed):
            evil = TrialError(type="E", message="a\nb\x1b[31m[bold]")
            event = dataclasses.replace(event, error=evil)  # noqa: PLW2901
            summary.apply(event)
            assert sentence(event, summary) == (
                r"trial 1 failed: E: a b\x1b[31m[bold]  lr=0.2  units=64  shape=()"
            )
            return
        summary.apply(event)
    pytest.fail("the story has a failure")


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({}, "maximising metric"),
        (
            {
                "optimizer": "gp",
                "num_trials": 1200,
                "direction": "min",
                "optimization_key": "loss",
            },
            "gp, 1,200 trials, minimising loss",
        ),
        ({"num_trials": 1}, "1 trial, maximising metric"),
        ({"optimizer": {"kind": "own"}, "num_trials": None}, "maximising metric"),
    ],
)
def test_headlines(config: dict[str, object], text: str) -> None:
    """What is searched, as far as it is known."""
    summary = Summary()
    summary.apply(ExperimentStarted(at=0.0, config=config))  # type: ignore[arg-type]
    assert headline(summary) == text


def test_the_latest_news_are_told_with_their_tone() -> None:
    """Losses, stops and failures, oldest first, no more than wanted; completions are counted."""
    summary, events = Summary(), story()
    for event in events[:-2]:
        summary.apply(event)
    assert [(at, tone) for at, _, tone in latest(events, summary, 9)] == [
        *((1.5, "bad"), (3.5, "stop"), (5.5, ""), (5.5, "bad"), (5.5, "bad"), (6.0, "stop"))
    ]
    told = latest(events, summary, 2)
    assert [words for _, words, _ in told] == [
        "the workers failed: RuntimeError: no more ideas",
        "interrupted: running trials have 0.50 s to leave",
    ]
    assert latest([], summary, 9) == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["One.", "Two\nlines \x1b[0m."], ["One.", "Two lines \\x1b[0m."]),
        ([str(i) for i in range(9)], ["0", "1", "2", "3", "4", "and 4 more notes"]),
        ([str(i) for i in range(6)], ["0", "1", "2", "3", "4", "and 1 more note"]),
        ("a log of another version", []),
        (None, []),
    ],
)
def test_notes_on_the_search(given: object, told: list[str]) -> None:
    """The first ones, on one line each, and how many more there are."""
    summary = Summary()
    assert notes(summary) == []
    summary.apply(ExperimentStarted(at=0.0, config={"notes": given}))  # type: ignore[dict-item]
    assert notes(summary) == told
