"""Successive halving of Ray Tune: its scheduler, without its engine."""

from __future__ import annotations

from types import SimpleNamespace

from halving import Order, serve
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler


class Scheduler:
    """One scheduler."""

    def __init__(self, order: Order) -> None:
        self.scheduler = AsyncHyperBandScheduler(
            metric="loss",
            mode="min",
            max_t=order["top"],
            grace_period=order["first"],
            reduction_factor=order["factor"],
        )
        self.trials: dict[int, SimpleNamespace] = {}

    def begin(self, trial: int) -> None:
        """Add a trial, of which the scheduler uses the name only."""
        self.trials[trial] = SimpleNamespace(trial_id=str(trial))
        self.scheduler.on_trial_add(None, self.trials[trial])

    def stops(self, trial: int, epochs: int, loss: float) -> bool:
        """Pass the report on."""
        result = {"loss": loss, "training_iteration": epochs}
        action = self.scheduler.on_trial_result(None, self.trials[trial], result)
        return bool(action == TrialScheduler.STOP)

    def end(self, trial: int, epochs: int, loss: float, *, stopped: bool) -> None:
        """Pass it on."""
        if stopped:
            self.scheduler.on_trial_remove(None, self.trials[trial])
            return
        result = {"loss": loss, "training_iteration": epochs}
        self.scheduler.on_trial_complete(None, self.trials[trial], result)


if __name__ == "__main__":
    serve(Scheduler)
