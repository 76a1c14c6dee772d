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

__all__ = ["Brackets", "Rung", "RungRule", "milestones", "one_round", "quota"]

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


def quota(count: int, factor: int) -> int:
    """How many of so many go on: those with at most ``count / factor`` ahead of them.

    >>> [quota(count, 3) for count in (1, 2, 3, 5, 6, 27)]
    [1, 1, 2, 2, 3, 10]
    """
    return count // factor + 1


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


def one_round(factor: int, rungs: Sequence[int], brackets: int) -> int:
    """How many configurations successive halving or Hyperband begins with, by the book.

    ``factor ** s``, where ``s = floor(log(R / r) / log(factor))`` from the first rung, r, to the
    last, R; with several brackets the sum of theirs (Li et al. 2018, algorithm 1).

    >>> one_round(2, (1, 2, 4), 1), one_round(3, (1, 3, 9, 10), 1), one_round(3, (1, 3, 9), 3)
    (4, 9, 17)
    """
    short = rungs[-1] < rungs[0] * factor ** (len(rungs) - 1)
    tops = len(rungs) - short
    return sum(Brackets(min(brackets, tops), factor, tops).weights)


class Rung:
    """The trials of a bracket that ended a run here; equal losses: the earlier trial is better.

    Failed trials count, but are never promoted.  A promotion costs O(log n) and a shift of a list.

    Args:
        factor: The reduction factor, eta.
        exact: No more than ``n_k // factor`` are ever promoted.
    """

    def __init__(self, factor: int, *, exact: bool = False) -> None:
        self._factor = factor
        self._exact = exact
        self.losses: dict[int, float] = {}
        self._promoted: set[int] = set()
        self._ranked: list[tuple[float, int]] = []
        self._waiting: list[tuple[float, int]] = []

    def arrive(self, trial: int, loss: float) -> None:
        """A trial ended a run here; arriving again changes nothing."""
        if trial in self.losses:
            return
        self.losses[trial] = loss
        if isfinite(loss):
            insort(self._ranked, (loss, trial))
            if trial not in self._promoted:
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

    def promotable(self, *, last_call: bool = False) -> int | None:
        """The trial to promote, if one is due: the best that waits, if it is good enough.

        It is if at most ``n_k / factor`` are better, once ``factor`` have arrived.  Algorithm 2 of
        Li et al. (2020) takes the best ``n_k // factor``, one fewer.  Whoever was promoted before
        keeps no better one from going on, so that noise and an unlucky order cost some promotions
        more, of the order of sqrt(n) (there, section 3.3), but not the best trial.

        An exact rung promotes while fewer than ``n_k // factor`` were promoted, whoever these are:
        the guard of D-ASHA (Li et al. 2022, Hyper-Tune).  Its best that waits is among the best
        ``n_k // factor`` then, for all ahead of it were promoted.

        Args:
            last_call: No more trials will come, so one goes on, however few there are.
        """
        if not self._waiting:
            return None
        count = len(self.losses)
        best = self._waiting[0]
        if last_call and not self._promoted:
            return best[1]
        if self._exact:
            return best[1] if len(self._promoted) < count // self._factor else None
        better = bisect_left(self._ranked, best)
        return best[1] if better < quota(count, self._factor) and count >= self._factor else None


class RungRule:
    """Stops trials at rungs, by what they report: the *stopping* variant of ASHA.

    At a rung, a trial goes on if at most ``n_k / factor`` of those that got there, itself
    included, are better, as in Syne Tune; so the first to arrive does, and the best so far, and
    one that is as good as the last that may.  At the last rung it is complete.
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
        self._arrived: dict[tuple[int, int], list[float]] = {}
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
        loss = trial.losses[-1]
        better = bisect_left(arrived, loss)
        arrived.insert(better, loss)
        may = quota(len(arrived), self._factor)
        if better < may:
            return _GO_ON
        bound = arrived[may - 1]
        return Decision(
            stop=True,
            reason=(
                f"its value {{value}} at {self._rungs[rung]} is not among the best {may} of "
                f"{len(arrived)} that got there; the last of those has {{bound}}"
            ),
            threshold=bound,
            losses={"value": loss, "bound": bound},
        )
