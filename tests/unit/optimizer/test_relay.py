"""Two optimizers, one after the other."""

from __future__ import annotations

import numpy as np
import pytest

from maggy.contracts import SearchContext
from maggy.optimizer import TPE, RandomSearch
from maggy.optimizer.relay import Relay
from maggy.searchspace import Double, Searchspace
from maggy.testing.optimizers import OptimizerContract, Rehearsal
from maggy.trial import Suggestion, Trial, TrialStatus

SPACE = Searchspace(x=Double(0.0, 1.0))


class TestRelay(OptimizerContract):
    """A relay fulfils the contract, before and after it hands over."""

    def make_optimizer(self) -> Relay:
        """Cheap at first, then one that learns."""
        return Relay(RandomSearch(), TPE(), after=6)


class Witness(RandomSearch):
    """Random search that remembers what it was asked and told."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []
        self.told: list[tuple[int, float | None]] = []
        self.notes = ("first come",)
        self.preload = ("json",)

    def ask(self, number: int, pending: object, rng: np.random.Generator) -> Suggestion:
        self.asked.append(number)
        return Suggestion(hparams={"x": float(rng.random())})

    def tell(self, trial: Trial) -> None:
        self.told.append((trial.id, trial.loss))


def ended(number: int, loss: float) -> Trial:
    trial = Trial(id=number, hparams={"x": 0.5})
    trial.status, trial.loss = TrialStatus.COMPLETED, loss
    return trial


def test_the_second_is_told_everything() -> None:
    """In the order of their numbers, a trial that was told twice as it was last."""
    first, second = Witness(), Witness()
    relay = Relay(first, second, after=3)
    relay.start(SearchContext(searchspace=SPACE, num_trials=9, num_workers=1, seed=0))
    assert (relay.notes, relay.preload) == (("first come",), ("json",))
    rng = np.random.default_rng(0)
    for number in (0, 1, 2):
        relay.ask(number, (), rng)
    for trial in (ended(1, 5.0), ended(0, 4.0), ended(1, 3.0)):
        relay.tell(trial)
    assert second.told == []
    relay.ask(3, (), rng)
    assert second.told == [(0, 4.0), (1, 3.0)]
    relay.tell(ended(2, 2.0))
    relay.ask(4, (), rng)
    assert (first.asked, second.asked) == ([0, 1, 2], [3, 4])
    assert second.told[-1] == (2, 2.0)
    assert len(first.told) == 3


def test_a_late_question_goes_to_the_second() -> None:
    """Whoever was handed over to keeps the search, so that nobody misses a result."""
    first, second = Witness(), Witness()
    relay = Relay(first, second, after=1)
    relay.start(SearchContext(searchspace=SPACE, num_trials=9, num_workers=1, seed=0))
    for number in (1, 0):
        relay.ask(number, (), np.random.default_rng(0))
    assert (first.asked, second.asked) == ([], [1, 0])


@pytest.mark.parametrize("after", [0, 4, 100])
def test_nothing_is_tried_twice(after: int) -> None:
    """Across the handover, too, a finite space is searched to its last configuration."""
    space = Searchspace(a=("INTEGER", [1, 4]), b=("INTEGER", [1, 3]))
    relay = Relay(RandomSearch(), TPE(), after=after)
    tried = Rehearsal(relay, space, num_trials=12).run(12)
    assert len({tuple(suggestion.hparams.items()) for suggestion in tried}) == 12
