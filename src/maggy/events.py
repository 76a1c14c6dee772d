"""What the world told a run, in the past tense: the only input of the core and the whole log.

Each event carries ``at``, the seconds of the run's active time, stamped by the engine.  Values are
the user's own, never losses.  ``RECORDS`` are the run's own decisions, written down for those who
read the log; the core made them and ignores them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from maggy.trial import Hparams, Json, Resource, TrialError

__all__ = [
    "CancelRequested",
    "CheckpointSaved",
    "EngineFailed",
    "Event",
    "ExperimentFinished",
    "ExperimentStarted",
    "LogWritten",
    "MetricReported",
    "OptimizerFailed",
    "SearchExhausted",
    "StopDecided",
    "Suggested",
    "Tick",
    "TrialFailed",
    "TrialFinished",
    "TrialStarted",
    "TrialStopped",
    "WaitSuggested",
    "WorkerJoined",
    "WorkerLost",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentStarted:
    """Always the first event; ``config`` describes the run in JSON (see ``config.describe``)."""

    at: float
    config: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerJoined:
    """A worker is ready to run trials; one with ``once`` leaves after its first."""

    at: float
    worker: str
    once: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLost:
    """A worker is gone; ``reason`` is a clause such as ``"killed by signal 9 (SIGKILL)"``."""

    at: float
    worker: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggested:
    """The optimizer proposed this as trial ``trial``; replay trusts it."""

    at: float
    trial: int
    hparams: Hparams
    budget: Resource | None = None
    state: Json = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitSuggested:
    """The optimizer proposes nothing before another trial ends."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchExhausted:
    """The optimizer has nothing left to propose; ``reason`` is a sentence."""

    at: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerFailed:
    """The optimizer raised; the run ends."""

    at: float
    error: TrialError


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFailed:
    """No worker can be had, or none can load the training function; the run ends."""

    at: float
    error: TrialError


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricReported:
    """A trial broadcast ``value`` at ``step``; ``others`` are recorded, never searched."""

    at: float
    trial: int
    attempt: int
    step: int
    value: float
    others: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogWritten:
    """A trial called ``reporter.log``."""

    at: float
    trial: int
    attempt: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSaved:
    """A trial saved a checkpoint at ``step``; ``size`` is in bytes."""

    at: float
    trial: int
    attempt: int
    step: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialFinished:
    """A training function returned ``value``; ``info`` holds the other entries of its dict."""

    at: float
    trial: int
    attempt: int
    value: float
    info: Mapping[str, Json] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialFailed:
    """A training function raised, or reported something that is no number."""

    at: float
    trial: int
    attempt: int
    error: TrialError


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialStopped:
    """A training function left because it was told to stop."""

    at: float
    trial: int
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested:
    """The user wants the run to end: stop now, kill after ``grace`` seconds."""

    at: float
    grace: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A moment that the core asked for has come."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialStarted:
    """Record: attempt ``attempt`` of the trial was given to ``worker``."""

    at: float
    trial: int
    attempt: int
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StopDecided:
    """Record: the trial is told to stop, and why; numbers are in the user's own sign.

    A trial with a ``final`` value has reached its budget and is complete with this value, unless
    its training function returns another one.
    """

    at: float
    trial: int
    attempt: int
    reason: str
    threshold: float | None = None
    final: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentFinished:
    """Record: the run is over; ``outcome`` is completed, exhausted, failed or interrupted."""

    at: float
    outcome: str
    reason: str = ""


Event: TypeAlias = (
    "ExperimentStarted | WorkerJoined | WorkerLost | Suggested | WaitSuggested | SearchExhausted"
    " | OptimizerFailed | EngineFailed | MetricReported | LogWritten | CheckpointSaved"
    " | TrialFinished | TrialFailed | TrialStopped | CancelRequested | Tick | TrialStarted"
    " | StopDecided | ExperimentFinished"
)
