"""Optimizers by name, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import maggy.optimizer
from maggy.contracts import Optimizer
from maggy.errors import ConfigError
from maggy.optimizer import GridSearch, RandomSearch
from maggy.optimizer.registry import names, resolve


@pytest.mark.parametrize(
    ("name", "kind"),
    [("randomsearch", RandomSearch), ("RandomSearch", RandomSearch), ("GRIDSEARCH", GridSearch)],
)
def test_names_in_any_case(name: str, kind: type[object]) -> None:
    """A name gives a fresh optimizer, whatever its case."""
    assert type(resolve(name)) is kind
    assert resolve(name) is not resolve(name)


def test_every_name_resolves() -> None:
    """What is listed can be made and satisfies the contract; the cheap ones answer inline."""
    assert names()[:2] == ("randomsearch", "gridsearch")
    assert {"asha", "hyperband", "gp", "tpe", "auto"} <= set(names())
    for name in names():
        optimizer = resolve(name)
        assert isinstance(optimizer, Optimizer)
        inline = getattr(optimizer, "suggests_inline", False)
        assert inline is (name in {"randomsearch", "gridsearch", "asha", "hyperband"})


def test_unknown_names() -> None:
    """The nearest name is offered, or all of them."""
    with pytest.raises(ConfigError, match=r"'randmsearch'\. Did you mean 'randomsearch'"):
        resolve("randmsearch")
    with pytest.raises(ConfigError, match="Known: 'randomsearch', 'gridsearch'"):
        resolve("xyz")


def test_objects() -> None:
    """An object with the methods is taken as it is; a missing method is named."""

    class Half:
        """Cannot be told."""

        def start(self, context: object) -> None:
            """Nothing."""

        def ask(self, number: int, pending: object, rng: object) -> None:
            """Nothing."""

    class Whole(Half):
        """Can be told."""

        def tell(self, trial: object) -> None:
            """Nothing."""

    whole: object = Whole()
    assert resolve(whole) is whole
    with pytest.raises(ConfigError, match=r"has no tell\.$"):
        resolve(Half())
    with pytest.raises(ConfigError, match="has no start and no ask and no tell"):
        resolve(None)


def test_classes() -> None:
    """A class in place of an object is a mistake that is named."""
    with pytest.raises(ConfigError, match=r"Write RandomSearch\(\)\."):
        resolve(RandomSearch)


def test_imports_are_light() -> None:
    """Neither numpy nor scipy is loaded before an optimizer needs it."""
    code = (
        "import sys, maggy.optimizer.registry as r; r.resolve('randomsearch');"
        "r.resolve('gridsearch'); import maggy.searchspace;"
        "sys.exit(any(m in sys.modules for m in ('numpy', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_exports() -> None:
    """The package exports its optimizers lazily, and nothing else."""
    assert set(maggy.optimizer.__all__) <= set(dir(maggy.optimizer))
    for name in maggy.optimizer.__all__:
        assert getattr(maggy.optimizer, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        maggy.optimizer.Nothing  # noqa: B018
