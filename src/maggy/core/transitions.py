"""Every legal move of a trial and of a worker, as data.

Rules for whoever edits this file: a move that is not listed is illegal, and the machine raises
``TransitionError`` for it.  A key is the event that was heard or the command that was given.
``docs/states.md`` explains the states in words.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

from maggy.commands import Assign, StopTrial
from maggy.events import (
    Suggested,
    TrialFailed,
    TrialFinished,
    TrialStopped,
    WorkerJoined,
    WorkerLost,
)
from maggy.trial import TrialStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TRIAL_MOVES", "WORKER_MOVES", "WorkerStatus"]


class WorkerStatus(enum.Enum):
    """Where a worker is."""

    IDLE = "idle"
    BUSY = "busy"
    GONE = "gone"


TRIAL_MOVES: Mapping[TrialStatus, Mapping[type[Any], TrialStatus]] = {
    TrialStatus.PENDING: {
        Assign: TrialStatus.RUNNING,
        TrialFailed: TrialStatus.FAILED,  # it lost too many workers, or its time is up
    },
    TrialStatus.RUNNING: {
        TrialFinished: TrialStatus.COMPLETED,
        TrialFailed: TrialStatus.FAILED,
        StopTrial: TrialStatus.STOPPING,
        TrialStopped: TrialStatus.PENDING,  # interrupted, not judged: unfinished, or out of time
        WorkerLost: TrialStatus.PENDING,
    },
    TrialStatus.STOPPING: {
        TrialStopped: TrialStatus.STOPPED,
        TrialFinished: TrialStatus.COMPLETED,  # it ended before the stop arrived
        TrialFailed: TrialStatus.FAILED,
        WorkerLost: TrialStatus.STOPPED,  # judged already: not worth another run
    },
    TrialStatus.COMPLETED: {Suggested: TrialStatus.PENDING},  # a promotion
    TrialStatus.STOPPED: {},
    TrialStatus.FAILED: {},
}

WORKER_MOVES: Mapping[WorkerStatus, Mapping[type[Any], WorkerStatus]] = {
    WorkerStatus.IDLE: {Assign: WorkerStatus.BUSY, WorkerLost: WorkerStatus.GONE},
    WorkerStatus.BUSY: {
        TrialFinished: WorkerStatus.IDLE,
        TrialFailed: WorkerStatus.IDLE,
        TrialStopped: WorkerStatus.IDLE,
        WorkerLost: WorkerStatus.GONE,
    },
    WorkerStatus.GONE: {WorkerJoined: WorkerStatus.IDLE},
}
