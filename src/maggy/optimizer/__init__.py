"""Optimizers: what to try next.  ``registry`` maps their names; importing this loads none."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maggy.optimizer.asha import Asha
    from maggy.optimizer.auto import Auto
    from maggy.optimizer.gp import GP
    from maggy.optimizer.grid_search import GridSearch
    from maggy.optimizer.hyperband import Hyperband
    from maggy.optimizer.initial import Initial
    from maggy.optimizer.random_search import RandomSearch
    from maggy.optimizer.tpe import TPE

__all__ = ["GP", "TPE", "Asha", "Auto", "GridSearch", "Hyperband", "Initial", "RandomSearch"]

_MODULES = {
    "Auto": "maggy.optimizer.auto",
    "Asha": "maggy.optimizer.asha",
    "GP": "maggy.optimizer.gp",
    "GridSearch": "maggy.optimizer.grid_search",
    "Hyperband": "maggy.optimizer.hyperband",
    "Initial": "maggy.optimizer.initial",
    "RandomSearch": "maggy.optimizer.random_search",
    "TPE": "maggy.optimizer.tpe",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
