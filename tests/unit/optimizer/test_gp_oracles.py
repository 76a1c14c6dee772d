"""The arithmetic of the Gaussian process against scikit-learn, mpmath and brute force."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import mpmath
import numpy as np
import pytest
from scipy.optimize import approx_fprime
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from maggy.optimizer._gp.acquisition import LogEI, log_h
from maggy.optimizer._gp.fit import Objective, Prior, fit
from maggy.optimizer._gp.kernels import Hyperparameters
from maggy.optimizer._gp.posterior import Posterior, factorize, solve_lower, solve_upper

if TYPE_CHECKING:
    from maggy.optimizer.encoding import Array

GROUP = np.array([0, 1, 2, 2, 2])
"""Two numbers and a categorical with three choices."""


def features(n: int, seed: int = 0) -> Array:
    """Rows of two numbers and a choice."""
    rng = np.random.default_rng(seed)
    rows = np.zeros((n, 5))
    rows[:, :2] = rng.random((n, 2))
    rows[np.arange(n), 2 + rng.integers(3, size=n)] = math.sqrt(0.5)
    return rows


def targets(n: int, seed: int = 0) -> Array:
    """Something smooth enough."""
    rows = features(n, seed)
    return np.asarray(np.sin(5 * rows[:, 0]) + rows[:, 1] ** 2 + rows[:, 2])


PARAMETERS = Hyperparameters(lengths=np.array([0.4, 0.9, 1.3]), signal=1.7, noise=1e-3)


def conditioned(n: int = 25, parameters: Hyperparameters = PARAMETERS) -> Posterior:
    """The posterior of some observations, some of them noisier than others."""
    variances = np.where(np.arange(n) % 5 == 0, 0.25, 0.0)
    return Posterior.of(features(n), targets(n), variances, group=GROUP, parameters=parameters)


def sklearn_kernel() -> object:
    """The same kernel in scikit-learn: a length-scale per feature."""
    return ConstantKernel(1.7) * Matern(PARAMETERS.lengths[GROUP], nu=2.5)


def test_posterior_equals_scikit_learn() -> None:
    """Mean and standard deviation agree to 1e-8, categories included."""
    alpha = 1e-3 + np.where(np.arange(25) % 5 == 0, 0.25, 0.0)
    reference = GaussianProcessRegressor(sklearn_kernel(), alpha=alpha, optimizer=None)
    reference.fit(features(25), targets(25))
    mean, sd = reference.predict(features(40, 1), return_std=True)
    ours, spread = conditioned().predict(features(40, 1))
    assert np.allclose(ours[:, 0], mean, rtol=0, atol=1e-8)
    assert np.allclose(spread, sd, rtol=0, atol=1e-8)


def test_likelihood_equals_scikit_learn() -> None:
    """The log marginal likelihood agrees to 1e-8."""
    n = 25
    variances = np.where(np.arange(n) % 5 == 0, 0.25, 0.0)
    reference = GaussianProcessRegressor(sklearn_kernel(), alpha=1e-3 + variances, optimizer=None)
    reference.fit(features(n), targets(n))
    objective = Objective(features(n), targets(n), variances, GROUP, Prior(3))
    value, _ = objective.likelihood(PARAMETERS.logs)
    assert value == pytest.approx(-reference.log_marginal_likelihood_value_, abs=1e-8)


def test_smoothed_means() -> None:
    """The means at the observations are those that ``predict`` gives."""
    posterior = conditioned()
    mean, _ = posterior.predict(features(25))
    assert np.allclose(posterior.smoothed, mean[:, 0], rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_gradient_of_the_objective(seed: int) -> None:
    """The gradient over ``theta`` is that of finite differences."""
    n = 30
    objective = Objective(features(n), targets(n), np.full(n, 0.01), GROUP, Prior(3))
    theta = Prior(3).start + np.random.default_rng(seed).standard_normal(5)
    _, gradient = objective(theta)
    numeric = [
        (objective(theta + step)[0] - objective(theta - step)[0]) / 2e-5
        for step in 1e-5 * np.eye(5)
    ]
    assert np.allclose(gradient, numeric, rtol=1e-5, atol=1e-5)


def test_objective_where_nothing_can_be_factorized() -> None:
    """A covariance that is not definite counts as very bad, and moves nothing."""
    copies = np.repeat(features(1), 40, axis=0)
    objective = Objective(copies, np.zeros(40), np.full(40, -2e-6), GROUP, Prior(3))
    value, gradient = objective(np.log([1.0, 1.0, 1.0, 20.0, 1e-6]))
    assert value == 1e10
    assert not gradient.any()


def test_prior() -> None:
    """The penalty is 0 at the mode, inside the bounds; of variances 1/2 one spread away."""
    prior = Prior(4)
    assert prior.penalty(prior.mode)[0] == 0.0
    away = prior.mode.copy()
    away[-1] += 3.0
    value, gradient = prior.penalty(away)
    assert value == pytest.approx(0.5)
    assert gradient[-1] == pytest.approx(1 / 3.0)
    assert prior.mode[0] == pytest.approx(math.log(0.3))
    low, high = np.array(prior.bounds).T
    assert (low < prior.mode).all()
    assert (prior.mode < high).all()


def test_length_scales_are_together_a_priori() -> None:
    """To change all costs about as much as to change one should; the others are independent."""
    prior = Prior(10, others=1)
    moved = np.zeros(len(prior.mode))

    def penalty(first: int, last: int) -> float:
        shift = moved.copy()
        shift[first:last] = math.sqrt(3.0)
        return prior.penalty(prior.mode + shift)[0]

    assert penalty(0, 10) == pytest.approx(0.5 / (0.8 + 0.2 / 10))
    assert penalty(0, 1) > 3 * penalty(0, 10)
    assert penalty(10, 11) == pytest.approx(0.5)
    assert penalty(0, 11) == pytest.approx(penalty(0, 10) + 0.5)


def test_fit_finds_what_matters() -> None:
    """A dimension that the targets ignore gets a longer scale than one that they follow."""
    rng = np.random.default_rng(0)
    rows = rng.random((60, 2))
    prior = Prior(2)
    objective = Objective(rows, np.sin(8 * rows[:, 0]), np.zeros(60), np.array([0, 1]), prior)
    theta = fit(objective, prior, [prior.start])
    found = Hyperparameters.from_logs(theta)
    assert found.lengths[1] > 3 * found.lengths[0]
    assert found.noise < 1e-3
    assert objective(theta)[0] <= objective(prior.start)[0]


def test_fit_keeps_the_better_start() -> None:
    """Of several starts the one that ends lower wins, in whatever order."""
    prior = Prior(3)
    objective = Objective(features(40), targets(40), np.zeros(40), GROUP, prior)
    far = np.log([50.0, 50.0, 50.0, 0.06, 0.9])
    both = fit(objective, prior, [far, prior.start])
    values = [objective(fit(objective, prior, [start]))[0] for start in (far, prior.start)]
    assert objective(both)[0] == min(values)


def test_fit_without_a_start() -> None:
    """Without a start the prior's mode is the answer."""
    prior = Prior(3)
    objective = Objective(features(5), targets(5), np.zeros(5), GROUP, prior)
    assert (fit(objective, prior, []) == prior.mode).all()


