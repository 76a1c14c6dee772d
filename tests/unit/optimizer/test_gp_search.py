"""Maximising the acquisition: batched ascent, moves, ranking; and the chain of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from maggy.optimizer._gp.acquisition import LogEI
from maggy.optimizer._gp.ascent import ascend
from maggy.optimizer._gp.kernels import Hyperparameters
from maggy.optimizer._gp.model import Modeller, thin
from maggy.optimizer._gp.posterior import Posterior
from maggy.optimizer._gp.search import Box, Landscape, Ranking, maximise, perturb
from maggy.optimizer.encoding import Encoding
from maggy.searchspace import Categorical, Double, Integer, Searchspace
from maggy.trial import Trial, TrialStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from maggy.optimizer.encoding import Array, Index


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """What ``Strategy`` does: with several BLAS threads, sums are rounded differently."""
    with threadpool_limits(limits=1):
        yield


LOW, HIGH = np.zeros((4, 3)), np.ones((4, 3))


def starts(seed: int = 0) -> Array:
    """Four points of the unit cube."""
    return np.random.default_rng(seed).random((4, 3))


def test_ascent_of_a_paraboloid() -> None:
    """A concave quadratic with its top inside is climbed to the top from everywhere."""
    top = np.array([0.2, 0.5, 0.7])
    scales = np.array([1.0, 30.0, 5.0])

    def function(x: Array, rows: Index) -> tuple[Array, Array]:
        return -(scales * (x - top) ** 2).sum(axis=1), -2 * scales * (x - top)

    x, values = ascend(function, starts(), LOW, HIGH)
    assert np.allclose(x, top, atol=1e-3)
    assert (values > -1e-4).all()


def test_ascent_into_a_corner() -> None:
    """Where the top is outside, the best point of the box is found, inside it."""

    def function(x: Array, rows: Index) -> tuple[Array, Array]:
        gap = x - np.array([2.0, -1.0, 0.4])
        return -(gap**2).sum(axis=1), -2 * gap

    x, _ = ascend(function, starts(), LOW, HIGH)
    assert np.allclose(x, [1.0, 0.0, 0.4], atol=1e-3)


def test_rows_are_independent() -> None:
    """Each row ends where it would alone, and gets the number of its row with each call."""
    tops = np.array([[0.2] * 3, [0.4] * 3, [0.6] * 3, [0.8] * 3])

    def function(x: Array, rows: Index) -> tuple[Array, Array]:
        gap = x - tops[rows]
        return -(gap**4 + gap**2).sum(axis=1), -(4 * gap**3 + 2 * gap)

    together, _ = ascend(function, starts(), LOW, HIGH)
    assert np.allclose(together, tops, atol=1e-3)


def test_ascent_like_scipy() -> None:
    """On the valley of Rosenbrock it gets as far as scipy's L-BFGS-B does in as many steps."""

    def rosenbrock(x: Array) -> tuple[Array, Array]:
        a, b = x[:, 0], x[:, 1]
        value = (1 - a) ** 2 + 5 * (b - a**2) ** 2
        slope = np.stack([-2 * (1 - a) - 20 * a * (b - a**2), 10 * (b - a**2)], axis=1)
        return value, slope

    def function(x: Array, rows: Index) -> tuple[Array, Array]:
        value, slope = rosenbrock(x)
        return -value, -slope

    begin = starts()[:, :2]
    _, values = ascend(function, begin, np.full((4, 2), -2.0), np.full((4, 2), 2.0))

    def at(x: Array) -> float:
        return float(rosenbrock(x[np.newaxis])[0][0])

    for start, value in zip(begin, values, strict=True):
        found = minimize(at, start.tolist(), method="L-BFGS-B", options={"maxiter": 40})
        assert -value < found.fun + 1e-3


def test_ascent_avoids_what_is_forbidden() -> None:
    """A region of minus infinity is not entered, and a row that starts there stays."""

    def function(x: Array, rows: Index) -> tuple[Array, Array]:
        value = np.where(x[:, 0] > 0.6, -np.inf, x.sum(axis=1))
        return value, np.ones_like(x)

    begin = np.array([[0.1, 0.1, 0.1], [0.9, 0.1, 0.1]])
    x, values = ascend(function, begin, LOW[:2], HIGH[:2])
    assert x[0, 0] <= 0.6
    assert values[0] > 1.0
    assert (x[1] == begin[1]).all()
    assert values[1] == -np.inf


