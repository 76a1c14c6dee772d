"""Policies made of policies."""

from __future__ import annotations

from typing import Any

import pytest

from maggy.contracts import Decision
from maggy.core.losses import Sense
from maggy.earlystop import AllOf, AnyOf, MedianRule, PatienceRule, ThresholdRule
from maggy.testing.policies import PolicyContract
from maggy.trial import Trial, TrialStatus

RUNNING = Trial(id=1, hparams={}, status=TrialStatus.RUNNING, steps=[0, 1], losses=[-1.0, -2.0])
GO_ON = Decision(stop=False)


class Fixed:
    """Always decides the same, and counts how often it is asked and told."""

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        self.asked = self.told = 0

    def finished(self, trial: Trial) -> None:
        self.told += 1

    def decide(self, trial: Trial) -> Decision:
        self.asked += 1
        return self.decision


def stop(reason: str, threshold: Any = None, **losses: float) -> Fixed:
    return Fixed(Decision(stop=True, reason=reason, threshold=threshold, losses=losses))


def test_any_stops_with_the_first_reason() -> None:
    """The first policy that stops is the one that is told of."""
    first, second = stop("{x} is bad", x=1.0), stop("never mind")
    assert AnyOf(Fixed(GO_ON), first, second).decide(RUNNING) is first.decision
    assert AnyOf(Fixed(GO_ON), Fixed(GO_ON)).decide(RUNNING) == GO_ON


def test_all_need_all() -> None:
    """One that lets the trial go on is enough."""
    assert not AllOf(stop("a"), Fixed(GO_ON)).decide(RUNNING).stop


def test_all_tell_every_reason_in_the_users_sign() -> None:
    """Losses of the same name do not get mixed up, and braces of plain reasons survive."""
    policy = AllOf(stop("{best} < {bar}", 3.0, best=-0.2, bar=-0.5), stop("{best} fell", best=1.0))
    decision = policy.decide(RUNNING)
    assert Sense("max").sentence(decision) == "0.2 < 0.5; and -1 fell"
    assert decision.threshold == 3.0
    plain = AllOf(stop("set {1}", 1.0), stop("{x}", 2.0, x=4.0)).decide(RUNNING)
    assert Sense("min").sentence(plain) == "set {1}; and 4"
    assert plain.threshold == 2.0
    assert Sense("min").sentence(AllOf(stop("{a}"), stop("b")).decide(RUNNING)) == "{a}; and b"


@pytest.mark.parametrize("kind", [AllOf, AnyOf])
def test_every_policy_sees_everything(kind: Any) -> None:
    """All are told and asked, whatever the others say: each is a fold of its own."""
    parts = [stop("a"), Fixed(GO_ON), stop("b")]
    policy = kind(*parts)
    policy.finished(RUNNING)
    policy.decide(RUNNING)
    assert [(part.told, part.asked) for part in parts] == [(1, 1)] * 3


@pytest.mark.parametrize("kind", [AllOf, AnyOf])
def test_what_is_no_policy_is_refused(kind: Any) -> None:
    """Names and nothing at all are no policies."""
    for wrong in ([], ["median"], [MedianRule(), None]):
        with pytest.raises(TypeError, match="one or more policies"):
            kind(*wrong)


def test_they_can_be_nested_and_read() -> None:
    """A policy of policies of policies says what it is made of."""
    policy = AnyOf(ThresholdRule(3, at_least=0.5), AllOf(PatienceRule(4), PatienceRule(5)))
    assert repr(policy) == (
        "AnyOf(ThresholdRule(3, at_least=0.5), AllOf(PatienceRule(4, min_delta=0), "
        "PatienceRule(5, min_delta=0)))"
    )


class TestAllOfContract(PolicyContract):
    """All of keeps the contract of policies."""

    def policy(self) -> Any:
        return AllOf(MedianRule(min_peers=1), PatienceRule(1))


class TestAnyOfContract(PolicyContract):
    """Any of keeps the contract of policies."""

    def policy(self) -> Any:
        return AnyOf(MedianRule(min_peers=1), PatienceRule(1))
