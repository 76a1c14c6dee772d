"""What ends a run or a trial early, and whether failures are one and the same mistake."""

from __future__ import annotations

import enum
import re
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

from maggy.trial import TrialError, TrialStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maggy.trial import Trial

__all__ = [
    "Blame",
    "Failure",
    "FirstFailures",
    "raised",
    "same_failure",
    "too_often_lost",
]

_NUMBER = re.compile(r"0x[0-9a-fA-F]+|[-+]?\d+(\.\d+)?([eE][-+]?\d+)?")


class Blame(enum.Enum):
    """Whose error ended the run."""

    TRIALS = "trials"
    WORKERS = "workers"
    OPTIMIZER = "optimizer"
    POLICY = "policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The error that ended a run, and whose it is."""

    blame: Blame
    error: TrialError


def same_failure(errors: Sequence[TrialError]) -> bool:
    """True when all are of one type and their messages differ in numbers only.

    Numbers are left out because one mistake reads differently for each configuration
    (``shapes (32,) and (64,)``).
    """
    return len({(error.type, _NUMBER.sub("#", error.message)) for error in errors}) == 1


class FirstFailures:
    """Watches whether a run's first trials all fail alike.

    Args:
        number: How many trials that are; None: it does not matter.
    """

    def __init__(self, number: int | None) -> None:
        self._number = number or 0
        self._errors: list[TrialError] = []
        self._hopeful = False

    def add(self, trial: Trial) -> tuple[TrialError, str] | None:
        """Count the end of a trial.

        Returns:
            Once, when all of the first trials have failed alike: their error, and a sentence.
        """
        error = trial.error if trial.status is TrialStatus.FAILED else None
        if error is None:
            self._hopeful = True
        if error is None or self._hopeful or len(self._errors) >= self._number:
            return None
        self._errors.append(error)
        if len(self._errors) < self._number or not same_failure(self._errors):
            return None
        who = f"All of the first {self._number} trials" if self._number > 1 else "The only trial"
        return self._errors[0], f"{who} failed"


def raised(error: Exception) -> TrialError:
    """What a user's policy raised, whole."""
    text = "".join(traceback.format_exception(error))
    return TrialError(type=type(error).__name__, message=str(error), traceback=text)


def too_often_lost(trial: Trial, reason: str) -> TrialError:
    """Why a trial fails that has lost too many workers; ``reason`` is the last loss's."""
    message = (
        f"its worker was lost {trial.lost} times, the last time with: {reason}. "
        f"maggy does not run it again."
    )
    return TrialError(type="WorkerLost", message=message)
