"""TPE: the contract, what its suggestions depend on, and that it finds what is good."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from maggy import OptimizationConfig, experiment
from maggy.contracts import SearchContext
from maggy.errors import ConfigError, SearchspaceError
from maggy.optimizer import TPE, RandomSearch
from maggy.optimizer._tpe.candidates import candidates, scores
from maggy.optimizer._tpe.encoding import Encoding
from maggy.optimizer._tpe.mixture import Mixture
from maggy.optimizer.registry import resolve
from maggy.searchspace import Categorical, Discrete, Double, Integer, Searchspace
from maggy.testing.optimizers import OptimizerContract, Rehearsal, example_spaces
from maggy.trial import Suggestion, Trial, TrialStatus

if TYPE_CHECKING:
    from maggy.contracts import Optimizer


class TestTpe(OptimizerContract):
    """TPE fulfils the contract."""

    def make_optimizer(self) -> TPE:
        """As it comes."""
        return TPE()


SQUARE = Searchspace(x=Double(0.0, 1.0), y=Double(0.0, 1.0))


def asked(optimizer: Optimizer, number: int, pending: list[Trial] | None = None) -> Suggestion:
    """The suggestion of this number."""
    answer = optimizer.ask(number, pending or [], np.random.default_rng([3, number]))
    assert isinstance(answer, Suggestion)
    return answer


def bowl(rehearsal: Rehearsal, trial: Trial) -> None:
    """A loss with its minimum at 0.3 in every coordinate."""
    point = np.array(rehearsal.space.encode(trial.hparams))
    rehearsal.complete(trial, float(((point - 0.3) ** 2).sum()))


def at(trial: Trial) -> float:
    """Its value of ``x``, or 2.0."""
    value = trial.hparams.get("x", 2.0)
    assert isinstance(value, float)
    return value


def test_names() -> None:
    """It is found by its name, and an empty space is refused."""
    assert repr(resolve("TPE")) == "TPE()"
    context = SearchContext(searchspace=Searchspace(), num_trials=9, num_workers=1, seed=0)
    with pytest.raises(ConfigError, match="the search space is empty"):
        TPE().start(context)


def test_it_starts_in_the_middle_and_goes_on_along_sobol() -> None:
    """The defaults and centres come first, then the Sobol sequence of random search."""
    space = Searchspace(
        x=Double(0.0, 1.0),
        y=Double(1e-5, 1e-1, log=True, default=1e-3),
        z=Categorical(["a", "b"], default="a"),
    )
    search = Rehearsal(TPE(), space, num_trials=100, seed=4)
    first, *others = search.run(5)
    assert first.hparams == {"x": 0.5, "y": 1e-3, "z": "a"}
    sobol = Rehearsal(RandomSearch("sobol"), space, seed=4).run(4)
    assert others == sobol


def test_a_centre_that_is_forbidden_is_left_out() -> None:
    """Constraints hold for the first trial too."""
    space = SQUARE.with_constraints(["x < 0.4"])
    assert Rehearsal(TPE(), space).run(1)[0].hparams["x"] != 0.5


@pytest.mark.parametrize("end", ["fail", "silent"])
def test_without_a_loss_it_stays_with_the_design(end: str) -> None:
    """As long as trials only fail, or stop before a report, the Sobol sequence goes on."""

    def finish(search: Rehearsal, trial: Trial) -> None:
        if end == "fail":
            search.fail(trial)
        else:
            search.stop(trial, [])

    suggestions = Rehearsal(TPE(), SQUARE, seed=2).run(20, finish)
    assert suggestions[1:] == Rehearsal(RandomSearch("sobol"), SQUARE, seed=2).run(19)


def test_one_observation_is_enough_to_go_on() -> None:
    """With one loss, and with two, there are suggestions."""
    search = Rehearsal(TPE(), SQUARE, num_trials=1)
    for trial in (search.ask(), search.ask(), search.ask()):
        assert isinstance(trial, Suggestion)
        bowl(search, search.pending[0])


@pytest.mark.parametrize("name", ["double", "both", "categorical"])
def test_order_of_arrival_does_not_matter(name: str) -> None:
    """Trials told in any order lead to the same next suggestion."""
    space = example_spaces()[name]
    search = Rehearsal(TPE(), space)
    search.run(16, at_once=3)
    for order in range(3):
        fresh = TPE()
        fresh.start(SearchContext(searchspace=space, num_trials=30, num_workers=4, seed=0))
        for trial in random.Random(order).sample(search.told, len(search.told)):
            fresh.tell(trial)
        assert asked(fresh, 16) == asked(search.optimizer, 16)


def test_the_number_and_the_generator_matter() -> None:
    """Another number gives another suggestion, the same one the same."""
    search = Rehearsal(TPE(), SQUARE)
    search.run(12, bowl)
    assert asked(search.optimizer, 12) == asked(search.optimizer, 12)
    assert asked(search.optimizer, 12) != asked(search.optimizer, 13)


def test_pending_copies_lower_the_score() -> None:
    """Twenty running trials at the best point make it less attractive, and are kept away from."""
    encoding = Encoding(SQUARE)
    rng = np.random.default_rng(0)
    rest, best = rng.random((40, 2)), np.array([[0.3, 0.3]])
    good = Mixture(encoding, best + rng.normal(0, 0.02, (8, 2)), np.ones(8), 0.03)
    alone = Mixture(encoding, rest, np.ones(40), 0.03)
    crowded = Mixture(encoding, np.vstack([rest, np.repeat(best, 20, axis=0)]), np.ones(60), 0.03)
    assert scores(good, crowded, best) < scores(good, alone, best) - 1


def test_candidates_are_ordered_by_score() -> None:
    """The most promising candidate comes first, and the good region wins."""
    encoding = Encoding(SQUARE)
    rng = np.random.default_rng(1)
    good = Mixture(encoding, rng.normal(0.3, 0.05, (10, 2)), np.ones(10), 0.03)
    rest = Mixture(encoding, rng.random((50, 2)), np.ones(50), 0.03)
    rows = candidates(encoding, good, rest, rng)
    points = scores(good, rest, rows)
    assert np.all(np.diff(points) <= 0)
    assert rows[0] == pytest.approx([0.3, 0.3], abs=0.2)


def test_a_failing_region_is_left() -> None:
    """Where trials fail, few are proposed although what is near is best."""

    def finish(search: Rehearsal, trial: Trial) -> None:
        if at(trial) < 0.5:
            search.fail(trial)
        else:
            search.complete(trial, at(trial))

    search = Rehearsal(TPE(), SQUARE, num_trials=60, seed=1)
    search.run(60, finish)
    failures = sum(at(trial) < 0.5 for trial in list(search.trials.values())[-20:])
    assert failures < 10


SPACES = {
    "double": SQUARE,
    "six": Searchspace(**{f"x{i}": Double(-1.0, 1.0) for i in range(6)}),
    "mixed": Searchspace(
        a=Double(1e-4, 1.0, log=True),
        b=Integer(1, 100, log=True),
        c=Discrete([1, 2, 4, 8, 16, 32]),
        d=Categorical(["a", "b", "c", "d"]),
        e=Integer(0, 30),
    ),
}


@pytest.mark.parametrize("name", list(SPACES))
def test_it_beats_random_search(name: str) -> None:
    """On a bowl, the best of 60 trials is on average well below random search's in 10 runs."""
    best: dict[type[Optimizer], float] = {}
    for kind in (TPE, RandomSearch):
        for seed in range(10):
            search = Rehearsal(kind(), SPACES[name], num_trials=60, seed=seed)
            search.run(60, bowl)
            lowest = min(trial.loss for trial in search.told if trial.loss is not None)
            best[kind] = best.get(kind, 0.0) + lowest
    assert best[TPE] < 0.75 * best[RandomSearch]


