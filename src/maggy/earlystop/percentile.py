"""The percentile rule: the median rule with another share of the trials that go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maggy.contracts import Decision
from maggy.earlystop.references import Bests, Leader, References, quantile, running_average

if TYPE_CHECKING:
    from maggy.trial import Trial

__all__ = ["PercentileRule"]

_GO_ON = Decision(stop=False)


class PercentileRule:
    """Stops a trial that is not among the best ``percentile`` percent at the same step.

    Its best loss so far is compared with the percentile, over the completed trials that reached
    the step, of their running averages up to there; 50 is the median rule.  A tie is not worse,
    and a trial as good as the best completed one is never stopped.

    Args:
        percentile: The share of the trials to let go on, in percent, between 0 and 100.
        min_peers: Completed trials that must have reached the step, at least 1.
        min_steps: Reports that a trial may make before it is judged.
    """

    def __init__(
        self, percentile: float = 25.0, *, min_peers: int = 4, min_steps: int = 1
    ) -> None:
        if not 0 < percentile < 100:
            msg = f"`0 < percentile < 100` must hold, but got {percentile=}."
            raise ValueError(msg)
        if min_peers < 1 or min_steps < 1:
            msg = f"`min_peers` and `min_steps` must be >= 1, but got {min_peers=}, {min_steps=}."
            raise ValueError(msg)
        self.percentile = percentile
        self.min_peers = min_peers
        self.min_steps = min_steps
        self._references = References(running_average)
        self._leader = Leader()
        self._bests = Bests()

    def __repr__(self) -> str:
        return (
            f"PercentileRule({self.percentile:g}, min_peers={self.min_peers}, "
            f"min_steps={self.min_steps})"
        )

    def finished(self, trial: Trial) -> None:
        """Make a completed trial a reference; others change nothing."""
        self._references.finished(trial)
        self._leader.finished(trial)
        self._bests.finished(trial)

    def decide(self, trial: Trial) -> Decision:
        """Compare the trial's best loss with the percentile at its newest step."""
        if len(trial.steps) < self.min_steps:
            return _GO_ON
        step = trial.steps[-1]
        best = self._bests.best(trial)
        column = self._references.column(step)
        if len(column) < self.min_peers or self._leader.leads(best):
            return _GO_ON
        bound = quantile(column, self.percentile / 100)
        if best <= bound:
            return _GO_ON
        return Decision(
            stop=True,
            reason=(
                f"its best value {{best}} by step {step} is worse than {{bound}}, which the best "
                f"{self.percentile:g} % of {len(column)} completed trials had reached"
            ),
            threshold=bound,
            losses={"best": best, "bound": bound},
        )
