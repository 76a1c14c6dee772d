"""The models with earlier runs: the contract, the first trials, what helps and what misleads."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from maggy.contracts import EarlierRun, SearchContext
from maggy.optimizer import GP, TPE, Asha
from maggy.optimizer.centre import centre, favourites
from maggy.searchspace import Double, Searchspace
from maggy.testing.optimizers import OptimizerContract
from maggy.trial import Exhausted, Suggestion, Trial, TrialError, TrialStatus, Wait

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from maggy.contracts import Optimizer
    from maggy.trial import Hparams

SPACE = Searchspace(x=Double(0.0, 1.0), y=Double(0.0, 1.0))
MODELS = [GP, TPE]


class Warmed:
    """An optimizer that is told of an earlier run of random trials, whatever the space."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer

    def start(self, context: SearchContext) -> None:
        """With 30 completed, a stopped and a failed trial."""
        space = context.searchspace
        rng = np.random.default_rng(context.seed)
        trials = [
            Trial(id=n, hparams=hparams, status=TrialStatus.COMPLETED, loss=mean(space, hparams))
            for n, hparams in enumerate(space.sample(rng) for _ in range(32))
        ]
        error = TrialError(type="RuntimeError", message="out of memory")
        trials[30] = replace(trials[30], status=TrialStatus.FAILED, loss=None, error=error)
        trials[31] = replace(trials[31], status=TrialStatus.STOPPED, steps=[3], losses=[0.6])
        self._optimizer.start(replace(context, earlier=[EarlierRun(name="old", trials=trials)]))

    def ask(
        self, number: int, pending: Sequence[Trial], rng: np.random.Generator
    ) -> Suggestion | Wait | Exhausted:
        """Ask it."""
        return self._optimizer.ask(number, pending, rng)

    def tell(self, trial: Trial) -> None:
        """Tell it."""
        self._optimizer.tell(trial)


class TestWarmGP(OptimizerContract):
    """With an earlier run the Gaussian process does what every optimizer does."""

    def make_optimizer(self) -> Optimizer:
        """A fresh one."""
        return Warmed(GP())


class TestWarmTPE(OptimizerContract):
    """With an earlier run TPE does what every optimizer does."""

    def make_optimizer(self) -> Optimizer:
        """A fresh one."""
        return Warmed(TPE())


def mean(space: Searchspace, hparams: Hparams) -> float:
    """The mean of the coordinates."""
    return float(np.mean(space.encode(hparams)))


def bowl(hparams: Hparams, at: float = 0.3) -> float:
    """The least, 0, where every value is ``at``."""
    return float(np.square(np.array(list(hparams.values()), dtype=float) - at).sum())


def earlier(loss: Callable[[Hparams], float], count: int = 40, seed: int = 1) -> EarlierRun:
    """Random trials."""
    rng = np.random.default_rng(seed)
    drawn = [SPACE.sample(rng) for _ in range(count)]
    trials = [
        Trial(id=n, hparams=hparams, status=TrialStatus.COMPLETED, loss=loss(hparams))
        for n, hparams in enumerate(drawn)
    ]
    return EarlierRun(name="old", trials=trials)


def searched(
    optimizer: Optimizer,
    count: int,
    runs: Sequence[EarlierRun] = (),
    seed: int = 0,
    loss: Callable[[Hparams], float] = bowl,
) -> list[Trial]:
    """So many runs of trials, one after the other."""
    optimizer.start(
        SearchContext(searchspace=SPACE, num_trials=count, num_workers=1, seed=seed, earlier=runs)
    )
    trials: list[Trial] = []
    for turn in range(count):
        number = len({trial.id for trial in trials})
        answer = optimizer.ask(number, (), np.random.default_rng([seed, turn]))
        assert isinstance(answer, Suggestion)
        trial = Trial(
            id=number if answer.continues is None else answer.continues,
            hparams=answer.hparams,
            budget=answer.budget,
            status=TrialStatus.COMPLETED,
            loss=loss(answer.hparams),
        )
        optimizer.tell(trial)
        trials.append(trial)
    return trials


def best(trials: Sequence[Trial]) -> float:
    """The least loss."""
    return min(trial.loss for trial in trials if trial.loss is not None)


