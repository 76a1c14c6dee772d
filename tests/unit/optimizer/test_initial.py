"""Known-good points first."""

from __future__ import annotations

from typing import Any

import pytest

from maggy.errors import ConfigError, SearchspaceError
from maggy.optimizer import GridSearch, Initial, RandomSearch
from maggy.searchspace import Categorical, Double, Integer, Searchspace
from maggy.testing.optimizers import OptimizerContract, Rehearsal


class TestInitial(OptimizerContract):
    """An optimizer behind initial points fulfils the contract."""

    def make_optimizer(self) -> Initial:
        """A point of defaults and draws, then random search."""
        return Initial([{}, {}], RandomSearch())


def space() -> Searchspace:
    """A space with defaults and a chain of conditions."""
    return Searchspace(
        opt=Categorical(["adam", "sgd", "none"], default="adam"),
        nesterov=Categorical([True, False], when={"opt": ["sgd", "adam"]}),
        momentum=Double(0, 0.99, default=0.9, when={"nesterov": True, "opt": "sgd"}),
        lr=Double(1e-5, 1, log=True),
        layers=Integer(1, 5, default=2),
    )


def first(points: list[Any], count: int, **options: Any) -> list[dict[str, Any]]:
    """The first suggestions."""
    search = Rehearsal(Initial(points, RandomSearch()), space(), **options)
    return [dict(suggestion.hparams) for suggestion in search.run(count)]


def test_points_come_first() -> None:
    """Complete points are proposed as given, in their order; then the optimizer goes on."""
    points = [
        {"opt": "none", "lr": 0.1, "layers": 1},
        {"opt": "adam", "nesterov": False, "lr": 1, "layers": 5},
    ]
    found = first(points, 10)
    assert found[0] == points[0]
    assert found[1] == {**points[1], "lr": 1.0}
    assert type(found[1]["lr"]) is float
    assert len(found) == 10


def test_missing_values() -> None:
    """What is missing takes its default, or is drawn, the same for the same seed."""
    found = first([{"lr": 0.1}, {}], 2, seed=3)
    assert found[0]["opt"] == found[1]["opt"] == "adam"
    assert found[0]["lr"] == 0.1
    assert found[0]["layers"] == 2
    assert found[0]["nesterov"] in (True, False)
    assert found == first([{"lr": 0.1}, {}], 2, seed=3)
    assert found[1]["lr"] != first([{"lr": 0.1}, {}], 2, seed=4)[1]["lr"]


def test_parents_follow_their_children() -> None:
    """A value that exists only under a condition brings its parents along."""
    (found,) = first([{"momentum": 0.5}], 1)
    assert (found["opt"], found["nesterov"], found["momentum"]) == ("sgd", True, 0.5)
    (found,) = first([{"nesterov": False}], 1)
    assert found["opt"] == "adam"  # the default, which is accepted
    plain = Searchspace(
        a=Categorical([1, 2, 3]), b=Integer(0, 9, when={"a": [2, 3]}), c=Double(0, 1)
    )
    search = Rehearsal(Initial([{"b": 4}], RandomSearch()), plain)
    assert search.run(1)[0].hparams["a"] == 2  # the first that is accepted


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ("lr=0.1", "must be a list of dicts"),
        ([["lr", 0.1]], "must be a list of dicts"),
        ([{}, {"learning_rate": 0.1}], r"initial\[1\] names 'learning_rate'"),
        ([{"layer": 2}], "Did you mean 'layers'"),
        ([{"lr": 7}], r"initial\[0\], 'lr': 7 is no value of Double"),
        ([{"layers": 2.0}], "must be an int"),
        ([{"opt": "adam", "momentum": 0.5}], r"exists only when .*opt='adam'"),
        ([{"opt": "none", "nesterov": True}], "Leave one of them out"),
    ],
)
def test_wrong_points(points: Any, message: str) -> None:
    """A point that is not in the space is refused at the start, with its number."""
    with pytest.raises(SearchspaceError, match=message):
        Rehearsal(Initial(points, RandomSearch()), space())


def test_skipped_points() -> None:
    """Forbidden and repeated points are skipped with a reason; missing values are drawn to fit."""
    narrow = space().with_constraints(["lr < 0.01 or layers > 3"])
    point = {"opt": "none", "lr": 0.001, "layers": 3}
    points: list[dict[str, Any]] = [point, {"lr": 0.5}, dict(point), {"layers": 1}]
    optimizer = Initial(points, GridSearch(2))
    search = Rehearsal(optimizer, narrow)
    search.run(5)
    assert search.trials[0].hparams == point
    assert search.trials[1].hparams["layers"] == 1
    assert "initial[1] = {'lr': 0.5} is skipped: the constraint 'lr < 0.01" in optimizer.notes[0]
    assert optimizer.notes[1].endswith("is skipped: it repeats an earlier one.")
    assert optimizer.notes[2].startswith("Grid of ")


def test_the_optimizer_knows_the_points() -> None:
    """The optimizer is told of the initial trials and does not repeat them."""
    grid = Searchspace(a=Integer(1, 3), b=Integer(1, 3))
    search = Rehearsal(Initial([{"a": 2, "b": 2}, {"a": 1, "b": 1}], GridSearch()), grid)
    search.run(100)
    assert len(search.trials) == 9
    assert search.trials[0].hparams == {"a": 2, "b": 2}


def test_what_initial_passes_on() -> None:
    """Whether it answers inline is the optimizer's matter; an empty space is refused."""

    class Slow(RandomSearch):
        """Makes no promise."""

        suggests_inline = False

    assert Initial([], RandomSearch()).suggests_inline
    assert not Initial([], Slow()).suggests_inline
    assert "GridSearch()" in repr(Initial([{}], GridSearch()))
    with pytest.raises(ConfigError, match="is empty"):
        Rehearsal(Initial([], RandomSearch()), Searchspace())
