"""What ``auto`` chooses, and that it hands over."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from maggy.contracts import EarlierRun, SearchContext
from maggy.errors import ConfigError
from maggy.optimizer import GP, TPE, Asha, RandomSearch
from maggy.optimizer.auto import Auto, choose
from maggy.optimizer.relay import Relay
from maggy.searchspace import Categorical, Double, Integer, Searchspace
from maggy.testing.optimizers import OptimizerContract, Rehearsal

if TYPE_CHECKING:
    from maggy.contracts import Optimizer


class TestAuto(OptimizerContract):
    """``auto`` fulfils the contract, whatever it chooses for each space."""

    def make_optimizer(self) -> Auto:
        """The only one there is."""
        return Auto()


NUMERIC = Searchspace(x=Double(0.0, 1.0), y=Integer(1, 100), z=Categorical(["a", "b"]))
CONDITIONAL = Searchspace(a=Categorical([1, 2]), b=Double(0.0, 1.0, when={"a": 1}))
FINITE = Searchspace(x=Integer(1, 5), y=Integer(1, 4), fixed=Integer(3, 3))
WIDE = Searchspace(**{f"x{i}": Double(0.0, 1.0) for i in range(101)})


@pytest.mark.parametrize(
    ("space", "trials", "workers", "kind", "reason"),
    [
        (NUMERIC, 100, 4, GP, "it needs the fewest trials, and with 100 it is fast"),
        (NUMERIC, 500, 4, GP, "it needs the fewest trials"),
        (NUMERIC, 501, 4, Relay, "the Gaussian process for 100 trials, then TPE"),
        (NUMERIC, None, 4, Relay, "the second does not slow down"),
        (CONDITIONAL, 100, 4, GP, "it needs the fewest trials"),
        (WIDE, 100, 4, TPE, "101 hyperparameters are many"),
        (WIDE, 5000, 4, TPE, "101 hyperparameters are many"),
        (FINITE, 20, 4, RandomSearch, "all 20 configurations"),
        (FINITE, None, 4, RandomSearch, "all 20 configurations"),
        (FINITE, 19, 4, GP, "it needs the fewest trials"),
        (
            NUMERIC,
            3,
            1,
            RandomSearch,
            "evenly spread points (Sobol): a model learns nothing from 3",
        ),
        (NUMERIC, 8, 8, RandomSearch, "8 workers start all 8 trials at once"),
        (NUMERIC, 9, 8, GP, "it needs the fewest trials"),
    ],
)
def test_choice(
    space: Searchspace,
    trials: int | None,
    workers: int,
    kind: type[Optimizer],
    reason: str,
) -> None:
    """Each search gets what suits it, and one sentence that says why."""
    context = SearchContext(searchspace=space, num_trials=trials, num_workers=workers, seed=0)
    chosen, sentence = choose(context)
    assert type(chosen) is kind
    assert sentence.startswith("auto chose ")
    assert sentence.endswith(".")
    assert reason in sentence


def test_earlier_runs_make_a_model_worth_while() -> None:
    """With a warm start a model knows something even before the first trial ends."""
    earlier = (EarlierRun(name="old", trials=()),)
    for trials, workers in ((3, 1), (8, 8)):
        context = SearchContext(
            searchspace=NUMERIC, num_trials=trials, num_workers=workers, seed=0, earlier=earlier
        )
        assert type(choose(context)[0]) is GP


def test_it_names_what_the_choice_will_load() -> None:
    """The Gaussian process' modules are loaded while the first trials run; Sobol has none."""
    for space, modules in ((NUMERIC, GP.preload), (FINITE, ())):
        auto = Auto()
        assert auto.preload == ()
        auto.start(SearchContext(searchspace=space, num_trials=20, num_workers=2, seed=0))
        assert auto.preload == modules


def test_asha_takes_it_as_a_sampler() -> None:
    """As the refusal of a function that asks for a budget says; ASHA tells what it chose."""
    asha = Asha(3, 1, 27, sampler="auto")
    asha.start(SearchContext(searchspace=NUMERIC, num_trials=50, num_workers=2, seed=0))
    assert asha.notes[1].startswith("auto chose the Gaussian process")
    assert asha.preload == GP.preload


@pytest.mark.parametrize("trials", [2, 50])
def test_nothing_heavy_is_loaded_to_start(trials: int) -> None:
    """A search by default loads numpy and scipy when workers have been started, not before."""
    code = (
        "import sys; from maggy import OptimizationConfig, Searchspace; "
        "from maggy.contracts import SearchContext; "
        f"config = OptimizationConfig(num_trials={trials}, searchspace=Searchspace("
        "x=('DOUBLE', [0, 1]))); optimizer = config.build_optimizer(); "
        f"optimizer.start(SearchContext(searchspace=config.space, num_trials={trials}, "
        "num_workers=2, seed=0)); assert repr(optimizer) == 'Auto()'; "
        "assert not {'numpy', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_hands_over() -> None:
    """What it proposes is what the chosen optimizer proposes; it answers as fast as that."""
    auto = Auto()
    assert repr(auto) == "Auto()"
    assert (auto.choice, auto.notes, auto.suggests_inline) == ("", (), False)
    ours = Rehearsal(auto, CONDITIONAL, num_trials=50).run(10)
    assert ours == Rehearsal(GP(), CONDITIONAL, num_trials=50).run(10)
    assert auto.notes == (auto.choice,)
    assert not auto.suggests_inline
    finite = Auto()
    Rehearsal(finite, FINITE, num_trials=50).run(20)
    assert finite.suggests_inline
    assert "all 20 configurations" in finite.choice


def test_an_empty_space_is_refused() -> None:
    """The error is the same as everyone's."""
    context = SearchContext(searchspace=Searchspace(), num_trials=9, num_workers=1, seed=0)
    with pytest.raises(ConfigError, match="the search space is empty"):
        Auto().start(context)
