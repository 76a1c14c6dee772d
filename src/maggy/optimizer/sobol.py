"""Points that fill the unit cube evenly: a scrambled Sobol sequence.

Sobol 1967 with the direction numbers of Joe and Kuo 2008, scrambled by random lower triangular
matrices and a digital shift (Matousek 1998).  The points are those of ``scipy.stats.qmc.Sobol``,
bit for bit; importing that takes several times as long as starting a search does.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from maggy.optimizer.encoding import Array

__all__ = ["Sobol"]

_BITS = 30
_TABLE = Path(scipy.__file__).parent / "stats" / "_sobol_direction_numbers.npz"


class Sobol:
    """A scrambled Sobol sequence; at most 2^30 points.

    Args:
        dimensions: Of the cube, 1 to 21,201.
        rng: A generator spawned from it scrambles; it is not advanced.
        table: Where scipy keeps the direction numbers; where it does not, scipy draws the points.
    """

    def __init__(self, dimensions: int, rng: np.random.Generator, table: Path = _TABLE) -> None:
        self._drawn = 0
        self._engine: Any = None
        if not table.exists():
            from scipy.stats import qmc

            self._engine = qmc.Sobol(dimensions, scramble=True, seed=rng)
            return
        with np.load(table) as numbers:
            polynomials = numbers["poly"][:dimensions].tolist()
            initial = numbers["vinit"][:dimensions].tolist()
        own = rng.spawn(1)[0]
        powers = np.left_shift(np.uint32(1), np.arange(_BITS, dtype=np.uint32))
        shift = own.integers(2, size=(dimensions, _BITS), dtype=np.uint32)
        matrices = own.integers(2, size=(dimensions, _BITS, _BITS), dtype=np.uint32)
        matrices = np.tril(matrices, -1) + np.eye(_BITS, dtype=np.uint32)
        digits = _directions(polynomials, initial)[:, :, None] // powers[::-1] % 2
        scrambled = digits @ matrices.transpose(0, 2, 1) % 2
        self._directions: NDArray[np.uint32] = (scrambled @ powers[::-1]).T
        self._last: NDArray[np.uint32] = shift @ powers

    def random(self, count: int) -> Array:
        """The next points, of shape ``(count, dimensions)``, in [0, 1)."""
        if self._engine is not None:
            drawn: Array = self._engine.random(count)
            return drawn
        # In the order of Gray's code each point differs from the one before by one direction.
        numbers = np.arange(self._drawn, self._drawn + count)
        lowest = np.maximum(numbers & -numbers, 1)  # the lowest bit that is set
        changes = self._directions[np.log2(lowest).astype(int)]
        changes[numbers == 0] = 0
        points = np.bitwise_xor.accumulate(np.vstack([self._last, changes]))
        self._drawn += count
        self._last = points[-1]
        return points[1:] / 2.0**_BITS


def _directions(polynomials: list[int], initial: list[list[int]]) -> NDArray[np.uint32]:
    """The direction numbers as integers of 30 bits, one row a dimension.

    Args:
        polynomials: Primitive ones over the integers modulo 2, in binary.
        initial: The first numbers of each recurrence (Bratley and Fox 1988, equation 3).
    """
    rows = [[1] * _BITS]
    for polynomial, first in zip(polynomials[1:], initial[1:], strict=True):
        degree = polynomial.bit_length() - 1
        row = first[:degree]
        for here in range(degree, _BITS):
            number = row[here - degree]
            for back in range(1, degree + 1):
                if polynomial >> (degree - back) & 1:
                    number ^= row[here - back] << back
            row.append(number)
        rows.append(row)
    shifts = np.arange(_BITS - 1, -1, -1, dtype=np.uint32)
    return np.left_shift(np.array(rows, dtype=np.uint32), shifts)
