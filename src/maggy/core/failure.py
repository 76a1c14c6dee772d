"""What ends a run early, and whether failures are one and the same mistake."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maggy.trial import TrialError

__all__ = ["Blame", "Failure", "same_failure"]

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
