"""What of the events is worth telling, one sentence each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maggy.events import (
    CancelRequested,
    EngineFailed,
    OptimizerFailed,
    SearchExhausted,
    TrialFailed,
    TrialFinished,
    TrialStopped,
    WorkerLost,
)
from maggy.trial import TrialStatus
from maggy.views.wording import configuration, count, number, one_line, seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maggy.core.summary import Summary, TrialRecord
    from maggy.events import Event

__all__ = ["ENDS", "headline", "is_news", "latest", "notes", "sentence"]

ENDS = (TrialFinished, TrialStopped, TrialFailed)
_NEWS = frozenset(
    {*ENDS, WorkerLost, OptimizerFailed, EngineFailed, SearchExhausted, CancelRequested}
)

_TONES: dict[type[Event], str] = {
    TrialStopped: "stop",
    TrialFailed: "bad",
    WorkerLost: "bad",
    OptimizerFailed: "bad",
    EngineFailed: "bad",
    SearchExhausted: "",
    CancelRequested: "stop",
}
"""What a display that shows the counts tells beside them, and how."""

_NOTES = 5


def is_news(event: Event) -> bool:
    """Whether people may want to read of this event; as cheap as can be."""
    return type(event) in _NEWS


def headline(summary: Summary) -> str:
    """What is searched and how, such as ``randomsearch, 40 trials, maximising accuracy``."""
    config = summary.config
    parts = [config["optimizer"]] if isinstance(config.get("optimizer"), str) else []
    if summary.num_trials is not None:
        parts.append(count(summary.num_trials, "trial"))
    verb = "maximising" if summary.maximise else "minimising"
    parts.append(f"{verb} {one_line(str(config.get('optimization_key', 'metric')))}")
    return ", ".join(str(part) for part in parts)


def notes(summary: Summary) -> list[str]:
    """Sentences on what the search will do, to be shown at its start; of many, the first."""
    given = summary.config.get("notes", ())
    told = [one_line(str(note)) for note in given] if isinstance(given, (list, tuple)) else []
    hidden = len(told) - _NOTES
    return [*told[:_NOTES], *([f"and {count(hidden, 'more note')}"] if hidden > 0 else [])]


def latest(news: Sequence[Event], summary: Summary, most: int) -> list[tuple[float, str, str]]:
    """The last events that matter, oldest first: when, a sentence, and bad, stop or ``""``.

    What more than ``most`` of them would push out is not even worded.  Trials that complete are
    seen in the counts.
    """
    found: list[tuple[float, str, str]] = []
    for event in reversed(news):
        if len(found) == most:
            break
        tone = _TONES.get(type(event))
        words = sentence(event, summary) if tone is not None else None
        if tone is not None and words is not None:
            found.append((event.at, words, tone))
    return found[::-1]


def sentence(event: Event, summary: Summary) -> str | None:
    """The event in words, on one line; None if it is not worth telling or came too late.

    Args:
        event: What happened.
        summary: The run, in which this event is counted already.
    """
    match event:
        case TrialFinished() | TrialStopped() | TrialFailed():
            record = summary.trials.get(event.trial)
            if record is None or not (record.attempt == event.attempt or _went_on(event, record)):
                return None
            return _end(event, record, summary)
        case WorkerLost():
            return _loss(event, summary)
        case CancelRequested():
            return f"interrupted: running trials have {seconds(event.grace)} to leave"
        case OptimizerFailed():
            return f"the optimizer failed: {one_line(str(event.error))}"
        case EngineFailed():
            return f"the workers failed: {one_line(str(event.error))}"
        case SearchExhausted():
            return one_line(event.reason)
        case _:
            return None


def _end(
    event: TrialFinished | TrialStopped | TrialFailed, record: TrialRecord, summary: Summary
) -> str | None:
    match event:
        case TrialFinished():
            value = event.value if record.value is None else record.value  # that of a rung, if any
            return _completed(value, record, summary)
        case TrialFailed():
            what = f"{one_line(str(event.error))}  {configuration(record.hparams)}"
            return f"trial {record.id} failed: {what}" if _is(record, "FAILED") else None
        case TrialStopped():
            if record.final is not None and _is(record, "COMPLETED"):
                return _completed(record.final, record, summary)
            reason = one_line(record.stop_reason)
            return f"trial {record.id} stopped: {reason}" if _is(record, "STOPPED") else None


def _completed(value: float, record: TrialRecord, summary: Summary) -> str:
    best = summary.standing.best
    mark = " (best so far)" if best is not None and best[0] == record.id else ""
    what = f"{number(value)}{mark}  {configuration(record.hparams)}"
    budget = "" if record.reached is None else f"budget {number(record.reached)}, "
    return f"trial {record.id} completed: {what}  [{budget}{seconds(record.duration)}]"


def _went_on(event: TrialFinished | TrialStopped | TrialFailed, record: TrialRecord) -> bool:
    """Whether the trial has completed this run, and was promoted before that could be told."""
    return (
        isinstance(event, TrialFinished)
        and event.attempt == record.attempt - 1
        and event.value == record.value
        and record.reached != record.budget
    )


def _is(record: TrialRecord, status: str) -> bool:
    return record.status is TrialStatus[status]


def _loss(event: WorkerLost, summary: Summary) -> str | None:
    """The loss of a worker; not the natural end of workers when the run is over."""
    if summary.cancelled or summary.finished is not None:
        return None
    waiting = [
        f"; trial {trial.id} will run again"
        for trial in summary.trials.values()
        if trial.status is TrialStatus.PENDING and trial.runs and trial.worker == event.worker
    ]
    return f"worker {one_line(event.worker)} lost: {one_line(event.reason)}{''.join(waiting[:1])}"
