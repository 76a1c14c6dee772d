"""The search space: named hyperparameters with the conditions and constraints between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from maggy.errors import SearchspaceError
from maggy.searchspace.conditions import Condition, Dependencies, as_condition
from maggy.searchspace.constraints import Constraint, Rule
from maggy.searchspace.naming import check_name, did_you_mean
from maggy.searchspace.notation import Hyperparameter, Spec, from_json, parse, to_json
from maggy.searchspace.values import identity

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    import numpy as np

    from maggy.trial import Hparams, Json, Value

__all__ = ["Searchspace"]

_TRIES = 10_000
"""Draws before a space counts as infeasible; at 1 % feasible, all fail once in 10^43."""

_LEAST_FEASIBLE = 0.01


class Searchspace(Mapping[str, Hyperparameter]):
    """Hyperparameters by name, in order of declaration.

    Every name is free, also ``self`` or ``items``, except what training functions receive
    otherwise (``hparams``, ``reporter``, ``budget``, ``seed``).

    Args:
        hyperparameters: Name to ``Double(0.0, 1.0)`` or ``('DOUBLE', [0.0, 1.0])``, and so on.

    Raises:
        SearchspaceError: A name or a hyperparameter is wrong.

    >>> space = Searchspace(kernel=("INTEGER", [2, 8]), pool=("INTEGER", [2, 8]))
    >>> space.cardinality
    49
    """

    def __init__(self, /, **hyperparameters: Spec) -> None:
        self._kinds: dict[str, Hyperparameter] = {}
        self._conditions: dict[str, Condition | None] = {}
        self._dependencies: Dependencies | None = None
        self._constraints: tuple[Constraint, ...] = ()
        for name, spec in hyperparameters.items():
            self.add(name, spec)

    def add(self, name: str, spec: Spec) -> None:
        """Declare one more hyperparameter.

        Raises:
            SearchspaceError: The name is taken or refused, the hyperparameter is wrong, or its
                condition names a parent that is not declared yet or can never have the value.
        """
        if check_name(name) in self._kinds:
            msg = f"the hyperparameter {name!r} is already declared as {self._kinds[name]!r}."
            raise SearchspaceError(msg)
        try:
            kind = parse(spec)
            condition = None if kind.when is None else as_condition(kind.when)
            self._check_parents(name, condition or {})
        except SearchspaceError as error:
            msg = f"hyperparameter {name!r}: {error}"
            raise SearchspaceError(msg) from None
        self._kinds[name] = kind
        self._conditions[name] = condition
        self._dependencies = None

    def _check_parents(self, name: str, when: Mapping[str, Sequence[Value]]) -> None:
        for parent, accepted in when.items():
            kind = self._kinds.get(parent)
            if kind is None:
                hint = did_you_mean(parent, self._kinds)
                msg = f"`when` names {parent!r}, which is not declared before {name!r}. {hint}"
                raise SearchspaceError(msg)
            if kind.cardinality is None:
                msg = f"`when` needs a parent with countable values, but {parent!r} is {kind!r}."
                raise SearchspaceError(msg)
            for value in accepted:
                if not kind.contains(value):
                    msg = f"`when` waits for {parent}={value!r}, which is no value of {kind!r}."
                    raise SearchspaceError(msg)

    def __getitem__(self, name: str) -> Hyperparameter:
        return self._kinds[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Searchspace):
            return NotImplemented
        same = list(self._kinds.items()) == list(other._kinds.items())
        return same and self._constraints == other._constraints

    __hash__ = None  # type: ignore[assignment]  # it can grow

    def __repr__(self) -> str:
        kinds = ", ".join(f"{name}={kind!r}" for name, kind in self._kinds.items())
        rules = ", ".join(map(str, self._constraints))
        return f"Searchspace({kinds})" + (f".with_constraints([{rules}])" if rules else "")

    def with_constraints(self, constraints: Iterable[Constraint | Rule]) -> Searchspace:
        """A copy with these constraints added to its own.

        Raises:
            SearchspaceError: One is neither expression nor function, or names what is not here.
        """
        if isinstance(constraints, str) or not isinstance(constraints, Iterable):
            msg = f"`constraints` must be a list, but got {constraints!r}. Put it in brackets."
            raise SearchspaceError(msg)
        added = [
            item if isinstance(item, Constraint) else Constraint(item) for item in constraints
        ]
        for constraint in added:
            for name in sorted(constraint.names - self._kinds.keys()):
                hint = did_you_mean(name, self._kinds)
                msg = f"the constraint {constraint} names {name!r}, which is not declared. {hint}"
                raise SearchspaceError(msg)
        space = Searchspace()
        space._kinds, space._conditions = dict(self._kinds), dict(self._conditions)
        space._constraints = (*self._constraints, *added)
        return space

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """What every proposed configuration fulfils."""
        return self._constraints

    @property
    def dependencies(self) -> Dependencies:
        """The conditions between the hyperparameters."""
        if self._dependencies is None:
            self._dependencies = Dependencies(self._conditions)
        return self._dependencies

    @property
    def cardinality(self) -> int | None:
        """How many distinct configurations there are, conditions counted, constraints not.

        None if a continuous hyperparameter is among them.
        """
        return self.dependencies.count(self._kinds)

    def decode(self, point: Sequence[float]) -> dict[str, Value]:
        """The configuration at a point of ``[0, 1]^d``, in order of declaration.

        Every hyperparameter has its coordinate; those of inactive ones are ignored.  Constraints
        are not looked at.
        """
        hparams: dict[str, Value] = {}
        for (name, kind), u in zip(self._kinds.items(), point, strict=True):
            condition = self._conditions[name]
            if condition is None or condition.holds(hparams):
                hparams[name] = kind.from_unit(u)
        return hparams

    def encode(self, hparams: Hparams) -> list[float]:
        """The point of ``[0, 1]^d`` at the centre of a configuration's cell; inactive: 0.5."""
        return [
            # The value is one of this kind: the space made it, or ``allows`` said so.
            kind.to_unit(hparams[name]) if name in hparams else 0.5  # type: ignore[arg-type]
            for name, kind in self._kinds.items()
        ]

    def key(self, hparams: Hparams) -> Hashable:
        """Equal for two configurations exactly if all their values are equal in type and value."""
        return tuple(identity(hparams[name]) if name in hparams else None for name in self._kinds)

    def satisfies(self, hparams: Hparams) -> bool:
        """Whether all constraints hold.

        Raises:
            SearchspaceError: A constraint raised.
        """
        return all(constraint.holds(hparams) for constraint in self._constraints)

    def objection(self, hparams: Hparams) -> str:
        """Why this is no configuration of the space, a clause; ``""`` if it is one.

        Raises:
            SearchspaceError: A constraint raised.
        """
        for name in hparams:
            if name not in self._kinds:
                return f"{name!r} is not declared"
        for name in self._kinds:
            misfit = self._misfit(name, hparams)
            if misfit:
                return misfit
        for constraint in self._constraints:
            if not constraint.holds(hparams):
                return f"the constraint {constraint} does not hold"
        return ""

    def _misfit(self, name: str, hparams: Hparams) -> str:
        kind, condition = self._kinds[name], self._conditions[name]
        if condition is not None and not condition.holds(hparams):
            return f"{name!r} exists only when {condition!r}" if name in hparams else ""
        if name not in hparams:
            return f"{name!r} is missing"
        if not kind.contains(hparams[name]):
            return f"{name}={hparams[name]!r} is no value of {kind!r}"
        return ""

    def allows(self, hparams: Hparams) -> bool:
        """Whether this is a configuration of the space: values, conditions and constraints."""
        return not self.objection(hparams)

    def sample(self, rng: np.random.Generator) -> dict[str, Value]:
        """One uniform draw among the configurations that the constraints allow, by rejection.

        Raises:
            SearchspaceError: 10,000 draws found none, or a constraint raised.
        """
        for _ in range(_TRIES):
            hparams = self.decode(rng.random(len(self._kinds)).tolist())
            if self.satisfies(hparams):
                return hparams
        found = f"none of {_TRIES:,} random configurations"
        raise self._infeasible(found)

    def configurations(self) -> Iterator[dict[str, Value]]:
        """Every configuration that the constraints allow, once, lazily, in lexicographic order.

        Raises:
            SearchspaceError: The space is not finite, or a constraint raised.
        """
        if self.cardinality is None:
            msg = f"only a finite space can be listed, but got {self!r}."
            raise SearchspaceError(msg)
        return filter(self.satisfies, self.dependencies.configurations(self._kinds))

    def feasible_fraction(self, rng: np.random.Generator, n: int = 2000) -> float:
        """The share of the space that the constraints allow, estimated from ``n`` draws.

        Raises:
            SearchspaceError: It is under 1 %, or a constraint raised.
        """
        if not self._constraints:
            return 1.0
        draws = [self.decode(rng.random(len(self._kinds)).tolist()) for _ in range(n)]
        allowed = sum(map(self.satisfies, draws))
        if allowed < _LEAST_FEASIBLE * n:
            shares = ", ".join(
                f"{constraint} holds for {sum(map(constraint.holds, draws)) / n:.1%}"
                for constraint in self._constraints
            )
            found = f"only {allowed} of {n} random configurations"
            raise self._infeasible(found, f" ({shares})")
        return allowed / n

    def _infeasible(self, found: str, details: str = "") -> SearchspaceError:
        rules = ", ".join(map(str, self._constraints))
        return SearchspaceError(
            f"the constraints leave too little of the search space: {found} satisfy {rules}"
            f"{details}. Loosen them, or narrow the ranges to where they can hold."
        )

    def to_json(self) -> dict[str, Json]:
        """Everything in plain JSON; of constraints that are functions only the name."""
        kinds = [{"name": name, **to_json(kind)} for name, kind in self._kinds.items()]
        rules = [constraint.to_json() for constraint in self._constraints]
        return {"hyperparameters": kinds, "constraints": rules}

    @classmethod
    def from_json(cls, described: Any) -> Searchspace:
        """The inverse of ``to_json``.

        Raises:
            SearchspaceError: It describes no search space.
        """
        kinds = described.get("hyperparameters") if isinstance(described, Mapping) else None
        rules = described.get("constraints", []) if isinstance(described, Mapping) else None
        if not isinstance(kinds, list) or not isinstance(rules, list):
            msg = f"a search space is {{'hyperparameters': [...]}} in JSON, but got {described!r}."
            raise SearchspaceError(msg)
        space = cls()
        for item in kinds:
            options = dict(item) if isinstance(item, Mapping) else {}
            name = check_name(options.pop("name", None))
            space.add(name, from_json(options))
        return space.with_constraints([Constraint.from_json(rule) for rule in rules])
