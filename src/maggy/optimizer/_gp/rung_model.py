"""The model of a search with rungs: every trial at every rung, seen from one of them.

Hyperparameters of the process are fitted anew to what the ended trials say, from one fixed start
and to about 160 observations at most: trials that are promoted change old evidence, so there is no
chain of fits to go on from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from maggy.optimizer._gp.fit import Objective, Prior, fit
from maggy.optimizer._gp.kernels import Hyperparameters, following
from maggy.optimizer._gp.model import Ended, Model, thin
from maggy.optimizer._gp.posterior import Posterior
from maggy.optimizer._gp.resource import Ladder
from maggy.optimizer._gp.trend import trend_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maggy.optimizer._gp.evidence import Evidence
    from maggy.optimizer._gp.resource import Seen
    from maggy.optimizer._gp.trend import Source
    from maggy.optimizer.encoding import Array, Encoding
    from maggy.trial import Trial

__all__ = ["RungModeller"]

_FITTED = 160
_LEAST = 6
_EXACT = 1000
_ACTIVE = 512
"""As in ``model``: more observations than 1000 are thinned to so many."""


class RungModeller:
    """Keeps the ended trials and models them at every rung.

    Args:
        encoding: Of the space; it has a dimension.
        rungs: The resource at each, ascending, two at least.
        sources: What earlier runs found.
    """

    def __init__(
        self, encoding: Encoding, rungs: Sequence[int], sources: Sequence[Source] = ()
    ) -> None:
        self._encoding = encoding
        self._sources = sources
        self._ladder = Ladder(rungs, max(encoding.dimensions + 2, _LEAST))
        self._group = np.append(encoding.group, encoding.dimensions).astype(np.intp)
        self._prior = Prior(encoding.dimensions, others=1)
        self._ended = Ended(encoding)
        self._reached: dict[int, Seen] = {}
        self._theta: Array | None = None
        self._model: Model | None = None

    def __len__(self) -> int:
        return len(self._ended)

    def tell(self, trial: Trial) -> None:
        """A trial ended, or a later run of it."""
        self._ended.tell(trial)
        self._reached[trial.id] = self._ladder.reached(trial)
        self._theta = None
        self._model = None

    def model(self, running: Sequence[Trial]) -> Model | None:
        """The model of all trials; None if there are under two losses, or all are the same.

        Args:
            running: Trials that have not ended; those that were not told count at the rungs that
                their reports got to.
        """
        news = [t for t in running if t.id not in self._ended and self._ladder.reached(t)]
        if news:
            return self._build(news)
        if self._model is None:
            self._model = self._build([])
        return self._model

    def _build(self, news: Sequence[Trial]) -> Model | None:
        trials = [*self._ended.trials, *sorted(news, key=lambda trial: trial.id)]
        rows = self._encoding.encode([t.hparams for t in trials[len(self._ended) :]])
        rows = np.concatenate([self._ended.rows, rows])
        reached = [*self._seen(), *map(self._ladder.reached, trials[len(self._ended) :])]
        evidence = self._ladder.observed(trials, reached, rows)
        if evidence is None or evidence.warp.flat:
            return None
        theta = self._fitted()
        trend = trend_of(self._sources, evidence, self._encoding)
        evidence = self._thinned(evidence, theta)
        posterior = Posterior.of(
            evidence.features(self._encoding),
            evidence.targets,
            evidence.variances,
            group=self._group,
            parameters=Hyperparameters.from_logs(theta),
            trend=trend,
        )
        seen = rows[[bool(each) for each in reached]]
        target = self._ladder.target(reached)
        features = following(self._encoding.features(seen), target)
        means = posterior.predict(features)[0][:, 0]
        return Model(evidence, posterior, self._encoding, seen, means, means, trailing=target)

    def _seen(self) -> list[Seen]:
        """Where the ended trials got to, in order of their ids."""
        return [self._reached[trial.id] for trial in self._ended.trials]

    def _fitted(self) -> Array:
        """Fitted to the ended trials; of many, to an even part, each with all its rungs."""
        if self._theta is None:
            ended, reached = self._ended, self._seen()
            n, total = len(ended), sum(map(len, reached))
            part = np.linspace(0, n - 1, n * _FITTED // total if total > _FITTED else n)
            chosen = part.astype(np.intp)
            evidence = self._ladder.observed(
                [ended.trials[i] for i in chosen], [reached[i] for i in chosen], ended.rows[chosen]
            )
            self._theta = self._prior.mode if evidence is None else self._fit(evidence)
        return self._theta

    def _fit(self, evidence: Evidence) -> Array:
        if evidence.warp.flat:
            return self._prior.mode
        trend = trend_of(self._sources, evidence, self._encoding)
        features = evidence.features(self._encoding)
        left = evidence.targets if trend is None else evidence.targets - trend.value(features)
        objective = Objective(features, left, evidence.variances, self._group, self._prior)
        return fit(objective, self._prior, [self._prior.start])

    def _thinned(self, evidence: Evidence, theta: Array) -> Evidence:
        """If there are more than 1000: the best, those at the highest rungs, and others."""
        if len(evidence) <= _EXACT:
            return evidence
        features = evidence.features(self._encoding)
        scaled = Hyperparameters.from_logs(theta).scale(features, self._group)
        return evidence.take(thin(scaled, evidence.targets, _ACTIVE))
