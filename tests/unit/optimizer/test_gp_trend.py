"""The prior mean from earlier runs: against finite differences and the plain process."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.stats import spearmanr

from maggy.contracts import EarlierRun
from maggy.optimizer._gp.acquisition import LogEI
from maggy.optimizer._gp.evidence import observed
from maggy.optimizer._gp.kernels import Hyperparameters
from maggy.optimizer._gp.posterior import Posterior
from maggy.optimizer._gp.trend import Source, Trend, sources, trend_of
from maggy.optimizer.encoding import Encoding
from maggy.searchspace import Categorical, Double, Searchspace
from maggy.trial import Trial, TrialStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from maggy.optimizer.encoding import Array
    from maggy.trial import Hparams

SPACE = Searchspace(x=Double(0.0, 1.0), y=Double(0.0, 1.0), kind=Categorical(["a", "b"]))
ENCODING = Encoding(SPACE)
PARAMETERS = Hyperparameters(lengths=np.array([0.5, 0.4, 0.8]), signal=1.3, noise=0.01)


def bowl(hparams: Hparams) -> float:
    """The least at x = 0.3, y = 0.6 with kind a."""
    x, y = float(hparams["x"]), float(hparams["y"])  # type: ignore[arg-type]
    return (x - 0.3) ** 2 + (y - 0.6) ** 2 + 0.1 * (hparams["kind"] == "b")


def run(count: int, loss: Callable[[Hparams], float] = bowl, seed: int = 0) -> EarlierRun:
    """So many random trials."""
    rng = np.random.default_rng(seed)
    drawn = [SPACE.sample(rng) for _ in range(count)]
    trials = [
        Trial(id=number, hparams=hparams, status=TrialStatus.COMPLETED, loss=loss(hparams))
        for number, hparams in enumerate(drawn)
    ]
    return EarlierRun(name="old", trials=trials)


def source(count: int = 40, loss: Callable[[Hparams], float] = bowl) -> Source:
    """The process of such a run."""
    found = Source.of(run(count, loss).trials, ENCODING)
    assert found is not None
    return found


def features(count: int, seed: int = 5) -> Array:
    """Of random configurations."""
    rng = np.random.default_rng(seed)
    return ENCODING.features(ENCODING.encode([SPACE.sample(rng) for _ in range(count)]))


def slopes(function: Callable[[Array], Array], at: Array) -> Array:
    """Central differences, shape (m, p)."""
    step = 1e-6 * np.eye(at.shape[1])
    columns = [(function(at + s) - function(at - s)) / 2e-6 for s in step]
    return np.array(columns).T


def some_trend() -> Trend:
    """Of two sources."""
    known = [source(), source(30, lambda h: -bowl(h))]
    return Trend(sources=known, factors=np.array([0.7, 0.2]), offset=0.4)


def test_a_source_ranks_what_it_has_not_seen() -> None:
    """40 trials of a bowl are enough to know its shape."""
    rng = np.random.default_rng(9)
    fresh = [SPACE.sample(rng) for _ in range(200)]
    expected = source().value(ENCODING.features(ENCODING.encode(fresh)))
    assert spearmanr(expected, [bowl(h) for h in fresh]).statistic > 0.97


def test_the_gradients_are_those_of_the_values() -> None:
    """Of a source and of a trend, also with features that do not matter."""
    for mean in (source(), some_trend()):
        at = np.hstack([features(6), np.full((6, 1), 0.5)])
        value, gradient = mean.value_and_gradient(at)
        assert value == pytest.approx(mean.value(at))
        assert gradient == pytest.approx(slopes(mean.value, at), abs=1e-6)
        assert not gradient[:, -1].any()


def test_a_posterior_with_a_trend_is_the_trend_and_the_posterior_of_what_is_left() -> None:
    """Mean, deviation and the smoothed targets."""
    trend, seen, at = some_trend(), features(12), features(7, seed=6)
    targets = np.random.default_rng(2).standard_normal(12)
    options = {"group": ENCODING.group, "parameters": PARAMETERS}
    whole = Posterior.of(seen, targets, np.zeros(12), trend=trend, **options)  # type: ignore[arg-type]
    left = Posterior.of(seen, targets - trend.value(seen), np.zeros(12), **options)  # type: ignore[arg-type]
    mean, sd = whole.predict(at)
    assert mean[:, 0] == pytest.approx(left.predict(at)[0][:, 0] + trend.value(at))
    assert sd == pytest.approx(left.predict(at)[1])
    assert whole.smoothed == pytest.approx(whole.predict(seen)[0][:, 0])


def test_fantasies_follow_the_trend() -> None:
    """What pending trials may become is centred at the mean with the trend in it."""
    trend, seen, pending = some_trend(), features(12), features(2, seed=8)
    posterior = Posterior.of(
        seen, np.zeros(12), np.zeros(12), group=ENCODING.group, parameters=PARAMETERS, trend=trend
    )
    extended, draws = posterior.fantasise(pending, np.zeros((2, 1)))
    assert draws == pytest.approx(posterior.predict(pending)[0])
    mean, _ = extended.predict(pending)
    assert mean == pytest.approx(draws, abs=1e-6)


def test_the_acquisition_has_the_trend_in_its_value_and_gradient() -> None:
    """Against the closed form without fantasies, and finite differences with them."""
    trend, seen, at = some_trend(), features(12), features(5, seed=4)
    targets = np.random.default_rng(3).standard_normal(12)
    posterior = Posterior.of(
        seen, targets, np.zeros(12), group=ENCODING.group, parameters=PARAMETERS, trend=trend
    )
    mean, sd = posterior.predict(at)
    plain = LogEI(posterior, np.array([-0.5]))
    z = (-0.5 - mean[:, 0]) / sd
    cumulative = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in z])
    improvement = sd * (np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi) + z * cumulative)
    assert plain.value(at) == pytest.approx(np.log(improvement), rel=1e-6)
    normals = np.random.default_rng(1).standard_normal((2, 8))
    extended, draws = posterior.fantasise(features(2, seed=8), normals)
    acquisition = LogEI(extended, np.minimum(-0.5, draws.min(axis=0)))
    _, gradient = acquisition.value_and_gradient(at)
    assert gradient == pytest.approx(slopes(acquisition.value, at), rel=1e-4, abs=1e-4)


def test_a_run_without_enough_to_say_is_no_source() -> None:
    """Under 3 losses, all equal, or no space that varies."""
    assert Source.of(run(2).trials, ENCODING) is None
    assert Source.of(run(9, lambda _: 1.0).trials, ENCODING) is None
    constant = Encoding(Searchspace(x=Double(1.0, 1.0)))
    trials = [
        Trial(id=n, hparams={"x": 1.0}, status=TrialStatus.COMPLETED, loss=float(n))
        for n in range(5)
    ]
    assert Source.of(trials, constant) is None
    assert len(sources([run(2), run(20)], ENCODING)) == 1


def test_a_run_that_agrees_makes_a_trend_that_explains_the_new_losses() -> None:
    """Whatever the units of the new losses."""
    trials = run(12, lambda h: 50 * bowl(h) + 3, seed=3).trials
    evidence = observed(trials, ENCODING.encode([trial.hparams for trial in trials]))
    trend = trend_of([source()], evidence, ENCODING)
    assert trend is not None
    left = evidence.targets - trend.value(ENCODING.features(evidence.rows))
    assert left.mean() == pytest.approx(0.0, abs=1e-9)
    assert left.std() < 0.5 * evidence.targets.std()


def test_a_run_that_misleads_makes_none() -> None:
    """And beside one that agrees it has no weight."""
    trials = run(12, lambda h: -bowl(h), seed=3).trials
    evidence = observed(trials, ENCODING.encode([trial.hparams for trial in trials]))
    wrong, right = source(), source(40, lambda h: -bowl(h))
    assert trend_of([wrong], evidence, ENCODING) is None
    trend = trend_of([wrong, right], evidence, ENCODING)
    assert trend is not None
    assert trend.factors[0] == 0.0
    assert trend.factors[1] > 0.0
    assert trend_of([], evidence, ENCODING) is None
