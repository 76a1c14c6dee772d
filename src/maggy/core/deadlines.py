"""The moments at which a run acts by itself: the limits of its time, and the ends of graces."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from maggy.trial import TrialError

if TYPE_CHECKING:
    from maggy.core.losses import Sense
    from maggy.trial import Trial

__all__ = ["Deadlines"]

_SHORTEST_GRACE, _LONGEST_GRACE = 1.0, 30.0


class Deadlines:
    """Whose time is up, and when the next one's will be; all times are seconds of active time.

    Who is told to leave at a limit gets a tenth of it for that, but 1 s at least and 30 s at most.

    Args:
        trial_timeout: How long one run of a trial may take, or None.
        time_limit: When the whole experiment is to end, or None.

    Attributes:
        limited: Whether either is given; if not, nothing is ever over or expires.
    """

    def __init__(self, *, trial_timeout: float | None, time_limit: float | None) -> None:
        self._trial_timeout = trial_timeout
        self._time_limit = time_limit
        self._limits: dict[str, float] = {}  # by worker, in the order of their times
        self._kills: dict[str, float] = {}
        self.limited = trial_timeout is not None or time_limit is not None

    @property
    def reason(self) -> str:
        """Why the experiment ends at its limit, a sentence."""
        return f"The time limit of {self._time_limit:g} s was reached."

    def begin(self, worker: str, at: float) -> None:
        """This worker has begun to run a trial."""
        if self._trial_timeout is not None:
            self._limits[worker] = at + self._trial_timeout

    def forget(self, worker: str) -> None:
        """This worker runs nothing any more."""
        self._limits.pop(worker, None)
        self._kills.pop(worker, None)

    def kill(self, worker: str, at: float) -> None:
        """Have this worker killed at ``at``, unless it is to be killed earlier."""
        self._kills[worker] = min(at, self._kills.get(worker, at))

    def kill_late(self, worker: str, at: float) -> None:
        """Have this worker killed when the grace is over that begins at ``at``."""
        assert self._time_limit is not None
        self.kill(worker, at + _grace(self._time_limit))

    def wake_at(self, *, ending: bool) -> float | None:
        """The next moment at which something is due; once the run is ending only kills are."""
        if not self._kills and not self.limited:
            return None
        moments = list(self._kills.values())
        if not ending:
            moments += islice(self._limits.values(), 1)
            moments += [] if self._time_limit is None else [self._time_limit]
        return min(moments, default=None)

    def over(self, at: float) -> bool:
        """Whether the experiment is to end."""
        return self._time_limit is not None and at >= self._time_limit

    def expire(self, at: float) -> list[tuple[str, str]]:
        """The workers whose trial has used up its time, and a clause that says so; each once.

        They are killed when their grace is over.
        """
        if self._trial_timeout is None or not self._limits:
            return []
        due = []
        for worker, limit in self._limits.items():
            if limit > at:
                break
            due.append(worker)
        for worker in due:
            del self._limits[worker]
            self.kill(worker, at + _grace(self._trial_timeout))
        reason = f"it has run for {self._trial_timeout:g} s, its `trial_timeout`"
        return [(worker, reason) for worker in due]

    def kills(self, at: float) -> list[str]:
        """The workers that are to be killed now; each is named once."""
        due = [worker for worker, moment in self._kills.items() if moment <= at]
        for worker in due:
            del self._kills[worker]
        return due

    def error(self, trial: Trial, sense: Sense, *, killed: bool) -> TrialError:
        """Why a trial fails that used up its time, and what it had reached."""
        reached = "it had reported nothing"
        if trial.losses:
            value = sense.flip(trial.losses[-1])
            reached = f"its last report was {value:.6g} at step {trial.steps[-1]}"
        left = " It did not leave when it was told to, so its worker was ended." if killed else ""
        message = (
            f"it ran longer than `trial_timeout`, {self._trial_timeout:g} s; {reached}.{left}"
        )
        return TrialError(type="Timeout", message=message)


def _grace(limit: float) -> float:
    return min(_LONGEST_GRACE, max(_SHORTEST_GRACE, limit / 10))
