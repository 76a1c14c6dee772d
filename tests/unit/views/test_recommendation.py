"""The configuration that is best under noise, not the luckiest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest

from maggy.searchspace import Categorical, Double, Integer, Searchspace
from maggy.views.recommendation import recommend

if TYPE_CHECKING:
    from collections.abc import Mapping

    from maggy.trial import Value

SPACE = Searchspace(x=Double(0.0, 1.0), y=Double(0.0, 1.0))


@dataclass(frozen=True)
class Run:
    """A trial that ended."""

    id: int
    hparams: Mapping[str, Value]
    value: float | None
    status: str = "completed"


def truth(hparams: Mapping[str, Value]) -> float:
    """A bowl."""
    return float(sum((value - 0.4) ** 2 for value in hparams.values() if isinstance(value, float)))


def noisy(count: int, noise: float, seed: int, sign: float = 1.0) -> list[Run]:
    """Random trials of the bowl."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        hparams = SPACE.sample(rng)
        found.append(Run(number, hparams, sign * (truth(hparams) + noise * rng.normal())))
    return found


def test_under_noise_it_is_better_than_the_observed_best() -> None:
    """Over 20 noisy searches the recommended trials are truly better than the observed best."""
    observed, recommended = [], []
    for seed in range(20):
        trials = noisy(80, 0.1, seed)
        found = recommend(trials, SPACE, "min")
        assert found is not None
        assert found.spread is not None
        assert found.spread > 0
        recommended.append(truth(found.hparams))
        observed.append(truth(min(trials, key=lambda run: run.value or 0.0).hparams))
    assert np.mean(recommended) < 0.75 * np.mean(observed)


def test_without_noise_it_is_the_observed_best() -> None:
    """Exact values are believed, and the spread is small."""
    for seed in range(5):
        trials = noisy(60, 0.0, seed)
        found = recommend(trials, SPACE, "min")
        best = min(trials, key=lambda run: run.value or 0.0)
        assert found is not None
        assert found.id == best.id
        assert found.expected == pytest.approx(best.value, abs=0.01)
        assert found.spread is not None
        assert found.spread < 0.02


def test_expected_value_is_near_the_truth() -> None:
    """The expectation is off by little more than its spread, on average over searches."""
    errors = []
    for seed in range(20):
        found = recommend(noisy(80, 0.2, seed), SPACE, "min")
        assert found is not None
        assert found.spread is not None
        errors.append((found.expected - truth(found.hparams)) / found.spread)
    assert math.sqrt(np.mean(np.square(errors))) < 2


def test_both_directions_agree() -> None:
    """Maximising the negative recommends the same trial with the opposite values."""
    down = recommend(noisy(50, 0.1, 3), SPACE, "min")
    up = recommend(noisy(50, 0.1, 3, sign=-1.0), SPACE, "max")
    assert down is not None
    assert up is not None
    assert (up.id, up.value, up.spread) == (down.id, -down.value, down.spread)
    assert up.expected == -down.expected


def test_few_equal_or_no_trials() -> None:
    """Few or equal values: the first best one observed; no completed trial: nothing."""
    few = recommend(noisy(7, 0.1, 0), SPACE, "min")
    assert few is not None
    assert few.spread is None
    assert few.value == few.expected == min(run.value or 0.0 for run in noisy(7, 0.1, 0))
    equal = recommend(
        [Run(i, run.hparams, 1.0) for i, run in enumerate(noisy(20, 0, 0))], SPACE, "max"
    )
    assert equal is not None
    assert (equal.id, equal.expected, equal.spread) == (0, 1.0, None)
    failed = [Run(run.id, run.hparams, None, "failed") for run in noisy(20, 0.1, 0)]
    stopped = [Run(run.id, run.hparams, 1.0, "stopped") for run in noisy(20, 0.1, 0)]
    assert recommend([*failed, *stopped], SPACE, "min") is None


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_values_of_any_size(scale: float) -> None:
    """The recommendation does not depend on the unit, nor on many runs that diverged."""
    plain = recommend(noisy(40, 0.1, 2), SPACE, "min")
    trials = [Run(run.id, run.hparams, scale * (run.value or 0.0)) for run in noisy(40, 0.1, 2)]
    found = recommend(trials, SPACE, "min")
    assert plain is not None
    assert found is not None
    assert found.id == plain.id
    assert found.expected == pytest.approx(scale * plain.expected, rel=1e-6)
    mostly = [Run(run.id, run.hparams, run.value if run.id < 9 else scale) for run in trials]
    assert recommend(mostly, SPACE, "min") is not None


def test_many_equally_good_trials() -> None:
    """Where a third of the trials share the best value, the first of them is recommended."""
    trials = [Run(run.id, run.hparams, max(0.0, run.id - 10.0)) for run in noisy(30, 0.1, 2)]
    found = recommend(trials, SPACE, "min")
    assert found is not None
    assert (found.id, found.expected, found.spread) == (0, 0.0, None)


def test_diverged_runs_do_not_matter() -> None:
    """Values of 1e300 among the worse half change little."""
    trials = noisy(60, 0.1, 1)
    worst = max(trials, key=lambda run: run.value or 0.0)
    diverged = [Run(run.id, run.hparams, 1e300) if run is worst else run for run in trials]
    plain, found = recommend(trials, SPACE, "min"), recommend(diverged, SPACE, "min")
    assert plain is not None
    assert found is not None
    assert found.id == plain.id
    assert found.expected == pytest.approx(plain.expected)


def test_mixed_spaces_and_many_trials() -> None:
    """Categories, whole numbers, inactive values and 2,000 trials are fine."""
    space = Searchspace(
        kind=Categorical(["a", "b"]),
        size=Integer(1, 9),
        rate=Double(1e-4, 1.0, log=True, when={"kind": "a"}),
    )
    rng = np.random.default_rng(0)
    trials = []
    for number in range(2000):
        hparams = space.sample(rng)
        value = float(hparams["kind"] == "a") - abs(float(hparams["size"]) - 5) / 5  # type: ignore[arg-type]
        trials.append(Run(number, hparams, value + 0.3 * rng.normal()))
    found = recommend(trials, space, "max")
    assert found is not None
    assert found.hparams["kind"] == "a"
    assert abs(float(found.hparams["size"]) - 5) <= 1  # type: ignore[arg-type]
    assert found.expected == pytest.approx(1.0, abs=0.5)