@pytest.mark.parametrize("model", MODELS)
def test_the_best_of_earlier_runs_come_first(model: type[GP | TPE]) -> None:
    """One of each run, then the centre, then the model."""
    runs = [earlier(bowl), earlier(lambda h: bowl(h, 0.8), seed=2)]
    trials = searched(model(), 3, runs)
    expected = [min(run.trials, key=lambda trial: trial.loss or 0.0).hparams for run in runs]
    assert [trial.hparams for trial in trials] == [*expected, centre(SPACE)]


@pytest.mark.parametrize("model", MODELS)
def test_a_best_that_is_pending_is_not_proposed_again(model: type[GP | TPE]) -> None:
    """Two workers get two configurations."""
    optimizer = model()
    optimizer.start(
        SearchContext(
            searchspace=SPACE, num_trials=9, num_workers=2, seed=0, earlier=[earlier(bowl)]
        )
    )
    first = optimizer.ask(0, (), np.random.default_rng(0))
    assert isinstance(first, Suggestion)
    pending = [Trial(id=0, hparams=first.hparams)]
    second = optimizer.ask(1, pending, np.random.default_rng(1))
    assert isinstance(second, Suggestion)
    assert second.hparams == centre(SPACE)


def test_the_best_are_three_at_most_and_distinct() -> None:
    """Of many runs the first three count; a run in which nothing completed has none."""
    failed = EarlierRun(
        name="failed",
        trials=[Trial(id=0, hparams={"x": 0.1, "y": 0.1}, status=TrialStatus.FAILED)],
    )
    same = earlier(bowl)
    runs = [failed, same, same, *(earlier(bowl, seed=seed) for seed in range(5, 9))]
    assert len(favourites(SPACE, runs)) == 3
    assert not favourites(SPACE, [failed])


@pytest.mark.parametrize("model", MODELS)
def test_a_related_run_helps(model: type[GP | TPE]) -> None:
    """12 trials after a run with a near optimum are better than 12 from nothing, over 5 seeds."""
    shifted = [earlier(lambda h: 100 + 7 * bowl(h, 0.36), seed=seed) for seed in range(5)]
    warm = [best(searched(model(), 12, [run], seed)) for seed, run in enumerate(shifted)]
    cold = [best(searched(model(), 12, (), seed)) for seed in range(5)]
    assert np.mean(np.log(np.array(warm) + 1e-4)) < np.mean(np.log(np.array(cold) + 1e-4))


@pytest.mark.parametrize("model", MODELS)
def test_a_misleading_run_is_forgotten(model: type[GP | TPE]) -> None:
    """With the losses reversed, 20 trials still find the optimum."""
    reversed_run = earlier(lambda h: -bowl(h))
    assert best(searched(model(), 20, [reversed_run])) < 0.02


@pytest.mark.parametrize("model", MODELS)
def test_the_units_of_the_earlier_losses_do_not_matter(model: type[GP | TPE]) -> None:
    """Losses of two data sets are not comparable, so they are not compared."""
    plain = searched(model(), 12, [earlier(bowl)])
    scaled = searched(model(), 12, [earlier(lambda h: 1024 * bowl(h))])
    for one, other in zip(plain, scaled, strict=True):
        assert list(one.hparams.values()) == pytest.approx(list(other.hparams.values()), abs=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_a_run_that_says_nothing_changes_nothing_but_the_first_trial(
    model: type[GP | TPE],
) -> None:
    """A run of one trial is tried, and no model comes of it."""
    trials = searched(model(), 8, [earlier(bowl, count=1)])
    assert trials[1].hparams == centre(SPACE)
    assert len({SPACE.key(trial.hparams) for trial in trials}) == 8


@pytest.mark.parametrize("model", MODELS)
def test_asha_hands_earlier_runs_to_its_sampler(model: type[GP | TPE]) -> None:
    """The first configuration is the best of the earlier run."""
    run = earlier(bowl)
    (first,) = searched(Asha(2, 1, 4, sampler=model()), 1, [run])
    assert first.hparams == min(run.trials, key=lambda trial: trial.loss or 0.0).hparams
    assert first.budget == 1


def test_the_gaussian_process_with_rungs_uses_them_too() -> None:
    """Under ASHA, trials that trained a little and ran close to the earlier optimum follow it."""
    trials = searched(Asha(2, 1, 4, sampler=GP()), 24, [earlier(bowl)])
    fresh = {SPACE.key(trial.hparams): trial for trial in trials}
    near = [trial for trial in fresh.values() if bowl(trial.hparams) < 0.02]
    assert len(near) >= 4
