"""Hyperband: ASHA with a bracket for each rung."""

from __future__ import annotations

import pytest

from maggy.contracts import Optimizer, SearchContext
from maggy.errors import ConfigError
from maggy.optimizer import Asha, GridSearch, Hyperband
from maggy.optimizer.registry import resolve
from maggy.searchspace import Searchspace
from maggy.testing.optimizers import OptimizerContract, Rehearsal
from maggy.trial import Suggestion

SPACE = Searchspace(x=("DOUBLE", [0.0, 1.0]))


class TestHyperband(OptimizerContract):
    """It keeps the contract of an optimizer."""

    def make_optimizer(self) -> Optimizer:
        return Hyperband(3, 1, 9)


def test_there_is_a_bracket_for_each_rung() -> None:
    """243 / 1 with factor 3 has six, which the logarithm in floating point would call five."""
    assert Hyperband(3, 1, 243).brackets == 6
    assert Hyperband().brackets == 3
    assert Hyperband(2, 4, 4).brackets == 1


def test_trials_start_at_every_rung() -> None:
    """Ten trials with factor 2 and three rungs are dealt out as 4, 3 and 3."""
    rehearsal = Rehearsal(Hyperband(2, 1, 4), SPACE, num_trials=10)
    starts = [s.budget for s in rehearsal.run(100) if s.continues is None]
    assert [starts.count(budget) for budget in (1, 2, 4)] == [4, 3, 3]


def test_it_is_known_by_its_name_and_takes_the_options_of_asha() -> None:
    """A sampler, a mode, and the numbers by position."""
    assert isinstance(resolve("hyperband"), Hyperband)
    made = Hyperband(3, 1, 9, mode="stopping", sampler=GridSearch())
    assert isinstance(made, Asha)
    assert repr(made).startswith("Hyperband(3, 1, 9, mode='stopping', sampler=GridSearch(")
    with pytest.raises(ConfigError, match="`reduction_factor`"):
        Hyperband(1)


def test_in_stopping_mode_a_bracket_is_judged_from_its_own_rung_on() -> None:
    """Every trial has the largest budget; those of the first bracket alone meet at 1."""
    made = Hyperband(2, 1, 4, mode="stopping")
    made.start(SearchContext(searchspace=SPACE, num_trials=9, num_workers=1, seed=0))
    rehearsal = Rehearsal(made, SPACE, num_trials=9)
    answer = rehearsal.ask()
    assert isinstance(answer, Suggestion)
    assert answer.budget == 4
    stopped = {}
    for number in range(9):
        trial = rehearsal.trials[0].snapshot()
        trial.id, trial.steps, trial.losses = number, [1], [float(number)]
        assert made.rungs is not None
        stopped[number] = made.rungs.decide(trial).stop
    first = [number for number in range(9) if made._brackets.of(number) == 0]
    assert {number for number, stop in stopped.items() if stop} <= set(first[1:])
    assert any(stopped.values())
