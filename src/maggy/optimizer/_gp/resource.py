"""What trials say at every rung they got to: one process over configurations and resource.

Klein et al. 2020 (arXiv 2003.10865, MOBSTER), section 3: a loss after resource ``r`` is an
observation at ``(x, r)``, so the many trials that trained a little teach what the few that trained
to the end cannot.  The resource is one more input of the kernel, with a length-scale of its own.

===================  ==========================================================================
rung                 a resource at which trials are compared; the last is the largest budget
``position``         ``ln(r / r_first) / ln(r_last / r_first)`` of a rung, in [0, 1]
target               the rung for which proposals are made: the highest with enough losses
``shift``            what is added to the losses at a rung: the median change of those trials
                     that were at this rung and the next, summed up to the last
===================  ==========================================================================

Losses at different rungs differ in level.  Trials at the upper rungs were chosen for being good,
so each rung's own mean says nothing about that; the change within trials does.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from maggy.optimizer._gp.evidence import FAILED_VARIANCE, Evidence
from maggy.optimizer._gp.warp import Warp
from maggy.trial import TrialStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maggy.optimizer.encoding import Array, Index
    from maggy.trial import Resource, Trial

    Seen = Sequence[tuple[int, float]]
    """The rungs that a trial got to, ascending, with its loss there."""

__all__ = ["Ladder"]

_LARGEST = 1e100
"""Losses are cut here, so that their differences are finite."""


class Ladder:
    """The rungs of a search.

    Args:
        rungs: The resource at each, ascending, two at least.
        enough: So many losses make a rung the target.

    Attributes:
        positions: Of the rungs, shape (K,).
    """

    def __init__(self, rungs: Sequence[int], enough: int) -> None:
        self._rungs = tuple(rungs)
        self._enough = enough
        logs = np.log(np.array(self._rungs, dtype=float) / self._rungs[0])
        self.positions: Array = logs / logs[-1]

    def target(self, reached: Sequence[Seen]) -> Array:
        """The position of the highest rung with enough of these losses, or the first; shape (1,).

        The rule of MOBSTER.  Beyond that rung so much is unknown that the search would explore.
        """
        counts = Counter(rung for each in reached for rung, _ in each)
        told = [rung for rung, count in counts.items() if count >= self._enough]
        rung = max(told, default=0)
        return self.positions[rung : rung + 1]

    def reached(self, trial: Trial) -> Seen:
        """The rungs that the trial got to, ascending, with its loss there, all finite.

        That is the loss of the first report at or beyond the rung, unless it is beyond the next.
        A trial that ended without getting to any counts at the first with its last report, or,
        if it has completed without reports, at its budget.
        """
        found = []
        offset = 0 if trial.steps and trial.steps[0] >= 1 else 1
        for rung, resource in enumerate(self._rungs):
            place = bisect_left(trial.steps, resource - offset)
            if place == len(trial.steps):
                break
            if self._at_most(trial.steps[place] + offset) == rung:
                found.append((rung, trial.losses[place]))
        if not found and trial.status.ended:
            found = self._otherwise(trial)
        return [(rung, loss) for rung, loss in found if math.isfinite(loss)]

    def observed(
        self, trials: Sequence[Trial], reached: Sequence[Seen], rows: Array
    ) -> Evidence | None:
        """Every trial at every rung it got to, rung by rung; None if there is no loss at all.

        A failed trial counts as bad as the worst at the target, loosely, beside what it came to
        before; so does one that completed without any finite loss.

        Args:
            trials: Ended ones, in order of their ids, then running ones.
            reached: Where each got to, and with which loss.
            rows: Their coordinates, shape (n, d).
        """
        seen = [(rung, number, loss) for number, each in enumerate(reached) for rung, loss in each]
        if not seen:
            return None
        seen.sort()
        levels, numbers = (np.array([entry[i] for entry in seen], dtype=np.intp) for i in (0, 1))
        losses = self._aligned(levels, numbers, np.array([entry[2] for entry in seen]))
        failed = _failed(trials, numbers)
        warp = Warp(losses)
        targets = warp(losses)
        n, m = len(targets), len(failed)
        positions = np.append(self.positions[levels], np.repeat(self.target(reached), m))
        return Evidence(
            rows=rows[np.concatenate([numbers, failed])],
            targets=np.append(targets, np.repeat(targets.max(), m)),
            variances=np.append(np.zeros(n), np.repeat(FAILED_VARIANCE, m)),
            completed=np.arange(n + m) < n,
            failed=np.arange(n + m) >= n,
            warp=warp,
            trailing=positions[:, np.newaxis],
        )

    def _at_most(self, resource: Resource) -> int:
        """The highest rung that this resource gets to; the first if it gets to none."""
        return max(sum(rung <= resource for rung in self._rungs) - 1, 0)

    def _otherwise(self, trial: Trial) -> list[tuple[int, float]]:
        if trial.losses:
            return [(0, trial.losses[-1])]
        if trial.status is TrialStatus.COMPLETED and trial.loss is not None:
            rung = len(self._rungs) - 1 if trial.budget is None else self._at_most(trial.budget)
            return [(rung, trial.loss)]
        return []

    def _aligned(self, levels: Index, numbers: Index, losses: Array) -> Array:
        """The losses with the shift of their rung.

        Between rungs that no trial has both been at, the difference of their medians is the best
        that is known.
        """
        losses = np.clip(losses, -_LARGEST, _LARGEST)
        table = np.full((len(self._rungs), int(numbers.max()) + 1), np.nan)
        table[levels, numbers] = losses
        shift = np.zeros(len(self._rungs))
        for low, high in reversed(list(pairwise(np.unique(levels).tolist()))):
            change = table[high] - table[low]
            change = change[np.isfinite(change)]
            gap = np.nanmedian(table[high]) - np.nanmedian(table[low])
            shift[low] = shift[high] + (np.median(change) if len(change) else gap)
        return np.asarray(losses + shift[levels])


def _failed(trials: Sequence[Trial], seen: Index) -> Index:
    """The numbers of the trials that failed, or completed without a finite loss."""
    told = set(seen.tolist())
    return np.array(
        [
            number
            for number, trial in enumerate(trials)
            if trial.status is TrialStatus.FAILED
            or (trial.status is TrialStatus.COMPLETED and number not in told)
        ],
        dtype=np.intp,
    )
