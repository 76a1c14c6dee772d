"""The median stopping rule (Golovin et al. 2017, Google Vizier, section 3.2.2), on true steps.

At step ``t`` a running trial is stopped when its best loss so far is strictly worse than the
median, over the completed trials that reached ``t``, of their running averages up to ``t``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from maggy.contracts import Decision
from maggy.earlystop.references import Bests, Leader, References, quantile, running_average

if TYPE_CHECKING:
    from maggy.trial import Trial

__all__ = ["MedianRule"]

_GO_ON = Decision(stop=False)


class MedianRule:
    """Stops a trial that is worse than the median of the completed ones at the same step.

    Only trials that completed are references: those that were stopped would drag the median
    towards the bad ones.  A tie is not worse, and the best trial so far is never stopped.

    Args:
        min_peers: Completed trials that must have reached the step, at least 1.
    """

    def __init__(self, min_peers: int = 3) -> None:
        if min_peers < 1:
            msg = f"`min_peers >= 1` must hold, but got {min_peers=}."
            raise ValueError(msg)
        self.min_peers = min_peers
        self._references = References(running_average)
        self._leader = Leader()
        self._bests = Bests()

    def finished(self, trial: Trial) -> None:
        """Make a completed trial a reference; others change nothing."""
        self._references.finished(trial)
        self._leader.finished(trial)
        self._bests.finished(trial)

    def decide(self, trial: Trial) -> Decision:
        """Compare the trial's best loss with the median at its newest step."""
        step = trial.steps[-1]
        best = self._bests.best(trial)
        column = self._references.column(step)
        if len(column) < self.min_peers or self._leader.leads(best):
            return _GO_ON
        median = quantile(column, 0.5)
        if best <= median:
            return _GO_ON
        return Decision(
            stop=True,
            reason=(
                f"its best value {{best}} by step {step} is worse than {{median}}, the median of "
                f"{len(column)} completed trials"
            ),
            threshold=median,
            losses={"best": best, "median": median},
        )
