"""Constraints as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from maggy.errors import SearchspaceError
from maggy.searchspace.expression import compile_expression

if TYPE_CHECKING:
    from maggy.trial import Value

HPARAMS: dict[str, Value] = {
    "a": 3,
    "b": 4,
    "x": 0.5,
    "name": "sgd",
    "flag": True,
    "none": None,
    "pair": (1, 2),
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a <= b * 2", True),
        ("a + b - 1 > 6", False),
        ("1 < a < b", True),
        ("1 < b < a", False),
        ("a / 2 == 1.5 and b // 3 == 1 and b % 3 == 1", True),
        ("a ** 2 + b ** 2 == 25", True),
        ("-x < 0 and +x > 0", True),
        ("not flag or a == 3", True),
        ("name in ('sgd', 'adam')", True),
        ("name not in ['sgd']", False),
        ("none == None", True),
        ("pair == (1, 2)", True),
        ("a != b", True),
        ("a >= 4 or x >= 0.5", True),
        ("  a < b  ", True),
        ("name == 'sgd' and a / 0 > 1 or True", ZeroDivisionError),
    ],
)
def test_values(text: str, value: object) -> None:
    """The allowed operations mean what they mean in Python."""
    evaluate, _ = compile_expression(text)
    if isinstance(value, type):
        with pytest.raises(value):
            evaluate(HPARAMS)
    else:
        assert evaluate(HPARAMS) == value


def test_names() -> None:
    """The names in an expression are known."""
    assert compile_expression("a < b and c in (1, d)")[1] == {"a", "b", "c", "d"}


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "a.__class__",
        "pair[0] < 1",
        "(lambda: a)()",
        "[i for i in pair]",
        "a if flag else b",
        "f'{a}' == '3'",
        "a | b",
        "a @ b",
        "~a",
        "a is None",
        "{'a': a}",
        "a == b'x'",
        "a == 1j",
        "(b := a)",
    ],
)
def test_what_is_not_allowed(text: str) -> None:
    """Calls, attributes, subscripts and the rest are refused, and a function is offered."""
    with pytest.raises(SearchspaceError, match="lambda hparams"):
        compile_expression(text)


@pytest.mark.parametrize(
    "text", ["a <", "", "a < b\nb < a", "a = b", "import os", "(" * 500, "\0"]
)
def test_what_is_no_expression(text: str) -> None:
    """Text that Python does not parse is refused."""
    with pytest.raises(SearchspaceError, match="is no Python expression"):
        compile_expression(text)


def test_limits() -> None:
    """Neither length, depth nor powers can exhaust anything."""
    with pytest.raises(SearchspaceError, match="may have 1000 characters"):
        compile_expression("a < " + "1 + " * 500 + "1")
    with pytest.raises(SearchspaceError, match="mentions no hyperparameter"):
        compile_expression("'a' < 'b'")
    with pytest.raises(OverflowError):
        compile_expression("a ** 9 ** 9 ** 9 > 0")[0]({"a": 9})
    assert compile_expression("a ** 1000 > 0")[0]({"a": 2})
    with pytest.raises(TypeError, match="is no number"):
        compile_expression("name * 1000 == 'x'")[0](HPARAMS)
