"""Messages of workers become events of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from maggy.events import (
    CheckpointSaved,
    EngineFailed,
    LogWritten,
    MetricReported,
    TrialFailed,
    TrialFinished,
    TrialStopped,
    WorkerJoined,
)
from maggy.wire.messages import (
    Failed,
    Finished,
    Heartbeat,
    Hello,
    Logged,
    Ready,
    Report,
    Saved,
    SetupFailed,
    Stopped,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maggy.events import Event
    from maggy.wire.messages import FromWorker

__all__ = ["events_of"]


def events_of(worker: str, message: FromWorker, at: float) -> Sequence[Event]:  # noqa: C901 - a table
    """What this message of this worker tells the run, in order."""
    match message:
        case Report(trial=trial, attempt=attempt, points=points):
            return [
                MetricReported(
                    at=at, trial=trial, attempt=attempt, step=step, value=value, others=others
                )
                for step, value, others in points
            ]
        case Finished(trial=trial, attempt=attempt, value=value, info=info):
            return [TrialFinished(at=at, trial=trial, attempt=attempt, value=value, info=info)]
        case Failed(trial=trial, attempt=attempt, error=error):
            return [TrialFailed(at=at, trial=trial, attempt=attempt, error=error)]
        case Stopped(trial=trial, attempt=attempt):
            return [TrialStopped(at=at, trial=trial, attempt=attempt)]
        case Logged(trial=trial, attempt=attempt, text=text):
            return [LogWritten(at=at, trial=trial, attempt=attempt, text=text)]
        case Saved(trial=trial, attempt=attempt, step=step, size=size):
            return [CheckpointSaved(at=at, trial=trial, attempt=attempt, step=step, size=size)]
        case Ready():
            return [WorkerJoined(at=at, worker=worker)]
        case SetupFailed(error=error):
            return [EngineFailed(at=at, error=error)]
        case Hello() | Heartbeat():
            return []
        case _:
            assert_never(message)