def test_factorize() -> None:
    """The factor gives back the covariance; jitter helps where it is singular, or worse."""
    rows = np.random.default_rng(0).standard_normal((6, 6))
    covariance = rows @ rows.T + np.eye(6)
    factor = factorize(covariance, 1.0)
    assert np.allclose(factor @ factor.T, covariance)
    right = rows[:, :2]
    assert np.allclose(factor @ solve_lower(factor, right), right)
    assert np.allclose(factor.T @ solve_upper(factor, right), right)
    singular = np.ones((5, 5))
    assert np.allclose(factorize(singular, 1.0) @ factorize(singular, 1.0).T, singular, atol=1e-3)
    indefinite = np.ones((4, 4)) - 0.5 * np.eye(4)
    assert np.isfinite(factorize(indefinite, 1.0)).all()
    assert np.isfinite(factorize(-singular, 1.0)).all()


def exact_log_h(z: float) -> float:
    """``ln h(z)`` with 50 digits more than the cancellation takes."""
    with mpmath.workdps(60 + 4 * max(0, int(math.log10(1 + abs(z))))):
        x = mpmath.mpf(z)
        upper = mpmath.erfc(-x / mpmath.sqrt(2)) / 2
        return float(mpmath.log(mpmath.npdf(x) + x * upper))


