"""Stopping by extrapolation: who is behind and not on the way goes, others stay."""

from __future__ import annotations

import math
import random
import time
from typing import Any

import pytest

from maggy.earlystop import CurveRule, resolve_policy
from maggy.testing.curves import load_task
from maggy.testing.policies import PolicyContract
from maggy.trial import Trial, TrialStatus


def trial(losses: Any, status: Any = TrialStatus.RUNNING, number: Any = 99) -> Trial:
    steps = list(range(len(losses)))
    loss = losses[-1] if status is TrialStatus.COMPLETED else None
    return Trial(id=number, hparams={}, status=status, steps=steps, losses=list(losses), loss=loss)


def decay(limit: float, rate: float, count: int) -> list[float]:
    return [limit + (1 - limit) * math.exp(-rate * step) for step in range(count)]


def taught(**options: Any) -> CurveRule:
    """A rule that knows ten trials of 30 steps, which end between 0.1 and 0.55."""
    rule = CurveRule(**options)
    for number in range(10):
        losses = decay(0.1 + 0.05 * number, 0.3, 30)
        rule.finished(trial(losses, TrialStatus.COMPLETED, number))
    return rule


def test_a_hopeless_trial_is_stopped_with_its_numbers() -> None:
    """A curve that has settled far above the others goes, and the user reads why."""
    decision = taught().decide(trial(decay(0.8, 0.5, 12)))
    assert decision.stop
    text = decision.reason.format(**decision.losses)
    assert text.startswith("its best value 0.80")
    assert "which the best 28% of 10 trials had reached" in text
    assert "a chance of 0.0% to end better than 0.19" in text
    assert text.endswith("at step 29")


def test_a_late_bloomer_goes_on() -> None:
    """Behind, but falling fast: it may end among the best."""
    slow = [1.0 - 0.04 * step for step in range(12)]
    rule = taught()
    assert min(slow) > sorted(decay(0.1 + 0.05 * k, 0.3, 12)[-1] for k in range(10))[5]
    assert not rule.decide(trial(slow)).stop


def test_who_is_not_behind_goes_on() -> None:
    """A settled curve among the best third is left alone, however flat it is."""
    assert not taught().decide(trial(decay(0.15, 2.0, 20))).stop


def test_one_bad_report_is_no_reason() -> None:
    """The extrapolation has to say so at two reports in a row."""
    falling = [1.0 - 0.06 * step for step in range(9)]
    rule = taught(quantile=0.0)
    assert not rule.decide(trial([*falling, 1.5])).stop


def test_it_waits_for_enough_reports() -> None:
    """Before a tenth of the usual length, and before five reports, nothing is judged."""
    hopeless = [1.0] * 20
    rule = taught(min_share=0.3)
    assert [rule.decide(trial(hopeless[:count])).stop for count in (3, 8, 9)] == [False] * 3
    assert rule.decide(trial(hopeless[:10])).stop
    assert not taught().decide(trial(hopeless[:4])).stop
    assert taught().decide(trial(hopeless[:5])).stop


def test_it_needs_peers_and_an_end() -> None:
    """Without completed trials there is no length and no target; at the end nothing is left."""
    rule = CurveRule(min_peers=1)
    rule.finished(trial([1.0] * 5, TrialStatus.STOPPED, 0))
    assert not rule.decide(trial([9.0] * 5)).stop
    assert not taught(min_peers=11).decide(trial([1.0] * 10)).stop
    assert not taught().decide(trial([1.0] * 30)).stop


def test_stopped_trials_hold_the_bar_down() -> None:
    """With every bad trial forgotten the bar would rise: those that were stopped count too."""
    average = decay(0.35, 0.3, 12)
    alone, crowded = taught(), taught()
    for number in range(20, 50):
        crowded.finished(trial([1.0] * 5, TrialStatus.STOPPED, number))
    assert alone.decide(trial(average)).stop
    assert not crowded.decide(trial(average)).stop


def test_huge_losses_are_left_alone() -> None:
    """Numbers whose squares overflow are not extrapolated."""
    assert not taught().decide(trial([1e200] * 10)).stop
    rule = CurveRule(min_peers=1)
    rule.finished(trial([1e200, -1e200] * 4, TrialStatus.COMPLETED, 0))
    assert not rule.decide(trial([1e201] * 6)).stop


def test_a_promoted_trial_counts_once() -> None:
    """Ended again after a promotion, it replaces what it was."""
    rule = CurveRule(min_peers=2)
    for length in (5, 10, 20):
        rule.finished(trial([0.1] * length, TrialStatus.COMPLETED, 0))
    assert not rule.decide(trial([1.0] * 6)).stop


@pytest.mark.parametrize(
    "options",
    [{"delta": 0}, {"delta": 1}, {"quantile": 2}, {"keep": 0}, {"min_share": 1}, {"min_peers": 0}],
)
def test_options_are_checked(options: Any) -> None:
    """Nonsense is refused with its name."""
    with pytest.raises(ValueError, match=next(iter(options))):
        CurveRule(**options)


def test_it_has_a_name_and_can_be_read() -> None:
    """The registry makes it with peers from ``es_min``."""
    rule = resolve_policy("curve", es_min=20)
    assert isinstance(rule, CurveRule)
    assert rule.min_peers == 10
    assert repr(CurveRule()) == (
        "CurveRule(0.2, quantile=0.2, keep=0.28, min_peers=4, min_share=0.1)"
    )


def test_decisions_are_fast() -> None:
    """Well under a millisecond of processor time each, on real curves."""
    recordings = load_task("digits-mlp").recordings
    rule = CurveRule()
    for number, recording in enumerate(recordings[:40]):
        losses = [-value for value in recording.values]
        rule.finished(trial(losses, TrialStatus.COMPLETED, number))
    shown = [
        trial([-value for value in random.Random(k).choice(recordings).values[: 5 + k % 20]])
        for k in range(200)
    ]
    rule.decide(shown[0])  # numpy and scipy are loaded here
    began = time.thread_time()
    for running in shown:
        rule.decide(running)
    assert (time.thread_time() - began) / len(shown) < 2e-3


class TestCurveContract(PolicyContract):
    """Extrapolation keeps the contract of policies."""

    def policy(self) -> Any:
        return CurveRule(min_peers=1)
