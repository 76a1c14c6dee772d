"""The tree-structured Parzen estimator, multivariate and aware of what is running.

Bergstra et al. 2011, with the weights, bandwidths and split of Watanabe 2023 (arXiv 2304.11127)
and what an asynchronous search needs: running and failed trials count as bad ones, and nothing is
proposed twice.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from maggy.optimizer._tpe.candidates import candidates
from maggy.optimizer._tpe.encoding import Encoding
from maggy.optimizer._tpe.evidence import Evidence
from maggy.optimizer._tpe.mixture import Mixture
from maggy.optimizer.centre import centre, favourites
from maggy.optimizer.history import Tried, require_hyperparameters
from maggy.optimizer.random_search import RandomSearch
from maggy.trial import Suggestion

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence, Set

    import numpy as np

    from maggy.contracts import SearchContext
    from maggy.optimizer._tpe.earlier import Earlier
    from maggy.optimizer._tpe.evidence import Split
    from maggy.trial import Exhausted, Hparams, Trial

__all__ = ["TPE"]

_LEAST_SEEN = 3
_ROUNDS = 4
_GOOD_FLOOR = 0.7
"""Least bandwidth of ``n`` good trials, times ``n + 2``: wide while they are few."""
_REST_FLOOR = 0.03
"""Least bandwidth of the rest (Watanabe 2023, section 3.3)."""


class TPE:
    """Proposes where good trials are denser than the rest, relative to it.

    It starts with the declared defaults (the centre of each range that has none), goes on along a
    scrambled Sobol sequence, and uses its model once the first ``n0`` trials are out and at least
    half of them, and 3, have shown a loss; ``n0 = max(3, min(max(d + 1, 5, workers),
    num_trials / 4))`` for ``d`` hyperparameters.

    The model is two densities, of the good trials and of all others (``_tpe.evidence`` says which
    are which).  Of candidates drawn from the first, the one with the largest ratio of the two is
    proposed that satisfies the constraints and was not tried; if there is none, the next of the
    Sobol sequence.  Conditions are part of the densities (``_tpe.mixture``).

    A suggestion depends on the seed, its number and the *set* of trials that ended and that are
    pending, never on the order in which they ended.  Its cost does not grow beyond about 1,000
    trials.
    """

    def __repr__(self) -> str:
        return "TPE()"

    def start(self, context: SearchContext) -> None:
        """Get ready.

        Raises:
            ConfigError: The space is empty.
        """
        self._space = require_hyperparameters(context)
        self._encoding = Encoding(self._space)
        self._evidence = Evidence(self._encoding)
        self._tried = Tried(self._space)
        self._design = RandomSearch(sampling="sobol")
        self._design.start(context)
        self._initial = _initial_trials(len(self._encoding), context)
        self._favourites = favourites(self._space, context.earlier)
        self._runs = context.earlier
        self._earlier: Earlier | None = None
        self._trials: dict[int, Trial] = {}

    def ask(
        self, number: int, pending: Sequence[Trial], rng: np.random.Generator
    ) -> Suggestion | Exhausted:
        """Propose a configuration; the number matters only through the generator.

        Raises:
            SearchspaceError: The constraints leave nothing to draw, or one raised.
        """
        taken = self._tried.pending(pending)
        for favourite in self._favourites.values():
            if self._is_free(favourite, taken):
                return Suggestion(hparams=favourite)
        running = [trial for trial in pending if trial.id not in self._evidence]
        if self._is_early(len(running)):
            hparams = centre(self._space)
            if self._is_free(hparams, taken):
                return Suggestion(hparams=hparams)
        else:
            found = self._search(running, taken, rng)
            if found is not None:
                return Suggestion(hparams=found)
        return self._design.ask(number, pending, rng)

    def tell(self, trial: Trial) -> None:
        """Learn what came of a trial."""
        self._tried.tell(trial)
        self._design.tell(trial)
        self._evidence.tell(trial)
        if self._runs:
            self._trials[trial.id] = replace(trial, steps=[], losses=[])

    def _is_early(self, running: int) -> bool:
        out = len(self._evidence) + running
        enough = max(_LEAST_SEEN, self._initial // 2)
        return out < self._initial or self._evidence.informative < enough

    def _is_free(self, hparams: Hparams, taken: Set[Hashable]) -> bool:
        key = self._space.key(hparams)
        untried = key not in self._tried.ended and key not in taken
        return untried and self._space.satisfies(hparams)

    def _search(
        self, running: Sequence[Trial], taken: Set[Hashable], rng: np.random.Generator
    ) -> Hparams | None:
        """The best candidate that is free, or None after some rounds without one."""
        split = self._join_earlier(self._evidence.split(running))
        floor = _GOOD_FLOOR / (len(split.good) + 2)
        good = Mixture(self._encoding, split.good, split.good_weights, floor)
        rest = Mixture(self._encoding, split.rest, split.rest_weights, _REST_FLOOR)
        for _ in range(_ROUNDS):
            for row in candidates(self._encoding, good, rest, rng):
                hparams = self._encoding.hparams(row)
                if self._is_free(hparams, taken):
                    return hparams
        return None

    def _join_earlier(self, split: Split) -> Split:
        """With what earlier runs add; they are modelled when they are needed first."""
        if not self._runs:
            return split
        if self._earlier is None:
            from maggy.optimizer._tpe.earlier import Earlier  # loads much

            self._earlier = Earlier(self._runs, self._space, self._encoding)
        return self._earlier.join(split, [self._trials[key] for key in sorted(self._trials)])


def _initial_trials(columns: int, context: SearchContext) -> int:
    wanted = max(columns + 1, 5, context.num_workers)
    if context.num_trials is not None:
        wanted = min(wanted, math.ceil(context.num_trials / 4))
    return max(wanted, _LEAST_SEEN)
