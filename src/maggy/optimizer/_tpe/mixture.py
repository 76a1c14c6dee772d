"""Densities over a search space: weighted sums of product kernels.

Notation: ``n`` observations and one prior make ``K = n + 1`` kernels, the prior last, over ``d``
columns (see ``encoding``), ``c`` of them numeric; ``m`` rows are drawn or scored.

A kernel is the product, over the columns that are active in the scored row, of

* a normal of mean ``mu`` and standard deviation ``sigma``, truncated to ``[0, 1]``; for a
  countable value, its mass in the value's cell;
* for a list of ``k`` categories, ``(1[same] + 1 / K) / (1 + k / K)``.

Where an observation has no value, because the hyperparameter was inactive, its kernel is the
prior's.  Summed and integrated over all configurations a mixture gives 1, whatever the conditions.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from scipy.special import ndtr, ndtri

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from maggy.optimizer._tpe.encoding import Cells, Encoding

    Array: TypeAlias = NDArray[np.float64]

__all__ = ["Mixture", "bandwidths", "cell_masses"]

_NARROW = 1e-6
"""In a narrower cell the mass is width times density: a difference would lose its digits."""

_TABULATED = 128
"""Of at most so many cells, all masses are computed once; of more, those that are looked at."""

_TINY = 1e-300
_LOG_ROOT_TAU = 0.5 * math.log(2.0 * math.pi)


class Mixture:
    """A density over the configurations of a space.

    Args:
        encoding: Of the space.
        rows: The observations, shape ``(n, d)``; ``n`` may be 0.
        weights: Their weights, positive, shape ``(n,)``; the prior weighs as much as their mean.
        floor: The least bandwidth.

    Attributes:
        weights: Of the kernels, shape ``(K,)``; they sum to 1.
        mu: Shape ``(K, c)``.
        sigma: Shape ``(K, c)``.
    """

    def __init__(self, encoding: Encoding, rows: Array, weights: Array, floor: float) -> None:
        self._encoding = encoding
        everyone = np.append(weights, weights.mean() if len(weights) else 1.0)
        self.weights: Array = everyone / everyone.sum()
        self.mu, self.sigma = _normals(encoding, rows[:, encoding.numeric], floor)
        self._below: Array = ndtr(-self.mu / self.sigma)
        self._inside: Array = ndtr((1.0 - self.mu) / self.sigma) - self._below
        self._categories = {
            column: _category_kernels(rows[:, column], count)
            for column, count in encoding.categories.items()
        }
        self._category_logs = {
            column: np.log(kernels.T) for column, kernels in self._categories.items()
        }
        self._prepare_smooth()
        self._tables: dict[int, Array] = {}

    def sample(self, rng: np.random.Generator, size: int) -> Array:
        """Draw rows, shape ``(size, d)``, with a value in each column, not snapped yet."""
        chosen = np.searchsorted(np.cumsum(self.weights), rng.random(size), side="right")
        chosen = np.minimum(chosen, len(self.weights) - 1)
        uniform = rng.random((size, len(self._encoding)))
        rows = np.empty_like(uniform)
        numeric = self._encoding.numeric
        quantile = self._below[chosen] + uniform[:, numeric] * self._inside[chosen]
        drawn = self.mu[chosen] + self.sigma[chosen] * ndtri(quantile)
        rows[:, numeric] = np.minimum(np.maximum(drawn, 0.0), 1.0)
        for column, kernels in self._categories.items():
            steps = np.cumsum(kernels[chosen], axis=1)[:, :-1]
            rows[:, column] = (uniform[:, column, None] > steps).sum(axis=1)
        return rows

    def log_density(self, rows: Array) -> Array:
        """The logarithm of the density at these snapped rows, shape ``(m,)``."""
        logs = np.log(self.weights) + self._log_smooth(rows)
        for place, column in self._encoding.stepped:
            logs += self._log_stepped(place, column, rows[:, column])
        for column, table in self._category_logs.items():
            logs += self._looked_up(table, rows[:, column])
        top = logs.max(axis=1, keepdims=True)
        logs -= top
        np.exp(logs, out=logs)
        total: Array = np.log(logs.sum(axis=1)) + top[:, 0]
        return total

    def _prepare_smooth(self) -> None:
        """Constants of the continuous columns, as the factors of three matrix products."""
        places = self._encoding.smooth
        mu, sigma = self.mu[:, places] - 0.5, self.sigma[:, places]
        precision = sigma**-2.0
        constant = -0.5 * mu * mu * precision - np.log(sigma * self._inside[:, places])
        self._quadratic = -0.5 * precision.T
        self._linear = (mu * precision).T
        self._constant = (constant - _LOG_ROOT_TAU).T

    def _log_smooth(self, rows: Array) -> Array:
        """The continuous columns' part of each kernel at each row, shape ``(m, K)``."""
        x = rows[:, self._encoding.numeric[self._encoding.smooth]] - 0.5
        constant: Array = self._constant.sum(axis=0)
        if self._encoding.conditional:
            active = ~np.isnan(x)
            x = np.where(active, x, 0.0)
            constant = active.astype(float) @ self._constant
        logs: Array = (x * x) @ self._quadratic + x @ self._linear + constant
        return logs

    def _log_stepped(self, place: int, column: int, values: Array) -> Array:
        """A countable column's part of each kernel at each row, shape ``(m, K)``."""
        cells = self._encoding.cells[column]
        index = cells.index(values)
        if cells.count > _TABULATED:
            distinct, inverse = np.unique(index, return_inverse=True)
            numbers = np.where(np.isnan(index), index, inverse)
            return self._looked_up(self._log_masses(place, cells, distinct), numbers)
        if place not in self._tables:
            self._tables[place] = self._log_masses(place, cells, np.arange(float(cells.count)))
        return self._looked_up(self._tables[place], index)

    def _looked_up(self, table: Array, numbers: Array) -> Array:
        """Rows of a table by their numbers; 0 where the number is NaN, which is inactive."""
        if not self._encoding.conditional:
            found: Array = table[numbers.astype(int)]
            return found
        active = ~np.isnan(numbers)
        return np.where(active[:, None], table[np.where(active, numbers, 0.0).astype(int)], 0.0)

    def _log_masses(self, place: int, cells: Cells, index: Array) -> Array:
        lower, upper = cells.bounds(index)
        masses = cell_masses(lower, upper, self.mu[:, place], self.sigma[:, place])
        masses /= self._inside[:, place]
        logs: Array = np.log(np.maximum(masses, _TINY, out=masses), out=masses)
        return logs


