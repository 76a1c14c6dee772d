"""Constraints between hyperparameters: what may never be proposed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from maggy.errors import SearchspaceError
from maggy.searchspace.expression import compile_expression

if TYPE_CHECKING:
    from maggy.trial import Hparams, Json

__all__ = ["Constraint", "Rule"]

Rule: TypeAlias = "str | Callable[[dict[str, Any]], object]"
"""An expression over the hyperparameters' names, or a function of the configuration's dict."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """Something that every proposed configuration fulfils.

    Attributes:
        rule: An expression such as ``"kernel <= pool * 2"``, or a function that takes a copy of
            the configuration and returns whether it is allowed.
        names: The hyperparameters in an expression; empty for a function.

    Raises:
        SearchspaceError: The rule is neither, or the expression uses what is not allowed.
    """

    rule: Rule
    names: frozenset[str] = field(init=False, repr=False, compare=False)
    _evaluate: Callable[[dict[str, Any]], object] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rule: object = self.rule
        names = frozenset[str]()
        evaluate = rule
        if isinstance(rule, str):
            evaluate, names = compile_expression(rule)
        if not callable(evaluate):
            msg = (
                "a constraint must be an expression such as 'kernel <= pool', or a function of "
                f"the hyperparameters' dict, but got {evaluate!r}."
            )
            raise SearchspaceError(msg)
        object.__setattr__(self, "_evaluate", evaluate)
        object.__setattr__(self, "names", names)

    def __reduce__(self) -> tuple[type[Constraint], tuple[Rule]]:
        return Constraint, (self.rule,)

    def __str__(self) -> str:
        return repr(self.rule) if isinstance(self.rule, str) else _function_name(self.rule)

    def holds(self, hparams: Hparams) -> bool:
        """Whether the configuration is allowed; an expression over an inactive name holds.

        Raises:
            SearchspaceError: The rule raised, or a function returned None.
        """
        if not self.names <= hparams.keys():
            return True
        try:
            verdict = self._evaluate(dict(hparams))
            allowed = bool(verdict)
        except SearchspaceError:
            raise
        except Exception as error:
            hint = ""
            if isinstance(error, KeyError):
                hint = " Inactive hyperparameters are absent: use hparams.get(...)."
            msg = (
                f"the constraint {self} raised {type(error).__name__}: {error} "
                f"for {dict(hparams)}.{hint}"
            )
            raise SearchspaceError(msg) from error
        if verdict is None:
            msg = f"the constraint {self} returned None. Return True or False."
            raise SearchspaceError(msg)
        return allowed

    def to_json(self) -> Json:
        """An expression as it is; of a function only its name."""
        if isinstance(self.rule, str):
            return self.rule
        return {"callable": _function_name(self.rule)}

    @classmethod
    def from_json(cls, described: Any) -> Constraint:
        """The inverse of ``to_json``; a function's stand-in raises when it is asked.

        Raises:
            SearchspaceError: It describes no constraint.
        """
        if isinstance(described, str):
            return cls(described)
        if isinstance(described, Mapping) and isinstance(described.get("callable"), str):
            return cls(_Absent(described["callable"]))
        msg = f"a constraint must be a text or {{'callable': name}}, but got {described!r}."
        raise SearchspaceError(msg)


@dataclass(frozen=True, slots=True)
class _Absent:
    """Stands for a function of which only the name was stored."""

    name: str

    def __call__(self, _hparams: dict[str, Any]) -> object:
        msg = (
            f"the constraint {self.name} is a function, and JSON holds only its name. "
            "Give it again, or write it as an expression."
        )
        raise SearchspaceError(msg)


def _function_name(rule: Callable[[dict[str, Any]], object]) -> str:
    if isinstance(rule, _Absent):
        return rule.name
    name = getattr(rule, "__qualname__", type(rule).__qualname__)
    return f"{getattr(rule, '__module__', type(rule).__module__)}.{name}"
