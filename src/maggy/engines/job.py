"""A search that is ready to be run: what every engine gets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from maggy.engines.resources import Allotment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from maggy.contracts import EventLog, Optimizer
    from maggy.core.machine import ExperimentMachine
    from maggy.events import Event, ExperimentStarted
    from maggy.searchspace import Searchspace
    from maggy.worker.injection import Plan

__all__ = ["Engine", "Job"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run, with everything checked.

    Attributes:
        machine: Decides; new.
        log: Keeps the events; empty.
        started: The first event.
        optimizer: Proposes; started.
        space: What is searched.
        seed: The run's seed.
        plan: How the training function is called.
        optimization_key: Name of the metric in a returned dict.
        hb_interval: The longest silence of a worker, seconds.
        num_workers: Trials at a time.
        trial_logs: The folder for the output of the trials.
        checkpoints: The folder for what trials save, or None: they can save nothing.
        allotment: What each worker gets to itself.
    """

    machine: ExperimentMachine
    log: EventLog
    started: ExperimentStarted
    optimizer: Optimizer
    space: Searchspace
    seed: int
    plan: Plan
    optimization_key: str
    hb_interval: float
    num_workers: int
    trial_logs: Path
    checkpoints: Path | None = None
    allotment: Allotment = field(default_factory=Allotment)

    @property
    def ended_early(self) -> bool:
        """True when the run failed or was interrupted, instead of coming to its natural end."""
        finish = self.machine.finish
        return finish is not None and finish.early


class Engine(Protocol):
    """Gets a job done; built with the training function and what the config provides.

    Building it checks what can be checked before anything is created, such as whether the function
    can be sent to a worker.

    Attributes:
        notes: What the user should know before the run begins; sentences without a full stop.
    """

    @property
    def notes(self) -> Sequence[str]:
        """See above."""
        ...

    def run(self, job: Job, feed: Callable[[Sequence[Event]], None]) -> None:
        """Run the job to its end; ``job.machine.finish`` then says how it ended.

        Args:
            job: What to run.
            feed: Called on the calling thread, a few times a second, with the events that
                happened since.

        Raises:
            MaggyError: The engine itself, or the log, failed.
            KeyboardInterrupt: Ctrl-C came when the run had come to its natural end already.
        """
        ...