def test_ascent_in_no_dimension() -> None:
    """Without a coordinate there is nothing to climb."""

    def function(x: Array, rows: Index) -> tuple[Array, Array]:
        return np.zeros(len(x)), x

    x, values = ascend(function, np.empty((2, 0)), np.empty((2, 0)), np.empty((2, 0)))
    assert x.shape == (2, 0)
    assert values.tolist() == [0.0, 0.0]


SPACE = Searchspace(
    x=Double(0.0, 1.0), k=Integer(0, 40), c=Categorical(["a", "b", "c"]), y=Double(0.0, 1.0)
)


def landscape(space: Searchspace = SPACE, seed: int = 0, n: int = 20) -> tuple[Landscape, Array]:
    """An acquisition over a space, and the coordinates of its best observations."""
    encoding = Encoding(space)
    rng = np.random.default_rng(seed)
    rows = encoding.snap(rng.random((n, len(space))))
    features = encoding.features(rows)
    losses = np.square(features - 0.4).sum(axis=1)
    losses = (losses - losses.mean()) / losses.std()
    parameters = Hyperparameters(lengths=np.full(encoding.dimensions, 0.7), signal=1.0, noise=1e-4)
    posterior = Posterior.of(
        features, losses, np.zeros(n), group=encoding.group, parameters=parameters
    )
    acquisition = LogEI(posterior, np.array([losses.min()]))
    lengths = np.full(len(space), 0.7)
    best = rows[np.argsort(losses)[:5]]
    return Landscape(acquisition, encoding, lengths), best


def whole(space: Searchspace = SPACE) -> Box:
    """No restriction."""
    return Box(low=np.zeros(len(space)), high=np.ones(len(space)))


@pytest.mark.parametrize("seed", range(4))
def test_the_maximum_of_a_mixed_space(seed: int) -> None:
    """What is found is at least as good as the best of 20,000 random points."""
    scene, best = landscape(seed=seed)
    rng = np.random.default_rng(seed)
    spread = scene.encoding.snap(rng.random((512, 4)))
    ranking = maximise(scene, spread, best, whole(), rng)
    many = scene.value(scene.encoding.snap(rng.random((20_000, 4))))
    assert ranking.values[0] >= many.max() - 1e-6
    assert (np.diff(ranking.values) <= 0).all()
    assert np.allclose(scene.value(ranking.points[:3]), ranking.values[:3])
    assert (scene.encoding.snap(ranking.points) == ranking.points).all()


def test_the_search_stays_in_its_box() -> None:
    """Continuous coordinates do not leave the box."""
    scene, best = landscape(Searchspace(x=Double(0.0, 1.0), y=Double(0.0, 1.0)))
    box = Box(low=np.array([0.6, 0.1]), high=np.array([0.8, 0.2]))
    rng = np.random.default_rng(0)
    spread = box.low + rng.random((256, 2)) * (box.high - box.low)
    ranking = maximise(scene, spread, box.clip(best), box, rng)
    assert (ranking.points >= box.low).all()
    assert (ranking.points <= box.high).all()


def test_constraints_hold_for_every_ranked_point() -> None:
    """Points that the constraints forbid are not ranked, whatever their acquisition."""
    space = SPACE.with_constraints(["x < 0.3", "k > 20 or c == 'a'"])
    scene, best = landscape(space)
    rng = np.random.default_rng(0)
    spread = scene.encoding.snap(rng.random((512, 4)))
    ranking = maximise(scene, spread, best, whole(), rng)
    assert scene.encoding.feasible(ranking.points).all()
    free = scene.encoding.snap(rng.random((5000, 4)))
    free = free[scene.encoding.feasible(free)]
    assert ranking.values[0] >= scene.value(free).max() - 1e-6


def test_nothing_allowed() -> None:
    """If no scored point is allowed, the ranking is empty."""
    scene, best = landscape(SPACE.with_constraints([lambda hparams: False]))
    ranking = maximise(scene, best, best, whole(), np.random.default_rng(0))
    assert not len(ranking.points)


