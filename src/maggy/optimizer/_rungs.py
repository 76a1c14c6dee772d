"""Rungs: where trials of one bracket meet, and who goes on from there (Li et al. 2020; ASHA).

=================  ==========================================================
``factor``         the reduction factor, eta: one in ``factor`` goes on
``milestones``     the total resource at each rung, ascending; the last is the
                   largest budget
``bracket`` *s*    trials that start at rung *s*, and compete only among each
                   other
``n_k``            how many trials of a bracket have ended a run at rung *k*
=================  ==========================================================

Everything is integer arithmetic: ``floor(log(243) / log(3))`` is 4.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from math import inf, isfinite
from typing import TYPE_CHECKING

from maggy.contracts import Decision
from maggy.trial import resource_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maggy.trial import Trial

__all__ = ["Brackets", "Rung", "RungRule", "milestones"]

_GO_ON = Decision(stop=False)


def milestones(factor: int, low: int, high: int) -> tuple[int, ...]:
    """The rungs from ``low`` up: each ``factor`` times the one before, the last is ``high``.

    >>> milestones(2, 1, 10), milestones(3, 1, 243), milestones(4, 5, 5)
    ((1, 2, 4, 8, 10), (1, 3, 9, 27, 81, 243), (5,))
    """
    rungs = []
    while low < high:
        rungs.append(low)
        low *= factor
    return (*rungs, high)


class Brackets:
    """Which bracket a trial belongs to: a function of its number alone.

    Bracket *s* of *K* + 1 rungs has the weight ``ceil((K + 1) factor^(K - s) / (K - s + 1))``
    (Li et al. 2018, algorithm 1); each trial goes where most are missing, the earlier bracket at a
    tie.

    Args:
        count: Brackets to fill, at most one for each rung.
        factor: The reduction factor.
        rungs: How many rungs there are.
    """

    def __init__(self, count: int, factor: int, rungs: int) -> None:
        tops = range(rungs - 1, rungs - 1 - count, -1)
        self.weights = tuple(-(-rungs * factor**top // (top + 1)) for top in tops)
        self._filled = [0] * count
        self._of: list[int] = []

    def of(self, trial: int) -> int:
        """The bracket of this trial."""
        while len(self._of) <= trial:
            number, total = len(self._of) + 1, sum(self.weights)
            missing = [
                weight * number - total * filled
                for weight, filled in zip(self.weights, self._filled, strict=True)
            ]
            bracket = missing.index(max(missing))
            self._filled[bracket] += 1
            self._of.append(bracket)
        return self._of[trial]


class Rung:
    """The trials of a bracket that ended a run here; equal losses: the earlier trial is better.

    Failed trials count, but are never promoted.  A promotion costs O(log n) and a shift of a list.
    """

    def __init__(self) -> None:
        self.losses: dict[int, float] = {}
        self._promoted: set[int] = set()
        self._waiting: list[tuple[float, int]] = []

    def arrive(self, trial: int, loss: float) -> None:
        """A trial ended a run here; arriving again changes nothing."""
        if trial in self.losses:
            return
        self.losses[trial] = loss
        if isfinite(loss) and trial not in self._promoted:
            insort(self._waiting, (loss, trial))

    def promote(self, trial: int) -> None:
        """A trial goes on to the next rung; saying so again changes nothing."""
        if trial in self._promoted:
            return
        self._promoted.add(trial)
        entry = (self.losses.get(trial, inf), trial)
        place = bisect_left(self._waiting, entry)
        if self._waiting[place : place + 1] == [entry]:
            del self._waiting[place]

    def promotable(self, factor: int, *, last_call: bool = False) -> int | None:
        """The trial to promote, if one is due: at most ``n_k // factor`` ever are.

        Promoting no more, whatever the order of arrival, is the guard of D-ASHA (Li et al. 2022,
        Hyper-Tune).  With fewer than ``quota`` promoted, the best waiting trial is among the
        best ``quota``: all ahead of it were promoted.

        Args:
            factor: The reduction factor.
            last_call: No more trials will come, so one goes on, however few there are.
        """
        quota = len(self.losses) // factor
        if last_call:
            quota = max(quota, 1)
        if len(self._promoted) >= quota or not self._waiting:
            return None
        return self._waiting[0][1]


class RungRule:
    """Stops trials at rungs, by what they report: the *stopping* variant of ASHA.

    At a rung, a trial goes on if it is among the best ``n_k // factor`` of those that got there,
    itself included, or the best of all; so the first one does.  At the last rung it is complete.
    A report beyond a rung counts there, unless there was one before; a trial that runs again,
    because its worker was lost, is not judged twice.

    Args:
        factor: The reduction factor.
        rungs: The milestones.
        brackets: Which trials compete.
    """

    def __init__(self, factor: int, rungs: Sequence[int], brackets: Brackets) -> None:
        self._factor = factor
        self._rungs = rungs
        self._brackets = brackets
        self._arrived: dict[tuple[int, int], list[tuple[float, int]]] = {}
        self._next: dict[int, int] = {}

    def finished(self, trial: Trial) -> None:
        """Forget where it was; its arrivals stay."""
        self._next.pop(trial.id, None)

    def decide(self, trial: Trial) -> Decision:
        """Judge the trial at each rung that its newest report has reached."""
        bracket = self._brackets.of(trial.id)
        rung = self._next.get(trial.id, bracket)
        resource = resource_at(trial.steps)
        while resource >= self._rungs[rung]:
            if rung == len(self._rungs) - 1:
                reason = f"it has reached the largest budget, {self._rungs[rung]}"
                return Decision(stop=True, complete=True, reason=reason)
            decision = self._judge(trial, bracket, rung)
            rung += 1
            self._next[trial.id] = rung
            if decision.stop:
                return decision
        return _GO_ON

    def _judge(self, trial: Trial, bracket: int, rung: int) -> Decision:
        arrived = self._arrived.setdefault((bracket, rung), [])
        entry = (trial.losses[-1], trial.id)
        rank = bisect_left(arrived, entry)
        arrived.insert(rank, entry)
        quota = max(1, len(arrived) // self._factor)
        if rank < quota:
            return _GO_ON
        bound = arrived[quota - 1][0]
        return Decision(
            stop=True,
            reason=(
                f"its value {{value}} at {self._rungs[rung]} is not among the best {quota} of "
                f"{len(arrived)} that got there; the last of those has {{bound}}"
            ),
            threshold=bound,
            losses={"value": entry[0], "bound": bound},
        )
