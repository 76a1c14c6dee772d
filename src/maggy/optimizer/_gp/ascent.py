"""Many maximisations in a box at once: projected BFGS, every row with a model of its own.

One call of the function serves all rows that still move; that is what makes it fast in numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from maggy.optimizer.encoding import Array, Index, Mask

__all__ = ["Differentiable", "ascend"]

_ITERATIONS = 40
_BACKTRACKS = 8
_SHRINK = 0.3
_SUFFICIENT = 1e-4
_FLAT = 1e-3
_GAIN = 1e-6
_FIRST_STEP = 0.3


class Differentiable(Protocol):
    """A function of rows, with its gradient; minus infinity where it must not go."""

    def __call__(self, x: Array, rows: Index) -> tuple[Array, Array]:
        """Values (m,) and gradients (m, k) at ``x`` (m, k), which belong to these rows."""
        ...


class _Climb:
    """The rows' positions, values, gradients and inverse Hessians."""

    def __init__(self, function: Differentiable, x: Array, low: Array, high: Array) -> None:
        self._function = function
        self._low, self._high = low, high
        self.x = x
        everyone = np.arange(len(x))
        self.value, self.gradient = function(x, everyone)
        self.moving: Mask = np.isfinite(self.value)
        self._inverse = np.zeros((*x.shape, x.shape[1]))
        self._fresh = np.ones(len(x), dtype=bool)

    def iterate(self) -> None:
        """One step of every row that moves."""
        rows = np.flatnonzero(self.moving)
        x, free = self.x[rows], self._free(rows)
        inside = np.where(free, self.gradient[rows], 0.0)
        flat = np.abs(inside).max(axis=1) < _FLAT
        self.moving[rows[flat]] = False
        rows, x, free, inside = rows[~flat], x[~flat], free[~flat], inside[~flat]
        if len(rows):
            direction = self._direction(rows, inside, free)
            self._step(rows, x, inside, direction)

    def _free(self, rows: Index) -> Mask:
        """Which coordinates can follow the gradient without leaving the box."""
        x, gradient = self.x[rows], self.gradient[rows]
        pressed = (x <= self._low[rows]) & (gradient < 0)
        pressed |= (x >= self._high[rows]) & (gradient > 0)
        return np.asarray(~pressed)

    def _direction(self, rows: Index, inside: Array, free: Mask) -> Array:
        direction = np.einsum("ijk,ik->ij", self._inverse[rows], inside) * free
        length = np.sqrt(np.einsum("ij,ij->i", inside, inside))
        steepest = inside * (_FIRST_STEP / np.maximum(length, _FIRST_STEP))[:, np.newaxis]
        uphill = np.einsum("ij,ij->i", direction, inside) > 0
        uphill &= ~self._fresh[rows]
        return np.asarray(np.where(uphill[:, np.newaxis], direction, steepest))

    def _step(self, rows: Index, x: Array, inside: Array, direction: Array) -> None:
        """Backtracking until the gain is sufficient (Armijo); rows without one stop."""
        step = 1.0
        waiting = np.arange(len(rows))
        for _ in range(_BACKTRACKS):
            there = rows[waiting]
            tried = x[waiting] + step * direction[waiting]
            np.clip(tried, self._low[there], self._high[there], out=tried)
            value, gradient = self._function(tried, there)
            moved = tried - x[waiting]
            wanted = _SUFFICIENT * np.einsum("ij,ij->i", moved, inside[waiting])
            gained = value - self.value[there] >= np.maximum(wanted, 1e-15)
            self._accept(there[gained], tried[gained], value[gained], gradient[gained])
            waiting = waiting[~gained]
            if not len(waiting):
                return
            step *= _SHRINK
        self.moving[rows[waiting]] = False

    def _accept(self, rows: Index, x: Array, value: Array, gradient: Array) -> None:
        if not len(rows):
            return
        moved, turned = x - self.x[rows], self.gradient[rows] - gradient
        gain = value - self.value[rows]
        self._learn(rows, moved, turned)
        self.x[rows], self.value[rows], self.gradient[rows] = x, value, gradient
        self.moving[rows] = gain > _GAIN * np.maximum(1.0, np.abs(value))

    def _learn(self, rows: Index, moved: Array, turned: Array) -> None:
        """The BFGS update of the inverse Hessian of minus the function (Nocedal, Wright, 6.17)."""
        along = np.einsum("ij,ij->i", moved, turned)
        size = np.einsum("ij,ij->i", turned, turned)
        curved = along > 1e-10 * np.sqrt(size * np.einsum("ij,ij->i", moved, moved))
        rows, moved, turned = rows[curved], moved[curved], turned[curved]
        along, size = along[curved], size[curved]
        inverse = self._inverse[rows]
        fresh = self._fresh[rows]
        inverse[fresh] = np.eye(moved.shape[1]) * (along / size)[fresh, np.newaxis, np.newaxis]
        self._fresh[rows] = False
        rho = 1.0 / along
        pushed = np.einsum("ijk,ik->ij", inverse, turned)
        factor = rho * (1.0 + rho * np.einsum("ij,ij->i", turned, pushed))
        mixed = (rho[:, np.newaxis] * moved)[:, :, np.newaxis] * pushed[:, np.newaxis, :]
        inverse -= mixed
        inverse -= mixed.transpose(0, 2, 1)
        scaled = factor[:, np.newaxis] * moved
        inverse += scaled[:, :, np.newaxis] * moved[:, np.newaxis, :]
        self._inverse[rows] = inverse


def ascend(function: Differentiable, x: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """Local maxima from these starts.

    A row stops when its projected gradient is under 1e-3, its relative gain under 1e-6, no step
    along its direction gains, or after 40 steps.

    Args:
        function: What to maximise.
        x: Starts, shape (m, k), inside the box; kept.
        low: Lower ends, shape (m, k).
        high: Upper ends, shape (m, k).

    Returns:
        Where the rows ended, shape (m, k), and the values there, shape (m,).
    """
    climb = _Climb(function, x.copy(), low, high)
    if x.shape[1] == 0:
        return climb.x, climb.value
    for _ in range(_ITERATIONS):
        if not climb.moving.any():
            break
        climb.iterate()
    return climb.x, climb.value
