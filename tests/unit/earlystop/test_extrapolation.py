"""Extrapolation: curves of each family lead to their limit, and doubt is honest."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from maggy.earlystop.extrapolation import extrapolate

FAMILIES: dict[str, Any] = {
    "power": lambda t: 0.2 + 0.8 * t**-0.7,
    "exponential": lambda t: 0.3 + 0.6 * math.exp(-0.08 * t),
    "logarithmic": lambda t: 0.1 + 0.5 / math.log(t + 1),
}


def noisy(curve: Any, count: int, sd: float, seed: int) -> list[float]:
    rng = random.Random(seed)
    return [curve(step + 1) + rng.gauss(0, sd) for step in range(count)]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_end_lies_within_two_deviations(family: str) -> None:
    """For curves of each family, half known, the end is within 2 sd in at least 95 %."""
    curve, inside = FAMILIES[family], 0
    for seed in range(100):
        forecast = extrapolate(range(30), noisy(curve, 30, 0.01, seed), 59, noise=0.005)
        inside += abs(forecast.mean - curve(60)) < 2 * forecast.sd
    assert inside >= 95


@pytest.mark.parametrize("family", FAMILIES)
def test_without_noise_the_end_is_found(family: str) -> None:
    """A clean curve leads close to its end, and with confidence."""
    curve = FAMILIES[family]
    forecast = extrapolate(range(30), noisy(curve, 30, 0.0, 0), 59, noise=1e-3)
    assert forecast.mean == pytest.approx(curve(60), abs=0.01)
    assert forecast.below(curve(60) + 0.03) > 0.97
    assert forecast.below(curve(60) - 0.03) < 0.03


def test_a_late_bloomer_of_another_family_keeps_its_chance() -> None:
    """A curve that falls late, in a form that no member has, is rarely given up."""
    given_up = 0
    for seed in range(100):
        losses = noisy(lambda t: 0.2 + 0.8 / (1 + (t / 20) ** 2), 15, 0.005, seed)
        given_up += extrapolate(range(15), losses, 59, noise=0.005).below(0.35) < 0.05
    assert given_up < 10


def test_the_mixture_is_a_distribution() -> None:
    """Weights sum to 1, and the probability grows from 0 to 1 with the target."""
    forecast = extrapolate([1, 3, 4, 9], [5.0, 3.0, 2.5, 2.0], 20, noise=0.1)
    assert forecast.weights.sum() == pytest.approx(1)
    chances = [forecast.below(target) for target in (-100.0, 0.0, 1.0, 2.0, 3.0, 100.0)]
    assert chances == sorted(chances)
    assert chances[0] == pytest.approx(0)
    assert chances[-1] == pytest.approx(1)


def test_a_flat_curve_stays_flat() -> None:
    """Nothing falls, so nothing is promised; a rising one is not expected to fall either."""
    assert extrapolate(range(10), [2.0] * 10, 50, noise=0.1).mean == pytest.approx(2.0)
    rising = extrapolate(range(10), [float(step) for step in range(10)], 50, noise=0.1)
    assert rising.mean == pytest.approx(5.1, abs=0.1)


def test_units_do_not_matter() -> None:
    """A shifted and scaled curve has the shifted and scaled forecast, whatever the first step."""
    losses = noisy(FAMILIES["power"], 15, 0.01, 3)
    plain = extrapolate(range(15), losses, 40, noise=0.01)
    moved = extrapolate(range(7, 22), [1000 + 50 * loss for loss in losses], 47, noise=0.5)
    assert moved.mean == pytest.approx(1000 + 50 * plain.mean)
    assert moved.sd == pytest.approx(50 * plain.sd)


def test_long_curves_are_thinned() -> None:
    """Ten thousand reports cost what a hundred do, and lead to the same end."""
    curve = FAMILIES["exponential"]
    losses = noisy(lambda t: curve(t / 300), 10_000, 0.0, 0)
    forecast = extrapolate(range(10_000), losses, 20_000, noise=1e-3)
    assert forecast.mean == pytest.approx(0.3, abs=0.03)


def test_a_horizon_in_the_past_is_now() -> None:
    """Beyond the horizon the forecast is for the newest step."""
    past = extrapolate(range(10), [1.0] * 10, 3, noise=0.1)
    assert past.mean == extrapolate(range(10), [1.0] * 10, 9, noise=0.1).mean
