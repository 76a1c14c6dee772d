"""The densities of TPE: they integrate to one, equal scipy's, and are what is sampled."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import kstest, norm, truncnorm

from maggy.optimizer._tpe.encoding import Encoding
from maggy.optimizer._tpe.mixture import Mixture, bandwidths, cell_masses
from maggy.searchspace import Categorical, Discrete, Double, Integer, Searchspace
from maggy.testing.optimizers import example_spaces

if TYPE_CHECKING:
    from maggy.searchspace.notation import Hyperparameter

SEEDS = st.integers(0, 2**32 - 1)
COUNTS = st.integers(0, 40)
FLOORS = st.sampled_from([0.003, 0.03, 0.2])


def mixture(space: Searchspace, seed: int, count: int, floor: float = 0.03) -> Mixture:
    """A density with random observations and weights."""
    rng = np.random.default_rng(seed)
    encoding = Encoding(space)
    rows = [encoding.row(space.decode(rng.random(len(space)).tolist())) for _ in range(count)]
    observed = np.array(rows).reshape(count, len(encoding))
    return Mixture(encoding, observed, rng.random(count) + 0.01, floor)


def total(space: Searchspace, density: Mixture) -> float:
    """The sum over all configurations of a finite space."""
    encoding = Encoding(space)
    rows = np.array([encoding.row(hparams) for hparams in space.configurations()])
    return float(np.exp(density.log_density(rows)).sum())


@settings(deadline=None, max_examples=30)
@given(SEEDS, COUNTS, FLOORS)
def test_a_continuous_density_integrates_to_one(seed: int, count: int, floor: float) -> None:
    """The integral over a range is 1 to 1e-6."""
    density = mixture(Searchspace(x=Double(0.0, 1.0)), seed, count, floor)

    def at(u: float) -> float:
        return float(np.exp(density.log_density(np.array([[u]])))[0])

    corners = sorted({0.0, 1.0, *density.mu[:, 0].tolist()})
    area = sum(quad(at, a, b, epsabs=1e-9)[0] for a, b in itertools.pairwise(corners))
    assert area == pytest.approx(1.0, abs=1e-6)


KINDS: dict[str, Hyperparameter] = {
    "integer": Integer(-3, 9),
    "integer-log": Integer(1, 300, log=True),
    "integer-many": Integer(0, 2999),
    "step": Double(0.0, 1.0, step=0.05),
    "discrete": Discrete([1, 2, 4, 8]),
    "categorical": Categorical(["a", "b", None]),
}


@pytest.mark.parametrize("name", list(KINDS))
@settings(deadline=None, max_examples=20)
@given(seed=SEEDS, count=COUNTS, floor=FLOORS)
def test_masses_of_a_countable_value_sum_to_one(
    name: str, seed: int, count: int, floor: float
) -> None:
    """The masses of all values of each kind sum to 1."""
    space = Searchspace(x=KINDS[name])
    density = mixture(space, seed, count, floor)
    assert total(space, density) == pytest.approx(1.0, abs=1e-9)


@settings(deadline=None, max_examples=20)
@given(SEEDS, COUNTS)
def test_masses_sum_to_one_under_conditions(seed: int, count: int) -> None:
    """Over all configurations of a space with nested conditions, the masses sum to 1."""
    space = Searchspace(
        a=Categorical(["x", "y", "z"]),
        b=Integer(1, 4, when={"a": "x"}),
        c=Categorical([True, False], when={"a": ["x", "y"]}),
        d=Integer(1, 50, log=True, when={"c": True, "a": "y"}),
        e=Discrete([0.5, 1.0], when={"b": [2, 3]}),
    )
    assert total(space, mixture(space, seed, count)) == pytest.approx(1.0, abs=1e-9)


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.integers(1, 40), FLOORS)
def test_density_equals_products_of_scipys_truncated_normals(
    seed: int, count: int, floor: float
) -> None:
    """The log density in three dimensions equals that of scipy's truncnorm to 1e-10."""
    space = Searchspace(x=Double(0, 1), y=Double(1e-3, 10.0, log=True), z=Double(-1, 1))
    density = mixture(space, seed, count, floor)
    rows = np.random.default_rng(seed).random((20, 3))
    mu, sigma = density.mu, density.sigma
    each = truncnorm.logpdf(rows[:, None, :], -mu / sigma, (1 - mu) / sigma, mu, sigma)
    logs = np.asarray(each).sum(axis=2) + np.log(density.weights)
    expected = np.logaddexp.reduce(logs, axis=1)
    assert density.log_density(rows) == pytest.approx(expected, rel=1e-10, abs=1e-10)


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.integers(1, 40))
def test_cells_hold_what_scipys_truncated_normals_give_them(seed: int, count: int) -> None:
    """The mass of a whole number equals differences of scipy's truncnorm."""
    space = Searchspace(x=Integer(1, 40, log=True))
    density = mixture(space, seed, count)
    encoding = Encoding(space)
    numbers = np.arange(1, 41)
    ends = np.log(np.append(numbers - 0.5, 40.5) / 0.5) / np.log(81)
    mu, sigma = density.mu[:, 0], density.sigma[:, 0]
    below = truncnorm.cdf(ends[:, None], -mu / sigma, (1 - mu) / sigma, mu, sigma)
    expected = np.diff(below, axis=0) @ density.weights
    rows = np.array([encoding.row({"x": int(number)}) for number in numbers])
    assert np.exp(density.log_density(rows)) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_samples_follow_the_density(seed: int) -> None:
    """A Kolmogorov-Smirnov test finds no difference between draws and the distribution."""
    density = mixture(Searchspace(x=Double(0, 1)), seed, 9)
    drawn = density.sample(np.random.default_rng(seed), 4000)[:, 0]
    mu, sigma = density.mu[:, 0], density.sigma[:, 0]

    each = truncnorm.cdf(drawn[:, None], -mu / sigma, (1 - mu) / sigma, mu, sigma)
    assert kstest(each @ density.weights, "uniform").pvalue > 0.001