@pytest.mark.parametrize(
    "z", [8.0, 5.0, 1.0, 0.0, -0.999, -1.0, -1.001, -5.0, -40.0, -1e3, -9e4, -1.1e5, -1e6, -1e8]
)
def test_log_h_equals_mpmath(z: float) -> None:
    """The logarithm of the improvement is exact to 1e-10 from far above to far below."""
    assert float(log_h(np.array([z]))[0]) == pytest.approx(exact_log_h(z), rel=1e-10)


def test_log_h_is_continuous() -> None:
    """Where the formulas meet there is no jump."""
    for seam in (-1.0, -1e5):
        below, above = log_h(np.array([seam * (1 + 1e-12), seam * (1 - 1e-12)]))
        assert abs(above - below) < 1e-9 * abs(seam) ** 2


def acquisition(*, failures: bool = False, fantasies: int = 0) -> LogEI:
    """Expected improvement over some observations, pending trials and failures."""
    posterior = conditioned()
    succeeded = np.arange(25) % 3 > 0 if failures else None
    if not fantasies:
        return LogEI(posterior, np.array([posterior.smoothed.min()]), succeeded)
    normals = np.random.default_rng(3).standard_normal((4, fantasies))
    extended, draws = posterior.fantasise(features(4, 9), normals)
    incumbents = np.minimum(posterior.smoothed.min(), draws.min(axis=0))
    return LogEI(extended, incumbents, succeeded)


@pytest.mark.parametrize("failures", [False, True])
@pytest.mark.parametrize("fantasies", [0, 16])
def test_gradient_of_the_acquisition(failures: bool, fantasies: int) -> None:
    """The gradient over features is that of finite differences."""
    function = acquisition(failures=failures, fantasies=fantasies)
    rows = features(6, 5)
    values, gradient = function.value_and_gradient(rows)
    assert np.allclose(values, function.value(rows), rtol=1e-12)

    def at(x: Array) -> float:
        return float(function.value(x[np.newaxis])[0])

    for row, slope in zip(rows, gradient, strict=True):
        numeric = approx_fprime(row, at, 1e-7)
        assert np.allclose(slope, numeric, rtol=1e-3, atol=1e-3)


def test_trailing_features_are_those_of_every_point() -> None:
    """With the last features given once, values and gradients are those with them in each row."""
    posterior = conditioned()
    best = np.array([posterior.smoothed.min()])
    rows = features(6, 5)
    rows[:, -1] = 0.25
    whole = LogEI(posterior, best)
    shared = LogEI(posterior, best, trailing=np.array([0.25]))
    assert (shared.value(rows[:, :-1]) == whole.value(rows)).all()
    for ours, theirs in zip(
        shared.value_and_gradient(rows[:, :-1]), whole.value_and_gradient(rows), strict=True
    ):
        assert (ours == theirs[..., : ours.shape[-1]]).all()
    assert shared.value_and_gradient(rows[:, :-1])[1].shape == rows[:, :-1].shape


def test_acquisition_without_pending_is_expected_improvement() -> None:
    """Its exponential is the mean of what random draws of the posterior improve."""
    posterior = conditioned()
    best = float(posterior.smoothed.min()) + 0.1
    rows = features(5, 7)
    mean, sd = posterior.predict(rows)
    draws = mean[:, 0] + sd * np.random.default_rng(0).standard_normal((400_000, 5))
    brute = np.maximum(best - draws, 0.0).mean(axis=0)
    ours = np.exp(LogEI(posterior, np.array([best])).value(rows))
    assert np.allclose(ours, brute, rtol=0.03, atol=2e-4)


