"""maggy: asynchronous hyperparameter optimisation on long-lived workers.

Everything is imported when it is first used, so that ``import maggy`` is cheap everywhere.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from maggy.version import VERSION

if TYPE_CHECKING:
    from maggy import experiment, optimizer
    from maggy.config import OptimizationConfig
    from maggy.errors import (
        ConfigError,
        EarlyStopException,
        ExperimentFailed,
        ExperimentInterrupted,
        MaggyError,
    )
    from maggy.searchspace import Categorical, Discrete, Double, Integer, Searchspace
    from maggy.worker.reporter import Reporter

__all__ = [
    "Categorical",
    "ConfigError",
    "Discrete",
    "Double",
    "EarlyStopException",
    "ExperimentFailed",
    "ExperimentInterrupted",
    "Integer",
    "MaggyError",
    "OptimizationConfig",
    "Reporter",
    "Searchspace",
    "experiment",
    "optimizer",
]

__version__ = VERSION

_HOMES = {
    "OptimizationConfig": "maggy.config",
    "Reporter": "maggy.worker.reporter",
    **dict.fromkeys(("Categorical", "Discrete", "Double", "Integer"), "maggy.searchspace"),
    "Searchspace": "maggy.searchspace",
    **dict.fromkeys(("ConfigError", "EarlyStopException", "MaggyError"), "maggy.errors"),
    **dict.fromkeys(("ExperimentFailed", "ExperimentInterrupted"), "maggy.errors"),
}
_MODULES = ("experiment", "optimizer")


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"maggy.{name}")
    msg = f"module 'maggy' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
