"""The optimizer that suits the search, chosen when it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maggy.optimizer.gp import GP
from maggy.optimizer.history import require_hyperparameters
from maggy.optimizer.random_search import RandomSearch
from maggy.optimizer.tpe import TPE

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from maggy.contracts import Optimizer, SearchContext
    from maggy.trial import Exhausted, Suggestion, Trial, Wait

__all__ = ["Auto", "choose"]

_FEWEST_TRIALS = 4
_MOST_TRIALS = 500
_MOST_COLUMNS = 40


class Auto:
    """Chooses between random search, the Gaussian process and TPE, and hands over to it.

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
    have ended when the last one starts.  Else the Gaussian process, which needs the fewest trials,
    with conditions too, as long as the cost of a suggestion, which grows with the square of the
    trials at least, stays small; else TPE.
    """
    space, trials, workers = context.searchspace, context.num_trials, context.num_workers
    size = space.cardinality
    columns = sum(kind.cardinality != 1 for kind in space.values())
    if size is not None and (trials is None or size <= trials):
        return _sobol(f"all {size:,} configurations of the space will be tried")
    if trials is not None and trials < _FEWEST_TRIALS:
        return _sobol(f"a model learns nothing from {trials} trials")
    if trials is not None and trials <= workers:
        return _sobol(f"{workers} workers start all {trials} trials at once")
    if trials is None or trials > _MOST_TRIALS:
        return (
            TPE(),
            f"auto chose TPE: its cost does not grow with more than {_MOST_TRIALS} trials.",
        )
    if columns > _MOST_COLUMNS:
        return TPE(), f"auto chose TPE: {columns} hyperparameters are many for a Gaussian process."
    reason = f"it needs the fewest trials, and {trials} of them keep it fast"
    return GP(), f"auto chose the Gaussian process: {reason}."


def _sobol(reason: str) -> tuple[Optimizer, str]:
    return RandomSearch(sampling="sobol"), f"auto chose random search: {reason}."
