"""Trust in an earlier run is its rank agreement with the new trials, drawn towards a prior."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau

from maggy.optimizer.agreement import PRIOR_TRIALS, PRIOR_TRUST, agreement, latest


def test_without_trials_it_is_the_prior() -> None:
    """One trial has no rank, so it only weakens the prior a little."""
    nothing = np.empty(0)
    assert agreement(nothing, nothing) == PRIOR_TRUST
    assert 0 < agreement(np.ones(1), np.ones(1)) < PRIOR_TRUST


def test_it_is_the_shrunken_tau() -> None:
    """As scipy has Kendall's tau where there are no ties."""
    rng = np.random.default_rng(0)
    losses = rng.random(30)
    expected = losses + 0.3 * rng.random(30)
    tau = kendalltau(expected, losses).statistic
    shrunken = (PRIOR_TRIALS * PRIOR_TRUST + 30 * tau) / (PRIOR_TRIALS + 30)
    assert agreement(expected, losses) == pytest.approx(shrunken)


def test_only_ranks_count() -> None:
    """Losses of another task are on another scale."""
    rng = np.random.default_rng(1)
    expected, losses = rng.random(20), rng.random(20)
    assert agreement(1000 * expected - 7, np.exp(losses)) == agreement(expected, losses)


def test_a_misleading_run_is_not_trusted_soon() -> None:
    """After 3 trials ranked the wrong way round there is no trust left, and none is negative."""
    assert agreement(np.arange(3.0), -np.arange(3.0)) == 0.0
    assert agreement(np.arange(50.0), np.arange(50.0)) == pytest.approx(52 / 54)


def test_who_expects_all_trials_to_be_equal_loses_trust() -> None:
    """Ties are no agreement."""
    assert agreement(np.zeros(40), np.arange(40.0)) == pytest.approx(2 / 44)


def test_the_latest_trials_are_compared() -> None:
    """200 at most, so the cost stays flat."""
    assert list(range(500))[latest(500)] == list(range(300, 500))
    assert list(range(5))[latest(5)] == [0, 1, 2, 3, 4]
