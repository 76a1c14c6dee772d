"""The optimizer that suits the search, chosen when it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maggy.optimizer.history import require_hyperparameters

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from maggy.contracts import Optimizer, SearchContext
    from maggy.trial import Exhausted, Suggestion, Trial, Wait

__all__ = ["Auto", "choose"]

_FEWEST_TRIALS = 4
_MOST_TRIALS = 500
_MOST_COLUMNS = 100
_HANDOVER = 100


class Auto:
    """Chooses between random search, the Gaussian process, TPE, and the one after the other.

    ``docs/optimizers.md`` says by which rules, and ``docs/benchmarks.md`` what they rest on.

    Attributes:
        choice: After ``start``: one sentence on what was chosen and why, else ``""``.
        notes: After ``start``: the choice, then the chosen optimizer's own notes.
    """

    def __init__(self) -> None:
        self.choice = ""
        self.notes: tuple[str, ...] = ()
        self._chosen: Optimizer | None = None

    def __repr__(self) -> str:
        return "Auto()"

    @property
    def suggests_inline(self) -> bool:
        """Whether the chosen optimizer answers at once; before ``start`` nobody knows: False."""
        return bool(getattr(self._chosen, "suggests_inline", False))

    @property
    def learns(self) -> bool:
        """Whether the chosen optimizer learns from what it is told."""
        return bool(getattr(self._chosen, "learns", True))

    @property
    def preload(self) -> Sequence[str]:
        """The modules that the chosen optimizer will need."""
        return tuple(getattr(self._chosen, "preload", ()))

    def start(self, context: SearchContext) -> None:
        """Choose, and start what was chosen.

        Raises:
            ConfigError: The space is empty.
        """
        require_hyperparameters(context)
        self._chosen, self.choice = choose(context)
        self._chosen.start(context)
        self.notes = (self.choice, *getattr(self._chosen, "notes", ()))

    def ask(
        self, number: int, pending: Sequence[Trial], rng: np.random.Generator
    ) -> Suggestion | Wait | Exhausted:
        """What the chosen optimizer proposes."""
        return self._started().ask(number, pending, rng)

    def tell(self, trial: Trial) -> None:
        """Pass it on."""
        self._started().tell(trial)

    def _started(self) -> Optimizer:
        assert self._chosen is not None, "start comes before anything else"
        return self._chosen


def choose(context: SearchContext) -> tuple[Optimizer, str]:
    """The optimizer for a search, and a sentence that says why.

    Where a model cannot help, a Sobol sequence: the whole space will be tried, or no trial will
    have ended when the last one starts, and no earlier run has told anything.  Else the Gaussian
    process, which needs the fewest trials.  Its cost of a suggestion grows with the square of the
    trials at least, and with the hyperparameters: of many trials TPE proposes all but the first,
    of many hyperparameters all.
    """
    space, trials, workers = context.searchspace, context.num_trials, context.num_workers
    size = space.cardinality
    columns = sum(kind.cardinality != 1 for kind in space.values())
    if size is not None and (trials is None or size <= trials):
        return _sobol(f"all {size:,} configurations of the space will be tried")
    if columns > _MOST_COLUMNS:
        return _tpe(f"{columns} hyperparameters are many for a Gaussian process")
    if trials is None or trials > _MOST_TRIALS:
        return _relay("the first needs the fewest trials, the second does not slow down")
    if not context.earlier and trials < _FEWEST_TRIALS:
        return _sobol(f"a model learns nothing from {trials} trials")
    if not context.earlier and trials <= workers:
        return _sobol(f"{workers} workers start all {trials} trials at once")
    return _gaussian_process(f"it needs the fewest trials, and with {trials} it is fast")


def _sobol(reason: str) -> tuple[Optimizer, str]:
    from maggy.optimizer.random_search import RandomSearch

    return RandomSearch(sampling="sobol"), f"auto chose evenly spread points (Sobol): {reason}."


def _gaussian_process(reason: str) -> tuple[Optimizer, str]:
    from maggy.optimizer.gp import GP

    return GP(), f"auto chose the Gaussian process: {reason}."


def _tpe(reason: str) -> tuple[Optimizer, str]:
    from maggy.optimizer.tpe import TPE  # loads scipy, which the others do later

    return TPE(), f"auto chose TPE: {reason}."


def _relay(reason: str) -> tuple[Optimizer, str]:
    from maggy.optimizer.gp import GP
    from maggy.optimizer.relay import Relay
    from maggy.optimizer.tpe import TPE

    what = f"the Gaussian process for {_HANDOVER} trials, then TPE"
    return Relay(GP(), TPE(), after=_HANDOVER), f"auto chose {what}: {reason}."
