"""What a worker is told about a trial: the commands, made from the machine's records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maggy.commands import Assign, Interrupt, StopTrial

if TYPE_CHECKING:
    from maggy.core.losses import Sense
    from maggy.trial import Trial

__all__ = ["assign", "interrupt", "stop"]


def assign(trial: Trial, worker: str) -> Assign:
    """Run this trial on this worker."""
    return Assign(
        worker=worker,
        trial=trial.id,
        attempt=trial.attempt,
        hparams=trial.hparams,
        budget=trial.budget,
    )


def stop(trial: Trial, worker: str, sense: Sense) -> StopTrial:
    """Leave this trial, which was judged; its numbers in the user's own sign."""
    threshold, loss = trial.threshold, trial.loss
    return StopTrial(
        worker=worker,
        trial=trial.id,
        attempt=trial.attempt,
        reason=trial.stop_reason,
        threshold=None if threshold is None else sense.flip(threshold),
        final=None if loss is None else sense.flip(loss),
    )


def interrupt(trial: Trial, worker: str, reason: str = "the run ends") -> Interrupt:
    """Leave this trial although nobody judged it; ``reason`` is a clause."""
    return Interrupt(worker=worker, trial=trial.id, attempt=trial.attempt, reason=reason)
