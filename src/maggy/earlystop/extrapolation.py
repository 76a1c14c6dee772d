"""Extrapolation of one learning curve by a mixture of parametric families.

Each family says that the loss approaches a limit: ``loss(t) = c + a * shape(t)`` with ``a >= 0``,
``t = 1, 2, ...`` counting steps from the first.

=============  ====================================================================
``shape(t)``   ``t**-b``, ``exp(-b t)`` for 20 rates ``b`` each, and ``1 / ln(t + 1)``
``c, a``       weighted least squares in closed form (variable projection: Golub and
               Pereyra 1973): for each ``b`` the best ``c`` and ``a`` are linear
``weights``    of points: from 1 (first) to 2 (newest); of members: their
               likelihood ``exp(-RSS / 2 sigma^2)``
``sigma``      the noise of the curve: the residual of the best member, with a floor
=============  ====================================================================

After Domhan, Springenberg and Hutter (2015), whose ensemble is sampled; here it is summed up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["Forecast", "extrapolate"]

_RATES = 20
_MOST_POINTS = 100
"""Longer curves are thinned to so many points, which bounds the time of a fit."""


class Forecast(NamedTuple):
    """Where a curve is going: a mixture of normal distributions, one for each member.

    Attributes:
        weights: Sum to 1.
        means: The expected loss at the horizon.
        sds: Its standard deviation: noise, and what the fit leaves open.
    """

    weights: Array
    means: Array
    sds: Array

    @property
    def mean(self) -> float:
        """The expected loss at the horizon."""
        return float(self.weights @ self.means)

    @property
    def sd(self) -> float:
        """The standard deviation of the whole mixture."""
        spread = self.weights @ (self.sds**2 + (self.means - self.mean) ** 2)
        return float(spread**0.5)

    def below(self, target: float) -> float:
        """The probability that the loss at the horizon is below ``target``."""
        from scipy.special import ndtr

        return float(self.weights @ ndtr((target - self.means) / self.sds))


def extrapolate(
    steps: Sequence[int], losses: Sequence[float], horizon: int, *, noise: float
) -> Forecast:
    """Forecast the loss at a step from the curve so far.

    Args:
        steps: At least three, ascending.
        losses: The loss at each, finite, of a size that can be squared.
        horizon: The step to forecast; the newest step, if that is later.
        noise: A floor for the standard deviation of a single report, positive.
    """
    import numpy as np

    t, y = _points(steps, losses)
    end = float(max(horizon - steps[0] + 1, t[-1]))
    shapes, goal = _shapes(t, end)
    weight = np.linspace(1.0, 2.0, len(t))
    weight /= weight.mean()
    total = weight.sum()
    shape_mean = shapes @ weight / total
    centred = shapes - shape_mean[:, None]
    y_mean = weight @ y / total
    power = centred**2 @ weight
    slope = np.maximum(0.0, centred @ (weight * (y - y_mean)) / power)
    residual = (y - y_mean) - slope[:, None] * centred
    rss = residual**2 @ weight
    freedom = max(1.0, len(t) - 3.0)
    sigma2 = max(float(rss.min()) / freedom, noise**2)
    weights = np.exp(-(rss - rss.min()) / (2 * sigma2))
    means = y_mean + slope * (goal - shape_mean)
    open_ = sigma2 * (1 + 1 / total + (goal - shape_mean) ** 2 / power)
    return Forecast(weights / weights.sum(), means, np.sqrt(open_))


def _points(steps: Sequence[int], losses: Sequence[float]) -> tuple[Array, Array]:
    """Steps counted from 1, and losses, thinned evenly; the newest point is kept."""
    import numpy as np

    t = np.asarray(steps, dtype=np.float64) - steps[0] + 1
    y = np.asarray(losses, dtype=np.float64)
    if len(t) > _MOST_POINTS:
        keep = np.linspace(0, len(t) - 1, _MOST_POINTS).round().astype(int)
        t, y = t[keep], y[keep]
    return t, y


def _shapes(t: Array, end: float) -> tuple[Array, Array]:
    """Every member's shape at the points, ``(members, points)``, and at the horizon."""
    import numpy as np

    times = np.append(t, end)
    powers = np.geomspace(0.1, 3.0, _RATES)[:, None]
    rates = np.geomspace(0.3, 20.0 * len(t) ** 0.5, _RATES)[:, None] / end
    table = np.concatenate(
        [times**-powers, np.exp(-rates * (times - 1)), 1 / np.log1p(times)[None, :]]
    )
    return table[:, :-1], table[:, -1]
