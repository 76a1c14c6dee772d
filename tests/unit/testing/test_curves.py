"""The recorded curves: real, whole, and small."""

from __future__ import annotations

import statistics
from importlib import resources

import pytest

from maggy.errors import ConfigError
from maggy.testing.curves import TASKS, load_task

SHORT = {"digits-mlp", "friedman-boosting"}


@pytest.mark.parametrize("name", TASKS)
def test_recordings_are_whole(name: str) -> None:
    """As many steps each, finite values and positive seconds, in configurations of the space."""
    task = load_task(name)
    assert task.name == name
    assert len(task.recordings) >= 160
    for recording in task.recordings:
        assert list(recording.steps) == list(range(27 if name in SHORT else 81))
        assert min(recording.seconds) > 0
        assert all(abs(value) < 1e3 for value in recording.values)
        assert task.searchspace.allows(recording.hparams)


@pytest.mark.parametrize("name", TASKS)
def test_they_are_worth_searching(name: str) -> None:
    """Configurations differ in value and in duration, and training helps."""
    task = load_task(name)
    sign = -1 if task.direction == "max" else 1
    finals = sorted(sign * recording.final for recording in task.recordings)
    first = statistics.median(sign * recording.values[0] for recording in task.recordings)
    assert finals[0] < statistics.median(finals) < first
    durations = [recording.duration for recording in task.recordings]
    assert statistics.pstdev(durations) > 0.4 * statistics.mean(durations)


def test_durations_can_be_scaled() -> None:
    """To any mean; ratios and values stay."""
    task = load_task("digits-mlp")
    scaled = task.scaled(2.0)
    assert statistics.mean(recording.duration for recording in scaled) == pytest.approx(2.0)
    ratios = {
        round(new.duration / old.duration, 6)
        for new, old in zip(scaled, task.recordings, strict=True)
    }
    assert len(ratios) == 1
    assert scaled[3].values == task.recordings[3].values


def test_the_files_are_small() -> None:
    """Each of them stays under 250 kB."""
    folder = resources.files("maggy.testing")
    assert all(len(folder.joinpath(f"{name}.json").read_bytes()) < 250_000 for name in TASKS)


def test_unknown_tasks_are_refused() -> None:
    """With the nearest name."""
    with pytest.raises(ConfigError, match="Did you mean 'digits-mlp'"):
        load_task("digit-mlp")
