"""The median stopping rule against a brute-force reading of its definition."""

from __future__ import annotations

import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maggy.earlystop import MedianRule, resolve_policy
from maggy.errors import ConfigError
from maggy.testing.policies import PolicyContract
from maggy.trial import Trial, TrialStatus


def trial(steps: Any, losses: Any, status: Any = TrialStatus.COMPLETED, number: Any = 0) -> Trial:
    loss = losses[-1] if losses and status is TrialStatus.COMPLETED else None
    return Trial(
        id=number, hparams={}, status=status, steps=list(steps), losses=list(losses), loss=loss
    )


def brute_force(story: Any, running: Any, min_peers: Any) -> bool:
    step = running.steps[-1]
    averages = []
    newest = {peer.id: peer for peer in story}  # a promoted trial completes again
    for peer in newest.values():
        upto = [loss for s, loss in zip(peer.steps, peer.losses, strict=True) if s <= step]
        if peer.steps and peer.steps[-1] >= step and upto:
            averages.append(statistics.fmean(upto))
    best = min(running.losses)
    seen = [loss for peer in story for loss in (*peer.losses, peer.loss) if loss is not None]
    if len(averages) < min_peers or (seen and best <= min(seen)):
        return False
    return bool(best > statistics.median(averages))


@st.composite
def curves(draw: Any) -> Any:
    steps = sorted(draw(st.sets(st.integers(0, 12), min_size=1, max_size=6)))
    losses = draw(
        st.lists(st.integers(-50, 50).map(float), min_size=len(steps), max_size=len(steps))
    )
    return steps, losses


@given(
    st.lists(st.tuples(st.integers(0, 6), curves()), max_size=9),
    st.lists(curves(), min_size=1, max_size=4),
)
def test_it_equals_the_definition_on_ragged_curves(peers: Any, running: Any) -> None:
    """Columns built early or late, trials that complete once or, promoted, again: same answer."""
    rule = MedianRule(min_peers=2)
    story = []
    for number, peer in peers:
        steps, losses = peer
        done = trial(steps, losses, number=number)
        rule.finished(done)
        story.append(done)
        for steps, losses in running:
            for upto in range(1, len(steps) + 1):
                now = trial(steps[:upto], losses[:upto], TrialStatus.RUNNING)
                decision = rule.decide(now)
                assert decision.stop == brute_force(story, now, 2)
                assert bool(decision.reason) == decision.stop


def test_stopped_and_failed_trials_are_no_references() -> None:
    """Only completed trials make the median, or it would drift towards the bad ones."""
    rule = MedianRule(min_peers=1)
    for status in (TrialStatus.STOPPED, TrialStatus.FAILED):
        rule.finished(trial([0], [0.0], status))
    assert not rule.decide(trial([0], [9.0], TrialStatus.RUNNING)).stop


def test_a_tie_goes_on() -> None:
    """Equal to the median is not worse."""
    rule = MedianRule(min_peers=1)
    rule.finished(trial([0], [1.0]))
    assert not rule.decide(trial([0], [1.0], TrialStatus.RUNNING)).stop


def test_the_sentence_has_the_numbers() -> None:
    """The user reads what was compared, at which step, with how many."""
    rule = MedianRule(min_peers=3)
    for number, loss in enumerate((1.0, 2.0, 3.0)):
        rule.finished(trial([5], [loss], number=number))
    decision = rule.decide(trial([5], [2.5], TrialStatus.RUNNING))
    text = decision.reason.format(**decision.losses)
    assert (
        text == "its best value 2.5 by step 5 is worse than 2.0, the median of 3 completed trials"
    )
    assert decision.threshold == 2.0


def test_huge_losses_do_not_break_the_average() -> None:
    """1e308 twice overflows to infinity, which still compares."""
    rule = MedianRule(min_peers=1)
    rule.finished(trial([0, 1], [1e308, 1e308]))
    assert not rule.decide(trial([1], [5.0], TrialStatus.RUNNING)).stop


def test_trials_without_a_curve_are_no_references() -> None:
    """A function that only returns gives nothing to compare at a step, but its value is kept."""
    rule = MedianRule(min_peers=1)
    rule.finished(Trial(id=0, hparams={}, status=TrialStatus.COMPLETED, loss=0.5))
    assert not rule.decide(trial([0], [9.0], TrialStatus.RUNNING)).stop


def test_names_resolve_and_errors_teach() -> None:
    """The nearest name is offered; classes and half a policy are refused with what to do."""
    rule = resolve_policy("Median", es_min=20)
    assert isinstance(rule, MedianRule)
    assert rule.min_peers == 10
    assert resolve_policy("none", es_min=1) is None
    assert resolve_policy(rule, es_min=1) is rule
    with pytest.raises(ConfigError, match="Did you mean 'median'"):
        resolve_policy("medain", es_min=1)
    with pytest.raises(ConfigError, match=r"Write MedianRule\(\)"):
        resolve_policy(MedianRule, es_min=1)
    with pytest.raises(ConfigError, match="`finished"):
        resolve_policy(3, es_min=1)
    with pytest.raises(ValueError, match="min_peers >= 1"):
        MedianRule(min_peers=0)


class TestMedianContract(PolicyContract):
    """The median rule keeps the contract of policies."""

    def policy(self) -> Any:
        return MedianRule(min_peers=1)
