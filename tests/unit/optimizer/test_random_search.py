"""Random search, uniform and along a Sobol sequence."""

from __future__ import annotations

import random
import time
from typing import Any, Literal

import numpy as np
import pytest

from maggy.contracts import SearchContext
from maggy.errors import ConfigError, SearchspaceError
from maggy.optimizer import RandomSearch
from maggy.searchspace import Categorical, Discrete, Double, Integer, Searchspace
from maggy.testing.optimizers import OptimizerContract, Rehearsal, example_spaces
from maggy.trial import Exhausted, Suggestion, Trial

Sampling = Literal["uniform", "sobol"]
BOTH = pytest.mark.parametrize("sampling", ["uniform", "sobol"])


class TestUniform(OptimizerContract):
    """Uniform random search fulfils the contract."""

    def make_optimizer(self) -> RandomSearch:
        """The default."""
        return RandomSearch()


class TestSobol(OptimizerContract):
    """Random search along a Sobol sequence fulfils the contract."""

    def make_optimizer(self) -> RandomSearch:
        """Scrambled Sobol."""
        return RandomSearch(sampling="sobol")


def started(space: Searchspace, sampling: Sampling = "uniform", seed: int = 0) -> RandomSearch:
    """A search that is ready."""
    optimizer = RandomSearch(sampling)
    optimizer.start(SearchContext(searchspace=space, num_trials=9, num_workers=1, seed=seed))
    return optimizer


def test_wrong_sampling() -> None:
    """An unknown sampling is refused, the nearest offered."""
    wrong: Any = "sobel"
    with pytest.raises(ConfigError, match="Did you mean 'sobol'"):
        RandomSearch(wrong)
    assert repr(RandomSearch("sobol")) == "RandomSearch(sampling='sobol')"


@BOTH
@pytest.mark.parametrize("name", ["both", "categorical"])
def test_trials_do_not_depend_on_the_order_of_arrival(name: str, sampling: Sampling) -> None:
    """Trial n is the same whatever ended before, in whatever order."""
    space = example_spaces()[name]
    reference = Rehearsal(RandomSearch(sampling), space, seed=5).run(60)
    for order in range(3):
        shuffle = random.Random(order)
        search = Rehearsal(RandomSearch(sampling), space, seed=5)
        while len(search.suggestions) < 60:
            search.ask()
            while len(search.pending) > shuffle.randrange(12):
                search.complete(shuffle.choice(search.pending), shuffle.random())
        assert search.suggestions == reference


@BOTH
@pytest.mark.parametrize("constraints", [[], ["a < b"], ["a == b and a > 5"]])
def test_small_spaces_are_searched_to_the_end(sampling: Sampling, constraints: list[str]) -> None:
    """Every feasible configuration is proposed once, then a sentence says how many there were."""
    space = Searchspace(a=Integer(2, 8), b=Integer(2, 8)).with_constraints(constraints)
    feasible = {space.key(hparams) for hparams in space.configurations()}
    search = Rehearsal(RandomSearch(sampling), space)
    search.run(1000, at_once=3)
    assert {space.key(trial.hparams) for trial in search.trials.values()} == feasible
    answer = search.ask()
    which = " that the constraints allow" if constraints else ""
    assert answer == Exhausted(
        f"The search space is exhausted: all {len(feasible)} configurations{which} were tried."
    )


def test_nearly_exhausted_space() -> None:
    """The last untried one among 20,000 configurations is found."""
    space = Searchspace(a=Integer(1, 20_000))
    optimizer = started(space)
    for number in range(1, 20_000):
        optimizer.tell(Trial(id=number, hparams={"a": number}))
    answer = optimizer.ask(19_999, [], np.random.default_rng(0))
    assert answer == Suggestion(hparams={"a": 20_000})
    pending = [Trial(id=0, hparams={"a": 20_000})]
    assert isinstance(optimizer.ask(20_000, pending, np.random.default_rng(0)), Exhausted)
    assert optimizer.ask(20_000, [], np.random.default_rng(1)) == answer


