"""Log expected improvement, exact far in the tail, averaged over fantasies of pending trials.

===================  =========================================================================
``f*_s``             the loss to beat in fantasy ``s``: that of the best trial, ended or imagined
``z_s``              ``(f*_s - mean_s) / sd``
``h(z)``             ``phi(z) + z Phi(z)``, so that the expected improvement is ``sd h(z)``
``A(x)``             ``ln (1/S) sum_s sd h(z_s)`` plus ``ln P(success)`` where trials fail
===================  =========================================================================

Ament et al. 2023, equation 9 and appendix A.  ``exp A`` equals ``qEI(pending, x) - qEI(pending)``,
integrated over ``f(x)`` in closed form, so it has the maximiser of qEI and does not flatten.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import erfcx, log_ndtr, ndtr

from maggy.optimizer._gp.kernels import correlate, distances, following
from maggy.optimizer._gp.posterior import solve_lower, solve_upper

if TYPE_CHECKING:
    from maggy.optimizer._gp.posterior import Posterior
    from maggy.optimizer.encoding import Array, Mask

__all__ = ["LogEI", "log_h"]

_LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)
_LOG_SQRT_HALF_PI = 0.5 * math.log(0.5 * math.pi)
_FAR = -1e5
_CHUNK = 2_000_000
"""Numbers of one kernel matrix at a time."""


def log_h(z: Array) -> Array:
    """``ln(phi(z) + z Phi(z))`` to a relative error of about 1e-10 for every finite z."""
    near = np.maximum(z, -1.0)
    value = np.log(np.exp(-0.5 * near * near - _LOG_SQRT_2PI) + near * ndtr(near))
    tail = np.minimum(z, -1.0)
    moderate = np.maximum(tail, _FAR)
    # h = phi (1 - c) with c = |z| sqrt(pi/2) erfcx(|z|/sqrt2), which tends to 1 as 1 - 1/z^2.
    c = np.log(erfcx(moderate * -math.sqrt(0.5)) * -moderate) + _LOG_SQRT_HALF_PI
    shrink = np.where(tail > _FAR, np.log(-np.expm1(np.minimum(c, -1e-300))), -2.0 * np.log(-tail))
    return np.where(z > -1.0, value, -0.5 * tail * tail - _LOG_SQRT_2PI + shrink)


class LogEI:
    """The acquisition function over features; large is good.

    Args:
        posterior: With S fantasies, or one column.
        incumbents: ``f*_s``, shape (S,).
        succeeded: For each of the first observations of the posterior, whether the trial did not
            fail; None if failures do not matter.
        trailing: The last features of the posterior where every point has the same, shape (k,);
            None if there are no such.
    """

    def __init__(
        self,
        posterior: Posterior,
        incumbents: Array,
        succeeded: Mask | None = None,
        trailing: Array | None = None,
    ) -> None:
        self._posterior = posterior
        self._incumbents = incumbents
        self._trailing = trailing
        self._succeeded: Array | None = None
        self._tried = np.zeros(len(posterior.scaled))
        if succeeded is not None:
            self._succeeded = np.zeros(len(posterior.scaled))
            self._succeeded[: len(succeeded)] = succeeded
            self._tried[: len(succeeded)] = 1.0

    def value(self, features: Array) -> Array:
        """``A`` at each row of (m, p - k), shape (m,)."""
        rows = max(_CHUNK // len(self._posterior.scaled), 1)
        parts = [
            self._evaluate(features[start : start + rows], gradient=False)[0]
            for start in range(0, len(features), rows)
        ]
        return np.concatenate(parts) if parts else np.empty(0)

    def value_and_gradient(self, features: Array) -> tuple[Array, Array]:
        """``A``, shape (m,), and its gradient over these features, shape (m, p - k)."""
        value, gradient = self._evaluate(features, gradient=True)
        return value, gradient[:, : features.shape[1]]

    def _evaluate(self, features: Array, *, gradient: bool) -> tuple[Array, Array]:
        post = self._posterior
        features = following(features, self._trailing)
        a = post.parameters.scale(features, post.group)
        kernel, slope = correlate(distances(a, post.scaled), post.parameters.signal)
        reduced = solve_lower(post.factor, kernel.T)
        sd = post.spread(reduced)
        expected = None if post.trend is None else post.trend.value_and_gradient(features)
        z = self._incumbents - kernel @ post.weights
        if expected is not None:
            z -= expected[0][:, np.newaxis]
        z /= sd[:, np.newaxis]
        logs = log_h(z)
        top = logs.max(axis=1)
        shares = np.exp(logs - top[:, np.newaxis])
        total = shares.sum(axis=1)
        value = top + np.log(total / z.shape[1]) + np.log(sd)
        odds = self._odds(kernel)
        if odds is not None:
            value += np.log(odds[0]) - np.log(odds[1])
        if not gradient:
            return value, features
        shares /= total[:, np.newaxis]
        shares *= np.exp(log_ndtr(z) - logs)  # times d ln h / dz
        steep = (1.0 - np.einsum("ij,ij->i", shares, z)) / np.square(sd)
        shares /= sd[:, np.newaxis]
        pull = solve_upper(post.factor, reduced).T  # k(x, A) (k + noise)^-1
        pull *= -steep[:, np.newaxis]
        pull -= shares @ post.weights.T
        if odds is not None and self._succeeded is not None:
            rates = self._succeeded / odds[0][:, np.newaxis] - self._tried / odds[1][:, np.newaxis]
            pull += rates / post.parameters.signal
        pull *= slope
        back = pull @ post.scaled
        back -= a * pull.sum(axis=1)[:, np.newaxis]
        back *= 5.0 / 3.0
        back /= post.parameters.lengths[post.group]
        if expected is not None:
            back -= shares.sum(axis=1)[:, np.newaxis] * expected[1]
        return value, back

    def _odds(self, kernel: Array) -> tuple[Array, Array] | None:
        """Numerator and denominator of P(success), with a prior weight of one success.

        The estimator of Nadaraya and Watson with the model's own correlation.
        """
        if self._succeeded is None:
            return None
        signal = self._posterior.parameters.signal
        return 1.0 + kernel @ self._succeeded / signal, 1.0 + kernel @ self._tried / signal
