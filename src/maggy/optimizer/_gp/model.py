"""The model of a search: a pure function of the ended trials, in order of their ids.

Hyperparameters are fitted along a chain: on the first 4 trials, on the first 5, and so on with
steps of 10 %, each fit starting where the previous one ended.  The chain depends on the trials
alone, never on when somebody asked or in which order they ended, so it can be thrown away and
computed again; links whose trials did not change are kept.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import TYPE_CHECKING

import numpy as np

from maggy.optimizer._gp.evidence import Evidence, censored, observed
from maggy.optimizer._gp.fit import Objective, Prior, fit
from maggy.optimizer._gp.kernels import Hyperparameters, following
from maggy.optimizer._gp.posterior import Posterior
from maggy.optimizer._gp.trend import trend_of
from maggy.trial import TrialStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maggy.optimizer._gp.trend import Source, Trend
    from maggy.optimizer.encoding import Array, Encoding, Index
    from maggy.trial import Trial

__all__ = ["Ended", "Model", "Modeller", "thin"]

_FIRST = 4
_GROWTH = 1.1
_ALWAYS = 200
"""Up to so many trials, every new one refits the hyperparameters."""

_RESTARTS = 300
"""Up to so many trials, the links of the chain are fitted from a second start as well."""

_EXACT = 1000
"""More observations than this are thinned before the posterior is computed."""

_ACTIVE = 512
"""So many observations are left by thinning; hyperparameters are never fitted to more."""

_BEST = 128
_LATEST = 64
_INCUMBENTS = 5


class Model:
    """A posterior and where it came from.

    Args:
        evidence: What it was conditioned on.
        posterior: Over features.
        encoding: Of the space.
        rows: Coordinates of the trials to beat, one at least, shape (m, d).
        means: The posterior's mean there, shape (m,).
        targets: Of all completed trials, in order of their ids.
        trailing: Features of the points to propose beside those of their coordinates, shape (k,);
            None if there are no such.

    Attributes:
        evidence: As given.
        posterior: As given.
        incumbent: The least of the means.
        best: Coordinates of the trials with the least means, the best first, shape (m, d), m <= 5.
        lengths: Length-scale of each column, shape (d,); their geometric mean for constants.
        completed_targets: The targets given.
        trailing: As given.
    """

    def __init__(
        self,
        evidence: Evidence,
        posterior: Posterior,
        encoding: Encoding,
        rows: Array,
        means: Array,
        targets: Array,
        *,
        trailing: Array | None = None,
    ) -> None:
        self.evidence = evidence
        self.completed_targets = targets
        self.posterior = posterior
        self.trailing = trailing
        order = np.argsort(means, kind="stable")[:_INCUMBENTS]
        self.incumbent = float(means[order[0]])
        self.best = rows[order]
        lengths = posterior.parameters.lengths[: encoding.dimensions]
        self.lengths = np.full(len(encoding.columns), np.exp(np.log(lengths).mean()))
        self.lengths[encoding.varying] = lengths

    def features(self, encoding: Encoding, rows: Array) -> Array:
        """The features of points to propose, and of pending ones, shape (n, p + k)."""
        return following(encoding.features(rows), self.trailing)


class Ended:
    """The ended trials in order of their ids, with their coordinates.

    Args:
        encoding: Of the space.

    Attributes:
        trials: The trials.
    """

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self.trials: list[Trial] = []
        self._ids: list[int] = []
        self._rows: list[Array] = []

    def __len__(self) -> int:
        return len(self.trials)

    def __contains__(self, trial: int) -> bool:
        place = bisect_left(self._ids, trial)
        return self._ids[place : place + 1] == [trial]

    @property
    def rows(self) -> Array:
        """Their coordinates, shape (n, d)."""
        return np.array(self._rows).reshape(len(self._rows), len(self._encoding.columns))

    def tell(self, trial: Trial) -> int:
        """A trial ended, or a later run of it; returns its place."""
        place = bisect_left(self._ids, trial.id)
        if trial.id in self:
            self.trials[place] = trial
        else:
            self._ids.insert(place, trial.id)
            self.trials.insert(place, trial)
            self._rows.insert(place, self._encoding.encode([trial.hparams])[0])
        return place


class Modeller:
    """Keeps the ended trials and models them.

    Args:
        encoding: Of the space; it has a dimension.
        sources: What earlier runs found.
    """

    def __init__(self, encoding: Encoding, sources: Sequence[Source] = ()) -> None:
        self._encoding = encoding
        self._sources = sources
        self._prior = Prior(encoding.dimensions)
        self._ended = Ended(encoding)
        self._chain: dict[int, Array] = {}
        self._model: Model | None = None

    def __len__(self) -> int:
        return len(self._ended)

    def tell(self, trial: Trial) -> None:
        """A trial ended, or a later run of it."""
        place = self._ended.tell(trial)
        self._chain = {size: theta for size, theta in self._chain.items() if size <= place}
        self._model = None

    def model(self, running: Sequence[Trial] = ()) -> Model | None:
        """The model of all trials; None if under two completed, or all with the same loss.

        Args:
            running: Trials that have not ended; they say nothing yet.
        """
        if self._model is None:
            self._model = self._build()
        return self._model

    def _build(self) -> Model | None:
        trials = self._ended.trials
        if _usable(trials) < 2:
            return None
        evidence = observed(trials, self._ended.rows)
        if evidence.warp.flat:
            return None
        theta = self._theta(len(trials))
        targets = evidence.targets[evidence.completed]
        trend = trend_of(self._sources, evidence, self._encoding)
        posterior = self._posterior(self._thinned(evidence, theta), theta, trend)
        evidence = self._with_stopped(evidence, posterior)
        evidence = self._thinned(evidence, theta)
        if len(evidence) > len(posterior.scaled):
            posterior = self._posterior(evidence, theta, trend)
        rows, means = evidence.rows, posterior.smoothed
        completed = evidence.completed
        return Model(
            evidence, posterior, self._encoding, rows[completed], means[completed], targets
        )

    def _with_stopped(self, evidence: Evidence, posterior: Posterior) -> Evidence:
        def predict(rows: Array) -> tuple[Array, Array]:
            mean, sd = posterior.predict(self._encoding.features(rows))
            return mean[:, 0], sd

        return censored(self._ended.trials, self._ended.rows, evidence, predict)

    def _posterior(self, evidence: Evidence, theta: Array, trend: Trend | None) -> Posterior:
        return Posterior.of(
            self._encoding.features(evidence.rows),
            evidence.targets,
            evidence.variances,
            group=self._encoding.group,
            parameters=Hyperparameters.from_logs(theta),
            trend=trend,
        )

    def _thinned(self, evidence: Evidence, theta: Array, most: int = _EXACT) -> Evidence:
        if len(evidence) <= most:
            return evidence
        scaled = Hyperparameters.from_logs(theta).scale(
            self._encoding.features(evidence.rows), self._encoding.group
        )
        return evidence.take(thin(scaled, evidence.targets, _ACTIVE))

    def _theta(self, size: int) -> Array:
        """Fitted to the first ``size`` trials, through the chain."""
        theta: Array | None = None
        for link in _links(size):
            if link not in self._chain:
                self._chain[link] = self._fitted(link, theta, restart=link <= _RESTARTS)
            theta = self._chain[link]
        if theta is None or (size <= _ALWAYS and size not in self._chain):
            theta = self._fitted(size, theta, restart=False)
        return theta

    def _fitted(self, size: int, theta: Array | None, *, restart: bool) -> Array:
        trials = self._ended.trials[:size]
        if _usable(trials) < 2:
            return self._prior.mode
        evidence = observed(trials, self._ended.rows[:size])
        trend = trend_of(self._sources, evidence, self._encoding)
        evidence = self._thinned(evidence, self._prior.mode if theta is None else theta, _ACTIVE)
        features = self._encoding.features(evidence.rows)
        left = evidence.targets if trend is None else evidence.targets - trend.value(features)
        objective = Objective(
            features, left, evidence.variances, self._encoding.group, self._prior
        )
        starts = [] if theta is None else [theta]
        if restart or theta is None:
            starts.append(self._prior.start)
        return fit(objective, self._prior, starts)


def _usable(trials: Sequence[Trial]) -> int:
    """How many have a loss to learn from."""
    return sum(
        trial.status is TrialStatus.COMPLETED
        and trial.loss is not None
        and math.isfinite(trial.loss)
        for trial in trials
    )


def _links(size: int) -> list[int]:
    """The numbers of trials at which the chain is fitted, up to ``size``."""
    links = []
    link = _FIRST
    while link <= size:
        links.append(link)
        link = max(link + 1, int(link * _GROWTH))
    return links


def thin(scaled: Array, targets: Array, size: int) -> Index:
    """Which observations to keep: the best, the latest, and others far from all these.

    Args:
        scaled: Features over length-scales, shape (n, p), the oldest first.
        targets: Shape (n,).
        size: How many to keep.

    Returns:
        Their numbers, ascending.
    """
    n = len(targets)
    best = np.argsort(targets, kind="stable")[:_BEST]
    kept = np.union1d(best, np.arange(n - _LATEST, n))
    gaps = np.full(n, np.inf)
    for number in kept:
        gaps = np.minimum(gaps, np.square(scaled - scaled[number]).sum(axis=1))
    chosen = set(kept.tolist())
    while len(chosen) < size:
        number = int(gaps.argmax())
        chosen.add(number)
        gaps = np.minimum(gaps, np.square(scaled - scaled[number]).sum(axis=1))
        gaps[number] = -1.0
    return np.array(sorted(chosen), dtype=np.intp)
