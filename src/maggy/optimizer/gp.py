"""Bayesian optimisation with a Gaussian process: the best search per trial."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from maggy.errors import ConfigError
from maggy.optimizer.centre import centre, favourites
from maggy.optimizer.history import Tried, require_hyperparameters
from maggy.optimizer.random_search import RandomSearch
from maggy.trial import Suggestion, TrialStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from maggy.contracts import SearchContext
    from maggy.optimizer._gp.strategy import Strategy
    from maggy.trial import Exhausted, Hparams, Trial

__all__ = ["GP"]

_FEWEST = 3
_DESIGN = 6


class GP:
    """Proposes what a Gaussian process of the losses so far expects to improve most.

    Expected improvement (Jones et al. 1998) in its logarithm (Ament et al. 2023), under a
    Matern-5/2 process with a length-scale per hyperparameter.  Pending trials are integrated over
    joint draws of what they may become, stopped trials count as censored, failed ones as bad, and
    no configuration is proposed twice.  As the sampler of ASHA or Hyperband, it models losses over
    configurations and resource together (Klein et al. 2020).  The first trials are the centre of
    the space, with the declared defaults, and points of a scrambled Sobol sequence.

    The answer is a function of the run's seed, the trials that ended, those pending, and ``rng``;
    the order in which trials ended does not matter.

    Args:
        initial_trials: How many configurations precede the model's; None chooses: 6, the number
            of workers at least, a quarter of ``num_trials`` at most.

    Raises:
        ConfigError: ``initial_trials`` is no positive int.
    """

    preload = ("maggy.optimizer._gp.strategy",)

    def __init__(self, initial_trials: int | None = None) -> None:
        if initial_trials is not None and (type(initial_trials) is not int or initial_trials < 1):
            msg = f"`initial_trials` must be a positive int or None, but got {initial_trials!r}."
            raise ConfigError(msg)
        self.initial_trials = initial_trials

    def __repr__(self) -> str:
        given = "" if self.initial_trials is None else f"initial_trials={self.initial_trials}"
        return f"GP({given})"

    def start(self, context: SearchContext) -> None:
        """Get ready; numpy and scipy are loaded by the first ``ask``.

        Raises:
            ConfigError: The space is empty.
        """
        self._space = require_hyperparameters(context)
        self._context = context
        self._tried = Tried(self._space)
        self._ended: dict[int, Trial] = {}
        self._strategy: Strategy | None = None
        self._design: RandomSearch | None = None
        self._favourites = favourites(self._space, context.earlier)

    def ask(
        self, number: int, pending: Sequence[Trial], rng: np.random.Generator
    ) -> Suggestion | Exhausted:
        """Propose the next configuration.

        Raises:
            SearchspaceError: The constraints leave nothing to draw, or one raised.
        """
        hparams: Hparams | None = None
        taken = self._tried.ended | self._tried.pending(pending)
        favourite = next((key for key in self._favourites if key not in taken), None)
        if favourite is not None:
            hparams = self._favourites[favourite]
        elif taken <= self._favourites.keys():
            middle = centre(self._space)
            free = self._space.key(middle) not in taken
            hparams = middle if free and self._space.satisfies(middle) else None
        elif self._experienced(len(pending)):
            hparams = self._model().suggest(pending, taken, rng)
        if hparams is not None:
            return Suggestion(hparams=hparams)
        return self._quasi_random().ask(number, pending, rng)

    def tell(self, trial: Trial) -> None:
        """Learn from a trial that ended."""
        self._tried.tell(trial)
        kept = trial.snapshot()
        self._ended[trial.id] = kept
        if self._strategy is not None:
            self._strategy.tell(kept)
        if self._design is not None:
            self._design.tell(kept)

    def _experienced(self, pending: int) -> bool:
        """Whether the design is handed out, and half of it has told something."""
        if self._space.cardinality == 1:
            return False
        wanted = self._wanted()
        if len(self._ended) + pending < wanted:
            return False
        known = sum(map(self._tells, self._ended.values()))
        return known >= min(max(_FEWEST, math.ceil(wanted / 2)), wanted)

    def _tells(self, trial: Trial) -> bool:
        """Whether the model learns a loss from it: with rungs, what it came to at any of them."""
        if trial.status is TrialStatus.STOPPED:
            return len(self._context.rungs) > 1 and bool(trial.losses)
        return trial.status is TrialStatus.COMPLETED

    def _wanted(self) -> int:
        if self.initial_trials is not None:
            return self.initial_trials
        context = self._context
        wanted = max(_DESIGN, context.num_workers)
        if context.num_trials is not None:
            wanted = min(wanted, math.ceil(context.num_trials / 4))
        return max(wanted, _FEWEST)

    def _model(self) -> Strategy:
        if self._strategy is None:
            from maggy.optimizer._gp.strategy import Strategy

            self._strategy = Strategy(self._context)
            for trial in self._ended.values():
                self._strategy.tell(trial)
        return self._strategy

    def _quasi_random(self) -> RandomSearch:
        """The scrambled Sobol sequence, and uniform draws where it ends."""
        if self._design is None:
            self._design = RandomSearch(sampling="sobol")
            self._design.start(self._context)
            for trial in self._ended.values():
                self._design.tell(trial)
        return self._design
