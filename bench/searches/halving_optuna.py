"""Successive halving of Optuna: its pruner, with a study in memory."""

from __future__ import annotations

import optuna
from halving import Order, serve


class Pruner:
    """One study."""

    def __init__(self, order: Order) -> None:
        pruner = optuna.pruners.SuccessiveHalvingPruner(
            min_resource=order["first"], reduction_factor=order["factor"]
        )
        sampler = optuna.samplers.RandomSampler(seed=0)
        self.study = optuna.create_study(sampler=sampler, pruner=pruner)
        self.trials: dict[int, optuna.Trial] = {}

    def begin(self, trial: int) -> None:
        """Ask for a trial; its configuration is the recorded one."""
        self.trials[trial] = self.study.ask()

    def stops(self, trial: int, epochs: int, loss: float) -> bool:
        """Report, and ask whether to prune."""
        self.trials[trial].report(loss, epochs)
        return bool(self.trials[trial].should_prune())

    def end(self, trial: int, epochs: int, loss: float, *, stopped: bool) -> None:
        """Tell how it ended."""
        if stopped:
            self.study.tell(self.trials[trial], state=optuna.trial.TrialState.PRUNED)
        else:
            self.study.tell(self.trials[trial], loss)


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    serve(Pruner)
