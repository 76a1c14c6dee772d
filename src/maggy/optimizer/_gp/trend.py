"""What earlier runs expect of a new search: the prior mean of its Gaussian process.

===============  =============================================================================
``z_r(x)``       posterior mean of run ``r``'s own Gaussian process, over its own warped losses
``w_r``          trust in it, in [0, 1]: its rank agreement with the new trials (``agreement``)
``M(x)``         ``sum_r w_r z_r(x) / sum_r w_r``
``w``            ``sum_r w_r^2 / sum_r w_r``: the trust in ``M``
``b``            the slope of the new targets over ``M``, by generalised least squares
``trend(x)``     ``w b (M(x) - mean of M over the new trials)``
===============  =============================================================================

The new process models what is left, as in Golovin et al. 2017 (Vizier), section 3.3.  A run that
misleads gets no weight, and what remains is a search without it; ``b`` lets go of a run whose
shape, the more new trials there are, explains less than the process does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from threadpoolctl import ThreadpoolController

from maggy.optimizer._gp.evidence import censored, observed
from maggy.optimizer._gp.fit import Objective, Prior, fit
from maggy.optimizer._gp.kernels import Hyperparameters, correlate, distances
from maggy.optimizer._gp.posterior import Posterior, factorize, solve_lower
from maggy.optimizer.agreement import PRIOR_TRIALS, agreement, latest
from maggy.trial import TrialStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maggy.contracts import EarlierRun
    from maggy.optimizer._gp.evidence import Evidence
    from maggy.optimizer.encoding import Array, Encoding
    from maggy.trial import Trial

__all__ = ["Source", "Trend", "sources", "trend_of"]

_FEWEST = 3


class Source:
    """The Gaussian process of one earlier run, fitted to its own losses.

    Args:
        posterior: Over features of the new space.
    """

    def __init__(self, posterior: Posterior) -> None:
        self._posterior = posterior

    @classmethod
    def of(cls, trials: Sequence[Trial], encoding: Encoding) -> Self | None:
        """Fitted to these trials; None if under 3 completed, or all with the same loss."""
        if _distinct(trials) < 2 or not encoding.dimensions:
            return None
        rows = encoding.encode([trial.hparams for trial in trials])
        evidence = observed(trials, rows)
        if evidence.warp.flat:
            return None
        parameters = _fitted(evidence, encoding)

        def posterior(known: Evidence) -> Posterior:
            features = encoding.features(known.rows)
            return Posterior.of(
                features,
                known.targets,
                known.variances,
                group=encoding.group,
                parameters=parameters,
            )

        def predict(at: Array) -> tuple[Array, Array]:
            mean, sd = posterior(evidence).predict(encoding.features(at))
            return mean[:, 0], sd

        return cls(posterior(censored(trials, rows, evidence, predict)))

    def value(self, features: Array) -> Array:
        """``z_r`` at each row of (m, p + k), shape (m,); the last k features do not matter."""
        post = self._posterior
        a = post.parameters.scale(features[:, : len(post.group)], post.group)
        kernel, _ = correlate(distances(a, post.scaled), post.parameters.signal)
        return np.asarray(kernel @ post.weights[:, 0])

    def value_and_gradient(self, features: Array) -> tuple[Array, Array]:
        """``z_r``, shape (m,), and its gradient over the features, shape (m, p + k)."""
        post, width = self._posterior, len(self._posterior.group)
        a = post.parameters.scale(features[:, :width], post.group)
        kernel, slope = correlate(distances(a, post.scaled), post.parameters.signal)
        pull = slope * post.weights[:, 0]
        back = (pull @ post.scaled - a * pull.sum(axis=1)[:, np.newaxis]) * (5.0 / 3.0)
        gradient = np.zeros_like(features)
        gradient[:, :width] = back / post.parameters.lengths[post.group]
        return kernel @ post.weights[:, 0], gradient


def _distinct(trials: Sequence[Trial]) -> int:
    """How many different losses completed trials have; 0 if under 3 of them have one."""
    known = [
        trial.loss
        for trial in trials
        if trial.status is TrialStatus.COMPLETED
        and trial.loss is not None
        and math.isfinite(trial.loss)
    ]
    return len(set(known)) if len(known) >= _FEWEST else 0


def _fitted(evidence: Evidence, encoding: Encoding) -> Hyperparameters:
    prior = Prior(encoding.dimensions)
    features = encoding.features(evidence.rows)
    objective = Objective(features, evidence.targets, evidence.variances, encoding.group, prior)
    with ThreadpoolController().limit(limits=1):  # faster, and always the same
        return Hyperparameters.from_logs(fit(objective, prior, [prior.start]))


def sources(runs: Sequence[EarlierRun], encoding: Encoding) -> list[Source]:
    """The runs that have something to say."""
    found = (Source.of(run.trials, encoding) for run in runs)
    return [source for source in found if source is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """A prior mean over features.

    Attributes:
        sources: Of earlier runs.
        factors: What each is multiplied by, shape (R,).
        offset: What is added to their sum.
    """

    sources: Sequence[Source]
    factors: Array
    offset: float

    def value(self, features: Array) -> Array:
        """At each row of (m, p + k), shape (m,); the last k features do not matter."""
        parts = [f * s.value(features) for f, s in zip(self.factors, self.sources, strict=True)]
        return np.asarray(np.sum(parts, axis=0) + self.offset)

    def value_and_gradient(self, features: Array) -> tuple[Array, Array]:
        """The same, and the gradient over the features, shape (m, p + k)."""
        value, gradient = np.full(len(features), self.offset), np.zeros_like(features)
        for factor, source in zip(self.factors, self.sources, strict=True):
            part, slope = source.value_and_gradient(features)
            value += factor * part
            gradient += factor * slope
        return value, gradient


def trend_of(known: Sequence[Source], evidence: Evidence, encoding: Encoding) -> Trend | None:
    """What these sources expect of a search with this evidence; None: nothing."""
    completed = np.flatnonzero(evidence.completed)
    if not known or not len(completed):
        return None
    features = encoding.features(evidence.rows[completed])
    targets = evidence.targets[completed]
    expected = np.array([source.value(features) for source in known])
    recent = latest(len(targets))
    trust = np.array([agreement(row[recent], targets[recent]) for row in expected])
    if not trust.any():
        return None
    shares = trust / trust.sum()
    together = shares @ expected
    unit = _unit(features[recent], together[recent], targets[recent], encoding)
    factor = float(shares @ trust) * unit
    offset = float(targets.mean() - factor * together.mean())
    return Trend(sources=known, factors=factor * shares, offset=offset)


def _unit(features: Array, expected: Array, targets: Array, encoding: Encoding) -> float:
    """``b``, drawn towards 1 and not below 0 (Rasmussen and Williams 2006, equation 2.41).

    Under the prior's most likely hyperparameters: fitted ones depend on what is left, hence on it.
    """
    prior = Hyperparameters.from_logs(Prior(encoding.dimensions).mode)
    a = prior.scale(features, encoding.group)
    covariance, _ = correlate(distances(a, a), prior.signal)
    np.einsum("ii->i", covariance)[:] += prior.noise
    factor = factorize(covariance, prior.signal)
    both = np.stack([expected - expected.mean(), targets - targets.mean()], axis=1)
    m, t = solve_lower(factor, both).T
    return max(float((PRIOR_TRIALS + m @ t) / (PRIOR_TRIALS + m @ m)), 0.0)
