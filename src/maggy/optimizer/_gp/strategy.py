"""One suggestion of the Gaussian process: from what is known to a configuration nobody tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri
from threadpoolctl import ThreadpoolController

from maggy.optimizer._gp.acquisition import LogEI
from maggy.optimizer._gp.model import Model, Modeller
from maggy.optimizer._gp.region import period, side, surround
from maggy.optimizer._gp.rung_model import RungModeller
from maggy.optimizer._gp.search import Box, Landscape, Ranking, maximise
from maggy.optimizer._gp.trend import sources
from maggy.optimizer.encoding import Encoding
from maggy.optimizer.sobol import Sobol

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence, Set

    from maggy.contracts import SearchContext
    from maggy.optimizer.encoding import Array
    from maggy.trial import Hparams, Trial

__all__ = ["Strategy"]

_LISTED = 5000
_SPREAD = 1024
_FANTASIES = 64
_MANY_PENDING = 16
_MOST_PENDING = 32
_FAILING = 0.2
_LOOKED_AT = 2000


class Strategy:
    """Proposes what the model expects most of.

    Args:
        context: Of the search.
    """

    def __init__(self, context: SearchContext) -> None:
        self._space = context.searchspace
        self._encoding = Encoding(context.searchspace)
        rungs, known = context.rungs, sources(context.earlier, self._encoding)
        self._modeller = (
            RungModeller(self._encoding, rungs, known)
            if len(rungs) > 1
            else Modeller(self._encoding, known)
        )
        columns = len(self._encoding.columns)
        self._everywhere = Box(low=np.zeros(columns), high=np.ones(columns))
        points = 2 * _SPREAD if self._encoding.dimensions > 10 else _SPREAD
        seed = np.random.default_rng(context.seed)
        engine = Sobol(columns, seed)
        self._sobol = engine.random(points)
        self._listed = self._list()
        self._threads = ThreadpoolController()

    def tell(self, trial: Trial) -> None:
        """A trial ended."""
        self._modeller.tell(trial)

    def suggest(
        self, pending: Sequence[Trial], taken: Set[Hashable], rng: np.random.Generator
    ) -> Hparams | None:
        """The most promising configuration that is not taken; None without a model.

        Computed with one BLAS thread: several are slower at these sizes, and round differently.

        Args:
            pending: Trials that have not ended.
            taken: Keys of the configurations that must not be proposed.
            rng: Of this suggestion.
        """
        with self._threads.limit(limits=1):
            model = self._modeller.model(pending)
            if model is None:
                return None
            acquisition = self._acquisition(model, pending, rng)
            landscape = Landscape(acquisition, self._encoding, model.lengths)
            number = len(self._modeller) + len(pending)
            ranking = self._ranking(landscape, model, self._box(model, number), taken, rng)
        return self._first_free(ranking, taken)

    def _acquisition(
        self, model: Model, pending: Sequence[Trial], rng: np.random.Generator
    ) -> LogEI:
        posterior, incumbents = model.posterior, np.array([model.incumbent])
        if pending:
            rows = self._encoding.encode([trial.hparams for trial in pending])
            features = model.features(self._encoding, rows)
            if len(rows) > _MOST_PENDING:
                mean, sd = posterior.predict(features)
                features = features[np.argsort(mean[:, 0] - sd, kind="stable")[:_MOST_PENDING]]
            count = _FANTASIES // 2 if len(features) > _MANY_PENDING else _FANTASIES
            sobol = Sobol(len(features), rng).random(count)
            posterior, draws = posterior.fantasise(features, ndtri(sobol).T)
            incumbents = np.minimum(model.incumbent, draws.min(axis=0))
        failed = model.evidence.failed
        fails = failed.mean() > _FAILING
        return LogEI(posterior, incumbents, ~failed if fails else None, model.trailing)

    def _ranking(
        self,
        landscape: Landscape,
        model: Model,
        box: Box,
        taken: Set[Hashable],
        rng: np.random.Generator,
    ) -> Ranking:
        if self._listed is not None:
            rows, keys = self._listed
            free = rows[[key not in taken for key in keys]]
            return Ranking.of(free, landscape.value(free))
        spread = self._sobol[: _SPREAD // 2] if len(model.evidence) > 500 else self._sobol
        spread = np.mod(spread + rng.random(spread.shape[1]), 1.0)
        spread = self._encoding.snap(box.low + spread * (box.high - box.low))
        return maximise(landscape, spread, box.clip(model.best), box, rng)

    def _box(self, model: Model, number: int) -> Box:
        """Where to search for the suggestion after so many trials.

        Everywhere if a value is countable: a box cannot be around a category, and around the
        rest alone it was no help.
        """
        dimensions = self._encoding.dimensions
        if len(self._encoding.finite) or number % period(dimensions) == 0:
            return self._everywhere
        length = side(model.completed_targets, dimensions)
        return surround(model.best[0], length, model.lengths)

    def _first_free(self, ranking: Ranking, taken: Set[Hashable]) -> Hparams | None:
        for row in ranking.points[:_LOOKED_AT]:
            hparams = self._encoding.decode(row)
            if self._space.key(hparams) not in taken and self._space.satisfies(hparams):
                return hparams
        return None

    def _list(self) -> tuple[Array, list[Hashable]] | None:
        """Every configuration of a small finite space."""
        size = self._space.cardinality
        if size is None or size > _LISTED:
            return None
        configurations = list(self._space.configurations())
        rows = self._encoding.encode(configurations)
        return rows, [self._space.key(hparams) for hparams in configurations]
