"""What ended trials had come to, against recomputing everything each time."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maggy.earlystop.references import (
    Bests,
    Leader,
    Ranked,
    References,
    quantile,
    running_average,
    running_best,
)
from maggy.trial import Trial, TrialStatus

numbers = st.integers(-50, 50).map(float)


def trial(number: Any, losses: Any, status: Any = TrialStatus.COMPLETED) -> Trial:
    return Trial(
        id=number,
        hparams={},
        status=status,
        steps=[2 * step + 1 for step in range(len(losses))],
        losses=list(losses),
        loss=losses[-1] if losses and status is TrialStatus.COMPLETED else None,
    )


ends = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.lists(numbers, min_size=1, max_size=5),
        st.sampled_from([TrialStatus.COMPLETED, TrialStatus.STOPPED, TrialStatus.FAILED]),
    ),
    max_size=12,
)


@given(ends, st.booleans(), st.booleans(), st.lists(st.integers(0, 11), max_size=4))
def test_columns_equal_recomputing(story: Any, best: Any, stopped: Any, early: Any) -> None:
    """Asked for early or late, ended once or again after a promotion: the same column."""
    running = running_best if best else running_average
    references = References(running, with_stopped=stopped)
    for step in early:
        assert references.column(step) == []
    latest: dict[int, Any] = {}
    for number, losses, status in story:
        references.finished(trial(number, losses, status))
        if status is TrialStatus.COMPLETED or (stopped and status is TrialStatus.STOPPED):
            latest[number] = losses, status
    for step in range(12):
        expected = []
        for losses, status in latest.values():
            upto = losses[: (step + 1) // 2]
            whole = 2 * len(losses) - 1 >= step or status is TrialStatus.STOPPED
            if upto and whole:
                expected.append(min(upto) if best else statistics.fmean(upto))
        assert references.column(step) == pytest.approx(sorted(expected))


@given(st.lists(st.tuples(st.integers(0, 4), numbers), max_size=20))
def test_ranked_keeps_one_number_for_each_trial(story: Any) -> None:
    """A new number of a trial replaces its old one, and the order holds."""
    ranked = Ranked()
    for key, number in story:
        ranked.put(key, number)
    assert ranked.ordered == sorted(dict(story).values())


@given(st.lists(numbers, min_size=1), st.floats(0, 1))
def test_quantiles_equal_numpy(sample: Any, q: Any) -> None:
    """Linear interpolation, as numpy's default."""
    assert quantile(sorted(sample), q) == pytest.approx(float(np.quantile(sample, q)))


def test_quantiles_of_huge_numbers_are_finite() -> None:
    """Half way between -1e308 and 1e308 is 0, not infinity."""
    assert quantile([-1e308, 1e308], 0.5) == 0.0


def test_only_completed_trials_lead() -> None:
    """Who is as good as the best completed trial ever was leads; without one nobody does."""
    leader = Leader()
    leader.finished(trial(0, [1.0], TrialStatus.STOPPED))
    assert not leader.leads(0.0)
    leader.finished(trial(1, [2.0, 5.0]))
    assert leader.leads(2.0)
    assert not leader.leads(2.1)
    leader.finished(Trial(id=2, hparams={}, status=TrialStatus.COMPLETED, loss=1.0))
    assert not leader.leads(2.0)


@given(st.lists(st.tuples(st.integers(0, 3), st.lists(numbers, min_size=1, max_size=6))))
def test_bests_look_at_every_report_once(growth: Any) -> None:
    """The best of a curve that grows, also when a new attempt begins in its middle."""
    bests = Bests()
    running = trial(0, [], TrialStatus.RUNNING)
    for restart, losses in growth:
        if restart == 0 and running.losses:
            running.attempt += 1
            del running.losses[len(running.losses) // 2 :]
        running.losses.extend(losses)
        for _ in range(2):
            assert bests.best(running) == min(running.losses)
        if restart == 1:
            bests.finished(running)


def test_bests_know_trials_apart() -> None:
    """Another trial of the same id is another curve."""
    bests = Bests()
    assert bests.best(trial(0, [3.0, 1.0])) == 1.0
    assert bests.best(trial(1, [2.0])) == 2.0
    assert bests.best(trial(0, [4.0, 5.0, 6.0])) == 4.0
