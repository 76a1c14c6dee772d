"""Conditions of a simulated cluster: checked, and drawn from the seed."""

from __future__ import annotations

import math
import statistics
from typing import Any

import pytest

from maggy.engines.conditions import Conditions, Fate
from maggy.errors import ConfigError


def test_a_perfect_cluster_is_the_default() -> None:
    """No delay, no loss, nobody slow."""
    assert Conditions().fate(0, 0) == Fate(1.0, math.inf)


def test_fates_follow_the_numbers() -> None:
    """Lives have the wanted mean, and the wanted share is slow."""
    conditions = Conditions(lost_every=50.0, slow_share=0.25, slow_factor=4.0)
    fates = [conditions.fate(1, worker) for worker in range(2000)]
    assert statistics.mean(fate.life for fate in fates) == pytest.approx(50, rel=0.1)
    assert sum(fate.pace == 4.0 for fate in fates) == pytest.approx(500, rel=0.15)


def test_fates_depend_on_seed_and_worker() -> None:
    """The same worker of the same seed has the same fate, whoever asks when."""
    conditions = Conditions(lost_every=50.0)
    assert conditions.fate(1, 5) == conditions.fate(1, 5)
    assert len({conditions.fate(seed, worker) for seed in (1, 2) for worker in (0, 1, 2)}) == 6


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"start": -1.0}, "0 <= start < inf"),
        ({"stop": math.nan}, "0 <= stop < inf"),
        ({"suggest": math.inf}, "0 <= suggest < inf"),
        ({"lost_every": 0.0}, "lost_every > 0"),
        ({"slow_share": 1.5}, "slow_share <= 1"),
        ({"slow_factor": 0.5}, "slow_factor >= 1"),
    ],
)
def test_numbers_are_checked(options: Any, rule: str) -> None:
    """What is out of range is named with its rule."""
    with pytest.raises(ConfigError, match=rule):
        Conditions(**options)
