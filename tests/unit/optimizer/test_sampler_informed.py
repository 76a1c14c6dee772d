"""What a sampler is told of trials that ended at rungs."""

from __future__ import annotations

from maggy.optimizer import RandomSearch
from maggy.optimizer._sampler import Informed
from maggy.optimizer._tpe.evidence import rank
from maggy.trial import Trial, TrialError, TrialStatus

FAILURE = TrialError(type="RuntimeError", message="out of memory")


class Listener(RandomSearch):
    """Remembers what it was told last of each trial, and how often it was told anything."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[int, Trial] = {}
        self.times = 0

    def tell(self, trial: Trial) -> None:
        """Remember."""
        self.known[trial.id] = trial
        self.times += 1


def told(*runs: tuple[int, int, float | None]) -> Listener:
    """A sampler that was told of these runs: trial, rung, and loss or None for a failure."""
    listener = Listener()
    informed = Informed(listener, 2, (1, 3, 9))
    for number, rung, loss in runs:
        trial = Trial(id=number, hparams={"x": number / 10}, budget=(1, 3, 9)[rung], loss=loss)
        trial.status = TrialStatus.FAILED if loss is None else TrialStatus.COMPLETED
        trial.error = FAILURE if loss is None else None
        informed.tell(trial, rung)
    return listener


FIRST = [(number, 0, float(number)) for number in range(8)]


def test_the_curve_has_every_rung() -> None:
    """A promotion adds to the curve; the loss is that of the rung which says enough."""
    listener = told(*FIRST, (0, 1, -1.0), (0, 2, -2.0))
    trial = listener.known[0]
    assert (trial.steps, trial.losses) == ([1, 3, 9], [0.0, -1.0, -2.0])
    assert (trial.loss, trial.budget, trial.status) == (0.0, 1, TrialStatus.COMPLETED)
    assert listener.times == 10


def test_a_failed_promotion_adds_nothing() -> None:
    """What the trial had come to before still counts, and nobody is told again."""
    listener = told(*FIRST, (0, 1, None))
    trial = listener.known[0]
    assert (trial.status, trial.error, trial.steps) == (TrialStatus.COMPLETED, None, [1])
    assert listener.times == 8


def test_a_higher_rung_that_says_enough() -> None:
    """Six losses there: everybody is told again, and trials below were stopped."""
    listener = told(*FIRST, *((number, 1, -float(number)) for number in range(6)))
    assert listener.times == 8 + 6 + 7, "the sixth tells all eight instead of itself"
    assert (listener.known[2].loss, listener.known[2].steps) == (-2.0, [1, 3])
    assert listener.known[7].status is TrialStatus.STOPPED


def test_a_model_of_one_rung_does_not_look_at_the_curve() -> None:
    """TPE ranks completed trials by their loss alone: points above that rung change nothing."""
    with_curve = told(*FIRST, (3, 1, -9.0)).known[3]
    without = told(*FIRST).known[3]
    assert rank(with_curve) == rank(without)
