"""Coordinates and features: which values are how far apart."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from maggy.optimizer.encoding import Encoding
from maggy.searchspace import Categorical, Discrete, Double, Integer, Searchspace
from maggy.testing.optimizers import example_spaces

if TYPE_CHECKING:
    from maggy.searchspace import Hyperparameter
    from maggy.trial import Hparams


def squared_distance(space: Searchspace, a: Hparams, b: Hparams) -> float:
    """Between the features of two configurations."""
    encoding = Encoding(space)
    first, second = encoding.features(encoding.encode([a, b]))
    return float(np.square(first - second).sum())


@pytest.mark.parametrize("name", list(example_spaces()))
def test_round_trip(name: str) -> None:
    """Snapped coordinates decode to a configuration whose coordinates they are, if active."""
    space = example_spaces()[name]
    encoding = Encoding(space)
    points = encoding.snap(np.random.default_rng(0).random((50, len(space))))
    decoded = [encoding.decode(row) for row in points]
    again = encoding.encode(decoded)
    active = encoding.active(points)
    assert np.allclose(again[active], points[active], atol=1e-12)
    names = list(space)
    for hparams, row in zip(decoded, active, strict=True):
        assert list(hparams) == [name for name, here in zip(names, row, strict=True) if here]


@pytest.mark.parametrize("name", list(example_spaces()))
def test_shapes(name: str) -> None:
    """Every feature belongs to a dimension, and constants have none."""
    space = example_spaces()[name]
    encoding = Encoding(space)
    features = encoding.features(encoding.snap(np.full((3, len(space)), 0.3)))
    assert features.shape == (3, len(encoding.group))
    assert set(encoding.group) == set(range(encoding.dimensions))
    varying = [kind for kind in space.values() if kind.cardinality != 1]
    assert encoding.dimensions == len(varying)
    assert len(encoding.continuous) + len(encoding.finite) == len(varying)


def test_categories_are_equally_far_apart() -> None:
    """Two different choices have squared distance 1, whichever they are."""
    space = Searchspace(c=Categorical(["a", "b", "c", "d"]))
    distances = [squared_distance(space, {"c": "a"}, {"c": other}) for other in "abcd"]
    assert distances == pytest.approx([0.0, 1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("kind", "near", "far"),
    [
        (Discrete([1.0, 2.0, 9.0]), (1.0, 2.0), (2.0, 9.0)),
        (Discrete([0.1, 0.2, 10.0]), (0.1, 0.2), (0.2, 10.0)),
        (Integer(1, 100, log=True), (50, 51), (1, 2)),
    ],
)
def test_numbers_are_apart_by_value(
    kind: Hyperparameter, near: tuple[float, float], far: tuple[float, float]
) -> None:
    """Numbers in a list, and whole numbers in a logarithm, keep their proportions."""
    space = Searchspace(v=kind)
    assert squared_distance(space, {"v": near[0]}, {"v": near[1]}) < 0.1 * squared_distance(
        space, {"v": far[0]}, {"v": far[1]}
    )


def test_wide_lists_of_numbers_are_logarithmic() -> None:
    """Positive numbers that span a factor of 10 are as far apart as their ratios say."""
    space = Searchspace(v=Discrete([1, 10, 100, 1000]))
    steps = [squared_distance(space, {"v": 10**k}, {"v": 10 ** (k + 1)}) for k in range(3)]
    assert steps == pytest.approx([steps[0]] * 3)


def test_lists_of_other_things_are_in_the_given_order() -> None:
    """What is no number lies at equal distances, in its order."""
    space = Searchspace(v=Discrete(["small", "medium", "large"]))
    ends = squared_distance(space, {"v": "small"}, {"v": "large"})
    assert ends == pytest.approx(4 * squared_distance(space, {"v": "small"}, {"v": "medium"}))


def test_numbers_beyond_floats_are_in_the_given_order() -> None:
    """A list that is wider than a float can hold is laid out by position."""
    space = Searchspace(v=Discrete([-1e308, 0.0, 1e308]))
    encoding = Encoding(space)
    features = encoding.features(encoding.encode([{"v": -1e308}, {"v": 0.0}, {"v": 1e308}]))
    assert features[:, 0].tolist() == pytest.approx([1 / 6, 1 / 2, 5 / 6])


CONDITIONAL = Searchspace(
    c=Categorical(["a", "b"]),
    x=Double(0.0, 1.0, when={"c": "a"}),
    k=Categorical(["p", "q"], when={"c": "a"}),
)


def test_inactive_numbers_are_as_far_from_every_active_one() -> None:
    """An inactive number is nowhere on the range: at distance 1 from each of its values."""
    encoding = Encoding(CONDITIONAL)
    rows = encoding.encode([{"c": "a", "x": x, "k": "p"} for x in (0.0, 0.5, 1.0)])
    inactive = encoding.encode([{"c": "b"}])
    column = encoding.group == 1
    gaps = encoding.features(rows)[:, column] - encoding.features(inactive)[:, column]
    assert np.square(gaps).sum(axis=1) == pytest.approx([1.0, 1.0, 1.0])


def test_active_conditional_numbers_keep_their_distances() -> None:
    """On the arc, distances are those of the coordinates to within 5 %."""
    a: Hparams = {"c": "a", "x": 0.0, "k": "p"}
    b: Hparams = {"c": "a", "x": 1.0, "k": "p"}
    assert math.sqrt(squared_distance(CONDITIONAL, a, b)) == pytest.approx(1.0, rel=0.05)


def test_inactive_categories_are_one_more_choice() -> None:
    """Inactive is as far from a choice as another choice is."""
    encoding = Encoding(CONDITIONAL)
    choices: list[Hparams] = [{"c": "a", "x": 0.5, "k": choice} for choice in ("p", "q")]
    features = encoding.features(encoding.encode([*choices, {"c": "b"}]))
    column = encoding.group == 2
    gaps = np.square(features[1:, column] - features[0, column]).sum(axis=1)
    assert gaps == pytest.approx([1.0, 1.0])


def test_coordinates_of_inactive_ones_do_not_matter() -> None:
    """Two rows that differ where nothing is active have the same features."""
    encoding = Encoding(CONDITIONAL)
    rows = encoding.snap(np.array([[0.75, 0.1, 0.2], [0.75, 0.9, 0.8]]))
    first, second = encoding.features(rows)
    assert (first == second).all()


def test_pull_back_is_the_chain_rule() -> None:
    """Gradients over features become those over the continuous coordinates, 0 elsewhere."""
    encoding = Encoding(CONDITIONAL)
    rng = np.random.default_rng(0)
    rows = encoding.snap(rng.random((20, 3)))
    weights = rng.standard_normal(len(encoding.group))
    back = encoding.pull_back(rows, np.repeat(weights[np.newaxis], 20, axis=0))
    step = np.array([0.0, 1e-6, 0.0])
    change = (encoding.features(rows + step) - encoding.features(rows - step)) @ weights / 2e-6
    assert back[:, 1] == pytest.approx(change, abs=1e-6)
    assert not back[:, [0, 2]].any()


def test_neighbours_of_short_lists() -> None:
    """Every other value of every active countable hyperparameter is one move away."""
    encoding = Encoding(CONDITIONAL)
    active, inactive = encoding.encode([{"c": "a", "x": 0.25, "k": "p"}, {"c": "b"}])
    around = [encoding.decode(row) for row in encoding.neighbours(active)]
    assert around == [{"c": "b"}, {"c": "a", "x": 0.25, "k": "q"}]
    assert len(encoding.neighbours(inactive)) == 1


def test_neighbours_along_long_ranges() -> None:
    """Along many values the moves double, and both ends are among them."""
    encoding = Encoding(Searchspace(k=Integer(0, 99)))
    row = encoding.encode([{"k": 40}])[0]
    moves = sorted(int(encoding.decode(move)["k"]) for move in encoding.neighbours(row))  # type: ignore[arg-type]
    assert moves == [0, 8, 24, 32, 36, 38, 39, 41, 42, 44, 48, 56, 72, 99]


def test_no_neighbours_without_countable_values() -> None:
    """A continuous space has no moves."""
    encoding = Encoding(Searchspace(x=Double(0.0, 1.0)))
    assert encoding.neighbours(np.array([0.5])).shape == (0, 1)


def test_astronomic_ranges_are_continuous() -> None:
    """A range of 2**63 whole numbers is searched like a continuous one."""
    space = Searchspace(k=Integer(-(2**62), 2**62))
    encoding = Encoding(space)
    assert list(encoding.continuous) == [0]
    assert type(encoding.decode(encoding.snap(np.array([[0.3]]))[0])["k"]) is int


def test_feasible() -> None:
    """Constraints are looked at per row."""
    space = Searchspace(x=Double(0.0, 1.0), y=Double(0.0, 1.0)).with_constraints(["x < y"])
    rows = np.array([[0.1, 0.2], [0.2, 0.1]])
    assert Encoding(space).feasible(rows).tolist() == [True, False]
    assert Encoding(Searchspace(x=Double(0, 1))).feasible(rows).tolist() == [True, True]