def test_what_is_left_is_drawn_uniformly() -> None:
    """Near the end, each of the configurations left is equally probable."""
    optimizer = started(Searchspace(a=Integer(1, 5000)))
    for number in range(4, 5001):
        optimizer.tell(Trial(id=number, hparams={"a": number}))
    drawn = [optimizer.ask(0, [], np.random.default_rng(n)) for n in range(300)]
    counts = [drawn.count(Suggestion(hparams={"a": value})) for value in (1, 2, 3)]
    assert sum(counts) == 300
    assert min(counts) > 70


def test_large_spaces_end_after_bounded_draws() -> None:
    """A space too large to list ends with a sentence once draws find nothing untried."""
    space = Searchspace(a=Integer(1, 200_000), b=Categorical(["x", "y"])).with_constraints(
        [lambda hparams: hparams["a"] <= 100_000 and hparams["b"] == "x"]
    )
    optimizer = started(space)
    optimizer._tried._ended.update(space.key({"a": a, "b": "x"}) for a in range(1, 100_001))
    answer = optimizer.ask(100_000, [], np.random.default_rng(0))
    assert isinstance(answer, Exhausted)
    assert answer.reason.startswith("The search space is nearly exhausted: 10,000 draws")


@BOTH
def test_impossible_constraints(sampling: Sampling) -> None:
    """Constraints that leave nothing are an error with numbers, in finite spaces too."""
    for kind in (Double(0, 1), Integer(0, 1)):
        space = Searchspace(a=kind).with_constraints(["a > 2"])
        with pytest.raises(SearchspaceError, match="none of 10,000"):
            started(space, sampling).ask(0, [], np.random.default_rng(0))


def test_constraint_that_raises() -> None:
    """A constraint's own error comes out with the constraint's name."""
    space = Searchspace(a=Integer(0, 3)).with_constraints(["1 / a > 0"])
    search = Rehearsal(RandomSearch(), space)
    with pytest.raises(SearchspaceError, match="raised ZeroDivisionError"):
        search.run(20)


def test_draws_are_uniform() -> None:
    """Each choice and both ends of a range have their share, on the logarithm with log."""
    space = Searchspace(
        a=Integer(1, 4), b=Double(1e-4, 1, log=True), c=Discrete([1, 100]), d=Double(0, 1)
    )
    trials = Rehearsal(RandomSearch(), space).run(2000)
    a = [suggestion.hparams["a"] for suggestion in trials]
    assert all(440 < a.count(value) < 560 for value in (1, 2, 3, 4))
    below = sum(float(str(suggestion.hparams["b"])) < 1e-2 for suggestion in trials)
    assert 920 < below < 1080


def test_sobol_is_spread() -> None:
    """Each quarter of each axis has its exact share of the first 64 points."""
    space = Searchspace(x=Double(0, 1), y=Double(0, 1), k=Integer(1, 4))
    trials = Rehearsal(RandomSearch("sobol"), space, seed=3).run(64)
    for name in space:
        quarters = [int(space.encode(s.hparams)[list(space).index(name)] * 4) for s in trials]
        assert [quarters.count(quarter) for quarter in range(4)] == [16, 16, 16, 16]


def test_sobol_seeds() -> None:
    """Another seed scrambles otherwise."""
    space = Searchspace(x=Double(0, 1), y=Double(0, 1))
    first, second = (Rehearsal(RandomSearch("sobol"), space, seed=s).run(8) for s in (1, 2))
    assert first != second


@BOTH
def test_asking_is_cheap(sampling: Sampling) -> None:
    """With 10,000 trials behind and 8 pending, asking takes well under a millisecond."""
    space = Searchspace(
        a=Double(0, 1),
        b=Double(1e-5, 1e-1, log=True),
        c=Integer(1, 100),
        d=Categorical(["x", "y"]),
        e=Discrete([1, 2, 3]),
    )
    optimizer = started(space, sampling)
    rng = np.random.default_rng(0)
    for number in range(10_000):
        optimizer.tell(Trial(id=number, hparams=space.sample(rng)))
    pending = [Trial(id=10_000 + number, hparams=space.sample(rng)) for number in range(8)]
    optimizer.ask(10_008, pending, rng)
    times = []
    for _ in range(300):
        start = time.perf_counter()
        optimizer.ask(10_008, pending, rng)
        times.append(time.perf_counter() - start)
    assert sorted(times)[len(times) // 2] < 250e-6  # 10 us on an idle core
