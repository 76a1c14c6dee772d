"""Random search, uniform (Bergstra and Bengio 2012) or along a scrambled Sobol sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from maggy.errors import ConfigError
from maggy.optimizer.history import Tried, Untried, require_hyperparameters
from maggy.searchspace.naming import did_you_mean
from maggy.trial import Exhausted, Suggestion

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence, Set

    import numpy as np

    from maggy.contracts import SearchContext
    from maggy.searchspace import Searchspace
    from maggy.trial import Hparams, Trial, Value

__all__ = ["RandomSearch"]

_LISTED = 100_000
"""A space of at most so many configurations is listed when draws hardly find an untried one."""

_DRAWS_BEFORE_LIST = 200
_DRAWS = 10_000
_SAMPLINGS = ("uniform", "sobol")
_SOBOL_PATIENCE = 1000
_SOBOL_BATCH = 64


class RandomSearch:
    """Draws configurations at random; never one twice while an untried one can be found.

    The draw of trial ``n`` depends on the seed, on ``n`` and on the *set* of configurations
    before it, never on the order in which they ended.

    Draws are repeated until one is untried and feasible.  After 200 failures, a space of at most
    100,000 configurations is listed and one of those left is drawn, so such a space is searched to
    its last configuration.  A larger one ends the search after 10,000 failures.

    Args:
        sampling: ``"uniform"``, or ``"sobol"``: trial by trial along a Sobol sequence scrambled
            with the run's seed (Owen 1998), leaving out what is infeasible, repeated or tried;
            when 1,000 points in a row are, it goes on with uniform draws.

    Raises:
        ConfigError: The sampling is unknown.
    """

    suggests_inline = True
    learns = False

    def __init__(self, sampling: Literal["uniform", "sobol"] = "uniform") -> None:
        if sampling not in _SAMPLINGS:
            hint = did_you_mean(sampling, _SAMPLINGS)
            msg = f"`sampling` must be 'uniform' or 'sobol', but got {sampling!r}. {hint}"
            raise ConfigError(msg)
        self.sampling = sampling

    def __repr__(self) -> str:
        return f"RandomSearch(sampling={self.sampling!r})"

    def start(self, context: SearchContext) -> None:
        """Get ready.

        Raises:
            ConfigError: The space is empty.
        """
        self._space = require_hyperparameters(context)
        self._tried = Tried(self._space)
        self._left: list[tuple[Hashable, Hparams]] | None = None
        self._feasible = 0
        size = self._space.cardinality
        self._listed = size is not None and size <= _LISTED
        self._sequence: Untried | None = None
        if self.sampling == "sobol":
            points = _sobol(self._space, context.seed)
            self._sequence = Untried(self._space, points, _SOBOL_PATIENCE)

    def ask(
        self,
        number: int,
        pending: Sequence[Trial],
        rng: np.random.Generator,
    ) -> Suggestion | Exhausted:
        """Draw a configuration; the number matters only through the generator.

        Raises:
            SearchspaceError: The constraints leave nothing to draw, or one raised.
        """
        taken = self._tried.pending(pending)
        hparams: Hparams | None = None
        if self._sequence is not None:
            hparams = self._sequence.first(self._tried.ended, taken)
        if hparams is None:
            hparams = self._draw(taken, rng)
        if hparams is None and self._listed:
            hparams = self._draw_left(taken, rng)
        return self._exhausted(rng) if hparams is None else Suggestion(hparams=hparams)

    def tell(self, trial: Trial) -> None:
        """Remember that this configuration was tried, whatever came of it."""
        self._tried.tell(trial)

    def _draw(self, pending: Set[Hashable], rng: np.random.Generator) -> Hparams | None:
        space, ended = self._space, self._tried.ended
        for _ in range(_DRAWS_BEFORE_LIST if self._listed else _DRAWS):
            hparams = space.decode(rng.random(len(space)).tolist())
            key = space.key(hparams)
            if key not in ended and key not in pending and space.satisfies(hparams):
                return hparams
        return None

    def _draw_left(self, pending: Set[Hashable], rng: np.random.Generator) -> Hparams | None:
        if self._left is None:
            self._left = [(self._space.key(h), h) for h in self._space.configurations()]
            self._feasible = len(self._left)
        ended = self._tried.ended
        self._left = [entry for entry in self._left if entry[0] not in ended]
        free = [hparams for key, hparams in self._left if key not in pending]
        return free[int(rng.integers(len(free)))] if free else None

    def _exhausted(self, rng: np.random.Generator) -> Exhausted:
        if self._listed and self._feasible:
            which = " that the constraints allow" if self._space.constraints else ""
            total = f"all {self._feasible:,} configurations{which} were tried"
            return Exhausted(f"The search space is exhausted: {total}.")
        self._space.sample(rng)  # raises if nothing at all is feasible
        found = f"{_DRAWS:,} draws found no untried configuration"
        return Exhausted(f"The search space is nearly exhausted: {found}.")


def _sobol(space: Searchspace, seed: int) -> Iterator[dict[str, Value]]:
    """Configurations along a scrambled Sobol sequence, without end; loads scipy when begun."""
    from numpy.random import default_rng

    from maggy.optimizer.sobol import Sobol

    points = Sobol(len(space), default_rng(seed))
    while True:
        yield from map(space.decode, points.random(_SOBOL_BATCH).tolist())
