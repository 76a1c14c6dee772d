"""Grid search."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

from maggy.contracts import SearchContext
from maggy.errors import ConfigError
from maggy.optimizer import GridSearch
from maggy.optimizer.grid_search import spread
from maggy.searchspace import Categorical, Discrete, Double, Integer, Searchspace
from maggy.testing.optimizers import OptimizerContract, Rehearsal
from maggy.trial import Exhausted, Suggestion, Trial, Value


class TestGrid(OptimizerContract):
    """Grid search fulfils the contract."""

    def make_optimizer(self) -> GridSearch:
        """The default."""
        return GridSearch()


class TestFineGrid(OptimizerContract):
    """Grid search with a resolution fulfils the contract."""

    def make_optimizer(self) -> GridSearch:
        """Six levels per range."""
        return GridSearch(6)


def documented() -> Searchspace:
    """The documentation's example."""
    return Searchspace(
        kernel=("INTEGER", [2, 8]), pool=("INTEGER", [2, 8]), dropout=("DOUBLE", [0.01, 0.99])
    )


def visits(
    space: Searchspace,
    num_trials: int | None,
    resolution: Any = None,
    limit: int = 1000,
) -> list[tuple[Value, ...]]:
    """The values of the trials of a whole search."""
    search = Rehearsal(GridSearch(resolution), space, num_trials=num_trials)
    suggestions = search.run(limit if num_trials is None else num_trials)
    return [tuple(suggestion.hparams.values()) for suggestion in suggestions]


def test_documented_example() -> None:
    """Four trials of the documented space are a half-fraction of 2 x 2 x 2, in this order."""
    assert visits(documented(), 4) == [(2, 2, 0.01), (8, 8, 0.01), (8, 2, 0.99), (2, 8, 0.99)]


@pytest.mark.parametrize("num_trials", [4, 9, 10, 12, 20, 27])
def test_prefixes_are_balanced(num_trials: int) -> None:
    """However many trials, the levels of a hyperparameter are used about equally often."""
    points = visits(documented(), num_trials)
    for column in zip(*points, strict=True):
        counts = Counter(column).values()
        assert max(counts) - min(counts) <= 2


def test_half_fraction_has_all_pairs() -> None:
    """A filled class with equal sizes holds every pair of levels of two dimensions equally."""
    for levels, dimensions in [(2, 3), (3, 3), (3, 4), (5, 3), (4, 2)]:
        members = list(itertools.islice(spread([levels] * dimensions), levels ** (dimensions - 1)))
        for a, b in itertools.combinations(range(dimensions), 2):
            pairs = Counter((point[a], point[b]) for point in members)
            if dimensions > 2:
                assert set(pairs.values()) == {levels ** (dimensions - 3)}


@pytest.mark.parametrize(
    "sizes", [[], [1], [5], [2, 3, 4], [4, 3, 2], [3, 1, 3], [7, 2, 7, 2], [1, 1], [2, 9]]
)
def test_spread_is_complete(sizes: list[int]) -> None:
    """Every index tuple comes exactly once."""
    points = list(spread(sizes))
    assert len(points) == math.prod(sizes)
    assert set(points) == set(itertools.product(*map(range, sizes)))


def test_spread_is_lazy() -> None:
    """Astronomical grids start at once."""
    first = list(itertools.islice(spread([1000] * 40), 3))
    assert len(set(first)) == 3
    space = Searchspace(**{name: Double(0, 1) for name in "abc"})
    assert len(set(visits(space, None, 1000, limit=50))) == 50


def test_the_whole_grid() -> None:
    """Without a number of trials, everything is run, whatever the kinds."""
    space = Searchspace(
        a=Discrete([1, 2, 4]), b=Categorical(["x", None]), c=Integer(1, 4), d=Double(0, 1)
    )
    wanted = itertools.product((1, 2, 4), ("x", None), (1, 2, 3, 4), (0.0, 0.25, 0.5, 0.75, 1.0))
    assert set(visits(space, None)) == set(wanted)


def test_end_of_the_grid() -> None:
    """A grid smaller than the trials ends with a sentence and its size."""
    search = Rehearsal(GridSearch(), Searchspace(a=Integer(2, 3)), num_trials=50)
    search.run(50)
    assert len(search.trials) == 2
    assert search.ask() == Exhausted("The grid is complete: all 2 points were tried.")


@pytest.mark.parametrize(
    ("resolution", "wanted"),
    [
        (2, 2 * 2 * 2),
        (3, 3 * 3 * 3),
        (100, None),
        ({"kernel": [2, 4, 8]}, 3 * 5 * 5),
        ({"kernel": np.int64(7), "pool": 1, "dropout": (0.1,)}, 7),
    ],
)
def test_resolution(resolution: Any, wanted: int | None) -> None:
    """A resolution settles levels: numbers are capped at what there is, lists are taken."""
    points = visits(documented(), None, resolution, limit=200)
    assert len(points) == (wanted or 200)
    assert len(set(points)) == len(points)


