"""The fixed bar, in both directions."""

from __future__ import annotations

from typing import Any

import pytest

from maggy.core.losses import Sense
from maggy.earlystop import AllOf, MedianRule, ThresholdRule
from maggy.earlystop.registry import require_direction
from maggy.errors import ConfigError
from maggy.testing.policies import PolicyContract
from maggy.trial import Trial, TrialStatus


def running(losses: Any) -> Trial:
    steps = list(range(len(losses)))
    return Trial(id=9, hparams={}, status=TrialStatus.RUNNING, steps=steps, losses=list(losses))


def test_an_accuracy_below_the_bar_is_stopped() -> None:
    """From the step on, the best value must have reached the bar, in the user's own sign."""
    rule = ThresholdRule(2, at_least=0.5)
    assert not rule.decide(running([-0.1, -0.2])).stop
    assert not rule.decide(running([-0.1, -0.6, -0.4])).stop
    assert not rule.decide(running([-0.1, -0.2, -0.5])).stop
    decision = rule.decide(running([-0.1, -0.4, -0.2]))
    assert decision.stop
    assert Sense("max").sentence(decision) == (
        "its best value 0.4 by step 2 has not reached 0.5, which is asked for from step 2 on"
    )


def test_an_error_above_the_bar_is_stopped() -> None:
    """The same for a metric to be minimised."""
    rule = ThresholdRule(0, at_most=2.0)
    assert rule.decide(running([2.5])).threshold == 2.0
    assert not rule.decide(running([2.5, 2.0])).stop


def test_the_best_completed_trial_is_matched_not_stopped() -> None:
    """If no trial reaches the bar, those as good as the best go on."""
    rule = ThresholdRule(0, at_most=2.0)
    rule.finished(Trial(id=0, hparams={}, status=TrialStatus.COMPLETED, loss=5.0))
    assert not rule.decide(running([5.0])).stop
    assert rule.decide(running([5.1])).stop


@pytest.mark.parametrize(
    "options",
    [{}, {"at_least": 1.0, "at_most": 1.0}, {"at_least": float("nan")}, {"at_most": float("inf")}],
)
def test_bars_are_checked(options: Any) -> None:
    """Exactly one bar, and a number."""
    with pytest.raises(ValueError, match="at_least"):
        ThresholdRule(1, **options)


def test_the_wrong_direction_is_refused() -> None:
    """A bar for accuracies does not fit a search for the smallest error, also inside others."""
    rule = ThresholdRule(3, at_least=0.5)
    require_direction(rule, "max")
    require_direction(MedianRule(), "min")
    for policy in (rule, AllOf(MedianRule(), rule)):
        with pytest.raises(ConfigError, match=r"ThresholdRule\(3, at_least=0\.5\) is made for"):
            require_direction(policy, "min")
    assert repr(ThresholdRule(1, at_most=2)) == "ThresholdRule(1, at_most=2)"


class TestThresholdContract(PolicyContract):
    """The bar keeps the contract of policies."""

    def policy(self) -> Any:
        return ThresholdRule(1, at_most=2.0)
