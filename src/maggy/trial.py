"""Trials and suggestions: the records that optimizers, policies and the core share.

Losses, not values: a ``Trial`` holds what optimizers and policies minimise.  The user's own values
live in the events and in what the views make of them.
"""

from __future__ import annotations

import enum
import re
from bisect import bisect_left
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "CheckpointName",
    "Exhausted",
    "Hparams",
    "Json",
    "Resource",
    "Suggestion",
    "Trial",
    "TrialError",
    "TrialStatus",
    "Value",
    "Wait",
    "checkpoints_name",
    "log_name",
    "overran",
    "resource_at",
]

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
Value: TypeAlias = "bool | int | float | str | tuple[Value, ...] | None"
"""A hyperparameter's value: plain Python, compared by type and value (``True`` is not ``1``)."""

Hparams: TypeAlias = "Mapping[str, Value]"
Resource: TypeAlias = "int | float"
"""A budget in the user's own unit, usually epochs."""


class TrialStatus(enum.Enum):
    """Where a trial is; ``docs/states.md`` says what each state means and who holds it."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """True when the trial will not change any more (unless a promotion continues it)."""
        return self in _ENDED


_ENDED = frozenset({TrialStatus.COMPLETED, TrialStatus.STOPPED, TrialStatus.FAILED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """What an optimizer proposes to run next.

    Attributes:
        hparams: One configuration of the search space, plain Python values.
        budget: The total resource to have reached on return; None without multi-fidelity.
        continues: The id of the trial that this promotes, or None for a new configuration.
        state: A small JSON value that the optimizer wants to find again in the log.
    """

    hparams: Hparams
    budget: Resource | None = None
    continues: int | None = None
    state: Json = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to suggest until another trial ends."""


@dataclass(frozen=True, slots=True)
class Exhausted:
    """Nothing to suggest any more; ``reason`` is a sentence for the user."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialError:
    """Why a trial failed.

    Attributes:
        type: The exception's class name, or ``"WorkerLost"``.
        message: The exception's text.
        traceback: The formatted traceback, ``""`` when there is none.
        output: The last lines of the trial's own output.
    """

    type: str
    message: str
    traceback: str = ""
    output: str = ""

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


@dataclass(slots=True, kw_only=True)
class Trial:
    """One configuration and what is known of it; the core changes it, everyone else reads it.

    Attributes:
        id: Counts from 0 in the order of suggestion.
        hparams: The configuration.
        budget: The total resource the current run is to reach, or None.
        status: Where it is.
        attempt: The number of the current run, from 0; a lost worker and a promotion add one.
        lost: How many of its workers were lost since it was suggested or promoted.
        worker: Who runs it now, or None.
        steps: Steps reported by the current configuration, ascending.
        losses: The loss at each of these steps, same length.
        loss: The final loss of a completed trial, the last one of a stopped trial, else None.
        stop_reason: Why it was stopped, a sentence; ``""`` if it was not.
        complete: Told to leave because it has reached its budget: it ends as completed.
        threshold: The loss that stopped it, if the policy gave one.
        error: Why it failed.
        fresh: True until the current attempt reports for the first time.
    """

    id: int
    hparams: Hparams
    budget: Resource | None = None
    status: TrialStatus = TrialStatus.PENDING
    attempt: int = 0
    lost: int = 0
    worker: str | None = None
    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    loss: float | None = None
    stop_reason: str = ""
    complete: bool = False
    threshold: float | None = None
    error: TrialError | None = None
    fresh: bool = True

    def restart_curve(self, step: int) -> None:
        """Begin an attempt's curve at ``step``; earlier attempts' points from there are void."""
        keep = bisect_left(self.steps, step)
        del self.steps[keep:]
        del self.losses[keep:]
        self.fresh = False

    def continue_to(self, budget: Resource | None) -> None:
        """Begin a run with a larger budget; the curve stands until that run reports."""
        self.budget = budget
        self.attempt += 1
        self.lost = 0
        self.loss = None
        self.stop_reason, self.threshold, self.complete = "", None, False

    def snapshot(self) -> Trial:
        """A copy that no longer changes, for an optimizer on another thread."""
        return replace(self, steps=list(self.steps), losses=list(self.losses))


def resource_at(steps: Sequence[int]) -> int:
    """The resource that a curve has reached: its last step, or one more if it began at step 0.

    >>> resource_at([0, 1, 2]), resource_at([1, 2]), resource_at([])
    (3, 2, 0)
    """
    if not steps:
        return 0
    return steps[-1] if steps[0] >= 1 else steps[-1] + 1


def overran(budget: Resource | None, steps: Sequence[int]) -> bool:
    """Whether a curve goes beyond the budget."""
    return budget is not None and resource_at(steps) > budget


def log_name(trial: int) -> str:
    """The file, inside a run's ``trials/`` folder, that holds the output of this trial."""
    return f"{trial:06d}.log"


def checkpoints_name(trial: int) -> str:
    """The folder, inside a run's ``checkpoints/`` folder, that holds those of this trial."""
    return f"{trial:06d}"


class CheckpointName(NamedTuple):
    """The name of one checkpoint's folder, which tells all there is to know about it.

    Names sort by age.  Since the folder gets its name by one rename after its content was
    written, the name and the content are there together or not at all.

    Attributes:
        attempt: The attempt of the trial that saved or took over the checkpoint.
        number: Counts the checkpoints of this attempt from 1; 0 is the one it took over.
        step: The step at which it was saved.
        size: Bytes.
        crc: The CRC-32 of the step, the names and the content.
    """

    attempt: int
    number: int
    step: int
    size: int
    crc: int

    def __str__(self) -> str:
        return f"{self.attempt:04d}-{self.number:06d}-{self.step}-{self.size}-{self.crc:08x}"

    @classmethod
    def parse(cls, text: str) -> CheckpointName | None:
        """The name in this text, or None: it is none."""
        match = _CHECKPOINT.fullmatch(text)
        if match is None:
            return None
        attempt, number, step, size, crc = match.groups()
        return cls(int(attempt), int(number), int(step), int(size), int(crc, 16))


_CHECKPOINT = re.compile(r"(\d{4,18})-(\d{6,18})-(\d{1,19})-(\d{1,19})-([0-9a-f]{8})", re.ASCII)
