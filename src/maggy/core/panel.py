"""The stopping policies of one run, and when each of them is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maggy.trial import TrialStatus

if TYPE_CHECKING:
    from maggy.contracts import Decision, StoppingPolicy
    from maggy.trial import Trial

__all__ = ["Panel"]


class Panel:
    """Judges the reports of running trials.

    Args:
        policy: The user's policy, or None.
        es_min: Trials that must have completed before it is asked.
        es_interval: It is asked at every so many reports of a trial.
        rungs: What a multi-fidelity optimizer stops trials with, or None; asked at every report.
    """

    def __init__(
        self,
        policy: StoppingPolicy | None,
        *,
        es_min: int,
        es_interval: int,
        rungs: StoppingPolicy | None,
    ) -> None:
        self._policy = policy
        self._es_min = es_min
        self._es_interval = es_interval
        self._rungs = rungs
        self._completed: set[int] = set()

    def decide(self, trial: Trial) -> Decision | None:
        """The first decision to stop this trial, or None while it goes on."""
        if self._rungs is not None and (decision := self._rungs.decide(trial)).stop:
            return decision
        if self._policy is None or not self._due(trial):
            return None
        decision = self._policy.decide(trial)
        return decision if decision.stop else None

    def finished(self, trial: Trial) -> None:
        """Let each policy learn from a trial that ended."""
        if trial.status is TrialStatus.COMPLETED:
            self._completed.add(trial.id)
        for policy in (self._rungs, self._policy):
            if policy is not None:
                policy.finished(trial)

    def _due(self, trial: Trial) -> bool:
        enough = len(self._completed) >= self._es_min
        return enough and not len(trial.steps) % self._es_interval
