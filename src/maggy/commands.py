"""What the core wants done, in the imperative; the engine carries it out, after logging."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from maggy.trial import Hparams, Resource, TrialError

__all__ = [
    "Assign",
    "Command",
    "Finish",
    "GiveUp",
    "Interrupt",
    "Kill",
    "Note",
    "Shutdown",
    "StopTrial",
    "Suggest",
    "Tell",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggest:
    """Ask the optimizer; ``number`` is the id that a new configuration will get.

    With ``ahead`` no worker waits for the answer.
    """

    number: int
    ahead: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tell:
    """Tell the optimizer that this trial ended; once per ended run of a trial, in log order."""

    trial: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Assign:
    """Run this trial on this worker, and record ``TrialStarted``."""

    worker: str
    trial: int
    attempt: int
    hparams: Hparams
    budget: Resource | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StopTrial:
    """Tell the worker to leave this trial, and record ``StopDecided``.

    ``threshold`` and ``final`` are in the user's own sign; a trial with a ``final`` value is
    complete with it once it has left.
    """

    worker: str
    trial: int
    attempt: int
    reason: str
    threshold: float | None = None
    final: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupt:
    """Tell the worker to leave this trial although nobody judged it: the trial has no result.

    ``reason`` is a clause; by default the run ends, and the trial stays unfinished.
    """

    worker: str
    trial: int
    attempt: int
    reason: str = "the run ends"


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """This trial gets no other run: the engine answers with ``TrialFailed``."""

    trial: int
    attempt: int
    error: TrialError


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """End this worker by force; the engine answers with ``WorkerLost``."""

    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shutdown:
    """Nothing is left to do for this worker: let it go."""

    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something was ignored; ``text`` says what and why.  For the log of diagnosis."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The run is over; record ``ExperimentFinished``.

    ``outcome`` is completed, exhausted, failed or interrupted; ``reason`` is a sentence.
    """

    outcome: str
    reason: str = ""

    @property
    def early(self) -> bool:
        """Whether the run failed or was interrupted, instead of coming to its natural end."""
        return self.outcome in ("failed", "interrupted")


Command: TypeAlias = (
    "Suggest | Tell | Assign | StopTrial | Interrupt | GiveUp | Kill | Shutdown | Note | Finish"
)
