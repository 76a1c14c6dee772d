"""What counts as good, and how much each trial counts."""

from __future__ import annotations

import random

import numpy as np
import pytest

from maggy.optimizer._tpe.encoding import Encoding
from maggy.optimizer._tpe.evidence import Evidence, rank
from maggy.searchspace import Double, Searchspace
from maggy.trial import Trial, TrialError, TrialStatus

SPACE = Searchspace(x=Double(0.0, 1.0))


def completed(number: int, loss: float) -> Trial:
    """A trial whose place in the space is its number in thousandths."""
    trial = Trial(id=number, hparams={"x": number / 10_000})
    trial.status, trial.loss = TrialStatus.COMPLETED, loss
    return trial


def stopped(number: int, losses: list[float]) -> Trial:
    """A trial that was stopped after these losses."""
    trial = Trial(id=number, hparams={"x": number / 10_000}, steps=list(range(len(losses))))
    trial.losses.extend(losses)
    trial.status, trial.loss = TrialStatus.STOPPED, losses[-1] if losses else None
    return trial


def failed(number: int) -> Trial:
    """A trial that failed, after a good report."""
    trial = Trial(id=number, hparams={"x": number / 10_000}, steps=[0], losses=[-9.0])
    trial.status, trial.error = TrialStatus.FAILED, TrialError(type="E", message="")
    return trial


def evidence(trials: list[Trial]) -> Evidence:
    """What is known after these trials."""
    known = Evidence(Encoding(SPACE))
    for trial in trials:
        known.tell(trial)
    return known


def places(rows: np.ndarray) -> list[int]:
    """The numbers of the trials in these rows."""
    return [round(10_000 * value) for value in rows[:, 0].tolist()]


def test_ranks() -> None:
    """Completed by loss, stopped by how far they came and their best, then silent, then failed."""
    best_first = [
        completed(7, -1e300),
        completed(4, 0.5),
        completed(6, 0.5),
        completed(5, 1e300),
        stopped(1, [0.1, 0.3, 0.2]),
        stopped(0, [0.4, 0.3, 0.3]),
        stopped(2, [0.0]),
        stopped(3, []),
        failed(8),
        completed(9, float("inf")),
    ]
    shuffled = random.Random(0).sample(best_first, len(best_first))
    assert [trial.id for trial in sorted(shuffled, key=rank)] == [trial.id for trial in best_first]


def test_what_is_good() -> None:
    """The best 15 %, at least 2 and at most 25, never a failed or silent trial."""
    for count, good in [(3, 2), (10, 2), (20, 3), (100, 15), (400, 25)]:
        split = evidence([completed(i, float(i)) for i in range(count)]).split([])
        assert places(split.good) == list(range(good))
        assert places(split.rest) == list(range(good, count))
        assert np.all(np.diff(split.good_weights) < 0)
        assert split.good_weights.min() > 0
    known = evidence([completed(0, 1.0), failed(1), stopped(2, []), failed(3)])
    assert known.informative == 1
    assert places(known.split([]).good) == [0]
    assert places(known.split([]).rest) == [1, 2, 3]


def test_pending_trials_are_bad() -> None:
    """What runs is among the rest, with full weight."""
    split = evidence([completed(i, float(i)) for i in range(300)]).split(
        [Trial(id=300, hparams={"x": 0.9})]
    )
    assert places(split.rest)[-1] == 9000
    assert split.rest_weights[-1] == 1.0


def test_old_trials_count_less() -> None:
    """The newest 250 of the rest weigh 1, older ones less, the oldest 1 / n."""
    weights = evidence([completed(i, float(-i)) for i in range(400)]).split([]).rest_weights
    assert len(weights) == 375
    assert np.all(weights[-250:] == 1.0)
    assert np.all(np.diff(weights[:126]) > 0)
    assert weights[0] == pytest.approx(1 / 375)


@pytest.mark.parametrize("count", [1000, 5000])
def test_many_trials_are_thinned(count: int) -> None:
    """Of many, 500 are used: the newest 250, and an even part of the rest with their weight."""
    known = evidence([completed(i, float(i % 97)) for i in range(count)])
    split = known.split([])
    older = places(split.rest)[:250]
    assert len(split.rest) == 500
    assert older == sorted(older)
    assert max(np.diff(older)) < 6 * count / 250
    whole = (count - 25 - 250) / 2
    assert split.rest_weights[:250].sum() == pytest.approx(whole, rel=0.05)


@pytest.mark.parametrize("count", [12, 900])
def test_order_does_not_matter(count: int) -> None:
    """The same trials in any order give the same split, bit for bit."""
    losses = random.Random(1)
    trials = [completed(i, losses.choice([0.0, 1.0, 2.0, 3.0])) for i in range(count)]
    first = evidence(trials).split([])
    second = evidence(losses.sample(trials, count)).split([])
    assert np.array_equal(first.good, second.good)
    assert np.array_equal(first.rest, second.rest)
    assert np.array_equal(first.rest_weights, second.rest_weights)


def test_telling_again_replaces() -> None:
    """A trial that went on counts with what it came to last."""
    known = evidence([completed(i, float(i)) for i in range(20)])
    known.tell(completed(19, -1.0))
    known.tell(failed(0))
    assert len(known) == 20
    assert 19 in known
    assert 20 not in known
    assert places(known.split([]).good) == [19, 1, 2]
