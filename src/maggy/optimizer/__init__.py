"""Optimizers: what to try next.  ``registry`` maps their names; importing this loads none."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maggy.optimizer.grid_search import GridSearch
    from maggy.optimizer.initial import Initial
    from maggy.optimizer.random_search import RandomSearch

__all__ = ["GridSearch", "Initial", "RandomSearch"]

_MODULES = {
    "GridSearch": "maggy.optimizer.grid_search",
    "Initial": "maggy.optimizer.initial",
    "RandomSearch": "maggy.optimizer.random_search",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