@pytest.mark.parametrize("name", ["integer", "integer-log", "discrete", "categorical"])
def test_sampled_values_have_the_frequencies_of_their_masses(name: str) -> None:
    """The frequency of each value among 20,000 draws is its mass within five standard errors."""
    space = Searchspace(x=KINDS[name])
    encoding = Encoding(space)
    density = mixture(space, 5, 6)
    drawn = encoding.snapped(density.sample(np.random.default_rng(1), 20_000))
    for hparams in space.configurations():
        row = encoding.row(hparams)
        mass = float(np.exp(density.log_density(row[None, :]))[0])
        frequency = float(np.isclose(drawn[:, 0], row[0]).mean())
        assert abs(frequency - mass) < 5 * np.sqrt(mass * (1 - mass) / 20_000) + 1e-4


@pytest.mark.parametrize("name", list(example_spaces()))
@settings(deadline=None, max_examples=10)
@given(seed=SEEDS)
def test_draws_are_configurations(name: str, seed: int) -> None:
    """A snapped draw is the row of its configuration, and has a finite density."""
    space = example_spaces()[name].with_constraints([])
    density, encoding = mixture(space, seed, 5), Encoding(space)
    rows = encoding.snapped(density.sample(np.random.default_rng(seed), 30))
    assert np.isfinite(density.log_density(rows)).all()
    for row in rows:
        hparams = encoding.hparams(row)
        assert encoding.row(hparams) == pytest.approx(row, abs=1e-9, nan_ok=True)


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0.01, 1.0), st.floats(1e-13, 1e-5))
def test_cells_far_away_and_narrow_keep_their_digits(
    mu: float, sigma: float, width: float
) -> None:
    """The mass of a narrow cell is width times density, wherever it is."""
    lower = np.array([0.3])
    upper = lower + width
    middle = float(lower[0] + upper[0]) / 2
    expected = norm.pdf(middle, mu, sigma) * (upper - lower)
    masses = cell_masses(lower, upper, np.array([mu]), np.array([sigma]))
    assert masses[:, 0] == pytest.approx(expected, rel=1e-4, abs=1e-300)


@settings(deadline=None)
@given(st.lists(st.one_of(st.floats(0, 1), st.just(float("nan"))), min_size=1, max_size=12))
def test_bandwidths_are_distances_to_neighbours(values: list[float]) -> None:
    """Each bandwidth is the larger gap to the neighbours, ends included, within its limits."""
    found = bandwidths(np.array(values)[:, None], 0.03)[:, 0]
    known = [value for value in values if value == value]
    for value, bandwidth in zip(values, found, strict=True):
        if value == value:
            others = sorted([0.0, *known, 1.0])
            gaps = [
                max(others[i] - others[i - 1], others[i + 1] - others[i])
                for i in range(1, len(others) - 1)
                if others[i] == value
            ]
            assert any(bandwidth == pytest.approx(min(max(gap, 0.03), 1.0)) for gap in gaps)
