"""Known-good points first, then any optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from maggy.errors import SearchspaceError
from maggy.optimizer.history import require_hyperparameters
from maggy.searchspace.naming import did_you_mean
from maggy.searchspace.values import Unset, identity
from maggy.trial import Suggestion

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    import numpy as np

    from maggy.contracts import Optimizer, SearchContext
    from maggy.searchspace import Searchspace
    from maggy.trial import Exhausted, Hparams, Trial, Value, Wait

__all__ = ["Initial"]

_TRIES = 1000
_STREAM = 0x1717
"""Keeps the draws for missing values apart from those of the trials."""


class Initial:
    """Proposes given configurations first, in their order, then asks another optimizer.

    A value that a point does not give is the declared default, or else drawn; the parents that a
    given value needs are set to it.  The draws depend on the run's seed and the point's position.
    Points that the constraints forbid, or that repeat an earlier one, are skipped.

    Args:
        points: Partial or complete configurations; ``{}`` is the configuration of all defaults.
        optimizer: Who goes on; it is told of the initial trials like of any other.

    Attributes:
        notes: After ``start``: a sentence for each skipped point, then the optimizer's own notes.
    """

    def __init__(self, points: Sequence[Mapping[str, Any]], optimizer: Optimizer) -> None:
        self.points = points
        self.optimizer = optimizer
        self.suggests_inline = bool(getattr(optimizer, "suggests_inline", False))
        self.learns = bool(getattr(optimizer, "learns", True))
        self.preload = tuple(getattr(optimizer, "preload", ()))
        self.notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Initial({self.points!r}, {self.optimizer!r})"

    def start(self, context: SearchContext) -> None:
        """Complete and check the points.

        Raises:
            SearchspaceError: A point names what is not declared or not active, or has a value that
                is not in the space.
            ConfigError: The space is empty, or the optimizer cannot search it.
        """
        space = require_hyperparameters(context)
        ready: dict[Hashable, Hparams] = {}
        skipped = []
        for index, given in enumerate(_as_points(self.points)):
            label = f"initial[{index}]"
            point = _required(space, _checked(space, given, label), label)
            hparams, reason = _complete(space, point, _generator(context.seed, index))
            if not reason and space.key(hparams) in ready:
                reason = "it repeats an earlier one"
            if reason:
                skipped.append(f"{label} = {dict(given)} is skipped: {reason}.")
            else:
                ready[space.key(hparams)] = hparams
        self._ready = tuple(ready.values())
        self.optimizer.start(context)
        self.notes = (*skipped, *getattr(self.optimizer, "notes", ()))

    def ask(
        self, number: int, pending: Sequence[Trial], rng: np.random.Generator
    ) -> Suggestion | Wait | Exhausted:
        """The initial point of this number, or what the optimizer proposes."""
        if number < len(self._ready):
            return Suggestion(hparams=self._ready[number])
        return self.optimizer.ask(number, pending, rng)

    def tell(self, trial: Trial) -> None:
        """Pass it on."""
        self.optimizer.tell(trial)


def _as_points(points: Any) -> Sequence[Mapping[str, Any]]:
    if isinstance(points, (list, tuple)) and all(isinstance(item, Mapping) for item in points):
        return points
    msg = f"`initial` must be a list of dicts, such as [{{'lr': 0.1}}], but got {points!r}."
    raise SearchspaceError(msg)


def _checked(space: Searchspace, given: Mapping[str, Any], label: str) -> dict[str, Value]:
    point: dict[str, Value] = {}
    for name, value in given.items():
        if name not in space:
            msg = f"{label} names {name!r}, which is not declared. {did_you_mean(name, space)}"
            raise SearchspaceError(msg)
        try:
            point[name] = space[name].coerce(value)
        except SearchspaceError as error:
            msg = f"{label}, {name!r}: {error}"
            raise SearchspaceError(msg) from None
    return point


def _required(space: Searchspace, given: Mapping[str, Value], label: str) -> Hparams:
    """The point with the parents that its values need."""
    point = dict(given)
    for name in reversed(tuple(space)):
        when = space[name].when
        if name not in point or when is None:
            continue
        for parent, accepted in when.items():
            known = set(map(identity, accepted))
            if parent not in point:
                default = space[parent].default
                point[parent] = accepted[0]
                if not isinstance(default, Unset) and identity(default) in known:
                    point[parent] = default
            elif identity(point[parent]) not in known:
                msg = (
                    f"{label} gives {name!r}, which exists only when {when!r}, "
                    f"but {parent}={point[parent]!r}. Leave one of them out."
                )
                raise SearchspaceError(msg)
    return point


def _complete(space: Searchspace, point: Hparams, rng: np.random.Generator) -> tuple[Hparams, str]:
    """A configuration with the point's values, and why it is forbidden (``""``: it is not)."""
    hparams = _fill(space, point, rng)
    reason = space.objection(hparams)
    for _ in range(_TRIES):
        if not reason:
            break
        hparams = _fill(space, point, rng)
        reason = space.objection(hparams)
    return hparams, reason


def _fill(space: Searchspace, point: Hparams, rng: np.random.Generator) -> Hparams:
    hparams: dict[str, Value] = {}
    for (name, kind), u in zip(space.items(), rng.random(len(space)).tolist(), strict=True):
        if not space.dependencies.active(name, hparams):
            continue
        if name in point:
            hparams[name] = point[name]
        else:
            default = kind.default
            hparams[name] = kind.from_unit(u) if isinstance(default, Unset) else default
    return hparams


def _generator(seed: int, index: int) -> np.random.Generator:
    import numpy as np

    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_STREAM, index)))
