"""The workers of a run, and how busy they are: a fold over events, part of ``core.summary``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maggy.events import TrialStarted, WorkerJoined, WorkerLost

__all__ = ["Crew", "WorkerRecord"]


@dataclass(slots=True, kw_only=True)
class WorkerRecord:
    """One worker.

    Attributes:
        joined: When it last joined; seconds of the run's active time.
        here: False once it is gone.
        once: It leaves after its next trial.
        trial: The trial it runs, or None.
        since: When that trial was given to it.
        busy: Seconds it spent on trials that it no longer runs.
        trials: How many it was given.
    """

    joined: float
    here: bool = True
    once: bool = False
    trial: int | None = None
    since: float = 0.0
    busy: float = 0.0
    trials: int = 0


class Crew:
    """The workers, and how busy they are.

    Utilisation is the time spent on trials over the time that workers were there, up to the moment
    when the last trial was assigned: after that, idle workers are nobody's fault.
    """

    def __init__(self) -> None:
        self.workers: dict[str, WorkerRecord] = {}
        self.lost: list[WorkerLost] = []
        self._busy = _Stopwatches()
        self._here = _Stopwatches()
        self._measured = (0.0, 0.0)

    @property
    def here(self) -> int:
        """How many workers there are now."""
        return self._here.running

    @property
    def busy(self) -> int:
        """How many workers run a trial now."""
        return self._busy.running

    @property
    def utilisation(self) -> float | None:
        """A share in [0, 1]; None if no worker was busy yet when the last trial was assigned."""
        busy, here = self._measured
        return min(1.0, busy / here) if busy > 0 else None

    def seconds(self, at: float) -> tuple[float, float]:
        """Seconds spent so far on trials that have left their worker, and on those running."""
        ended = self._busy.ended
        return ended, self._busy.total(at) - ended

    def join(self, event: WorkerJoined) -> None:
        """Take in a worker."""
        worker = self.workers.get(event.worker)
        if worker is None:
            worker = self.workers[event.worker] = WorkerRecord(joined=event.at, here=False)
        if not worker.here:
            worker.here, worker.joined = True, event.at
            self._here.start(event.at)
        worker.once = event.once

    def trial_of(self, name: str) -> int | None:
        """The trial that a worker runs."""
        worker = self.workers.get(name)
        return None if worker is None else worker.trial

    def lose(self, event: WorkerLost) -> None:
        """Let a worker go."""
        worker = self.workers.get(event.worker)
        if worker is None or not worker.here:
            return
        self.release(event.worker, event.at)
        self._leave(worker, event.at)
        self.lost.append(event)

    def assign(self, event: TrialStarted) -> None:
        """Give a worker a trial."""
        self._measured = self._busy.total(event.at), self._here.total(event.at)
        worker = self.workers.get(event.worker)
        if worker is None:
            return
        worker.trial, worker.since = event.trial, event.at
        worker.trials += 1
        self._busy.start(event.at)

    def release(self, name: str | None, at: float) -> float:
        """Take its trial from a worker; the seconds it ran."""
        worker = self.workers.get(name) if name is not None else None
        if worker is None or worker.trial is None:
            return 0.0
        seconds = at - worker.since
        worker.trial = None
        worker.busy += seconds
        self._busy.stop(worker.since, at)
        if worker.once:
            self._leave(worker, at)
        return seconds

    def _leave(self, worker: WorkerRecord, at: float) -> None:
        if worker.here:
            worker.here = False
            self._here.stop(worker.joined, at)


class _Stopwatches:
    """The sum of any number of stopwatches, in constant time."""

    __slots__ = ("_starts", "ended", "running")

    def __init__(self) -> None:
        self.ended = 0.0
        self._starts = 0.0
        self.running = 0

    def start(self, at: float) -> None:
        self._starts += at
        self.running += 1

    def stop(self, started: float, at: float) -> None:
        self._starts -= started
        self.ended += at - started
        self.running -= 1

    def total(self, at: float) -> float:
        return self.ended + self.running * at - self._starts