def bandwidths(values: Array, floor: float) -> Array:
    """The larger distance of each value to a neighbour in its column, ends included.

    Args:
        values: Shape ``(n, c)``, in ``[0, 1]``; NaN is no value.
        floor: The least bandwidth; the largest is 1.
    """
    order = np.argsort(values, axis=0)
    ordered = np.nan_to_num(np.take_along_axis(values, order, axis=0), nan=1.0)
    gaps = np.diff(ordered, axis=0, prepend=0.0, append=1.0)
    spread = np.empty_like(values)
    np.put_along_axis(spread, order, np.maximum(gaps[:-1], gaps[1:]), axis=0)
    return np.clip(spread, floor, 1.0)


def cell_masses(lower: Array, upper: Array, mu: Array, sigma: Array) -> Array:
    """The mass of normals in cells, with all its digits in both tails, shape ``(m, K)``.

    Args:
        lower: The lower ends, ascending, shape ``(m,)``.
        upper: The upper ends.
        mu: The means, shape ``(K,)``.
        sigma: The standard deviations.
    """
    touching = len(lower) > 1 and bool(np.array_equal(lower[1:], upper[:-1]))
    ends = np.append(lower, upper[-1:]) if touching else np.concatenate([lower, upper])
    z = (ends[:, None] - mu) / sigma
    tails = ndtr(-np.abs(z))
    above = z > 0.0
    first = slice(0, len(lower))
    last = slice(1, None) if touching else slice(len(lower), None)
    masses: Array = tails[last] - tails[first]
    np.negative(masses, out=masses, where=above[first])
    straddling = above[last] & ~above[first]
    np.copyto(masses, 1.0 - tails[first] - tails[last], where=straddling)
    narrow = upper - lower < _NARROW
    if narrow.any():
        width = (upper - lower)[narrow, None] / sigma
        middle = (z[first] + z[last])[narrow] / 2
        masses[narrow] = np.exp(-0.5 * middle * middle - _LOG_ROOT_TAU) * width
    return masses


def _normals(encoding: Encoding, values: Array, floor: float) -> tuple[Array, Array]:
    """Means and standard deviations of all kernels; the prior's are 0.5 and 1."""
    count, columns = values.shape
    known = ~np.isnan(values)
    mu = np.full((count + 1, columns), 0.5)
    mu[:-1] = np.where(known, values, 0.5)
    sigma = np.ones_like(mu)
    sigma[:-1] = np.where(known, bandwidths(values, floor), 1.0)
    for place, column in encoding.stepped:
        cells = encoding.cells[column]
        lower, upper = cells.bounds(cells.index(mu[:, place]))
        sigma[:, place] = np.maximum(sigma[:, place], (upper - lower) / 2)
    return mu, sigma


def _category_kernels(seen: Array, count: int) -> Array:
    """The probability of each category under each kernel, shape ``(K, count)``."""
    known = np.flatnonzero(~np.isnan(seen))
    kernels = np.full((len(seen) + 1, count), 1.0 / (len(seen) + 1))
    kernels[known, seen[known].astype(int)] += 1.0
    kernels /= kernels.sum(axis=1, keepdims=True)
    return kernels
