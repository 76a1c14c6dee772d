"""Constraints written as text, such as ``"kernel <= pool * 2"``, evaluated without ``eval``.

Allowed are names of hyperparameters, literals, comparisons (also chained, also ``in``),
``+ - * / // % **``, ``and``, ``or``, ``not``, tuples and lists.  Nothing can be called, indexed or
looked into, arithmetic takes numbers only, and a power beyond 1024 bits is computed in floats, so
a text from a stranger's file cannot run code or fill the memory.  ``==`` is Python's.
"""

from __future__ import annotations

import ast
import operator
from typing import TYPE_CHECKING, Any, TypeAlias

from maggy.errors import SearchspaceError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from maggy.trial import Hparams

    Evaluator: TypeAlias = "Callable[[Hparams], Any]"

__all__ = ["compile_expression"]

_LONGEST = 1000
_POWER_BITS = 1024


def compile_expression(text: str) -> tuple[Evaluator, frozenset[str]]:
    """A function that evaluates the text over a configuration, and the names in the text.

    Raises:
        SearchspaceError: It is no expression, too long, or uses something that is not allowed.
    """
    if len(text) > _LONGEST:
        msg = f"a constraint may have {_LONGEST} characters, but got {len(text)}. Pass a function."
        raise SearchspaceError(msg)
    try:
        tree = ast.parse(text.strip(), mode="eval")
        evaluator = _compile(tree.body)
    except SearchspaceError:
        raise
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        msg = f"the constraint {text!r} is no Python expression: {error}."
        raise SearchspaceError(msg) from None
    names = frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
    if not names:
        msg = f"the constraint {text!r} mentions no hyperparameter. Name them without quotes."
        raise SearchspaceError(msg)
    return evaluator, names


def _compile(node: ast.AST) -> Evaluator:
    compiler = _COMPILERS.get(type(node))
    if compiler is None:
        raise _refuse(node)
    return compiler(node)


def _refuse(node: ast.AST) -> SearchspaceError:
    text = ast.unparse(node)
    return SearchspaceError(
        f"a constraint cannot use {text!r} ({type(node).__name__}): only names, literals, "
        "comparisons, arithmetic, and, or, not, in. Pass a function instead: lambda hparams: ..."
    )


def _name(node: Any) -> Evaluator:
    name: str = node.id
    return lambda hparams: hparams[name]


def _constant(node: Any) -> Evaluator:
    value = node.value
    if not isinstance(value, (bool, int, float, str)) and value is not None:
        raise _refuse(node)
    return lambda _: value


def _sequence(node: Any) -> Evaluator:
    items = [_compile(item) for item in node.elts]
    return lambda hparams: tuple(item(hparams) for item in items)


def _boolean(node: Any) -> Evaluator:
    parts = [_compile(part) for part in node.values]
    decide = all if isinstance(node.op, ast.And) else any
    return lambda hparams: decide(part(hparams) for part in parts)


def _unary(node: Any) -> Evaluator:
    operand = _compile(node.operand)
    if isinstance(node.op, ast.Not):
        return lambda hparams: not operand(hparams)
    if isinstance(node.op, ast.USub):
        return lambda hparams: -_number(operand(hparams))
    if isinstance(node.op, ast.UAdd):
        return lambda hparams: +_number(operand(hparams))
    raise _refuse(node)


def _binary(node: Any) -> Evaluator:
    compute = _ARITHMETIC.get(type(node.op))
    if compute is None:
        raise _refuse(node)
    left, right = _compile(node.left), _compile(node.right)
    return lambda hparams: compute(_number(left(hparams)), _number(right(hparams)))


def _compare(node: Any) -> Evaluator:
    tests = [_COMPARISONS.get(type(op)) for op in node.ops]
    if None in tests:
        raise _refuse(node)
    terms = [_compile(term) for term in (node.left, *node.comparators)]

    def evaluate(hparams: Hparams) -> bool:
        values = [term(hparams) for term in terms]
        return all(
            test(left, right)
            for test, left, right in zip(tests, values, values[1:], strict=False)
            if test is not None
        )

    return evaluate


def _number(value: Any) -> Any:
    if not isinstance(value, (int, float)):
        msg = f"{value!r} is no number"
        raise TypeError(msg)
    return value


def _power(base: Any, exponent: Any) -> Any:
    whole = isinstance(base, int) and isinstance(exponent, int) and exponent > 0
    if whole and base.bit_length() * exponent > _POWER_BITS:
        base = float(base)
    return base**exponent


_COMPILERS: dict[type[ast.AST], Callable[[Any], Evaluator]] = {
    ast.Name: _name,
    ast.Constant: _constant,
    ast.Tuple: _sequence,
    ast.List: _sequence,
    ast.BoolOp: _boolean,
    ast.UnaryOp: _unary,
    ast.BinOp: _binary,
    ast.Compare: _compare,
}
_ARITHMETIC: Mapping[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}
_COMPARISONS: Mapping[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, container: item in container,
    ast.NotIn: lambda item, container: item not in container,
}
