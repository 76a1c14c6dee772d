"""How long trials take, learned from those of the run: a regression on the hyperparameters.

==========  ===================================================================
``x``       1, the coordinates of a configuration in ``[0, 1]^d``, and, while
            ``d <= 12``, the squares of their distances from 0.5
``y``       the logarithm of the seconds that the whole trial takes; a stopped one is
            taken to go on at its own pace to the mean number of reports
``w``       the ridge estimate ``(X'X + lambda I)^-1 X'y``
==========  ===================================================================

Pure Python on purpose: small, and the same numbers everywhere.
"""

from __future__ import annotations

import math
from operator import mul
from typing import TYPE_CHECKING

from maggy.trial import TrialStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from maggy.trial import Hparams, Trial

__all__ = ["Durations"]

_RIDGE = 0.01
_MOST_SQUARED = 12
_LEAST_TRIALS = 8
_REFIT = 1.25
"""The estimate is renewed when so many times as many trials have ended."""
_SLACK = 1e-9
"""The share by which rounding may carry an expectation above its bound, at most."""
_SHORTEST = 1e-6
"""Seconds: what ended faster counts as this long."""


class Durations:
    """Learns from every ended run of a trial; knows nothing until some have ended.

    Args:
        encode: The point of ``[0, 1]^d`` of a configuration.
    """

    def __init__(self, encode: Callable[[Hparams], Sequence[float]]) -> None:
        self._encode = encode
        self._count = 0
        self._next_fit = 0
        self._spent = 0.0
        self._completed = self._reports = 0
        self._products: list[list[float]] = []
        self._sums: list[float] = []
        self._weights: Sequence[float] | None = None
        self._longest = 0.0

    @property
    def mean_spent(self) -> float:
        """Seconds that ended runs took on average, stopped ones included."""
        return self._spent / self._count if self._count else 0.0

    @property
    def known(self) -> bool:
        """Whether there is an estimate."""
        return self._weights is not None

    @property
    def longest(self) -> float:
        """Seconds that no configuration is expected to exceed; 0 if nothing is known."""
        return self._longest

    def learn(self, trial: Trial, seconds: float) -> bool:
        """Take in a run that ended; True when the estimate has changed."""
        self._count += 1
        self._spent += seconds
        whole = self._whole(trial, seconds)
        if whole is None:
            return False
        point = self._encode(trial.hparams)
        x, y = _features(point), math.log(max(_SHORTEST, whole))
        if not self._sums:
            self._sums = [0.0] * len(x)
            self._products = [[0.0] * len(x) for _ in x]
            self._next_fit = max(_LEAST_TRIALS, 2 * len(x))
        for i, value in enumerate(x):
            self._sums[i] += value * y
            row = self._products[i]
            self._products[i] = [a + value * b for a, b in zip(row, x, strict=True)]
        if self._count < self._next_fit:
            return False
        self._next_fit = math.ceil(_REFIT * self._count)
        self._weights = _ridge(self._products, self._sums)
        self._longest = (1.0 + _SLACK) * _exp(_bound(self._weights, len(point)))
        return True

    def expected(self, hparams: Hparams) -> float:
        """Seconds that a whole run of this configuration is expected to take; 0 if unknown."""
        return self.expected_at(self.features(hparams))

    def expected_at(self, features: Sequence[float]) -> float:
        """The same, for what ``features`` says of the configuration."""
        return 0.0 if self._weights is None else _exp(sum(map(mul, self._weights, features)))

    def features(self, hparams: Hparams) -> Sequence[float]:
        """What expectations depend on, ``x``; does not change with what is learned."""
        return _features(self._encode(hparams))

    def _whole(self, trial: Trial, seconds: float) -> float | None:
        """Seconds that the run would have taken to its end; None if nobody can know."""
        count = len(trial.steps)
        if trial.status is TrialStatus.COMPLETED:
            self._completed += 1
            self._reports += count
            return seconds
        if trial.status is not TrialStatus.STOPPED or not count or not self._completed:
            return None
        return seconds * max(1.0, self._reports / self._completed / count)


def _features(point: Sequence[float]) -> list[float]:
    squares = [(u - 0.5) ** 2 for u in point] if len(point) <= _MOST_SQUARED else []
    return [1.0, *point, *squares]


def _bound(weights: Sequence[float], dimensions: int) -> float:
    """What no point of the unit cube exceeds: every feature at the end that its weight prefers."""
    raising = [weights[0], *(max(0.0, weight) for weight in weights[1:])]
    largest = [1.0] * (1 + dimensions) + [0.25] * (len(weights) - 1 - dimensions)
    log: float = sum(map(mul, raising, largest))
    return log


def _exp(log: float) -> float:
    return math.exp(min(log, 700.0))


def _ridge(products: Sequence[Sequence[float]], sums: Sequence[float]) -> Sequence[float]:
    """The ridge estimate, by elimination; the penalty makes every pivot positive."""
    size = len(sums)
    rows = [[*row, total] for row, total in zip(products, sums, strict=True)]
    for i in range(1, size):  # the level itself is not drawn towards 0
        rows[i][i] += _RIDGE
    rows[0][0] += 1e-9
    for i in range(size):
        pivot = rows[i]
        for j in range(i + 1, size):
            factor = rows[j][i] / pivot[i]
            if factor:
                rows[j] = [a - factor * b for a, b in zip(rows[j], pivot, strict=True)]
    weights = [0.0] * size
    for i in reversed(range(size)):
        known = sum(rows[i][j] * weights[j] for j in range(i + 1, size))
        weights[i] = (rows[i][size] - known) / rows[i][i]
    return weights
