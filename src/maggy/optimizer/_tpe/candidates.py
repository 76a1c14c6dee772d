"""Where the good trials are denser than the rest: candidates, the most promising first."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from maggy.optimizer._tpe.encoding import Encoding
    from maggy.optimizer._tpe.mixture import Mixture

    Array: TypeAlias = NDArray[np.float64]

__all__ = ["candidates", "scores"]

_DRAWN = 24
_PARENTS = 4
_EXCHANGED = 0.3


def candidates(
    encoding: Encoding, good: Mixture, rest: Mixture, rng: np.random.Generator
) -> Array:
    """Rows by descending score, 24 and as many for each crossing.

    24 are drawn from the good density.  Each crossing adds 24 more: the best 4 in turn, with some
    of their columns exchanged for those of fresh draws.  Columns multiply the draws that it takes
    to find a good one, so there is a crossing more for each doubling of 3 columns.
    """
    drawn = good.sample(rng, _DRAWN)
    rows = encoding.snapped(drawn)
    points = scores(good, rest, rows)
    for _ in range(_crossings(len(encoding))):
        parents = drawn[_descending(points)[np.arange(_DRAWN) % _PARENTS]]
        exchanged = rng.random(parents.shape) < _EXCHANGED
        crossed = np.where(exchanged, good.sample(rng, _DRAWN), parents)
        snapped = encoding.snapped(crossed)
        drawn, rows = np.concatenate([drawn, crossed]), np.concatenate([rows, snapped])
        points = np.append(points, scores(good, rest, snapped))
    ordered: Array = rows[_descending(points)]
    return ordered


def scores(good: Mixture, rest: Mixture, rows: Array) -> Array:
    """The logarithm of the ratio of the two densities, shape ``(m,)``."""
    result: Array = good.log_density(rows) - rest.log_density(rows)
    return result


def _crossings(columns: int) -> int:
    return max(0, round(math.log2(columns / 3)))


def _descending(points: Array) -> NDArray[np.intp]:
    return np.argsort(-points, kind="stable")
