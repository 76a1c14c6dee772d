"""What a sampler gets to know when trials are compared at several budgets (Falkner et al. 2018).

Most models of losses make no sense across budgets: their loss is that at the highest rung that has
enough of them, and trials that never got there count as stopped before it.  A model that knows
about rungs (``SearchContext.rungs``) finds all that a trial came to in its curve.
"""

from __future__ import annotations

from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING

from maggy.trial import TrialStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maggy.contracts import Optimizer
    from maggy.trial import Trial

__all__ = ["Informed"]

_LEAST = 6


class Informed:
    """Passes on to a sampler what trials came to, judged at the highest rung that says enough.

    Enough are ``max(d + 2, 6)`` finite losses in ``d`` hyperparameters.  A trial with a result at
    that rung has completed with its loss there; one below it was stopped, or has failed; one that
    started above it has completed with its loss where it started.  When the rung rises, every
    trial is told again, which replaces what was told before.  A trial's curve has one point for
    each rung that it got to, those above the highest that says enough too.

    Args:
        sampler: Who is told.
        dimensions: How many hyperparameters there are.
        milestones: The resource at each rung.
    """

    def __init__(self, sampler: Optimizer, dimensions: int, milestones: Sequence[int]) -> None:
        self._sampler = sampler
        self._enough = max(dimensions + 2, _LEAST)
        self._milestones = milestones
        self._finite = [0] * len(milestones)
        self._level = 0
        self._trials: dict[int, Trial] = {}
        self._losses: dict[int, dict[int, float]] = {}

    def tell(self, trial: Trial, rung: int) -> None:
        """A run for this rung ended."""
        losses = self._losses.setdefault(trial.id, {})
        known = self._trials.get(trial.id)
        loss = trial.loss if trial.status is TrialStatus.COMPLETED else None
        if loss is not None:
            self._finite[rung] += isfinite(loss)
            losses[rung] = loss
        self._trials[trial.id] = replace(trial, worker=None, steps=[], losses=[])
        if rung > self._level and self._finite[rung] >= self._enough:
            self._level = rung
            for number in sorted(self._trials):
                self._pass_on(number)
        elif known is None or loss is not None or rung <= self._level:
            self._pass_on(trial.id)

    def _pass_on(self, number: int) -> None:
        trial, losses = self._trials[number], self._losses[number]
        seen = sorted(rung for rung in losses if rung <= self._level) or sorted(losses)[:1]
        status = trial.status
        if losses and max(losses) >= self._level:
            status = TrialStatus.COMPLETED
        elif status is TrialStatus.COMPLETED:
            status = TrialStatus.STOPPED
        self._sampler.tell(
            replace(
                trial,
                status=status,
                budget=self._milestones[seen[-1]] if seen else trial.budget,
                steps=[self._milestones[rung] for rung in sorted(losses)],
                losses=[losses[rung] for rung in sorted(losses)],
                loss=losses[seen[-1]] if seen and status is not TrialStatus.FAILED else None,
                error=trial.error if status is TrialStatus.FAILED else None,
            )
        )