def test_ranking() -> None:
    """The best first, without what is not finite; ties keep their order."""
    points = np.arange(5.0)[:, np.newaxis]
    ranking = Ranking.of(points, np.array([1.0, -np.inf, 3.0, 1.0, np.nan]))
    assert ranking.points[:, 0].tolist() == [2.0, 0.0, 3.0]


def test_perturbations() -> None:
    """Variations are snapped, most differ from their row, and categories change now and then."""
    encoding = Encoding(SPACE)
    row = encoding.encode([{"x": 0.5, "k": 20, "c": "b", "y": 0.5}])
    varied = perturb(row, encoding, np.full(4, 0.5), np.random.default_rng(0), 200)
    assert varied.shape == (200, 4)
    assert (encoding.snap(varied) == varied).all()
    assert 0.03 < varied[:, 0].std() < 0.07
    assert {encoding.decode(u)["c"] for u in varied} == {"a", "b", "c"}
    assert 0.3 < (varied[:, 2] == row[0, 2]).mean() < 0.95


def trials(count: int) -> list[Trial]:
    """Trials of a smooth function of two numbers."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        x, y = rng.random(2).tolist()
        found.append(
            Trial(
                id=number,
                hparams={"x": x, "y": y},
                status=TrialStatus.COMPLETED,
                loss=(x - 0.3) ** 2 + 0.1 * y,
            )
        )
    return found


PLANE = Searchspace(x=Double(0.0, 1.0), y=Double(0.0, 1.0))


def modelled(told: list[Trial]) -> Modeller:
    """A modeller that was told these trials."""
    modeller = Modeller(Encoding(PLANE))
    for trial in told:
        modeller.tell(trial)
    return modeller


def test_no_model_without_news() -> None:
    """Less than two completed trials, or equal losses, make no model."""
    assert modelled([]).model() is None
    assert modelled(trials(1)).model() is None
    equal = trials(5)
    for trial in equal:
        trial.loss = 1.0
    assert modelled(equal).model() is None


def test_the_model_is_kept_until_the_next_trial() -> None:
    """Asking twice computes once."""
    modeller = modelled(trials(10))
    model = modeller.model()
    assert modeller.model() is model
    modeller.tell(trials(11)[-1])
    assert modeller.model() is not model


@pytest.mark.parametrize("count", [6, 40, 120])
def test_the_model_does_not_depend_on_its_past(count: int) -> None:
    """Hyperparameters are the same, bit for bit, for any order and any questions in between."""
    told = trials(count)
    once = modelled(told).model()
    backwards = modelled(told[::-1]).model()
    often = Modeller(Encoding(PLANE))
    for trial in told:
        often.tell(trial)
        if trial.id % 7 == 0:
            often.model()
    along = often.model()
    assert once is not None
    assert backwards is not None
    assert along is not None
    reference = once.posterior.parameters
    for other in (backwards.posterior.parameters, along.posterior.parameters):
        assert (other.logs == reference.logs).all()


def test_the_model_knows_its_best() -> None:
    """The incumbent is the least smoothed loss, and the best rows come best first."""
    told = trials(30)
    model = modelled(told).model()
    assert model is not None
    ranked = sorted(told, key=lambda trial: trial.loss or 0.0)
    assert model.best[0].tolist() == pytest.approx(list(ranked[0].hparams.values()))
    assert model.best.shape == (5, 2)
    assert model.incumbent == pytest.approx(model.posterior.smoothed.min())


def test_thinning() -> None:
    """The best and the latest are kept; the others are spread over the space."""
    rng = np.random.default_rng(0)
    clustered = np.concatenate([rng.random((100, 2)), 0.5 + 1e-3 * rng.random((1900, 2))])
    targets = rng.random(2000)
    kept = thin(clustered, targets, 300)
    assert len(kept) == 300
    assert (np.diff(kept) > 0).all()
    assert set(np.argsort(targets)[:128]) <= set(kept)
    assert set(range(1936, 2000)) <= set(kept)
    assert (kept < 100).sum() > 80