def test_partial_resolution() -> None:
    """The ranges without resolution grow with the number of trials."""
    optimizer = GridSearch({"dropout": 5})
    Rehearsal(optimizer, documented(), num_trials=30)
    assert optimizer.notes == ("Grid of kernel 3 x pool 2 x dropout 5 = 30 points, running 30.",)


def test_subset_of_a_list() -> None:
    """The resolution of a list is the part of it to run."""
    space = Searchspace(a=Categorical(["x", "y", "z"]), b=Discrete([1, 2, 3]))
    assert set(visits(space, None, {"a": ["z", "x"]})) == set(
        itertools.product(("z", "x"), (1, 2, 3))
    )


@pytest.mark.parametrize(
    ("resolution", "message"),
    [
        (0, "at least 1"),
        (True, "number of levels"),
        (2.5, "number of levels"),
        ("5", "number of levels"),
        ({"kernel": 0}, r"resolution\['kernel'\]"),
        ({"kernel": "5"}, "number of levels"),
        ({"kernal": 5}, "Did you mean 'kernel'"),
        ({"kernel": [2, 9]}, "9 is no value of Integer"),
        ({"kernel": [2, 2]}, "distinct values"),
        ({"kernel": []}, "at least one"),
        ({"act": 2}, "Give a list of some of them"),
    ],
)
def test_wrong_resolution(resolution: Any, message: str) -> None:
    """A resolution that does not fit is refused before anything runs, with its name."""
    space = documented()
    space.add("act", Categorical(["relu", "tanh"]))
    with pytest.raises(ConfigError, match=message):
        Rehearsal(GridSearch(resolution), space)


def test_notes() -> None:
    """After the start, a sentence says how large the grid is and how much of it will run."""
    optimizer = GridSearch()
    Rehearsal(optimizer, documented(), num_trials=4)
    assert optimizer.notes == ("Grid of kernel 2 x pool 2 x dropout 2 = 8 points, running 4.",)
    space = documented().with_constraints(["kernel < pool"])
    Rehearsal(optimizer, space, num_trials=None)
    assert "= 125 points before constraints, running 125" in optimizer.notes[0]
    assert repr(GridSearch(3)) == "GridSearch(resolution=3)"
    assert repr(GridSearch()) == "GridSearch()"


def test_conditions_take_turns() -> None:
    """Each branch has its own grid, no point is run twice, and the branches take turns."""
    space = Searchspace(
        opt=Categorical(["adam", "sgd"]),
        momentum=Double(0, 0.8, when={"opt": "sgd"}),
        lr=Double(1e-3, 1e-1, log=True),
    )
    points = visits(space, None, 3)
    assert points[:4] == [("adam", 1e-3), ("sgd", 0.0, 1e-3), ("adam", 1e-2), ("sgd", 0.8, 1e-2)]
    assert len(points) == len(set(points)) == 3 + 9
    optimizer = GridSearch(3)
    Rehearsal(optimizer, space)
    assert optimizer.notes[0].startswith("Grid of opt 2, momentum 3, lr 3: 12 points")


def test_constraints() -> None:
    """Forbidden points are left out, and the search ends with those that are allowed."""
    space = Searchspace(a=Integer(1, 5), b=Integer(1, 5)).with_constraints(["a < b"])
    points = visits(space, None)
    assert set(points) == {(a, b) for a in range(1, 6) for b in range(1, 6) if a < b}


def test_patience() -> None:
    """A grid without an allowed point in sight ends instead of walking on for ever."""
    space = Searchspace(a=Double(0, 1), b=Double(0, 1)).with_constraints(["a + b > 3"])
    optimizer = GridSearch(10_000)
    optimizer.start(SearchContext(searchspace=space, num_trials=4, num_workers=1, seed=0))
    answer = optimizer.ask(0, [], np.random.default_rng(0))
    assert isinstance(answer, Exhausted)
    assert "the next 10,000 are forbidden" in answer.reason


def test_neither_seed_nor_order_matters() -> None:
    """The grid is the same for every seed and order of arrival."""
    reference = [s.hparams for s in Rehearsal(GridSearch(4), documented()).run(60)]
    shuffle = random.Random(0)
    search = Rehearsal(GridSearch(4), documented(), seed=9)
    while len(search.suggestions) < 60:
        search.ask()
        while len(search.pending) > shuffle.randrange(12):
            search.fail(shuffle.choice(search.pending))
    assert [s.hparams for s in search.suggestions] == reference


def test_a_restart_goes_on_at_the_index() -> None:
    """After a restart the next point is the one that would have been next."""
    whole = visits(documented(), None, 4)
    optimizer = GridSearch(4)
    space = documented()
    optimizer.start(SearchContext(searchspace=space, num_trials=None, num_workers=1, seed=0))
    for number, point in enumerate(whole[:30]):
        optimizer.tell(Trial(id=number, hparams=dict(zip(space, point, strict=True))))
    answer = optimizer.ask(30, [], np.random.default_rng(0))
    assert isinstance(answer, Suggestion)
    assert tuple(answer.hparams.values()) == whole[30]
