"""The first configuration that a model-based search tries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maggy.searchspace.values import Unset

if TYPE_CHECKING:
    from maggy.searchspace import Searchspace
    from maggy.trial import Hparams, Value

__all__ = ["centre"]


def centre(space: Searchspace) -> Hparams:
    """The declared defaults, and the middle of what has none; constraints are not looked at."""
    hparams: dict[str, Value] = {}
    for name, kind in space.items():
        if space.dependencies.active(name, hparams):
            default = kind.default
            hparams[name] = kind.from_unit(0.5) if isinstance(default, Unset) else default
    return hparams
