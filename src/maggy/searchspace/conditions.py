"""Conditions: hyperparameters that exist only for some values of others.

A hyperparameter is *active* in a configuration if each of its parents is active and has one of
the accepted values; an inactive one is absent.  A *branch* is one assignment of all active
parents: it settles which hyperparameters are active.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from maggy.errors import SearchspaceError
from maggy.searchspace.values import identity, plain

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from maggy.trial import Hparams, Value

__all__ = ["Condition", "Dependencies", "Listing", "as_condition"]


class Condition(Mapping[str, "tuple[Value, ...]"]):
    """Parent's name to its accepted values; all parents must agree.

    Args:
        accepted: Parent's name to a value, or to a list of alternatives (a tuple is one value).

    Raises:
        SearchspaceError: It is no mapping, empty, or a value cannot be a choice.
    """

    __slots__ = ("_accepted", "_tests")

    def __init__(self, accepted: Any) -> None:
        if not isinstance(accepted, Mapping) or not accepted:
            msg = (
                "`when` must be a dict from a hyperparameter's name to a value or a list of "
                f"values, such as {{'optimizer': 'sgd'}}, but got {accepted!r}."
            )
            raise SearchspaceError(msg)
        self._accepted = {name: _alternatives(name, item) for name, item in accepted.items()}
        self._tests: list[tuple[str, frozenset[Hashable]]] = [
            (name, frozenset(map(identity, values))) for name, values in self._accepted.items()
        ]

    def holds(self, hparams: Hparams) -> bool:
        """Whether every parent is there and has an accepted value."""
        return all(
            name in hparams and identity(hparams[name]) in values for name, values in self._tests
        )

    def __getitem__(self, name: str) -> tuple[Value, ...]:
        return self._accepted[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._accepted)

    def __len__(self) -> int:
        return len(self._accepted)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Condition):
            return NotImplemented
        return dict(self._tests) == dict(other._tests)

    def __hash__(self) -> int:
        return hash(frozenset(self._tests))

    def __repr__(self) -> str:
        shown = {
            name: values[0] if len(values) == 1 else list(values) for name, values in self.items()
        }
        return repr(shown)

    def __reduce__(self) -> tuple[type[Condition], tuple[dict[str, list[Value]]]]:
        return Condition, ({name: list(values) for name, values in self.items()},)


def as_condition(when: object) -> Condition:
    """The condition in the option ``when``, which may be one already."""
    return when if isinstance(when, Condition) else Condition(when)


def _alternatives(name: object, given: object) -> tuple[Value, ...]:
    if not isinstance(name, str):
        msg = f"`when` must name a hyperparameter, but got {name!r}. Write its name as a string."
        raise SearchspaceError(msg)
    values = given if isinstance(given, list) else [given]
    if not values:
        msg = f"`when` accepts no value of {name!r}. Give at least one, or leave `when` out."
        raise SearchspaceError(msg)
    return tuple({identity(plain(value)): plain(value) for value in values}.values())


class Listing(Protocol):
    """Values that can be numbered: a finite hyperparameter, or the levels of a grid."""

    @property
    def cardinality(self) -> int | None:
        """How many values; None if they cannot be counted."""
        ...

    def value_at(self, index: int) -> Value:
        """The value of this number, from 0."""
        ...

    def contains(self, value: Value) -> bool:
        """Whether this value is among them."""
        ...


class Dependencies:
    """Who depends on whom in a space.

    Args:
        conditions: Every hyperparameter's name to its condition, in order of declaration.

    Attributes:
        parents: Those that others depend on, in order of declaration.
    """

    __slots__ = ("_conditions", "_groups", "_mentioned", "parents")

    def __init__(self, conditions: Mapping[str, Condition | None]) -> None:
        self._conditions = dict(conditions)
        self._mentioned: dict[str, dict[Hashable, Value]] = {}
        for condition in conditions.values():
            for parent, values in (condition or {}).items():
                known = self._mentioned.setdefault(parent, {})
                known.update((identity(value), value) for value in values)
        self.parents = tuple(name for name in conditions if name in self._mentioned)
        self._groups = self._group()

    def active(self, name: str, hparams: Hparams) -> bool:
        """Whether this hyperparameter exists, given at least its parents' values."""
        condition = self._conditions[name]
        return condition is None or condition.holds(hparams)

    def branches(self, listings: Mapping[str, Listing]) -> Iterator[dict[str, Value]]:
        """Every assignment of the active parents, lazily; one empty branch without conditions."""
        return self._branches(self.parents, {}, listings)

    def _branches(
        self, parents: Sequence[str], chosen: dict[str, Value], listings: Mapping[str, Listing]
    ) -> Iterator[dict[str, Value]]:
        if not parents:
            yield chosen
        elif not self.active(parents[0], chosen):
            yield from self._branches(parents[1:], chosen, listings)
        else:
            listing = listings[parents[0]]
            for index in range(listing.cardinality or 0):
                extended = {**chosen, parents[0]: listing.value_at(index)}
                yield from self._branches(parents[1:], extended, listings)

    def configurations(self, listings: Mapping[str, Listing]) -> Iterator[dict[str, Value]]:
        """Every configuration once, lazily; all listings must be finite."""
        for branch in self.branches(listings):
            active = [name for name in self._conditions if self.active(name, branch)]
            columns = [
                [branch[name]] if name in branch else _values(listings[name]) for name in active
            ]
            for row in itertools.product(*columns):
                yield dict(zip(active, row, strict=True))

    def count(self, listings: Mapping[str, Listing]) -> int | None:
        """How many configurations there are, or None if a listing that can be active has no end.

        Exact, without enumeration: groups of hyperparameters that share no condition multiply,
        and values that no condition mentions are counted together.
        """
        total = 1
        for group in self._groups:
            size = self._count(group, {}, listings)
            if size is None:
                return None
            total *= size
        return total

    def _count(
        self, names: Sequence[str], chosen: dict[str, Value], listings: Mapping[str, Listing]
    ) -> int | None:
        total = 1
        for position, name in enumerate(names):
            if not self.active(name, chosen):
                continue
            size = listings[name].cardinality
            if size is None:
                return None
            if name in self._mentioned:
                rest = self._count_below(names[position:], size, chosen, listings)
                return None if rest is None else total * rest
            total *= size
        return total

    def _count_below(
        self,
        names: Sequence[str],
        size: int,
        chosen: dict[str, Value],
        listings: Mapping[str, Listing],
    ) -> int | None:
        """The count from an active parent on, its values without a mention taken together."""
        parent, rest = names[0], names[1:]
        total, others = 0, size
        for value in self._mentioned[parent].values():
            if listings[parent].contains(value):
                count = self._count(rest, {**chosen, parent: value}, listings)
                if count is None:
                    return None
                total, others = total + count, others - 1
        if others:
            count = self._count(rest, chosen, listings)
            return None if count is None else total + others * count
        return total

    def _group(self) -> list[list[str]]:
        """The names in groups that share no condition, each in order of declaration."""
        group_of: dict[str, list[str]] = {}
        for name, condition in self._conditions.items():
            joined = {id(group_of[parent]): group_of[parent] for parent in condition or ()}
            merged = [member for group in joined.values() for member in group]
            merged.append(name)
            group_of.update(dict.fromkeys(merged, merged))
        rank = {name: number for number, name in enumerate(self._conditions)}
        groups = {id(group): group for group in group_of.values()}
        return [sorted(group, key=rank.__getitem__) for group in groups.values()]


def _values(listing: Listing) -> list[Value]:
    return [listing.value_at(index) for index in range(listing.cardinality or 0)]
