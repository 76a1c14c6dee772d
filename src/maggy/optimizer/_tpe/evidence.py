"""What a search has seen: trials from best to worst, split into the good ones and the rest."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from maggy.trial import TrialStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from maggy.optimizer._tpe.encoding import Encoding
    from maggy.trial import Trial

    Array: TypeAlias = NDArray[np.float64]
    Rank: TypeAlias = tuple[int, float, float, int]

__all__ = ["Evidence", "Split", "rank"]

_GOOD_SHARE = 0.15
_MOST_GOOD = 25
_FRESH = 250
_MOST_REST = 500
_GOLDEN = 0.6180339887498949
"""Multiples of it, modulo 1, fill ``[0, 1)`` evenly, so small ones pick an even part of trials."""


@dataclass(frozen=True, slots=True)
class Split:
    """Two sets of rows with a weight for each, shapes ``(n, d)`` and ``(n,)``."""

    good: Array
    good_weights: Array
    rest: Array
    rest_weights: Array


def rank(trial: Trial) -> Rank:
    """Ascending from the best trial to the worst; ties go by id.

    Completed trials come first; then the stopped ones, those that came furthest before the others,
    by the best loss they showed; then what stopped before its first report.  What failed, or has
    no finite loss, comes last.
    """
    if trial.status is TrialStatus.COMPLETED:
        if trial.loss is not None and math.isfinite(trial.loss):
            return (0, 0.0, trial.loss, trial.id)
    elif trial.status is TrialStatus.STOPPED:
        finite = [loss for loss in trial.losses if math.isfinite(loss)]
        return (
            (1, -float(trial.steps[-1]), min(finite), trial.id)
            if finite
            else (2, 0.0, 0.0, trial.id)
        )
    return (3, 0.0, 0.0, trial.id)


class Evidence:
    """The trials that ended; the same whatever the order in which they did.

    Args:
        encoding: Of the space.
    """

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._slots: dict[int, int] = {}
        self._ranks: dict[int, Rank] = {}
        self._ranked: list[Rank] = []
        self._rows = np.empty((64, len(encoding)))
        self._ids = np.empty(64, dtype=np.int64)
        self._running: dict[int, Array] = {}

    def __len__(self) -> int:
        return len(self._ranked)

    def __contains__(self, trial: int) -> bool:
        return trial in self._slots

    @property
    def informative(self) -> int:
        """How many trials completed, or were stopped after a report."""
        return bisect.bisect_left(self._ranked, (2,))

    def tell(self, trial: Trial) -> None:
        """A run of this trial ended; replaces what an earlier run of it showed."""
        earlier = self._ranks.get(trial.id)
        if earlier is None:
            self._append(trial)
        else:
            del self._ranked[bisect.bisect_left(self._ranked, earlier)]
        self._ranks[trial.id] = rank(trial)
        bisect.insort(self._ranked, self._ranks[trial.id])

    def split(self, pending: Sequence[Trial]) -> Split:
        """The best trials, at most 25, and all others: the worse, the failed, the pending.

        Good trials weigh less from the best to the last, by their ranks.  Of the others the
        newest 250 weigh 1, older ones linearly less, down to ``1 / n``; of more than 500 an even
        part of the older ones stands for all of them.  Failed trials are never good.
        """
        good = [entry[3] for entry in self._ranked[: self._count_good()]]
        rest, weights = self._rest(good)
        known = self._running
        self._running = {
            trial.id: known[trial.id] if trial.id in known else self._encoding.row(trial.hparams)
            for trial in pending
        }
        if pending:
            rest = np.concatenate([rest, np.array(list(self._running.values()))])
            weights = np.append(weights, np.ones(len(pending)))
        slots = [self._slots[trial] for trial in good]
        return Split(self._rows[slots], _descending(len(good)), rest, weights)

    def _count_good(self) -> int:
        wanted = min(max(math.ceil(_GOOD_SHARE * len(self)), 2), _MOST_GOOD)
        return min(wanted, self.informative)

    def _append(self, trial: Trial) -> None:
        slot = len(self._slots)
        if slot == len(self._ids):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
            self._ids = np.concatenate([self._ids, np.empty_like(self._ids)])
        self._rows[slot] = self._encoding.row(trial.hparams)
        self._ids[slot] = trial.id
        self._slots[trial.id] = slot

    def _rest(self, good: Sequence[int]) -> tuple[Array, Array]:
        """The rows of all trials but these, in order of their ids, with their weights."""
        count = len(self)
        order = np.argsort(self._ids[:count], kind="stable")
        order = order[~np.isin(self._ids[order], good)]
        age = np.arange(len(order), 0.0, -1.0)
        weights = np.minimum(1.0, _ramp(len(order), age))
        if len(order) <= _MOST_REST:
            return self._rows[order], weights
        older = len(order) - _FRESH
        turn = (self._ids[order[:older]] * _GOLDEN) % 1.0
        room = _MOST_REST - _FRESH
        kept = np.sort(np.argpartition(turn, room)[:room])
        thinned = np.concatenate([weights[kept] * (older / room), weights[older:]])
        return self._rows[np.concatenate([order[kept], order[older:]])], thinned


def _descending(count: int) -> Array:
    """The weights of CMA-ES (Hansen 2016, arXiv 1604.00772): they know ranks only."""
    weights: Array = np.log(count + 0.5) - np.log(np.arange(1.0, count + 1.0))
    return weights


def _ramp(count: int, age: Array) -> Array:
    """From 1 for the 250th newest down to ``1 / count`` for the oldest, linearly in ``age``."""
    if count <= _FRESH:
        return np.ones(count)
    return 1.0 - (age - _FRESH) / (count - _FRESH) * (1.0 - 1.0 / count)
