"""The contract tests themselves: they catch optimizers that break the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from maggy.optimizer import RandomSearch
from maggy.searchspace import Double, Integer, Searchspace
from maggy.testing.optimizers import OptimizerContract, Rehearsal, example_spaces
from maggy.trial import Exhausted, Suggestion, Trial, TrialStatus, Wait

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maggy.contracts import Optimizer, SearchContext


class Scripted:
    """An optimizer that answers with what a function gives."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def start(self, context: SearchContext) -> None:
        """Keep the space."""
        self.space = context.searchspace
        self.told = 0

    def ask(
        self, number: int, pending: Sequence[Trial], rng: np.random.Generator
    ) -> Suggestion | Wait | Exhausted:
        """Whatever the function says."""
        answer: Suggestion | Wait | Exhausted = self.answer(self, number, rng)
        return answer

    def tell(self, trial: Trial) -> None:
        """Count."""
        self.told += 1


def broken(answer: Any) -> OptimizerContract:
    """The contract over a scripted optimizer."""

    class Contract(OptimizerContract):
        """Made for one test."""

        def make_optimizer(self) -> Optimizer:
            """A fresh one."""
            return Scripted(answer)

    return Contract()


def sample(optimizer: Scripted, _number: int, rng: np.random.Generator) -> Suggestion:
    """A uniform draw."""
    return Suggestion(hparams=optimizer.space.sample(rng))


def test_outsiders_are_caught() -> None:
    """A value outside, a wrong type, or a hyperparameter that is not active fails."""
    contract = broken(lambda *_: Suggestion(hparams={"x": 99.0}))
    with pytest.raises(AssertionError, match="is no value of"):
        contract.test_suggestions_are_members_of_the_space("double")
    contract = broken(lambda *_: Suggestion(hparams={"x": float("nan")}))
    with pytest.raises(AssertionError, match="nan is no value of"):
        contract.test_suggestions_are_members_of_the_space("double")
    contract = broken(lambda *_: Suggestion(hparams={"x": np.float64(0.5)}))
    with pytest.raises(AssertionError, match="is no value of"):
        contract.test_suggestions_are_members_of_the_space("double")


def test_duplicates_are_caught() -> None:
    """Plain sampling repeats configurations of a finite space, which fails."""
    with pytest.raises(AssertionError, match="was suggested twice"):
        broken(sample).test_a_finite_space_is_searched_to_its_end()


def test_waiting_for_nothing_is_caught() -> None:
    """An optimizer that waits although nothing is pending would hang; it fails."""
    with pytest.raises(AssertionError, match="waits although nothing is pending"):
        broken(lambda *_: Wait()).test_equal_losses(0.0)


def test_giving_up_is_caught() -> None:
    """An optimizer that proposes nothing, or ends a finite space early, fails."""
    with pytest.raises(AssertionError, match="nothing was suggested"):
        broken(lambda *_: Exhausted("No.")).test_equal_losses(0.0)

    def early(optimizer: Scripted, number: int, rng: np.random.Generator) -> object:
        return sample(optimizer, number, rng) if number < 3 else Exhausted("Enough.")

    with pytest.raises(AssertionError):
        broken(early).test_a_finite_space_is_searched_to_its_end()


def test_own_randomness_is_caught() -> None:
    """Draws from another generator than the given one fail."""
    own = np.random.default_rng(0)
    contract = broken(lambda optimizer, number, rng: sample(optimizer, number, own))
    with pytest.raises(AssertionError):
        contract.test_same_seed_same_trials()


def test_hidden_state_is_caught() -> None:
    """What depends on more than the tells does not survive the replay test."""

    class Contract(OptimizerContract):
        """Counts its questions."""

        def make_optimizer(self) -> Optimizer:
            """A fresh one."""
            asked = iter(range(10_000))

            def answer(optimizer: Scripted, number: int, rng: np.random.Generator) -> Suggestion:
                own = np.random.default_rng([next(asked), 7])
                return Suggestion(hparams=optimizer.space.sample(own))

            return Scripted(answer)

    Contract().test_same_seed_same_trials()
    with pytest.raises(AssertionError):
        Contract().test_replay_restores_the_optimizer()


def test_states_must_be_json() -> None:
    """A state that JSON cannot hold fails."""
    contract = broken(lambda *_: Suggestion(hparams={"x": 3}, state={"a": float("inf")}))
    with pytest.raises(ValueError, match="JSON"):
        contract.test_a_constant_space_has_one_trial()


def test_rehearsal_ends_trials() -> None:
    """A rehearsal leaves trials as the core would, and tells each end once."""
    scripted = Scripted(sample)
    search = Rehearsal(scripted, Searchspace(x=Double(0, 1)))
    for _ in range(3):
        search.ask()
    done, stopped, failed = search.pending
    search.complete(done, 0.5)
    search.stop(stopped, [3.0, 2.0])
    search.fail(failed)
    assert (done.status, done.loss, done.steps, done.losses) == (
        TrialStatus.COMPLETED,
        0.5,
        [1],
        [0.5],
    )
    assert (stopped.status, stopped.loss, stopped.steps) == (TrialStatus.STOPPED, 2.0, [1, 2])
    assert failed.status is TrialStatus.FAILED
    assert failed.error is not None
    assert scripted.told == len(search.told) == 3
    assert not search.pending


def test_rehearsal_of_promotions() -> None:
    """A suggestion that continues a trial reopens it under its id."""

    def answer(optimizer: Scripted, number: int, rng: np.random.Generator) -> Suggestion:
        if number == 0:
            return Suggestion(hparams={"x": 3}, budget=1)
        return Suggestion(hparams={"x": 3}, budget=2, continues=0)

    search = Rehearsal(Scripted(answer), Searchspace(x=Integer(3, 4)))
    search.run(2)
    assert list(search.trials) == [0]
    assert (search.trials[0].budget, search.trials[0].attempt) == (2, 1)
    search.ask()
    with pytest.raises(AssertionError, match="continued while it runs"):
        search.ask()


def test_waiting_is_allowed() -> None:
    """An optimizer may wait for results; the rehearsal then ends a trial."""

    def answer(optimizer: Scripted, number: int, rng: np.random.Generator) -> object:
        return Wait() if number > optimizer.told else sample(optimizer, number, rng)

    search = Rehearsal(Scripted(answer), Searchspace(x=Double(0, 1)))
    assert len(search.run(5, at_once=3)) == 5


def test_the_contract_needs_an_optimizer() -> None:
    """A subclass without ``make_optimizer`` is told so by its first test."""
    with pytest.raises(NotImplementedError):
        OptimizerContract().make_optimizer()


def test_example_spaces() -> None:
    """The spaces of the contract can be searched."""
    rng = np.random.default_rng(0)
    for space in example_spaces().values():
        assert space.allows(space.sample(rng))
        assert space.feasible_fraction(rng) > 0.01
        Rehearsal(RandomSearch(), space).run(2)
