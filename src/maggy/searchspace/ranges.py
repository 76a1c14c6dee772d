"""Ranges: real and whole numbers between two ends.

Coding: ``from_unit`` maps a number ``u`` in ``[0, 1]`` to a value so that a uniform ``u`` gives
the uniform draw, or the log-uniform one; ``to_unit`` gives the centre of a value's cell.  ``m``
whole numbers share ``[0, 1]`` in cells of ``1 / m``, so both ends are as probable as the others;
with ``log`` the cell of ``x`` is ``[x - 0.5, x + 0.5]`` seen through the logarithm.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from maggy.errors import SearchspaceError
from maggy.searchspace.conditions import as_condition
from maggy.searchspace.values import UNSET, Unset, integer, real

if TYPE_CHECKING:
    from collections.abc import Mapping

    from maggy.trial import Value

__all__ = ["Double", "Integer", "cell"]


@dataclass(frozen=True, slots=True)
class _Ladder:
    """The exact decimals ``(start + i * step) / scale`` for ``i`` in ``range(count)``."""

    start: int
    step: int
    scale: int
    count: int

    @classmethod
    def between(cls, low: float, high: float, step: float) -> _Ladder:
        bottom, top, rise = Fraction(repr(low)), Fraction(repr(high)), Fraction(repr(step))
        scale = math.lcm(bottom.denominator, rise.denominator)
        count = int((top - bottom) // rise) + 1
        return cls(int(bottom * scale), int(rise * scale), scale, count)

    def at(self, index: int) -> float:
        """Correctly rounded: 0.3, never 0.30000000000000004."""
        return (self.start + index * self.step) / self.scale

    def nearest(self, value: float) -> int:
        """The index of the nearest value."""
        steps = (Fraction(repr(value)) * self.scale - self.start) / self.step
        return min(max(math.floor(steps + Fraction(1, 2)), 0), self.count - 1)


@dataclass(frozen=True, slots=True, repr=False)
class Double:
    """A real number in ``[low, high]``.

    Attributes:
        low: The smallest value; equal to ``high`` for a constant.
        high: The largest value.
        log: Draw uniformly in the logarithm; needs ``low > 0``.
        step: Only ``low, low + step, ...`` up to the last one that is ``<= high``, exact decimals.
        default: The value that an initial configuration takes when it gives none.
        when: Parent's name to a value or a list of values: exists only then.

    Raises:
        SearchspaceError: The options contradict each other.
    """

    low: float
    high: float
    _: KW_ONLY
    log: bool = False
    step: float | None = None
    default: Value | Unset = UNSET
    when: Mapping[str, Any] | None = None
    _ladder: _Ladder | None = field(init=False, compare=False)

    def __post_init__(self) -> None:
        low, high = real("low", self.low), real("high", self.high)
        _check_range(low, high)
        _check_log(self.log, self.step, low, smallest="low > 0", enough=low > 0)
        step = ladder = None
        if self.step is not None:
            step = real("step", self.step)
            _check_step(step, low, high)
            ladder = _Ladder.between(low, high, step)
        _assign(self, low=low, high=high, step=step, _ladder=ladder)
        _assign_options(self)

    @property
    def cardinality(self) -> int | None:
        """How many values there are; None for a continuous range."""
        if self._ladder is not None:
            return self._ladder.count
        return 1 if self.low == self.high else None

    def value_at(self, index: int) -> float:
        """The value of this number, ascending from 0.

        Raises:
            IndexError: There is none, or the range is continuous.
        """
        _check_index(index, self.cardinality)
        return self.low if self._ladder is None else self._ladder.at(index)

    def contains(self, value: Value) -> bool:
        """Whether this is a float in the range, and on the grid of ``step``."""
        if type(value) is not float or not self.low <= value <= self.high:
            return False
        ladder = self._ladder
        return ladder is None or ladder.at(ladder.nearest(value)) == value

    def coerce(self, value: object) -> float:
        """The number as a float of this range.

        Raises:
            SearchspaceError: It is no number or outside.
        """
        number = real("value", value)
        if not self.contains(number):
            msg = f"{value!r} is no value of {self!r}."
            raise SearchspaceError(msg)
        return number

    def from_unit(self, u: float) -> float:
        """The value at ``u`` in ``[0, 1]``, never outside ``[low, high]``."""
        if self._ladder is not None:
            return self._ladder.at(cell(u, self._ladder.count))
        if self.log:
            if not 0.0 < u < 1.0:  # exactly the ends, which rounding would miss
                return self.low if u <= 0.0 else self.high
            bottom = math.log(self.low)
            value = math.exp(bottom + u * (math.log(self.high) - bottom))
        else:
            value = self.low * (1.0 - u) + self.high * u
        return min(max(value, self.low), self.high)

    def to_unit(self, value: float) -> float:
        """Where in ``[0, 1]`` a value lies; 0.5 for a constant."""
        if self._ladder is not None:
            return (self._ladder.nearest(value) + 0.5) / self._ladder.count
        if self.log:
            return _fraction(math.log(value), math.log(self.low), math.log(self.high))
        return _fraction(value, self.low, self.high)

    def __repr__(self) -> str:
        return _describe(self)


@dataclass(frozen=True, slots=True, repr=False)
class Integer:
    """A whole number from ``low`` to ``high``, both included.

    Attributes:
        low: The smallest value; equal to ``high`` for a constant.
        high: The largest value.
        log: Draw uniformly in the logarithm; needs ``low >= 1``.
        step: Only ``low, low + step, ...`` up to the last one that is ``<= high``.
        default: The value that an initial configuration takes when it gives none.
        when: Parent's name to a value or a list of values: exists only then.

    Raises:
        SearchspaceError: The options contradict each other.
    """

    low: int
    high: int
    _: KW_ONLY
    log: bool = False
    step: int | None = None
    default: Value | Unset = UNSET
    when: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        low, high = integer("low", self.low), integer("high", self.high)
        _check_range(low, high)
        _check_log(self.log, self.step, low, smallest="low >= 1", enough=low >= 1)
        step = None if self.step is None else integer("step", self.step)
        if step is not None:
            _check_step(step, low, high)
        _assign(self, low=low, high=high, step=step)
        _assign_options(self)

    @property
    def cardinality(self) -> int:
        """How many values there are."""
        return (self.high - self.low) // (self.step or 1) + 1

    def value_at(self, index: int) -> int:
        """The value of this number, ascending from 0.

        Raises:
            IndexError: There is none.
        """
        _check_index(index, self.cardinality)
        return self.low + index * (self.step or 1)

    def contains(self, value: Value) -> bool:
        """Whether this is an int (no bool) in the range, and on the grid of ``step``."""
        inside = type(value) is int and self.low <= value <= self.high
        return inside and (value - self.low) % (self.step or 1) == 0  # type: ignore[operator]

    def coerce(self, value: object) -> int:
        """The number as an int of this range.

        Raises:
            SearchspaceError: It is no int or outside.
        """
        number = integer("value", value)
        if not self.contains(number):
            msg = f"{value!r} is no value of {self!r}."
            raise SearchspaceError(msg)
        return number

    def from_unit(self, u: float) -> int:
        """The value whose cell holds ``u`` in ``[0, 1]``."""
        if self.log:
            bottom, top = self._log_ends()
            value = math.floor(math.exp(bottom + u * (top - bottom)) + 0.5)
            return min(max(value, self.low), self.high)
        return self.low + cell(u, self.cardinality) * (self.step or 1)

    def to_unit(self, value: int) -> float:
        """The centre of the value's cell in ``[0, 1]``."""
        if self.log:
            centre = (math.log(value - 0.5) + math.log(value + 0.5)) / 2
            return _fraction(centre, *self._log_ends())
        return ((value - self.low) // (self.step or 1) + 0.5) / self.cardinality

    def _log_ends(self) -> tuple[float, float]:
        return math.log(self.low - 0.5), math.log(self.high + 0.5)

    def __repr__(self) -> str:
        return _describe(self)


def cell(u: float, count: int) -> int:
    """Which of ``count`` equal cells of ``[0, 1]`` holds ``u``; 1.0 belongs to the last."""
    return min(max(int(u * count), 0), count - 1)


def _fraction(value: float, low: float, high: float) -> float:
    """Where ``value`` lies between the ends, in ``[0, 1]``; 0.5 if the ends are equal."""
    if low == high:
        return 0.5
    width = high - low
    if math.isinf(width):
        share = (value / 2 - low / 2) / (high / 2 - low / 2)
    else:
        share = (value - low) / width
    return min(max(share, 0.0), 1.0)


def _check_range(low: float, high: float) -> None:
    if low > high:
        msg = f"`low <= high` must hold, but got {low=}, {high=}. Swap them?"
        raise SearchspaceError(msg)


def _check_log(log: object, step: object, low: float, *, smallest: str, enough: bool) -> None:
    if not isinstance(log, bool):
        msg = f"`log` must be True or False, but got {log!r}."
        raise SearchspaceError(msg)
    if log and not enough:
        msg = (
            f"`{smallest}` must hold with `log=True`, but got {low=}. Raise `low`, or drop `log`."
        )
        raise SearchspaceError(msg)
    if log and step is not None:
        msg = (
            f"`log=True` and `step` exclude each other, but got {step=}. "
            "Drop one, or list the values: Discrete([1, 2, 4, 8])."
        )
        raise SearchspaceError(msg)


def _check_step(step: float, low: float, high: float) -> None:
    bottom, top, rise = map(Fraction, map(repr, (low, high, step)))
    if rise <= 0 or (low < high and rise > top - bottom):
        msg = (
            f"`0 < step <= high - low` must hold, but got {step=}, {low=}, {high=}. "
            "The values are low, low + step, ... up to high."
        )
        raise SearchspaceError(msg)


def _check_index(index: int, count: int | None) -> None:
    if count is None or not 0 <= index < count:
        msg = f"no value of number {index}: there are {count or 'uncountably many'}."
        raise IndexError(msg)


def _assign(kind: Double | Integer, **values: object) -> None:
    for name, value in values.items():
        object.__setattr__(kind, name, value)


def _assign_options(kind: Double | Integer) -> None:
    if kind.default is not UNSET:
        _assign(kind, default=kind.coerce(kind.default))
    if kind.when is not None:
        _assign(kind, when=as_condition(kind.when))


def _describe(kind: Double | Integer) -> str:
    options: dict[str, tuple[object, object]] = {
        "log": (kind.log, False),
        "step": (kind.step, None),
        "default": (kind.default, UNSET),
        "when": (kind.when, None),
    }
    given = [f", {name}={value!r}" for name, (value, unset) in options.items() if value != unset]
    return f"{type(kind).__name__}({kind.low!r}, {kind.high!r}{''.join(given)})"
