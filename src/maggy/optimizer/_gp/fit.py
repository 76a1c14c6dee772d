"""Hyperparameters of the Gaussian process by maximum a posteriori.

``theta`` holds the logarithms of (length-scales, signal variance, noise variance), shape (d + 2,).
They have a joint normal prior, so that lengths and variances are log-normal.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import lapack
from scipy.optimize import minimize

from maggy.optimizer._gp.kernels import Hyperparameters, correlate, distances

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maggy.optimizer.encoding import Array, Index

__all__ = ["Objective", "Prior", "fit"]

_ITERATIONS = 60
_GRADIENT = 1e-2
_LENGTHS = 3.0
"""Prior variance of the logarithm of a length-scale (Hvarfner et al. 2024)."""

_SHARED = 0.8
"""Correlation of the logarithms of two length-scales."""


class Prior:
    """A normal prior of ``theta``.

    That of each length-scale is as wide as Hvarfner et al. (2024) have it, but its mode is 0.3 of
    the range in any dimension: with a trust region around the best trial this was better in 10
    and 20 dimensions than a mode that grows with their root, and equal below.  Length-scales are
    correlated, as if drawn around a common one that is not known: until the trials tell the
    dimensions apart, the process is close to isotropic.  The variances are independent.

    Args:
        dimensions: Of the search space; 1 at least.
        others: How many dimensions follow whose length-scales are independent of all.

    Attributes:
        mode: Where the density is largest, shape (d + 2,).
        bounds: Of ``theta``, in the form of scipy.
        start: Where a fit without better knowledge begins.
    """

    def __init__(self, dimensions: int, others: int = 0) -> None:
        covariance = np.diag([_LENGTHS] * (dimensions + others) + [1.0, 9.0])
        together = covariance[:dimensions, :dimensions]
        together *= 1.0 - _SHARED
        together += _LENGTHS * _SHARED
        self._precision = np.linalg.inv(covariance)
        dimensions += others
        self.mode = np.array([math.log(0.3)] * dimensions + [0.0, -5.0])
        ends = [(0.025, 100.0)] * dimensions + [(0.05, 20.0), (1e-6, 1.0)]
        self.bounds = [(math.log(low), math.log(high)) for low, high in ends]
        middle = math.log(0.5) + 0.5 * math.log(dimensions)
        self.start = np.array([middle] * dimensions + [0.0, math.log(1e-2)])

    def penalty(self, theta: Array) -> tuple[float, Array]:
        """Minus the log density, up to a constant, and its gradient."""
        away = theta - self.mode
        gradient = np.asarray(self._precision @ away)
        return 0.5 * float(away @ gradient), gradient


class Objective:
    """Minus the log posterior density of ``theta``, up to a constant, and its gradient.

    Args:
        features: Shape (n, p).
        targets: Shape (n,), mean about 0.
        variances: Known noise of each target beside the common one, shape (n,).
        group: The dimension of each feature.
        prior: Of ``theta``.
    """

    def __init__(
        self, features: Array, targets: Array, variances: Array, group: Index, prior: Prior
    ) -> None:
        self._features = features - features.mean(axis=0)
        self._targets = targets
        self._variances = variances
        self._group = group
        self._prior = prior

    def likelihood(self, theta: Array) -> tuple[float, Array]:
        """Minus the log marginal likelihood, and its gradient over ``theta``.

        Rasmussen and Williams 2006, equations 5.8 and 5.9.  The gradient over the length-scales
        is one matrix product, for ``sum_ij M_ij (a_i - a_j)^2 = 2 (rowsum(M) a^2 - a M a)``.
        Infinite where the covariance has no Cholesky factor.
        """
        parameters = Hyperparameters.from_logs(theta)
        a = parameters.scale(self._features, self._group)
        r = distances(a, a)
        np.fill_diagonal(r, 0.0)
        kernel, slope = correlate(r, parameters.signal)
        covariance = kernel.copy()
        np.einsum("ii->i", covariance)[:] += parameters.noise + self._variances
        factor, info = lapack.dpotrf(covariance.T, lower=1, clean=1, overwrite_a=1)
        if info:
            return math.inf, np.zeros_like(theta)
        alpha, _ = lapack.dpotrs(factor, self._targets, lower=1)
        value = 0.5 * float(self._targets @ alpha) + float(np.log(np.diag(factor)).sum())
        value += 0.5 * len(alpha) * math.log(2 * math.pi)
        half, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
        inverse = half + half.T
        np.einsum("ii->i", inverse)[:] *= 0.5
        inverse -= np.outer(alpha, alpha)
        gradient = np.empty_like(theta)
        gradient[-1] = 0.5 * parameters.noise * float(np.trace(inverse))
        gradient[-2] = 0.5 * float(np.vdot(inverse, kernel))
        inverse *= slope
        per_feature = inverse.sum(axis=1) @ np.square(a)
        per_feature -= np.einsum("ij,ij->j", a, inverse @ a)
        gradient[:-2] = np.bincount(self._group, per_feature, len(theta) - 2)
        gradient[:-2] *= 5.0 / 3.0
        return value, gradient

    def __call__(self, theta: Array) -> tuple[float, Array]:
        value, gradient = self.likelihood(theta)
        if not math.isfinite(value):
            return 1e10, gradient
        penalty, slope = self._prior.penalty(theta)
        return value + penalty, gradient + slope


def fit(
    objective: Objective, prior: Prior, starts: Sequence[Array], tolerance: float = 1e-5
) -> Array:
    """The best ``theta`` that L-BFGS-B finds from these starts; without any, the prior's mode.

    Args:
        objective: What to minimise.
        prior: Its bounds and mode.
        starts: Where to descend from.
        tolerance: Relative decrease of the objective under which a descent ends.
    """
    best, least = prior.mode, math.inf
    for start in starts:
        found = minimize(
            objective,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=prior.bounds,
            options={"maxiter": _ITERATIONS, "gtol": _GRADIENT, "ftol": tolerance},
        )
        if found.fun < least:
            best, least = np.asarray(found.x, dtype=float), float(found.fun)
    return best
