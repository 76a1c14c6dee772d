"""The first configurations that a model-based search tries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maggy.searchspace.values import Unset
from maggy.trial import TrialStatus

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from maggy.contracts import EarlierRun
    from maggy.searchspace import Searchspace
    from maggy.trial import Hparams, Value

__all__ = ["centre", "favourites"]

_MOST = 3


def centre(space: Searchspace) -> Hparams:
    """The declared defaults, and the middle of what has none; constraints are not looked at."""
    hparams: dict[str, Value] = {}
    for name, kind in space.items():
        if space.dependencies.active(name, hparams):
            default = kind.default
            hparams[name] = kind.from_unit(0.5) if isinstance(default, Unset) else default
    return hparams


def favourites(space: Searchspace, earlier: Sequence[EarlierRun]) -> dict[Hashable, Hparams]:
    """The best configuration of each of the first 3 earlier runs that completed any, by key."""
    found: dict[Hashable, Hparams] = {}
    for run in earlier:
        completed = [
            (trial.loss, trial.id, trial.hparams)
            for trial in run.trials
            if trial.status is TrialStatus.COMPLETED and trial.loss is not None
        ]
        if completed and len(found) < _MOST:
            best = min(completed, key=lambda entry: entry[:2])[2]
            found.setdefault(space.key(best), best)
    return found
