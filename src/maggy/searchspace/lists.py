"""Lists: one of several given values, numbers in order or things without one.

Coding: ``m`` choices share ``[0, 1]`` in cells of ``1 / m``, in the order of ``value_at``.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any

from maggy.errors import SearchspaceError
from maggy.searchspace.conditions import as_condition
from maggy.searchspace.ranges import cell
from maggy.searchspace.values import UNSET, Unset, identity, plain

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from maggy.trial import Value

__all__ = ["Categorical", "Discrete"]


@dataclass(frozen=True, slots=True, repr=False)
class _OneOf:
    """What both kinds share; they differ in the order of their cells.

    ``_identities`` and ``_default`` make equality one of type and value.
    """

    choices: Sequence[Any]
    _: KW_ONLY
    default: Value | Unset = field(default=UNSET, compare=False)
    when: Mapping[str, Any] | None = None
    _cells: tuple[Value, ...] = field(init=False, compare=False)
    _index: Mapping[Hashable, int] = field(init=False, compare=False)
    _identities: tuple[Hashable, ...] = field(init=False)
    _default: Hashable = field(init=False)

    def __post_init__(self) -> None:
        choices = _plain_choices(self.choices)
        cells = self._ordered(choices)
        index = {identity(value): number for number, value in enumerate(cells)}
        _assign(self, choices=choices, _cells=cells, _index=index, _identities=tuple(index))
        default = UNSET if isinstance(self.default, Unset) else self.coerce(self.default)
        key = UNSET if isinstance(default, Unset) else identity(default)
        when = None if self.when is None else as_condition(self.when)
        _assign(self, default=default, _default=key, when=when)

    @staticmethod
    def _ordered(choices: tuple[Value, ...]) -> tuple[Value, ...]:
        return choices

    @property
    def cardinality(self) -> int:
        """How many choices there are."""
        return len(self._cells)

    def value_at(self, index: int) -> Value:
        """The choice of this number, from 0.

        Raises:
            IndexError: There is none.
        """
        if not 0 <= index < len(self._cells):
            msg = f"no value of number {index}: there are {len(self._cells)}."
            raise IndexError(msg)
        return self._cells[index]

    def contains(self, value: Value) -> bool:
        """Whether this is a choice, by type and value."""
        return identity(value) in self._index

    def coerce(self, value: object) -> Value:
        """The choice in plain Python.

        Raises:
            SearchspaceError: It is none.
        """
        choice = plain(value)
        if not self.contains(choice):
            msg = f"{value!r} of type {type(value).__name__} is no choice of {self!r}."
            raise SearchspaceError(msg)
        return choice

    def from_unit(self, u: float) -> Value:
        """The choice whose cell holds ``u`` in ``[0, 1]``."""
        return self._cells[cell(u, len(self._cells))]

    def to_unit(self, value: Value) -> float:
        """The centre of the choice's cell in ``[0, 1]``; KeyError if it is no choice."""
        return (self._index[identity(value)] + 0.5) / len(self._cells)

    def __repr__(self) -> str:
        given = "" if isinstance(self.default, Unset) else f", default={self.default!r}"
        given += "" if self.when is None else f", when={self.when!r}"
        return f"{type(self).__name__}({list(self.choices)!r}{given})"


@dataclass(frozen=True, slots=True, repr=False)
class Discrete(_OneOf):
    """One of several values with an order: numbers ascending, anything else as given.

    Attributes:
        choices: The values as given, distinct by type and value; one choice is a constant.
        default: The value that an initial configuration takes when it gives none.
        when: Parent's name to a value or a list of values: exists only then.

    Raises:
        SearchspaceError: No choice, a repeated one, or one that is no plain value.
    """

    @staticmethod
    def _ordered(choices: tuple[Value, ...]) -> tuple[Value, ...]:
        numbers = [item for item in choices if type(item) is int or type(item) is float]
        return tuple(sorted(numbers)) if len(numbers) == len(choices) else choices


@dataclass(frozen=True, slots=True, repr=False)
class Categorical(_OneOf):
    """One of several values without an order.

    Attributes:
        choices: The values as given, distinct by type and value; one choice is a constant.
        default: The value that an initial configuration takes when it gives none.
        when: Parent's name to a value or a list of values: exists only then.

    Raises:
        SearchspaceError: No choice, a repeated one, or one that is no plain value.
    """


def _plain_choices(given: object) -> tuple[Value, ...]:
    if type(given).__module__ == "numpy":
        given = given.tolist()  # type: ignore[attr-defined]
    if not isinstance(given, (list, tuple, range)):
        hint = "Sort it into a list." if isinstance(given, (set, frozenset)) else "Give a list."
        msg = f"choices must be a list, but got {given!r} of type {type(given).__name__}. {hint}"
        raise SearchspaceError(msg)
    choices = tuple(plain(item) for item in given)
    if not choices:
        msg = "at least one choice is needed, but the list is empty. One choice is a constant."
        raise SearchspaceError(msg)
    seen: set[Hashable] = set()
    for choice in choices:
        if identity(choice) in seen:
            msg = f"choices must be distinct, but {choice!r} is given twice. Remove one."
            raise SearchspaceError(msg)
        seen.add(identity(choice))
    return choices


def _assign(kind: _OneOf, **values: object) -> None:
    for name, value in values.items():
        object.__setattr__(kind, name, value)
