"""The demo: a real search on real data, short, and with early stopping at work."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from maggy import demo, experiment

if TYPE_CHECKING:
    from pathlib import Path

    from maggy import Reporter

pytestmark = pytest.mark.integration


@pytest.mark.slow
def test_demo_searches_and_stops_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Under a minute, a third of the trials or more stopped, none failed, a good network."""
    monkeypatch.chdir(tmp_path)
    began = time.monotonic()
    assert demo.main(num_workers=2) == 0
    assert time.monotonic() - began < 60
    (path,) = (tmp_path / "maggy-runs" / "demo").iterdir()
    result = experiment.load(path)
    assert result["num_trials"] == 60
    assert result["failed"] == 0
    assert result["early_stopped"] >= 20
    assert result["best_val"] > 0.97
    for trial in result.trials:
        assert len(trial.curve.steps) == demo.EPOCHS or trial.stop_reason
    said = capfd.readouterr().out
    assert "test images" in said
    assert float(said.split("reads ")[-1].split("%")[0]) > 93


def test_training_function_reports_every_epoch() -> None:
    """One report for each epoch, and the last one is what it returns: the validation accuracy."""
    train_set, valid_set, _ = demo.load_digits()
    reported: list[tuple[int, float]] = []

    class Listener:
        def broadcast(self, metric: float, step: int) -> None:
            reported.append((step, metric))

    hparams = {
        "learning_rate": 0.05,
        "units": 32,
        "layers": 1,
        "batch_size": 32,
        "alpha": 1e-4,
        "activation": "relu",
    }
    assert set(hparams) == set(demo.searchspace)
    returned = demo.train(hparams, cast("Reporter", Listener()), train_set, valid_set, seed=0)
    assert [step for step, _ in reported] == list(range(demo.EPOCHS))
    assert returned == reported[-1][1] > 0.9 > reported[0][1]


def test_images_are_used_once() -> None:
    """The three sets are disjoint, make up the whole data set, and show all ten digits."""
    sets = demo.load_digits()
    assert sum(len(images) for images, _ in sets) == 1797
    rows = [{image.tobytes() for image in images} for images, _ in sets]
    assert not rows[0] & rows[1]
    assert not rows[0] & rows[2]
    assert not rows[1] & rows[2]
    for images, digits in sets:
        assert set(digits) == set(range(10))
        assert np.min(images) == 0
        assert np.max(images) == 1


def test_without_scikit_learn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where scikit-learn is missing, one line says so, and the exit status is 1."""
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert demo.main() == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "pip install scikit-learn" in said