def test_conditional_branches_compete() -> None:
    """Of two branches with hyperparameters of their own, the better one gets most trials."""
    space = Searchspace(
        kind=Categorical(["good", "bad"]),
        x=Double(0.0, 1.0, when={"kind": "good"}),
        y=Double(0.0, 1.0, when={"kind": "bad"}),
    )

    def finish(search: Rehearsal, trial: Trial) -> None:
        search.complete(trial, abs(at(trial) - 0.8))

    search = Rehearsal(TPE(), space, num_trials=60)
    search.run(60, finish)
    late = [trial for trial in search.trials.values() if trial.id >= 30]
    assert sum(trial.hparams["kind"] == "good" for trial in late) > 20
    assert min(trial.loss for trial in search.told if trial.loss is not None) < 0.02


def test_maximising_mirrors_minimising() -> None:
    """Through ask and tell, the maximum of f and the minimum of -f are sought by equal trials."""
    found = {}
    for direction, sign in (("max", 1.0), ("min", -1.0)):
        config = OptimizationConfig(
            num_trials=25, optimizer="tpe", searchspace=SQUARE, direction=direction, seed=5
        )
        search = experiment.ask_tell(config)
        asked_for = []
        while (trial := search.ask()) is not None:
            asked_for.append(trial.hparams)
            search.tell(trial, sign * sum(map(float, trial.hparams.values())))  # type: ignore[arg-type]
        found[direction] = asked_for
    assert found["max"] == found["min"]
    assert len(found["max"]) == 25


def test_impossible_constraints_are_an_error() -> None:
    """A space without a feasible configuration is said to be one."""
    space = SQUARE.with_constraints(["x > 2"])
    with pytest.raises(SearchspaceError, match="too little of the search space"):
        Rehearsal(TPE(), space).ask()


def test_cost_does_not_grow() -> None:
    """With 8,000 trials a suggestion costs little more than with 2,000."""
    space = Searchspace(**{f"x{i}": Double(0.0, 1.0) for i in range(5)})
    optimizer = TPE()
    optimizer.start(SearchContext(searchspace=space, num_trials=9000, num_workers=1, seed=0))
    rng, taken = np.random.default_rng(0), {}
    for count in range(8001):
        if count in {2000, 8000}:
            asked(optimizer, count)
            taken[count] = min(_seconds(optimizer, count + i) for i in range(9))
        trial = Trial(id=count, hparams=space.sample(rng))
        trial.status, trial.loss = TrialStatus.COMPLETED, float(rng.random())
        optimizer.tell(trial)
    assert taken[8000] < 2 * taken[2000] + 0.002


def _seconds(optimizer: Optimizer, number: int) -> float:
    began = time.process_time()
    asked(optimizer, number)
    return time.process_time() - began