def test_fantasised_acquisition_equals_brute_force() -> None:
    """Its exponential is qEI(pending and x) - qEI(pending), by joint draws of all of them."""
    posterior = conditioned()
    best = float(posterior.smoothed.min()) + 0.2
    pending, row = features(3, 11), features(1, 13)
    everything = np.concatenate([pending, row])
    mean, _ = posterior.predict(everything)
    reduced = solve_lower(
        posterior.factor, kernel_between(features(25), everything, posterior.parameters)
    )
    covariance = kernel_between(everything, everything, posterior.parameters) - reduced.T @ reduced
    rng = np.random.default_rng(0)
    root = np.linalg.cholesky(covariance + 1e-12 * np.eye(4))
    draws = mean[:, 0] + rng.standard_normal((400_000, 4)) @ root.T
    with_row = np.maximum(best - draws.min(axis=1), 0.0).mean()
    without = np.maximum(best - draws[:, :3].min(axis=1), 0.0).mean()
    normals = rng.standard_normal((3, 20_000))
    extended, imagined = posterior.fantasise(pending, normals)
    function = LogEI(extended, np.minimum(best, imagined.min(axis=0)))
    assert math.exp(function.value(row)[0]) == pytest.approx(with_row - without, rel=0.05)


def kernel_between(a: Array, b: Array, parameters: Hyperparameters) -> Array:
    """The kernel, written down once more in the obvious way."""
    gaps = (a[:, np.newaxis] - b) / parameters.lengths[GROUP]
    r = math.sqrt(5.0) * np.sqrt(np.square(gaps).sum(axis=2))
    return np.asarray(parameters.signal * (1 + r + r**2 / 3) * np.exp(-r))


def test_extended_factor_equals_the_full_one() -> None:
    """Appending pending points gives the factor and weights of factorizing everything anew."""
    posterior = conditioned()
    pending = features(4, 9)
    normals = np.random.default_rng(3).standard_normal((4, 5))
    extended, draws = posterior.fantasise(pending, normals)
    everything = np.concatenate([features(25), pending])
    covariance = kernel_between(everything, everything, PARAMETERS)
    noise = 1e-3 + np.where(np.arange(25) % 5 == 0, 0.25, 0.0)
    covariance += np.diag(np.concatenate([noise, np.full(4, 1.7e-8)]))
    assert np.allclose(extended.factor, np.linalg.cholesky(covariance), atol=1e-9)
    known = np.concatenate([np.repeat(targets(25)[:, np.newaxis], 5, axis=1), draws])
    mean, _ = extended.predict(pending)
    assert np.allclose(mean, draws, atol=1e-5)
    reference = np.linalg.solve(covariance, known)
    assert np.allclose(extended.weights, reference, rtol=1e-4, atol=1e-4 * abs(reference).max())


def test_acquisition_at_an_observation() -> None:
    """Where nothing is left to learn the acquisition is very low, and finite, as is its slope."""
    exact = Hyperparameters(lengths=PARAMETERS.lengths, signal=1.0, noise=1e-6)
    posterior = conditioned(parameters=exact)
    function = LogEI(posterior, np.array([-50.0]))
    values, gradient = function.value_and_gradient(features(25))
    assert np.isfinite(values).all()
    assert np.isfinite(gradient).all()
    assert values.max() < -1e3


def test_failures_lower_the_acquisition() -> None:
    """Near a failed trial the acquisition is lower than without failures, never higher."""
    plain, careful = acquisition(), acquisition(failures=True)
    near = features(25)[np.arange(25) % 3 == 0]
    assert (careful.value(near) < plain.value(near)).all()
    far = near.copy()
    far[:, :2] += 1e3
    assert np.allclose(careful.value(far), plain.value(far))


def test_no_rows() -> None:
    """Nothing is scored without complaint."""
    assert acquisition().value(np.empty((0, 5))).shape == (0,)
