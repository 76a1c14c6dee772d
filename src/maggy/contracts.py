"""The seams: what an optimizer, a stopping policy and an event log have to do.

Whoever implements one inherits its tests from ``maggy.testing``.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np

    from maggy.events import Event
    from maggy.searchspace import Searchspace
    from maggy.trial import Exhausted, Suggestion, Trial, Wait

__all__ = [
    "Decision",
    "EarlierRun",
    "EventLog",
    "Fidelity",
    "MultiFidelityOptimizer",
    "Optimizer",
    "SearchContext",
    "StoppingPolicy",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierRun:
    """What an earlier run of a related search found, in terms of the space of this one.

    Its losses are on a scale of their own: compare them with each other, not with new ones.

    Attributes:
        name: Such as ``"digits/20260131T235959Z-1f2e"``.
        trials: Trials that ended, by id; each one's hparams are a configuration of this space.
    """

    name: str
    trials: Sequence[Trial]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchContext:
    """What an optimizer knows when the search starts.

    Attributes:
        searchspace: The space to search.
        num_trials: Distinct configurations to run; None means all of a finite space.
        num_workers: How many trials run at a time.
        seed: The run's seed, for whole-run structures such as a Sobol sequence.
        takes_budget: The training function is told how far to train.
        takes_reporter: The training function can report while it trains, and be stopped.
        earlier: What earlier runs found, for optimizers that can use it.
        rungs: The resources at which trials are compared, ascending, for the sampler of an
            optimizer that has rungs; empty for everyone else.
    """

    searchspace: Searchspace
    num_trials: int | None
    num_workers: int
    seed: int
    takes_budget: bool = True
    takes_reporter: bool = True
    earlier: Sequence[EarlierRun] = ()
    rungs: Sequence[int] = ()


@runtime_checkable
class Optimizer(Protocol):
    """Proposes configurations; minimises; never sees the direction, the workers or the clock.

    An optimizer is a function of what it was told: replaying the same ``tell`` calls in the same
    order rebuilds it.  It keeps no generator.  One that sets ``suggests_inline = True`` promises
    to answer within a fraction of a millisecond and is asked on the driver's own thread; any
    other runs beside it.  One that sets ``learns = False`` says that no loss changes what it
    suggests, so it may always be asked ahead.  Modules that one names in ``preload`` are loaded
    while its first trials run.
    """

    def start(self, context: SearchContext) -> None:
        """Get ready for a search; called once, before anything else.

        Raises:
            ConfigError: The optimizer cannot search this space.
        """
        ...

    def ask(
        self, number: int, pending: Sequence[Trial], rng: np.random.Generator
    ) -> Suggestion | Wait | Exhausted:
        """Propose what to run next.

        Args:
            number: The id that a new configuration will get.
            pending: Every trial that has not ended: handed out, running, or waiting for a worker.
                It may be a view of them that changes: copy what is kept beyond the call.
            rng: A generator derived from ``(seed, number)``; the only source of randomness.
        """
        ...

    def tell(self, trial: Trial) -> None:
        """Learn that a run of this trial ended (completed, stopped or failed), in log order.

        A trial that was continued is told again, which replaces what was told of it before.
        """
        ...


class Fidelity(enum.Enum):
    """How trials come to train longer; see ``docs/asha.md``."""

    PROMOTION = "promotion"
    """A run trains up to a budget and returns; a promoted trial runs again with a larger one."""
    STOPPING = "stopping"
    """A trial trains on and is judged at each rung that its reports reach."""
    SINGLE = "single"
    """Each trial runs once, with the largest budget."""


@runtime_checkable
class MultiFidelityOptimizer(Optimizer, Protocol):
    """An optimizer whose suggestions have budgets.

    Attributes:
        fidelity: Decided in ``start`` from what the training function takes.
        rungs: After ``start``: judges every report of every trial, or None.
    """

    fidelity: Fidelity
    rungs: StoppingPolicy | None

    def with_sampler(self, wrap: Callable[[Optimizer], Optimizer]) -> Optimizer:
        """The same, not started, with another source of new configurations: the wrapped one."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether a trial goes on, and why not.

    Attributes:
        stop: True to stop the trial.
        reason: A sentence for the user; required when ``stop``.  It may name entries of ``losses``
            as ``{name}``: the core fills them in, in the user's own sign.
        threshold: The loss that the trial failed to beat, if there is one.
        complete: The stopped trial has done all that was wanted of it: it ends as completed, with
            its newest loss.
        losses: Losses that the sentence mentions.
    """

    stop: bool
    reason: str = ""
    threshold: float | None = None
    complete: bool = False
    losses: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.stop and not self.reason:
            msg = "`reason` must be a sentence when `stop` is true, but it is empty."
            raise ValueError(msg)
        if self.threshold is not None:  # a numpy scalar cannot be logged
            object.__setattr__(self, "threshold", float(self.threshold))


@runtime_checkable
class StoppingPolicy(Protocol):
    """Stops hopeless trials; a fold over what it sees, in losses.

    The core asks only after ``es_min`` trials completed and at every ``es_interval``-th report.
    """

    def finished(self, trial: Trial) -> None:
        """Learn that a trial ended (completed, stopped or failed), in log order.

        A trial that was promoted ends again, which replaces what was learned from it before.
        """
        ...

    def decide(self, trial: Trial) -> Decision:
        """Judge a running trial right after its newest report; O(log n) in the trials seen."""
        ...


class EventLog(Protocol):
    """The store of a run: append-only, written by the driver alone, readable by anyone."""

    def append(self, event: Event) -> None:
        """Add an event; it is on its way to the disk, and safe after ``commit``."""
        ...

    def commit(self) -> None:
        """Make everything appended so far survive the death of this process."""
        ...

    def read(self, start: int = 0) -> Iterator[Event]:
        """The committed events from number ``start``, in order."""
        ...
