"""A run of another process, followed through its log as it grows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from maggy.core.summary import Summary
from maggy.store.sqlite import SqliteLog, is_live
from maggy.trial import TrialStatus
from maggy.views.forecast import time_left

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from maggy.events import Event
    from maggy.store.folder import RunFolder

__all__ = ["Follower", "state_json"]


class Follower:
    """Reads what is new in a run's log; the log is open only while it is read.

    Args:
        place: The run.
        clock: Seconds from any moment on, such as ``time.monotonic``.
        wall: Seconds since 1970: tells how long ago the log was written when it is first read.

    Attributes:
        path: The run's folder.
        summary: The run, as far as it was read.
        live: Whether its driver was there just before the latest reading.
    """

    def __init__(
        self, place: RunFolder, clock: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        self.path = place.path
        self.summary = Summary()
        self.live = True
        self._place = place
        self._clock = clock
        self._wall = wall
        self._read = 0
        self._fresh: float | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more will come: the run has ended, or its driver is gone."""
        return self.summary.finished is not None or not self.live

    @property
    def unfinished(self) -> str:
        """What to call the run as long as its end is not in the log."""
        return "running" if self.live else "killed"

    def poll(self) -> Sequence[Event]:
        """The events since the last call, counted into ``summary``.

        Raises:
            RunError: The log is damaged.
        """
        self.live = is_live(self._place.database)  # before reading: what it wrote last is read yet
        with SqliteLog.open(self._place.database) as log:
            news = list(log.read(self._read))
        for event in news:
            self.summary.apply(event)
        self._read += len(news)
        if self._fresh is None:
            self._fresh = self._clock() - self._age()
        elif news:
            self._fresh = self._clock()
        return news

    def now(self) -> float:
        """Seconds of the run's active time, about."""
        if self._fresh is None or self.over:
            return self.summary.now
        return self.summary.now + max(0.0, self._clock() - self._fresh)

    def _age(self) -> float:
        """Seconds since the log was last written."""
        database = self._place.database
        files = (database, database.with_name(f"{database.name}-wal"))
        written = max((file.stat().st_mtime for file in files if file.exists()), default=0.0)
        return max(0.0, self._wall() - written)


def state_json(summary: Summary, now: float, unfinished: str) -> dict[str, Any]:
    """How a run stands, for programs."""
    best, counts, finished = summary.standing.best, summary.counts, summary.finished
    return {
        "name": summary.name,
        "outcome": unfinished if finished is None else finished.outcome,
        "at": round(now, 3),
        "num_trials": summary.num_trials,
        "ended": summary.ended,
        "running": summary.running,
        "completed": counts[TrialStatus.COMPLETED],
        "early_stopped": counts[TrialStatus.STOPPED],
        "failed": counts[TrialStatus.FAILED],
        "best_id": None if best is None else best[0],
        "best_val": None if best is None else best[1],
        "best_hp": None if best is None else dict(summary.trials[best[0]].hparams),
        "workers": summary.crew.here,
        "utilisation": summary.crew.utilisation,
        "time_left": None if finished is not None else time_left(summary, now),
    }
