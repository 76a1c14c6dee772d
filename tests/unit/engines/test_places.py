"""Where a config wants its trials to run, and what it says in vain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from maggy import OptimizationConfig, Searchspace
from maggy.engines.registry import find_place

if TYPE_CHECKING:
    from pathlib import Path


def remarks(**options: Any) -> list[str]:
    """What the user should know of the place."""
    space = Searchspace(x=("DOUBLE", [0.0, 1.0]))
    return find_place(
        OptimizationConfig(num_trials=1, searchspace=space, num_workers=1, **options)
    ).remarks()


@pytest.mark.parametrize("engine", ["local", "inline", None])
def test_what_only_workers_elsewhere_need_is_noted(tmp_path: Path, engine: str | None) -> None:
    """It may stay in the config for another engine, but not without a word."""
    (note,) = remarks(engine=engine, listen="0.0.0.0:7777", tls=False, py_files=[tmp_path])
    assert note.startswith("`listen`, `tls` and `py_files` are not used: engine=")
    assert "set `engine` to 'manual', 'spark' or 'ray'" in note
    (note,) = remarks(engine=engine, listen="0.0.0.0:7777")
    assert note.startswith("`listen` is not used: engine=")
    assert remarks(engine=engine) == []


def test_where_it_is_needed_nothing_is_noted() -> None:
    """Workers started by hand come to the address."""
    assert remarks(engine="manual", listen="127.0.0.1:7777", tls=False) == []
