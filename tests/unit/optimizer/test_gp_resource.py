"""From trials to observations at rungs: where they got, at which level, and how they failed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from maggy.optimizer._gp.resource import Ladder
from maggy.trial import Trial, TrialStatus

if TYPE_CHECKING:
    from maggy.optimizer._gp.evidence import Evidence

LADDER = Ladder((1, 3, 9), enough=2)


def climber(number: int, losses: dict[int, float], **options: object) -> Trial:
    """A trial with these losses after so much resource, completed unless told otherwise."""
    told: dict[str, object] = {
        "status": TrialStatus.COMPLETED,
        "loss": list(losses.values())[-1] if losses else None,
        **options,
    }
    return Trial(
        id=number,
        hparams={},
        steps=list(losses),
        losses=list(losses.values()),
        **told,  # type: ignore[arg-type]
    )


def seen(trials: list[Trial]) -> Evidence:
    """What these trials say; the row of number n is (n,)."""
    rows = np.arange(len(trials), dtype=float)[:, np.newaxis]
    evidence = LADDER.observed(trials, list(map(LADDER.reached, trials)), rows)
    assert evidence is not None
    return evidence


def positions(evidence: Evidence) -> list[float]:
    """Where on the ladder each observation is."""
    assert evidence.trailing is not None
    return [float(place) for place in evidence.trailing[:, 0]]


def test_positions() -> None:
    """They go from 0 to 1 with the logarithm of the resource."""
    assert Ladder((2, 4, 8, 16), 6).positions == pytest.approx([0, 1 / 3, 2 / 3, 1])


def test_the_target_is_the_highest_rung_with_enough_losses() -> None:
    """Two in this case; the first rung while there are none."""
    low, middle, high = (0, 5.0), (1, 4.0), (2, 3.0)
    assert LADDER.target([]).tolist() == [0.0]
    assert LADDER.target([[low], [low, middle]]).tolist() == [0.0]
    assert LADDER.target([[low, middle], [low, middle, high]]).tolist() == [0.5]
    assert LADDER.target([[low, middle, high], [high]]).tolist() == [1.0]


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ({1: 5.0, 3: 4.0, 9: 2.0}, [(0, 5.0), (1, 4.0), (2, 2.0)]),
        ({1: 5.0, 2: 4.0, 3: 3.0, 4: 2.0}, [(0, 5.0), (1, 3.0)]),
        ({0: 5.0, 1: 4.5, 2: 4.0, 3: 3.5}, [(0, 5.0), (1, 4.0)]),
        ({5: 4.0, 10: 2.0}, [(1, 4.0), (2, 2.0)]),
        ({9: 2.0}, [(2, 2.0)]),
        ({1: math.inf, 3: 4.0}, [(1, 4.0)]),
    ],
    ids=["rungs", "every step", "from step 0", "sparse", "top only", "not finite"],
)
def test_where_a_trial_got(losses: dict[int, float], expected: list[tuple[int, float]]) -> None:
    """A rung's loss is that of the first report there; who jumps over a rung was not there."""
    assert LADDER.reached(climber(0, losses)) == expected


def test_trials_that_got_to_no_rung() -> None:
    """An ended one counts at the first rung, or at its budget; a running one not yet."""
    ladder = Ladder((3, 9), 6)
    short = climber(0, {1: 5.0, 2: 4.0}, status=TrialStatus.STOPPED)
    assert ladder.reached(short) == [(0, 4.0)]
    short.status = TrialStatus.RUNNING
    assert ladder.reached(short) == []
    silent = climber(1, {}, loss=2.0)
    assert ladder.reached(silent) == [(1, 2.0)]
    silent.budget = 3
    assert ladder.reached(silent) == [(0, 2.0)]
    silent.status, silent.loss = TrialStatus.FAILED, None
    assert ladder.reached(silent) == []


def test_every_rung_is_an_observation() -> None:
    """One rung after the other, the trials in order within each."""
    evidence = seen([climber(0, {1: 5.0, 3: 4.0}), climber(1, {1: 6.0}), climber(2, {1: 3.0})])
    assert positions(evidence) == [0.0, 0.0, 0.0, 0.5]
    assert evidence.rows[:, 0].tolist() == [0.0, 1.0, 2.0, 0.0]
    assert evidence.completed.all()
    assert not evidence.failed.any()


def test_levels_are_those_within_trials() -> None:
    """What every trial gains alike from rung to rung is taken out, whoever was promoted."""
    finals = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    trials = [climber(n, {1: final + 30.0}) for n, final in enumerate(finals)]
    trials[0] = climber(0, {1: 31.0, 3: 11.0, 9: 1.0})
    trials[1] = climber(1, {1: 32.0, 3: 12.0})
    evidence = seen(trials)
    by_trial: dict[float, set[float]] = {}
    for row, target in zip(evidence.rows[:, 0].tolist(), evidence.targets.tolist(), strict=True):
        by_trial.setdefault(row, set()).add(round(target, 9))
    assert all(len(targets) == 1 for targets in by_trial.values())
    assert sorted(by_trial, key=lambda row: min(by_trial[row])) == [0, 1, 2, 3, 4, 5]


def test_rungs_without_a_common_trial() -> None:
    """Brackets that share no trial yet are moved to the same median."""
    low = [climber(n, {1: 10.0 + n}) for n in range(3)]
    high = [climber(3 + n, {9: float(n)}) for n in range(3)]
    targets = seen([*low, *high]).targets
    assert targets[:3] == pytest.approx(targets[3:])


def test_a_failed_trial_is_bad_at_the_target() -> None:
    """As bad as the worst, loosely, beside what it came to before; NaN is a failure."""
    trials = [
        climber(0, {1: 1.0}),
        climber(1, {1: 3.0, 3: 2.5}),
        climber(2, {1: 2.0, 3: 1.5}, status=TrialStatus.FAILED, loss=None),
        climber(3, {1: math.nan}),
        climber(4, {}, status=TrialStatus.STOPPED),
    ]
    evidence = seen(trials)
    assert evidence.rows[:, 0].tolist() == [0.0, 1.0, 2.0, 1.0, 2.0, 2.0, 3.0]
    assert evidence.failed.tolist() == [False] * 5 + [True] * 2
    assert (evidence.completed == ~evidence.failed).all()
    assert positions(evidence)[5:] == [0.5, 0.5]
    assert (evidence.targets[5:] == evidence.targets.max()).all()
    assert (evidence.variances[5:] > 0).all()


def test_nothing_but_failures() -> None:
    """Without any loss there is nothing to model."""
    failed = climber(0, {}, status=TrialStatus.FAILED)
    assert LADDER.observed([failed], [[]], np.zeros((1, 1))) is None
    assert LADDER.observed([], [], np.zeros((0, 1))) is None


@pytest.mark.parametrize("size", [1e-300, 1.0, 1e12, 1.7e308])
def test_losses_of_every_size_at_rungs(size: float) -> None:
    """Targets are finite, and better losses are not worse targets."""
    trials = [climber(n, {1: size * (n / 10), 3: -size * (1 - n / 10)}) for n in range(10)]
    evidence = seen(trials)
    assert np.isfinite(evidence.targets).all()
    assert (np.diff(evidence.targets[:10]) >= 0).all()
    assert (np.diff(evidence.targets[10:]) >= 0).all()
