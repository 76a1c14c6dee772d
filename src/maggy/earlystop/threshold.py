"""A fixed bar: what a trial must have reached by a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maggy.contracts import Decision
from maggy.earlystop.references import Bests, Leader

if TYPE_CHECKING:
    from maggy.trial import Trial

__all__ = ["ThresholdRule"]

_GO_ON = Decision(stop=False)


class ThresholdRule:
    """Stops a trial whose best value has not reached a bar from a step on.

    Give ``at_least`` for a metric to be maximised, ``at_most`` for one to be minimised: a policy
    does not know the direction of the search, so the bar has to say it.  A trial as good as the
    best completed one is never stopped.

    Args:
        step: The first step at which the bar counts.
        at_least: The value that must have been reached, of a metric to be maximised.
        at_most: The same of a metric to be minimised.

    Attributes:
        direction: ``"max"`` or ``"min"``: the only direction of search that the rule fits.
    """

    def __init__(
        self, step: int, *, at_least: float | None = None, at_most: float | None = None
    ) -> None:
        if (at_least is None) == (at_most is None):
            msg = (
                f"give one of `at_least` (a metric to be maximised) and `at_most` (to be "
                f"minimised), but got {at_least=}, {at_most=}."
            )
            raise ValueError(msg)
        self.step = step
        self.direction = "min" if at_least is None else "max"
        bar = -at_least if at_least is not None else at_most
        if bar is None or not -float("inf") < bar < float("inf"):
            msg = f"the bar must be a finite number, but got {at_least=}, {at_most=}."
            raise ValueError(msg)
        self._bar = float(bar)
        self._leader = Leader()
        self._bests = Bests()

    def __repr__(self) -> str:
        sign, name = (-1, "at_least") if self.direction == "max" else (1, "at_most")
        return f"ThresholdRule({self.step}, {name}={sign * self._bar:g})"

    def finished(self, trial: Trial) -> None:
        """Remember the best of the completed trials."""
        self._leader.finished(trial)
        self._bests.finished(trial)

    def decide(self, trial: Trial) -> Decision:
        """Compare the trial's best loss with the bar."""
        best = self._bests.best(trial)
        if trial.steps[-1] < self.step or best <= self._bar or self._leader.leads(best):
            return _GO_ON
        return Decision(
            stop=True,
            reason=(
                f"its best value {{best}} by step {trial.steps[-1]} has not reached {{bar}}, "
                f"which is asked for from step {self.step} on"
            ),
            threshold=self._bar,
            losses={"best": best, "bar": self._bar},
        )
