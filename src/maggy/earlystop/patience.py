"""Patience: a trial that has not improved for a while is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maggy.contracts import Decision
from maggy.earlystop.references import Leader

if TYPE_CHECKING:
    from maggy.trial import Trial

__all__ = ["PatienceRule"]

_GO_ON = Decision(stop=False)


class PatienceRule:
    """Stops a trial whose best loss has not improved during its last reports.

    It looks at one trial alone, except that a trial as good as the best completed one goes on, and
    so does every trial before one has completed: a stopped trial hardly counts as the best.

    Args:
        patience: Reports without an improvement that end a trial, at least 1.
        min_delta: What a report must be better than the best before it to count, at least 0, in
            the metric's own unit.
    """

    def __init__(self, patience: int = 10, *, min_delta: float = 0.0) -> None:
        if patience < 1 or not 0 <= min_delta < float("inf"):
            msg = (
                f"`patience >= 1` and `0 <= min_delta < inf` must hold, but got {patience=}, "
                f"{min_delta=}."
            )
            raise ValueError(msg)
        self.patience = patience
        self.min_delta = min_delta
        self._leader = Leader()

    def __repr__(self) -> str:
        return f"PatienceRule({self.patience}, min_delta={self.min_delta:g})"

    def finished(self, trial: Trial) -> None:
        """Remember the best of the completed trials."""
        self._leader.finished(trial)

    def decide(self, trial: Trial) -> Decision:
        """Compare the last reports with the best one before them."""
        losses, patience = trial.losses, self.patience
        if len(losses) <= patience or self._leader.loss is None or self._leader.leads(min(losses)):
            return _GO_ON
        before, recent = min(losses[:-patience]), min(losses[-patience:])
        if recent < before - self.min_delta:
            return _GO_ON
        than = f" by more than {self.min_delta:g}" if self.min_delta else ""
        return Decision(
            stop=True,
            reason=(
                f"its best value {{best}} has not improved{than} for {patience} reports, up to "
                f"step {trial.steps[-1]}"
            ),
            threshold=before,
            losses={"best": before},
        )
