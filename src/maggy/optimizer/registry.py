"""From an optimizer's name to the optimizer: the only place that knows the names."""

from __future__ import annotations

import maggy.optimizer
from maggy.contracts import Optimizer
from maggy.errors import ConfigError
from maggy.searchspace.naming import did_you_mean

__all__ = ["names", "resolve"]

_CLASSES = {
    "randomsearch": "RandomSearch",
    "gridsearch": "GridSearch",
    "asha": "Asha",
    "hyperband": "Hyperband",
    "tpe": "TPE",
    "gp": "GP",
    "auto": "Auto",
}
_METHODS = ("start", "ask", "tell")


def names() -> tuple[str, ...]:
    """The names that ``resolve`` knows."""
    return tuple(_CLASSES)


def resolve(optimizer: object) -> Optimizer:
    """The optimizer of this name (in any case), or the object itself if it is one.

    Raises:
        ConfigError: The name is unknown, or the object lacks a method of the contract.
    """
    if isinstance(optimizer, str):
        name = _CLASSES.get(optimizer.lower())
        if name is None:
            hint = did_you_mean(optimizer, _CLASSES)
            msg = f"no optimizer is called {optimizer!r}. {hint}"
            raise ConfigError(msg)
        made: Optimizer = getattr(maggy.optimizer, name)()
        return made
    if isinstance(optimizer, type):
        msg = (
            f"`optimizer` must be an object, but got the class {optimizer.__name__}. "
            f"Write {optimizer.__name__}()."
        )
        raise ConfigError(msg)
    missing = [name for name in _METHODS if not callable(getattr(optimizer, name, None))]
    if missing or not isinstance(optimizer, Optimizer):
        msg = (
            f"`optimizer` must be one of {', '.join(map(repr, _CLASSES))} or an object with the "
            f"methods {', '.join(_METHODS)}, but {optimizer!r} has no {' and no '.join(missing)}."
        )
        raise ConfigError(msg)
    return optimizer
