"""The configuration that a model believes best, which under noise is not the luckiest one.

The observed best of noisy values is an optimist's choice.  A small Gaussian process smooths the
values of the completed trials; the recommendation is the trial with the best smoothed value.

Notation: ``n`` trials at ``x`` in ``[0, 1]^d``, losses ``y`` after ``_clipped``; covariance
``s2 (M52(r) + noise [i = j])`` with ``r = |x - x'| / (length sqrt(d))``.  Length and noise are not
fitted but averaged over, each by its marginal likelihood, since few and noisy values fit anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from maggy.searchspace import Categorical

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from maggy.searchspace import Searchspace
    from maggy.trial import Hparams
    from maggy.views.importance import Ended

    Array: TypeAlias = NDArray[np.float64]

__all__ = ["Recommendation", "recommend"]

_FEWEST = 8
_MOST = 200
_LENGTHS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
_NOISES = (1e-6, 1e-4, 1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """A trial to rely on.

    Attributes:
        id: The trial.
        hparams: Its configuration.
        value: What it returned.
        expected: What it would return on average, as far as the model knows.
        spread: One standard deviation of the uncertainty of ``expected``; None if there were too
            few trials for a model, and ``expected`` is the value.
    """

    id: int
    hparams: Hparams
    value: float
    expected: float
    spread: float | None


def recommend(
    trials: Iterable[Ended], space: Searchspace, direction: str
) -> Recommendation | None:
    """The completed trial with the best expected value; None if no trial completed.

    With fewer than 8 trials, or if 30 % of them are equally good, it is the best one observed.
    Of more than 200 the best 100 are used and an even part of the others.

    Args:
        trials: The trials of a run.
        space: Its search space.
        direction: ``"max"`` or ``"min"``.
    """
    sign = -1.0 if direction == "max" else 1.0
    completed = [
        (sign * trial.value, trial.id, trial.hparams)
        for trial in trials
        if trial.status == "completed" and trial.value is not None and math.isfinite(trial.value)
    ]
    if not completed:
        return None
    completed.sort(key=lambda entry: entry[:2])
    used = _thinned(completed)
    losses = _clipped(np.array([entry[0] for entry in used]))
    best, expected, spread = 0, float(losses[0]), None
    if len(used) >= _FEWEST and losses[0] < losses[-1]:
        points = np.array([_point(space, entry[2]) for entry in used])
        best, expected, spread = _smoothed_best(points, losses)
    loss, number, hparams = used[best]
    return Recommendation(
        id=number,
        hparams=dict(hparams),
        value=sign * loss,
        expected=sign * expected,
        spread=spread,
    )


def _thinned(
    ordered: Sequence[tuple[float, int, Hparams]],
) -> Sequence[tuple[float, int, Hparams]]:
    if len(ordered) <= _MOST:
        return ordered
    half = _MOST // 2
    others = np.linspace(half, len(ordered) - 1, half).round().astype(int)
    return [*ordered[:half], *(ordered[index] for index in others)]


def _point(space: Searchspace, hparams: Hparams) -> list[float]:
    """Columns in ``[0, 1]``: one per numeric hyperparameter, one per category, 0.5 if inactive."""
    point: list[float] = []
    for name, place in zip(space, space.encode(hparams), strict=True):
        kind = space[name]
        if isinstance(kind, Categorical):
            chosen = int(place * kind.cardinality) if name in hparams else -1
            point += [math.sqrt(0.5) * (index == chosen) for index in range(kind.cardinality)]
        else:
            point.append(place)
    return point


def _smoothed_best(points: Array, losses: Array) -> tuple[int, float, float]:
    """The row with the least posterior mean, that mean, and its standard deviation.

    The losses ascend and are not all equal.
    """
    base, width = float(losses[0]), float(losses[-1] - losses[0])
    parts = (losses - base) / width
    centre, scale = float(parts.mean()), float(parts.std())
    chances, means, variances = _posteriors(points, (parts - centre) / scale)
    mean = chances @ means
    best = int(np.argmin(mean))
    apart = (means[:, best] - mean[best]) ** 2
    spread = math.sqrt(float(chances @ (variances[:, best] + apart)))
    return best, base + width * (centre + scale * float(mean[best])), width * scale * spread


def _clipped(losses: Array) -> Array:
    """Ascending losses, cut off above their 30 % quantile by half of what the best is below it.

    What is far from good need not be told apart, and so it cannot flatten the rest.
    """
    ordinary = float(np.quantile(losses, 0.3))
    clipped: Array = np.minimum(losses, ordinary + 0.5 * (ordinary - losses[0]))
    return clipped


def _posteriors(points: Array, y: Array) -> tuple[Array, Array, Array]:
    """One model for each length-scale and noise on a grid: probability, means, variances.

    Shapes ``(models,)``, ``(models, n)``, ``(models, n)``.  The probability follows from the
    marginal likelihood; its signal variance is the one that maximises it, ``y' K^-1 y / n``.
    """
    evidence, means, variances = [], [], []
    size = math.sqrt(points.shape[1])
    for length in _LENGTHS:
        values, vectors = np.linalg.eigh(_matern(points / (length * size)))
        values = np.maximum(values, 0.0)[:, None]
        projected = vectors.T @ y
        total = values + np.array(_NOISES)
        height = np.mean(projected[:, None] ** 2 / total, axis=0)
        evidence.append(-0.5 * (len(y) * np.log(height) + np.log(total).sum(axis=0)))
        means.append((vectors @ (projected[:, None] * values / total)).T)
        left = values * np.array(_NOISES) / total
        variances.append((height * (vectors**2 @ left)).T)
    logs = np.concatenate(evidence)
    chances = np.exp(logs - logs.max())
    return chances / chances.sum(), np.concatenate(means), np.concatenate(variances)


def _matern(scaled: Array) -> Array:
    """Matern-5/2 correlations of rows that are divided by their length-scales."""
    norms = (scaled * scaled).sum(axis=1)
    squares = norms[:, None] + norms - 2.0 * (scaled @ scaled.T)
    r = np.sqrt(5.0 * np.maximum(squares, 0.0))
    np.fill_diagonal(r, 0.0)
    correlations: Array = (1.0 + r + r * r / 3.0) * np.exp(-r)
    return correlations
