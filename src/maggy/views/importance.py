"""What a finished search says: which hyperparameters matter, which bounds bind, how it went.

Everything is computed from the trials of a ``Result`` (anything with ``id``, ``hparams``,
``status``, ``value`` and ``curve``), in the user's own values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

import numpy as np

from maggy.searchspace import Categorical, Discrete
from maggy.views.trees import grown, main_effects
from maggy.views.wording import number

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from maggy.searchspace import Hyperparameter, Searchspace
    from maggy.trial import Hparams, Value

    Array: TypeAlias = NDArray[np.float64]

__all__ = [
    "Ended",
    "Importance",
    "Progress",
    "TightBound",
    "best_so_far",
    "importances",
    "tight_bounds",
]

_FEWEST = 10
_MOST = 1000
_TREES = 48
_SEED = 0x1A57
_EDGE = 0.1
_EDGE_MAJORITY = 0.5
_EDGE_FEWEST = 4


class Ended(Protocol):
    """What is needed of a trial."""

    @property
    def id(self) -> int:
        """Counts from 0."""
        ...

    @property
    def hparams(self) -> Hparams:
        """The configuration."""
        ...

    @property
    def status(self) -> str:
        """``completed``, ``stopped``, or anything else."""
        ...

    @property
    def value(self) -> float | None:
        """The final value of a completed trial, the last one of a stopped trial."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """How much one hyperparameter decides how good a trial is.

    Attributes:
        name: The hyperparameter.
        share: Of the importance of all; the shares sum to 1, or are all 0 if nothing matters.
        low: The lower end of the interval that holds the share and 80 % of resamples.
        high: Its upper end.
    """

    name: str
    share: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.name} {self.share:.0%} ({self.low:.0%} to {self.high:.0%})"


@dataclass(frozen=True, slots=True, kw_only=True)
class TightBound:
    """An end of a range at which the best trials crowd.

    Attributes:
        name: The hyperparameter.
        end: ``"low"`` or ``"high"``.
        bound: The value of this end.
        near: How many of the best trials are within the outer tenth of the range.
        best: How many best trials were looked at.
    """

    name: str
    end: str
    bound: Value
    near: int
    best: int

    def __str__(self) -> str:
        side, change = ("lower", "lower") if self.end == "low" else ("upper", "raise")
        bound = number(self.bound) if isinstance(self.bound, float) else self.bound
        return (
            f"{self.near} of the {self.best} best trials are at the {side} end of "
            f"{self.name} ({bound}): {change} it?"
        )


class Progress(NamedTuple):
    """The best value so far; ``plot(*progress)`` draws it."""

    trials: list[int]
    values: list[float]


def best_so_far(trials: Iterable[Ended], direction: str) -> Progress:
    """The best value of the completed trials up to each of them, in order of their ids."""
    better = max if direction == "max" else min
    progress = Progress([], [])
    for trial in sorted(trials, key=lambda trial: trial.id):
        if trial.status == "completed" and trial.value is not None:
            best = better(progress.values[-1], trial.value) if progress.values else trial.value
            progress.trials.append(trial.id)
            progress.values.append(best)
    return progress


def importances(
    trials: Iterable[Ended], space: Searchspace, direction: str
) -> tuple[Importance, ...]:
    """The importance of each hyperparameter that can vary, largest first.

    Functional ANOVA (Hutter, Hoos and Leyton-Brown 2014): regression trees learn the ranks of the
    trials, and a hyperparameter's importance is the variance, over the whole space, of what the
    trees predict when only it is known.  So it counts where the search looked little, too, and a
    run that diverged is only the last.  Each tree sees its own resample of the trials; their
    disagreement gives the interval.  Stopped trials rank behind completed ones, failed trials do
    not count.  An inactive hyperparameter counts as in the middle.  Interactions are left out.

    Args:
        trials: The trials of a run; of more than 1,000 an even part is used.
        space: Its search space.
        direction: ``"max"`` or ``"min"``.

    Returns:
        Nothing if fewer than 10 trials have a value.
    """
    ended = _best_first(trials, direction)
    names = [name for name, kind in space.items() if kind.cardinality != 1]
    if len(ended) < _FEWEST or not names:
        return ()
    points, ranks = _learned(ended[:: 1 + len(ended) // _MOST], space, names)
    rng = np.random.default_rng(_SEED)
    effects = np.empty((_TREES, len(names)))
    for tree in range(_TREES):
        seen = rng.integers(len(ranks), size=len(ranks))
        effects[tree] = main_effects(grown(points[seen], ranks[seen], rng))
    totals = effects.sum(axis=1, keepdims=True)
    shares = effects / np.where(totals > 0, totals, 1.0)
    low, high = np.quantile(shares, [0.1, 0.9], axis=0)
    found = [
        Importance(
            name=name,
            share=float(share),
            low=float(min(below, share)),
            high=float(max(above, share)),
        )
        for name, share, below, above in zip(names, _mean(shares), low, high, strict=True)
    ]
    return tuple(sorted(found, key=lambda item: -item.share))


def tight_bounds(
    trials: Iterable[Ended], space: Searchspace, direction: str
) -> tuple[TightBound, ...]:
    """The ends of numeric ranges where the best trial and half of the best tenth (5 at least) are.

    Near an end is the outer tenth of the range, in the logarithm if it has one; of whole numbers
    and lists, the last value at least.  Ranges of under 4 values are left out, and so are ends at
    exactly 0: mostly there is nothing beyond, as with a probability or a weight.
    """
    ended = _best_first(trials, direction)
    best = ended[: max(5, len(ended) // 10)]
    found = []
    for name, kind in space.items():
        having = [trial.hparams for trial in best if name in trial.hparams]
        if len(ended) < _FEWEST or not having or not _is_range(kind):
            continue
        places = [kind.to_unit(hparams[name]) for hparams in having]  # type: ignore[arg-type]
        for end, bound, distances in (
            ("low", kind.from_unit(0.0), places),
            ("high", kind.from_unit(1.0), [1 - place for place in places]),
        ):
            edge = max(_EDGE, 1.01 * _half_cell(kind, bound))
            near = sum(distance <= edge for distance in distances)
            if bound != 0 and distances[0] <= edge and near >= _EDGE_MAJORITY * len(best):
                found.append(
                    TightBound(name=name, end=end, bound=bound, near=near, best=len(best))
                )
    return tuple(found)


def _best_first(trials: Iterable[Ended], direction: str) -> Sequence[Ended]:
    """Completed trials by value, then stopped ones by value; ties by id."""
    sign = -1.0 if direction == "max" else 1.0
    order = {"completed": 0, "stopped": 1}
    ranked = [
        (order[trial.status], sign * trial.value, trial.id, trial)
        for trial in trials
        if trial.status in order and trial.value is not None and math.isfinite(trial.value)
    ]
    return [entry[3] for entry in sorted(ranked, key=lambda entry: entry[:3])]


def _is_range(kind: Hyperparameter) -> bool:
    if isinstance(kind, Categorical):
        return False
    if isinstance(kind, Discrete) and not all(type(c) in {int, float} for c in kind.choices):
        return False
    return kind.cardinality is None or kind.cardinality >= _EDGE_FEWEST


def _half_cell(kind: Hyperparameter, bound: Value) -> float:
    """How far the row of a countable bound is from the end of [0, 1]; 0 if continuous."""
    place = kind.to_unit(bound)  # type: ignore[arg-type]  # a value of this kind
    return min(place, 1 - place)


def _mean(shares: Array) -> Array:
    """The mean over the trees that say anything; all 0 if none does."""
    says = shares.sum(axis=1) > 0
    mean: Array = shares[says].mean(axis=0) if says.any() else np.zeros(shares.shape[1])
    return mean


def _learned(
    ended: Sequence[Ended], space: Searchspace, names: Sequence[str]
) -> tuple[Array, Array]:
    """Points in ``[0, 1]^d`` and ranks in ``[0, 1]``, equal ones for equal values."""
    columns = {name: place for place, name in enumerate(space)}
    encoded = np.array([space.encode(trial.hparams) for trial in ended])
    keys = [(trial.status, trial.value) for trial in ended]
    first = {key: place for place, key in reversed(list(enumerate(keys)))}
    ranks = np.array([first[key] for key in keys]) / len(keys)
    points = encoded[:, [columns[name] for name in names]]
    for column, name in enumerate(names):
        kind = space[name]
        if isinstance(kind, Categorical):
            points[:, column] = _ordered(points[:, column], ranks, kind.cardinality)
    return points, ranks


def _ordered(places: Array, ranks: Array, count: int) -> Array:
    """Categories in the order of their mean rank, so that one split can part good from bad."""
    cells = np.minimum((places * count).astype(int), count - 1)
    means = [
        float(ranks[cells == cell].mean()) if (cells == cell).any() else 0.5
        for cell in range(count)
    ]
    position = np.argsort(np.argsort(means, kind="stable"))
    ordered: Array = (position[cells] + 0.5) / count
    return ordered
