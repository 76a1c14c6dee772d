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
from maggy.optimizer._gp.kernels import Hyperparameters
from maggy.optimizer._gp.posterior import Posterior
from maggy.trial import TrialStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maggy.optimizer.encoding import Array, Encoding, Index
    from maggy.trial import Trial

__all__ = ["Model", "Modeller", "thin"]

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


class Model:
    """A posterior and where it came from.

    Attributes:
        evidence: What it was conditioned on.
        posterior: Over features.
        incumbent: The least mean at a completed trial.
        best: Coordinates of the completed trials, the best first, shape (m, d), m <= 5.
        lengths: Length-scale of each column, shape (d,); their geometric mean for constants.
        completed_targets: Of all completed trials, in order of their ids.
    """

    def __init__(
        self, evidence: Evidence, posterior: Posterior, encoding: Encoding, targets: Array
    ) -> None:
        self.evidence = evidence
        self.completed_targets = targets
        self.posterior = posterior
        smoothed = np.where(evidence.completed, posterior.smoothed, np.inf)
        order = np.argsort(smoothed, kind="stable")[: min(5, int(evidence.completed.sum()))]
        self.incumbent = float(smoothed[order[0]])
        self.best = evidence.rows[order]
        lengths = posterior.parameters.lengths
        self.lengths = np.full(len(encoding.columns), np.exp(np.log(lengths).mean()))
        self.lengths[encoding.varying] = lengths


class Modeller:
    """Keeps the ended trials and models them.

    Args:
        encoding: Of the space; it has a dimension.
    """

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._prior = Prior(encoding.dimensions)
        self._trials: list[Trial] = []
        self._ids: list[int] = []
        self._rows: list[Array] = []
        self._chain: dict[int, Array] = {}
        self._model: Model | None = None

    @property
    def trials(self) -> list[Trial]:
        """The ended trials in order of their ids."""
        return self._trials

    @property
    def rows(self) -> Array:
        """Their coordinates, shape (n, d)."""
        return np.array(self._rows).reshape(len(self._rows), len(self._encoding.columns))

    def tell(self, trial: Trial) -> None:
        """A trial ended, or a later run of it."""
        place = bisect_left(self._ids, trial.id)
        if place < len(self._ids) and self._ids[place] == trial.id:
            self._trials[place] = trial
        else:
            self._ids.insert(place, trial.id)
            self._trials.insert(place, trial)
            self._rows.insert(place, self._encoding.encode([trial.hparams])[0])
        self._chain = {size: theta for size, theta in self._chain.items() if size <= place}
        self._model = None

    def model(self) -> Model | None:
        """The model of all trials; None if under two completed, or all with the same loss."""
        if self._model is None:
            self._model = self._build()
        return self._model

    def _build(self) -> Model | None:
        if _usable(self._trials) < 2:
            return None
        evidence = observed(self._trials, self.rows)
        if evidence.warp.flat:
            return None
        theta = self._theta(len(self._trials))
        targets = evidence.targets[evidence.completed]
        posterior = self._posterior(self._thinned(evidence, theta), theta)
        evidence = self._with_stopped(evidence, posterior)
        evidence = self._thinned(evidence, theta)
        if len(evidence) > len(posterior.scaled):
            posterior = self._posterior(evidence, theta)
        return Model(evidence, posterior, self._encoding, targets)

    def _with_stopped(self, evidence: Evidence, posterior: Posterior) -> Evidence:
        def predict(rows: Array) -> tuple[Array, Array]:
            mean, sd = posterior.predict(self._encoding.features(rows))
            return mean[:, 0], sd

        return censored(self._trials, self.rows, evidence, predict)

    def _posterior(self, evidence: Evidence, theta: Array) -> Posterior:
        return Posterior.of(
            self._encoding.features(evidence.rows),
            evidence.targets,
            evidence.variances,
            group=self._encoding.group,
            parameters=Hyperparameters.from_logs(theta),
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
        trials = self._trials[:size]
        if _usable(trials) < 2:
            return self._prior.mode
        evidence = observed(trials, np.array(self._rows[:size]))
        evidence = self._thinned(evidence, self._prior.mode if theta is None else theta, _ACTIVE)
        features = self._encoding.features(evidence.rows)
        objective = Objective(
            features, evidence.targets, evidence.variances, self._encoding.group, self._prior
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
