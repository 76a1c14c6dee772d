"""Names of hyperparameters and offers of near names."""

from __future__ import annotations

import pytest

from maggy.errors import SearchspaceError
from maggy.searchspace.naming import check_name, did_you_mean


@pytest.mark.parametrize("name", ["lr", "names", "items", "get", "self", "_x", "match", "η"])
def test_good_names(name: str) -> None:
    """Whatever can be a parameter's name is accepted, also names of methods."""
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "learning rate", "1st", "lambda", "True", 3, None, "a.b"])
def test_bad_names(name: object) -> None:
    """What cannot be a parameter's name is refused, with an example."""
    with pytest.raises(SearchspaceError, match=r"identifier.*'learning_rate'"):
        check_name(name)


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("hparams", "hp_set"),
        ("reporter", "report_kind"),
        ("budget", "max_epochs"),
        ("seed", "init_seed"),
    ],
)
def test_reserved_names(name: str, instead: str) -> None:
    """What maggy injects is refused, and another name is offered."""
    with pytest.raises(SearchspaceError, match=f"Call it '{instead}'"):
        check_name(name)


def test_near_names() -> None:
    """The nearest name is offered whatever its case; without one, the known names are listed."""
    assert did_you_mean("dubble", ["DOUBLE", "INTEGER"]) == "Did you mean 'DOUBLE'?"
    assert did_you_mean("zzz", ["a", "b"]) == "Known: 'a', 'b'."
    assert did_you_mean(None, []) == "None is known."
