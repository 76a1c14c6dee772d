"""Patience: a plateau ends a trial, an improvement does not."""

from __future__ import annotations

from typing import Any

import pytest

from maggy.earlystop import PatienceRule
from maggy.testing.policies import PolicyContract
from maggy.trial import Trial, TrialStatus


def running(losses: Any) -> Trial:
    steps = list(range(len(losses)))
    return Trial(id=9, hparams={}, status=TrialStatus.RUNNING, steps=steps, losses=list(losses))


def rule(patience: int, **options: Any) -> PatienceRule:
    made = PatienceRule(patience, **options)
    made.finished(
        Trial(id=0, hparams={}, status=TrialStatus.COMPLETED, steps=[0], losses=[0.0], loss=0.0)
    )
    return made


def test_a_plateau_ends_it() -> None:
    """Three reports without anything better than before: stopped, and told why."""
    decision = rule(3).decide(running([5.0, 3.0, 3.0, 4.0, 3.0]))
    assert decision.stop
    assert decision.threshold == 3.0
    assert decision.reason.format(**decision.losses) == (
        "its best value 3.0 has not improved for 3 reports, up to step 4"
    )


def test_an_improvement_starts_the_count_again() -> None:
    """One better report among the last ones is enough."""
    assert not rule(3).decide(running([5.0, 3.0, 3.0, 2.9, 3.0])).stop
    assert not rule(3).decide(running([5.0, 3.0, 3.0])).stop


def test_small_improvements_do_not_count() -> None:
    """An improvement must exceed ``min_delta``, and the sentence says so."""
    decision = rule(2, min_delta=0.5).decide(running([5.0, 4.8, 4.6]))
    assert decision.stop
    assert "by more than 0.5 for 2 reports" in decision.reason
    assert not rule(2, min_delta=0.5).decide(running([5.0, 4.8, 4.4])).stop


def test_the_leader_and_the_first_go_on() -> None:
    """A plateau at the top is no reason to lose it, nor is one before anything completed."""
    assert not rule(1).decide(running([0.0, 0.0, 0.0])).stop
    assert not PatienceRule(1).decide(running([5.0, 5.0, 5.0])).stop


def test_a_failed_trial_teaches_nothing() -> None:
    """Only completed trials make a leader."""
    made = PatienceRule(1)
    made.finished(Trial(id=0, hparams={}, status=TrialStatus.FAILED, steps=[0], losses=[0.0]))
    assert not made.decide(running([5.0, 5.0])).stop


@pytest.mark.parametrize("options", [{"patience": 0}, {"min_delta": -1.0}])
def test_options_are_checked(options: Any) -> None:
    """Nonsense is refused with its name."""
    with pytest.raises(ValueError, match=next(iter(options))):
        PatienceRule(**options)


class TestPatienceContract(PolicyContract):
    """Patience keeps the contract of policies."""

    def policy(self) -> Any:
        return PatienceRule(1)
