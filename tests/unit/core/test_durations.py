"""Durations are learned from ended trials."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest

from maggy import Categorical, Double, Searchspace
from maggy.core.durations import Durations
from maggy.testing.curves import load_task
from maggy.trial import Trial, TrialStatus

SPACE = Searchspace(batch=Double(8, 256, log=True), kind=Categorical(["a", "b", "c"]))


def ended(hparams: Any, reports: int = 0, status: Any = TrialStatus.COMPLETED) -> Trial:
    return Trial(
        id=0,
        hparams=hparams,
        status=status,
        steps=list(range(reports)),
        losses=[0.0] * reports,
    )


def truth(hparams: Any) -> float:
    factor = {"a": 1.0, "b": 5.0, "c": 2.0}[hparams["kind"]]
    return 100 * factor / float(hparams["batch"])


def drawn(count: int, seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [SPACE.sample(rng) for _ in range(count)]


def test_a_law_is_found() -> None:
    """Powers of numbers and factors of categories are predicted within a few percent."""
    durations = Durations(SPACE.encode)
    for hparams in drawn(100):
        durations.learn(ended(hparams), truth(hparams))
    assert durations.known
    for hparams in drawn(20, seed=1):
        assert durations.expected(hparams) == pytest.approx(truth(hparams), rel=0.2)


def test_nothing_is_known_at_first() -> None:
    """With too few trials there is no estimate, and a run without trials has no mean."""
    durations = Durations(SPACE.encode)
    assert durations.mean_spent == 0.0
    for hparams in drawn(9):
        assert not durations.learn(ended(hparams), 1.0)
    assert not durations.known
    assert durations.expected(drawn(1)[0]) == 0.0
    assert durations.learn(ended(drawn(10)[-1]), 1.0)
    assert durations.known


def test_stopped_trials_are_extended() -> None:
    """Half the reports in half the time is the same trial; its own time counts as spent."""
    durations = Durations(SPACE.encode)
    for number, hparams in enumerate(drawn(60)):
        if number % 2:
            durations.learn(ended(hparams, 10, TrialStatus.STOPPED), truth(hparams) / 2)
        else:
            durations.learn(ended(hparams, 20), truth(hparams))
    for hparams in drawn(20, seed=1):
        assert durations.expected(hparams) == pytest.approx(truth(hparams), rel=0.3)
    assert durations.mean_spent < sum(map(truth, drawn(60))) / 60


def test_failed_trials_tell_nothing() -> None:
    """Nobody knows how long they would have taken, nor a stopped one before any completed."""
    durations = Durations(SPACE.encode)
    for hparams in drawn(50):
        assert not durations.learn(ended(hparams, 5, TrialStatus.FAILED), 1.0)
        assert not durations.learn(ended(hparams, 5, TrialStatus.STOPPED), 1.0)
    assert not durations.known
    assert durations.mean_spent == 1.0


def test_degenerate_spaces_and_times() -> None:
    """One configuration again and again, in no time at all, leads to a finite estimate."""
    durations = Durations(SPACE.encode)
    for _ in range(40):
        durations.learn(ended({"batch": 8.0, "kind": "a"}), 0.0)
    assert 0 < durations.expected({"batch": 256.0, "kind": "c"}) < 1
    wide = Searchspace(**{f"x{i}": Double(0, 1) for i in range(30)})
    many = Durations(wide.encode)
    rng = np.random.default_rng(0)
    for _ in range(100):
        hparams = wide.sample(rng)
        many.learn(ended(hparams), math.exp(4 * float(hparams["x3"])))  # type: ignore[arg-type]
    assert many.expected({f"x{i}": float(i == 3) for i in range(30)}) > 20


def test_real_durations_are_ranked() -> None:
    """From 80 recorded trainings the order of the others is largely known."""
    task = load_task("digits-mlp")
    recordings = list(task.recordings)
    random.Random(0).shuffle(recordings)
    durations = Durations(task.searchspace.encode)
    for recording in recordings[:80]:
        durations.learn(ended(recording.hparams, 27), recording.duration)
    rest = recordings[80:]
    expected = np.argsort(np.argsort([durations.expected(each.hparams) for each in rest]))
    real = np.argsort(np.argsort([each.duration for each in rest]))
    assert np.corrcoef(expected, real)[0, 1] > 0.9


@pytest.mark.parametrize("dimensions", [1, 3, 12, 13])
def test_nothing_is_expected_to_take_longer_than_the_longest(dimensions: int) -> None:
    """The bound holds for every configuration, also those at the ends; 0 before the first fit."""
    space = Searchspace(**{f"x{i}": Double(0, 1) for i in range(dimensions)})
    durations = Durations(space.encode)
    rng = np.random.default_rng(dimensions)
    assert durations.longest == 0.0
    for number in range(300):
        point = rng.random(dimensions)
        seconds = math.exp(3 * point[0] - 5 * (point[-1] - 0.4) ** 2 + rng.normal())
        learned = durations.learn(ended(space.decode(point.tolist())), seconds)
        if not learned and number % 50:
            continue
        corners = rng.integers(0, 2, (20, dimensions)).astype(float)
        for at in [*rng.random((20, dimensions)), *corners]:
            assert durations.expected(space.decode(at.tolist())) <= durations.longest
    assert 1 < durations.longest < 1000
