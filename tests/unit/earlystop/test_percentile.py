"""The percentile rule against a brute-force reading of its definition."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maggy.earlystop import MedianRule, PercentileRule
from maggy.testing.policies import PolicyContract
from maggy.trial import Trial, TrialStatus


def trial(losses: Any, status: Any = TrialStatus.COMPLETED, number: Any = 0) -> Trial:
    loss = losses[-1] if status is TrialStatus.COMPLETED else None
    steps = list(range(len(losses)))
    return Trial(id=number, hparams={}, status=status, steps=steps, losses=list(losses), loss=loss)


curves = st.lists(st.integers(-50, 50).map(float), min_size=1, max_size=6)


@given(st.lists(curves, max_size=9), curves, st.sampled_from([10.0, 25.0, 50.0, 80.0]))
def test_it_equals_the_definition(peers: Any, running: Any, percentile: Any) -> None:
    """Stopped exactly if the best so far is worse than numpy's percentile of the averages."""
    rule = PercentileRule(percentile, min_peers=2)
    for number, losses in enumerate(peers):
        rule.finished(trial(losses, number=number))
    decision = rule.decide(trial(running, TrialStatus.RUNNING, 99))
    reached = [losses[: len(running)] for losses in peers if len(losses) >= len(running)]
    averages = [statistics.fmean(losses) for losses in reached]
    leads = bool(peers) and min(running) <= min(map(min, peers))
    if len(averages) < 2 or leads:
        assert not decision.stop
    else:
        bound = float(np.percentile(averages, percentile))
        assert decision.stop == (min(running) > bound) or min(running) == pytest.approx(bound)


@given(st.lists(curves, min_size=1, max_size=9), curves)
def test_fifty_is_the_median_rule(peers: Any, running: Any) -> None:
    """With 50 percent it decides as the median rule does."""
    percentile, median = PercentileRule(50, min_peers=1), MedianRule(min_peers=1)
    for number, losses in enumerate(peers):
        percentile.finished(trial(losses, number=number))
        median.finished(trial(losses, number=number))
    now = trial(running, TrialStatus.RUNNING, 99)
    assert percentile.decide(now).stop == median.decide(now).stop


def test_the_sentence_has_the_numbers() -> None:
    """The user reads what was compared, at which step, with how many."""
    rule = PercentileRule(25, min_peers=4)
    for number in range(5):
        rule.finished(trial([float(number)], number=number))
    decision = rule.decide(trial([2.5], TrialStatus.RUNNING, 99))
    assert decision.reason.format(**decision.losses) == (
        "its best value 2.5 by step 0 is worse than 1.0, which the best 25 % of 5 completed "
        "trials had reached"
    )
    assert decision.threshold == 1.0


def test_a_trial_may_always_make_its_first_steps() -> None:
    """With ``min_steps`` nothing is stopped before so many reports."""
    rule = PercentileRule(25, min_peers=1, min_steps=3)
    rule.finished(trial([0.0] * 5))
    assert not rule.decide(trial([9.0] * 2, TrialStatus.RUNNING, 99)).stop
    assert rule.decide(trial([9.0] * 3, TrialStatus.RUNNING, 99)).stop


@pytest.mark.parametrize(
    "options", [{"percentile": 0}, {"percentile": 100}, {"min_peers": 0}, {"min_steps": 0}]
)
def test_options_are_checked(options: Any) -> None:
    """Nonsense is refused with its name."""
    with pytest.raises(ValueError, match=next(iter(options))):
        PercentileRule(**options)


class TestPercentileContract(PolicyContract):
    """The percentile rule keeps the contract of policies."""

    def policy(self) -> Any:
        return PercentileRule(min_peers=1)
