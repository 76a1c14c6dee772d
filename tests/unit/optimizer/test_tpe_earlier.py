"""What earlier runs add to TPE's densities weighs as much as they are trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from maggy.contracts import EarlierRun
from maggy.optimizer._tpe.earlier import Earlier
from maggy.optimizer._tpe.encoding import Encoding
from maggy.optimizer._tpe.evidence import Evidence
from maggy.optimizer.agreement import PRIOR_TRUST
from maggy.searchspace import Double, Searchspace
from maggy.trial import Trial, TrialStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

SPACE = Searchspace(x=Double(0.0, 1.0))
ENCODING = Encoding(SPACE)


def trials(count: int, slope: float = 1.0, *, offset: float = 0.0) -> list[Trial]:
    """Evenly placed, with a loss that is linear in x."""
    places = (np.arange(count) + 0.5 + offset) / (count + 1)
    return [
        Trial(id=n, hparams={"x": float(x)}, status=TrialStatus.COMPLETED, loss=slope * float(x))
        for n, x in enumerate(places)
    ]


def told(known: Sequence[Trial]) -> Evidence:
    """The evidence of these trials."""
    evidence = Evidence(ENCODING)
    for trial in known:
        evidence.tell(trial)
    return evidence


def earlier(*runs: Sequence[Trial]) -> Earlier:
    """Of these runs."""
    made = [EarlierRun(name=str(number), trials=run) for number, run in enumerate(runs)]
    return Earlier(made, SPACE, ENCODING)


def test_before_there_are_trials_a_run_weighs_the_prior() -> None:
    """Its split is its own, times the prior trust."""
    run = trials(40)
    own, split = told([]).split(()), told(run).split(())
    joined = earlier(run).join(own, [])
    assert joined.good == pytest.approx(split.good)
    assert joined.good_weights == pytest.approx(PRIOR_TRUST * split.good_weights)
    assert joined.rest_weights == pytest.approx(PRIOR_TRUST * split.rest_weights)


def test_new_trials_come_first_and_keep_their_weights() -> None:
    """A run that ranks them rightly gains weight, one that does not is out."""
    new = trials(12, offset=0.3)
    own = told(new).split(())
    right, wrong = trials(40), trials(40, -1.0)
    joined = earlier(right, wrong).join(own, new)
    count = len(own.good)
    assert joined.good[:count] == pytest.approx(own.good)
    assert joined.good_weights[:count] == pytest.approx(own.good_weights)
    assert len(joined.good) == count + len(told(right).split(()).good)
    added = joined.good_weights[count:] / told(right).split(()).good_weights
    assert added == pytest.approx(np.full(len(added), (4 * 0.5 + 12) / 16))
    assert joined.good[count:].max() < 0.2


def test_only_finite_losses_of_completed_trials_are_compared() -> None:
    """Others have no place in a ranking."""
    new = trials(3)
    new[0].status, new[1].loss = TrialStatus.FAILED, float("nan")
    own = told([]).split(())
    one = earlier(trials(40)).join(own, new)
    other = earlier(trials(40)).join(own, new[2:])
    assert one.good_weights == pytest.approx(other.good_weights)


def test_runs_that_say_nothing_add_nothing() -> None:
    """A run of two trials, or with equal losses, leaves the split as it is."""
    own = told(trials(9)).split(())
    known = earlier(trials(2), trials(30, 0.0))
    assert len(known) == 0
    assert known.join(own, trials(9)) is own
