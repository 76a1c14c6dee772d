"""Which checkpoints are kept, and the deletion of the others.

Kept are those of every trial that may still be continued (it has not ended, or the optimizer may
promote it) and of the best trial so far.  The others are deleted as soon as their trial has ended
and its end was logged.  At the end of a run that came to its natural end only the best trial's
remain; of one that was interrupted or failed those as well that another run of it would need.
"""

from __future__ import annotations

import logging
import math
import shutil
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

from maggy.events import CheckpointSaved, TrialStarted
from maggy.trial import CheckpointName, TrialStatus, checkpoints_name, resource_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from maggy.engines.advisor import Advisor
    from maggy.engines.job import Job
    from maggy.events import Event, OptimizerFailed, SearchExhausted, Suggested, WaitSuggested
    from maggy.trial import Trial

__all__ = ["Retention"]

logger = logging.getLogger(__name__)

_DOOMED = "deleting-"


class Retention:
    """Decides on the driver's thread, deletes on one of its own.

    An optimizer that continues trials may say which, with a method ``promotable(trial) -> bool``;
    without it every completed trial may be continued.

    Args:
        job: The run.
    """

    def __init__(self, job: Job) -> None:
        self._machine = job.machine
        self._folder = job.checkpoints
        self._promotable: Callable[[Trial], bool]
        self._promotable = getattr(job.optimizer, "promotable", lambda _: True)
        self._stops_at_rungs = job.started.config.get("fidelity") == "stopping"
        self._saved: set[int] = set()
        self._ended: dict[int, None] = {}  # to be decided on, oldest first
        self._best: tuple[float, float, int] | None = None
        self._deletions = _Deletions()

    def watch(self, event: Event) -> None:
        """Take note of who has checkpoints; called with each event."""
        if isinstance(event, CheckpointSaved):
            self._saved.add(event.trial)
            if self._has_ended(event.trial):  # it came late
                self._ended[event.trial] = None
        elif isinstance(event, TrialStarted):
            self._ended.pop(event.trial, None)

    def listen(self, advisor: Advisor) -> Advisor:
        """The same advisor, overheard: it is told of each trial's end."""
        return _Overheard(advisor, self._on_end)

    def settle(self) -> None:
        """Delete what nobody needs any more; called when what has happened is in the log."""
        while self._ended:
            trial = next(iter(self._ended))
            del self._ended[trial]
            if not self._needed(trial):
                self._saved.discard(trial)
                self._delete(trial)

    def close(self) -> None:
        """Leave only what is worth keeping; when no worker is left."""
        if self._folder is not None and self._folder.is_dir():
            for entry in list(self._folder.iterdir()):
                if not entry.name.isdecimal() or not self._worth_keeping(int(entry.name)):
                    self._deletions.add(entry)
                else:
                    self._deletions.add(*_leftovers(entry))
        self._deletions.close()
        if self._folder is not None and self._folder.is_dir() and not any(self._folder.iterdir()):
            self._folder.rmdir()

    def _on_end(self, trial: Trial) -> None:
        self._ended[trial.id] = None
        if trial.status is TrialStatus.COMPLETED and trial.loss is not None:
            rank = (-self._reached(trial), trial.loss, trial.id)
            if self._best is None or rank < self._best:
                if self._best is not None:
                    self._ended[self._best[2]] = None
                self._best = rank

    def _reached(self, trial: Trial) -> float:
        """The resource at which a completed trial's loss counts, as in ``core.summary``."""
        if trial.budget is None:
            return -math.inf
        if trial.complete or not self._stops_at_rungs or not trial.steps:
            return trial.budget
        return min(trial.budget, resource_at(trial.steps))

    def _has_ended(self, trial: int) -> bool:
        trials = self._machine.trials
        return trial < len(trials) and trials[trial].status.ended

    def _needed(self, trial: int) -> bool:
        if trial not in self._saved or not self._has_ended(trial):
            return True
        if self._best is not None and self._best[2] == trial:
            return True
        record = self._machine.trials[trial]
        completed = record.status is TrialStatus.COMPLETED
        return completed and self._machine.promotes and self._promotable(record)

    def _worth_keeping(self, trial: int) -> bool:
        """Whether a trial's checkpoints outlive the run."""
        if trial >= len(self._machine.trials):
            return False
        finish = self._machine.finish
        if finish is not None and not finish.early:
            return self._best is not None and self._best[2] == trial
        self._saved.add(trial)
        return self._needed(trial)

    def _delete(self, trial: int) -> None:
        if self._folder is not None:
            self._deletions.add(self._folder / checkpoints_name(trial))


class _Overheard:
    """An advisor whose news somebody else hears too."""

    def __init__(self, advisor: Advisor, ended: Callable[[Trial], None]) -> None:
        self._advisor = advisor
        self._hear = ended

    def suggest(
        self, number: int, pending: Sequence[Trial]
    ) -> Suggested | WaitSuggested | SearchExhausted | OptimizerFailed | None:
        return self._advisor.suggest(number, pending)

    def tell(self, trial: Trial) -> OptimizerFailed | None:
        self._hear(trial)
        return self._advisor.tell(trial)

    def close(self) -> None:
        self._advisor.close()


class _Deletions:
    """Deletes folders on a thread of its own, which exists once there is something to delete."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Path | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def add(self, *paths: Path) -> None:
        """Delete these, soon."""
        for path in paths:
            self._queue.put(path)
        if paths and self._thread is None:
            self._thread = threading.Thread(
                target=self._work, name="maggy-checkpoints", daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """Return when everything is deleted."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()

    def _work(self) -> None:
        count = 0
        while (path := self._queue.get()) is not None:
            count += 1
            try:
                # Out of the way first: a worker that is late finds nothing half deleted.
                doomed = path.rename(path.with_name(f"{_DOOMED}{count}-{path.name}"))
                shutil.rmtree(doomed)
            except FileNotFoundError:
                logger.debug("%s is gone already", path)
            except OSError as error:
                logger.warning("checkpoints could not be deleted: %s: %s", path, error)


def _leftovers(folder: Path) -> Iterable[Path]:
    """What is in a trial's folder beside its newest checkpoint."""
    entries = {entry: CheckpointName.parse(entry.name) for entry in folder.iterdir()}
    newest = max((name for name in entries.values() if name is not None), default=None)
    return [entry for entry, name in entries.items() if name is None or name != newest]
