"""From trials to what the Gaussian process sees: the warp, failures, stopped trials."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.stats import truncnorm

from maggy.optimizer._gp.evidence import above, censored, observed
from maggy.optimizer._gp.warp import Warp
from maggy.trial import Trial, TrialStatus

if TYPE_CHECKING:
    from maggy.optimizer.encoding import Array


def completed(number: int, loss: float, curve: list[float] | None = None) -> Trial:
    """A trial that ended well, after this curve."""
    losses = curve or []
    return Trial(
        id=number,
        hparams={},
        status=TrialStatus.COMPLETED,
        loss=loss,
        steps=list(range(1, len(losses) + 1)),
        losses=losses,
    )


def stopped(number: int, curve: list[float], threshold: float | None = None) -> Trial:
    """A trial that was stopped after this curve."""
    return Trial(
        id=number,
        hparams={},
        status=TrialStatus.STOPPED,
        loss=curve[-1] if curve else None,
        steps=list(range(1, len(curve) + 1)),
        losses=curve,
        threshold=threshold,
    )


LOSSES = np.random.default_rng(0).gamma(2.0, size=40)


def test_the_warp_keeps_the_order() -> None:
    """Better losses are better targets, with mean 0 and standard deviation 1."""
    targets = Warp(LOSSES)(LOSSES)
    assert (np.diff(targets[np.argsort(LOSSES)]) > 0).all()
    assert targets.mean() == pytest.approx(0.0, abs=1e-12)
    assert targets.std() == pytest.approx(1.0)


def test_the_better_half_stays_linear() -> None:
    """Below the median, differences of targets are proportional to those of losses."""
    better = np.sort(LOSSES)[:20]
    slopes = np.diff(Warp(LOSSES)(better)) / np.diff(better)
    assert slopes == pytest.approx([slopes[0]] * 19)


def test_a_diverged_trial_changes_little() -> None:
    """An outlier of 1e12 counts like any other worst, to the last digit."""
    mild = Warp(np.append(LOSSES, 100.0))(LOSSES)
    wild = Warp(np.append(LOSSES, 1e12))(LOSSES)
    assert (mild == wild).all()


def test_few_losses_are_only_standardised() -> None:
    """With fewer than 8 losses ranks say too little."""
    losses = np.array([1.0, 2.0, 4.0, 9.0])
    assert Warp(losses)(losses) == pytest.approx((losses - 4.0) / losses.std())


def test_beyond_the_worst() -> None:
    """A loss above all known ones is worth as much as the worst; one below is better."""
    warp = Warp(LOSSES)
    worst, beyond = warp(np.array([LOSSES.max(), 1e9]))
    assert beyond == worst
    assert warp(np.array([LOSSES.min() - 1.0]))[0] < warp(LOSSES).min()


@pytest.mark.parametrize(
    "losses",
    [
        [1e300, -1e300, 0.0, 1e-300, 1.0, 1e308, 2.0, 3.0, 4.0],
        [1e-300, 2e-300, 3e-300],
        [1e15 + 1, 1e15 + 2],
        [0.0, 1.0, 1.0, 1.0],
    ],
)
def test_losses_of_every_size(losses: list[float]) -> None:
    """Targets are finite, ordered, and of moderate size, whatever the losses."""
    warp = Warp(np.array(losses))
    targets = warp(np.sort(losses))
    assert np.isfinite(targets).all()
    assert np.abs(targets).max() < 10.0
    assert (np.diff(targets) >= 0).all()
    assert not warp.flat


@pytest.mark.parametrize("loss", [0.0, 1e300, -1e300, 3.5])
def test_equal_losses_are_flat(loss: float) -> None:
    """Losses that are all equal become 0."""
    warp = Warp(np.full(10, loss))
    assert warp.flat
    assert warp(np.full(10, loss)).tolist() == [0.0] * 10


def rows(n: int) -> Array:
    """Coordinates; what they are does not matter here."""
    return np.arange(float(n)).reshape(n, 1)


def test_failed_trials_are_as_bad_as_the_worst() -> None:
    """A failed trial has the worst target and a noise of its own; a stopped one is left out."""
    failed = Trial(id=2, hparams={}, status=TrialStatus.FAILED)
    evidence = observed([completed(0, 1.0), completed(1, 3.0), failed, stopped(3, [2.0])], rows(4))
    assert len(evidence) == 3
    assert evidence.targets[2] == evidence.targets[1]
    assert evidence.variances.tolist() == [0.0, 0.0, 0.25]
    assert evidence.completed.tolist() == [True, True, False]
    assert evidence.failed.tolist() == [False, False, True]
    assert evidence.rows[:, 0].tolist() == [0.0, 1.0, 2.0]


def test_losses_that_are_not_finite_are_failures() -> None:
    """Infinity and NaN count as failed, not as very bad losses."""
    trials = [completed(0, 1.0), completed(1, 3.0), completed(2, math.inf), completed(3, math.nan)]
    evidence = observed(trials, rows(4))
    assert evidence.failed.tolist() == [False, False, True, True]
    assert np.isfinite(evidence.targets).all()


def curves() -> list[Trial]:
    """Five trials that each gain 1 between the second step and the end."""
    return [
        completed(number, float(number), [number + 2.0, number + 1.0, number + 0.5])
        for number in range(5)
    ]


def predict(asked: Array) -> tuple[Array, Array]:
    """What a model that knows nothing says."""
    return np.zeros(len(asked)), np.ones(len(asked))


def estimate(trial: Trial, others: list[Trial]) -> tuple[float, float, Warp]:
    """Target and variance of a stopped trial, and the warp."""
    trials = [*others, trial]
    evidence = censored(trials, rows(len(trials)), observed(trials, rows(len(trials))), predict)
    assert len(evidence) == len(others) + 1
    assert not evidence.completed[-1]
    return float(evidence.targets[-1]), float(evidence.variances[-1]), evidence.warp


def test_a_stopped_trial_would_have_gained_like_the_others() -> None:
    """Its final loss is estimated from the gains that others made after the same step."""
    target, variance, warp = estimate(stopped(9, [4.0, 3.0]), curves())
    assert target == pytest.approx(float(warp(np.array([2.0]))[0]))
    assert variance == pytest.approx(0.01)


def test_the_threshold_bounds_the_estimate() -> None:
    """A stopped trial is believed to end no better than the threshold would have."""
    target, _, warp = estimate(stopped(9, [3.0, 2.0], threshold=4.0), curves())
    assert target == pytest.approx(float(warp(np.array([3.0]))[0]))


def test_unequal_gains_are_uncertain() -> None:
    """The more the gains of others differ, the larger the variance."""
    uneven = [
        completed(number, float(number), [20.0, number + 1.0 + 0.7 * number])
        for number in range(5)
    ]
    assert estimate(stopped(9, [4.0, 3.0]), uneven)[1] > 0.05


def test_without_curves_the_model_says_more() -> None:
    """Where no three trials got as far, the prediction above the bound is what is believed."""
    target, variance, warp = estimate(stopped(9, [4.0] * 9, threshold=1.0), curves())
    bound = float(warp(np.array([1.0]))[0])
    assert (target, variance) == pytest.approx(above(0.0, 1.0, bound))


def test_stopped_before_the_first_report() -> None:
    """A trial that was stopped without a report says nothing."""
    trials = [*curves(), stopped(9, [])]
    evidence = observed(trials, rows(6))
    assert censored(trials, rows(6), evidence, predict) is evidence


@pytest.mark.parametrize(("mean", "sd", "bound"), [(0.0, 1.0, 0.5), (2.0, 3.0, -4.0), (0, 2, 9)])
def test_truncated_normal(mean: float, sd: float, bound: float) -> None:
    """Mean and variance above a bound are those of scipy."""
    reference = truncnorm((bound - mean) / sd, np.inf, loc=mean, scale=sd)
    assert above(mean, sd, bound) == pytest.approx((reference.mean(), reference.var()))


def test_truncation_far_away() -> None:
    """Far above the mean the variable is at the bound; far below nothing is learned."""
    high = above(0.0, 1.0, 50.0)
    assert 50.0 < high[0] < 50.1
    assert 0.0 <= high[1] < 0.01
    assert above(0.0, 1.0, -50.0) == pytest.approx((0.0, 1.0))
    assert all(map(math.isfinite, above(0.0, 1e-7, 10.0)))
