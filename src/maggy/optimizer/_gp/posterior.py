"""The posterior of the Gaussian process, and what it becomes if pending trials had ended.

======================  =======================================================================
``A`` (n, p)            observed features divided by their length-scales
``L`` (n, n)            lower Cholesky factor of ``k(A, A) + noise``
``weights`` (n, S)      ``(k + noise)^-1 y``, one column per fantasy; S = 1 without pending trials
======================  =======================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import blas, lapack

from maggy.optimizer._gp.kernels import Hyperparameters, correlate, distances

if TYPE_CHECKING:
    from maggy.optimizer._gp.trend import Trend
    from maggy.optimizer.encoding import Array, Index

__all__ = ["Posterior", "factorize", "solve_lower", "solve_upper"]

_JITTERS = (0.0, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4)
_PENDING_JITTER = 1e-8


def factorize(covariance: Array, signal: float) -> Array:
    """The lower Cholesky factor of a symmetric array, with as little jitter as helps.

    Args:
        covariance: Shape (n, n), finite; kept.
        signal: What jitter is relative to; n times it makes every kernel matrix definite.
    """
    for jitter in _JITTERS:
        factor, failed = _cholesky(covariance, jitter * signal)
        if not failed:
            return factor
    return _cholesky(covariance, len(covariance) * signal)[0]


def _cholesky(covariance: Array, added: float) -> tuple[Array, bool]:
    shifted = covariance.copy()
    np.einsum("ii->i", shifted)[:] += added
    # The transpose of a symmetric array is itself, in the order that LAPACK wants.
    factor, info = lapack.dpotrf(shifted.T, lower=1, clean=1, overwrite_a=1)
    return np.asarray(factor), bool(info)


def solve_lower(factor: Array, right: Array) -> Array:
    """``L^-1 right`` for ``right`` of shape (n, m)."""
    return np.asarray(blas.dtrsm(1.0, factor, right, lower=1))


def solve_upper(factor: Array, right: Array) -> Array:
    """``L^-T right`` for ``right`` of shape (n, m)."""
    return np.asarray(blas.dtrsm(1.0, factor, right, lower=1, trans_a=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Posterior:
    """A Gaussian process given observations, and given S fantasies of pending ones.

    Attributes:
        parameters: The hyperparameters.
        group: The dimension of each feature.
        scaled: ``A``.
        factor: ``L``.
        whitened: ``L^-1 y``, shape (n, S).
        weights: Shape (n, S).
        smoothed: The mean at the observations, without their noise, shape (n,).
        trend: The prior mean; None is 0.  Everything else but ``smoothed`` is of what is left.
    """

    parameters: Hyperparameters
    group: Index
    scaled: Array
    factor: Array
    whitened: Array
    weights: Array
    smoothed: Array
    trend: Trend | None = None

    @classmethod
    def of(
        cls,
        features: Array,
        targets: Array,
        variances: Array,
        *,
        group: Index,
        parameters: Hyperparameters,
        trend: Trend | None = None,
    ) -> Posterior:
        """Condition on ``targets`` (n,), whose noise is the common one plus ``variances`` (n,)."""
        scaled = parameters.scale(features, group)
        r = distances(scaled, scaled)
        np.fill_diagonal(r, 0.0)
        covariance, _ = correlate(r, parameters.signal)
        noise = parameters.noise + variances
        np.einsum("ii->i", covariance)[:] += noise
        factor = factorize(covariance, parameters.signal)
        left = targets if trend is None else targets - trend.value(features)
        whitened = solve_lower(factor, left[:, np.newaxis])
        weights = solve_upper(factor, whitened)
        return cls(
            parameters=parameters,
            group=group,
            scaled=scaled,
            factor=factor,
            whitened=whitened,
            weights=weights,
            smoothed=targets - noise * weights[:, 0],
            trend=trend,
        )

    def predict(self, features: Array) -> tuple[Array, Array]:
        """Mean, shape (m, S), and standard deviation, shape (m,), of the noise-free function."""
        r = distances(self.parameters.scale(features, self.group), self.scaled)
        kernel, _ = correlate(r, self.parameters.signal)
        reduced = solve_lower(self.factor, kernel.T)
        return self._expected(features) + kernel @ self.weights, self.spread(reduced)

    def _expected(self, features: Array) -> Array:
        """The prior mean, shape (m, 1)."""
        if self.trend is None:
            return np.zeros((len(features), 1))
        return self.trend.value(features)[:, np.newaxis]

    def spread(self, reduced: Array) -> Array:
        """Standard deviation from ``L^-1 k(A, x)``, shape (n, m); never 0."""
        signal = self.parameters.signal
        variance = signal - np.einsum("ij,ij->j", reduced, reduced)
        return np.asarray(np.sqrt(np.maximum(variance, 1e-14 * signal)))

    def fantasise(self, features: Array, normals: Array) -> tuple[Posterior, Array]:
        """Condition on joint draws of the noise-free function at q pending points.

        The factor gets q more rows (its upper part stays), O(n^2 q).

        Args:
            features: Of the pending points, shape (q, p).
            normals: Independent standard normals, shape (q, S).

        Returns:
            The posterior with S columns, and the draws, shape (q, S).
        """
        signal = self.parameters.signal
        a = self.parameters.scale(features, self.group)
        kernel, _ = correlate(distances(a, self.scaled), signal)
        reduced = solve_lower(self.factor, kernel.T)
        r = distances(a, a)
        np.fill_diagonal(r, 0.0)
        covariance, _ = correlate(r, signal)
        covariance -= reduced.T @ reduced
        np.einsum("ii->i", covariance)[:] += _PENDING_JITTER * signal
        corner = factorize(covariance, signal)
        n, q = len(self.scaled), len(a)
        factor = np.zeros((n + q, n + q), order="F")
        factor[:n, :n], factor[n:, :n], factor[n:, n:] = self.factor, reduced.T, corner
        draws = self._expected(features) + kernel @ self.weights + corner @ normals
        repeated = np.repeat(self.whitened, normals.shape[1], axis=1)
        whitened = np.concatenate([repeated, normals])
        extended = Posterior(
            parameters=self.parameters,
            group=self.group,
            scaled=np.concatenate([self.scaled, a]),
            factor=factor,
            whitened=whitened,
            weights=solve_upper(factor, whitened),
            smoothed=self.smoothed,
            trend=self.trend,
        )
        return extended, draws
