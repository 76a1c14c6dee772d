"""Successive halving of Syne Tune: its scheduler, without its engine."""

from __future__ import annotations

from datetime import UTC, datetime

from halving import Order, serve
from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import uniform
from syne_tune.optimizer.scheduler import SchedulerDecision
from syne_tune.optimizer.schedulers.asha import AsynchronousSuccessiveHalving


class Scheduler:
    """One scheduler."""

    def __init__(self, order: Order) -> None:
        self.scheduler = AsynchronousSuccessiveHalving(
            {"x": uniform(0, 1)},
            metric="loss",
            do_minimize=True,
            max_t=order["top"],
            grace_period=order["first"],
            reduction_factor=order["factor"],
            random_seed=0,
        )
        self.trials: dict[int, Trial] = {}

    def begin(self, trial: int) -> None:
        """Add a trial with any configuration: the recorded one trains."""
        began = datetime.fromtimestamp(0, tz=UTC)
        self.trials[trial] = Trial(trial_id=trial, config={"x": 0.5}, creation_time=began)
        self.scheduler.on_trial_add(self.trials[trial])

    def stops(self, trial: int, epochs: int, loss: float) -> bool:
        """Pass the report on."""
        result = {"loss": loss, "training_iteration": epochs}
        decision = self.scheduler.on_trial_result(self.trials[trial], result)
        return bool(decision == SchedulerDecision.STOP)

    def end(self, trial: int, epochs: int, loss: float, *, stopped: bool) -> None:
        """Pass it on."""
        if stopped:
            self.scheduler.on_trial_remove(self.trials[trial])
            return
        result = {"loss": loss, "training_iteration": epochs}
        self.scheduler.on_trial_complete(self.trials[trial], result)


if __name__ == "__main__":
    serve(Scheduler)
