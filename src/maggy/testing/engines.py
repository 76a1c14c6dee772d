"""The tests that every engine passes; subclass ``EngineContract`` to inherit them."""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from maggy import experiment
from maggy.config import OptimizationConfig
from maggy.contracts import Decision
from maggy.errors import ExperimentFailed, OptimizerError
from maggy.searchspace import Searchspace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from maggy.trial import Trial
    from maggy.views.result import Result
    from maggy.worker.reporter import Reporter

__all__ = ["EngineContract"]


def _quadratic(x: float, n: int) -> float:
    return (x - 0.3) ** 2 + n


def _seeded(seed: int) -> float:
    return float(seed)


def _curve(x: float, reporter: Reporter) -> None:
    for step in range(5):
        reporter.broadcast(x + step, step=step, twice=2 * x)


def _as_dict(x: float) -> dict[str, Any]:
    return {"loss": x, "epochs": 3, "name": "net", "shape": (2, 3)}


def _sometimes_fails(n: int, reporter: Reporter) -> float:
    sys.stdout.write(f"training with {n}\n")
    reporter.broadcast(0.5)
    if n > 2:
        msg = f"n is {n}"
        raise ArithmeticError(msg)
    return 1.0


def _always_fails(x: float) -> float:
    msg = f"cannot train at {x}"
    raise LookupError(msg)


def _diverges(x: float, n: int, reporter: Reporter) -> float:
    try:
        reporter.broadcast(math.nan if n % 2 else x)
    except Exception:  # noqa: BLE001 - what users write
        return 0.0
    return x


def _stubborn(x: float, reporter: Reporter) -> float:
    for step in range(5000):
        try:
            reporter.broadcast(x + 10 * step)
        except Exception:  # noqa: BLE001 - what users write: it must not catch a stop
            return -1.0
        time.sleep(0.001)  # the training
    return x


def _with_all(
    hparams: dict[str, Any], model: type, train_set: list[int], test_set: dict[str, int]
) -> float:
    assert isinstance(hparams["n"], int)
    return float(model(sum(train_set) + test_set["a"]))


def _talks(x: float, reporter: Reporter) -> float:
    reporter.log(f"[bold]x[/] is {x}")
    return x


class _StopAtStep:
    """Stops every trial at its third report."""

    def finished(self, trial: Trial) -> None:
        """Nothing to learn."""

    def decide(self, trial: Trial) -> Decision:
        """Two reports are enough."""
        stop = len(trial.steps) > 2
        return Decision(stop=stop, reason="three are enough" if stop else "")


class _Broken(_StopAtStep):
    """Raises at the first report."""

    def decide(self, trial: Trial) -> Decision:
        """Raise."""
        msg = f"broken at {trial.id}"
        raise ZeroDivisionError(msg)


class EngineContract:
    """What a search does, wherever its trials run.

    Subclass it in a test module and name the engine::

        class TestLocal(EngineContract):
            engine = "local"
    """

    engine: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}

    def search(self, train_fn: Callable[..., Any], folder: Path, **options: Any) -> Result:
        """Run a small, quiet, seeded search on this engine."""
        space = Searchspace(x=("DOUBLE", [0.0, 1.0]), n=("INTEGER", [1, 4]))
        defaults: dict[str, Any] = {
            "num_trials": 12,
            "searchspace": space,
            "direction": "min",
            "seed": 7,
            "es_policy": "none",
            "folder": folder,
            "engine": self.engine,
            "optimizer": "randomsearch",
            "num_workers": 2,
            "quiet": True,
        }
        config = OptimizationConfig(**{**defaults, **self.options, **options})
        return experiment.lagom(train_fn, config)

    def test_the_same_seed_gives_the_same_trials(self, tmp_path: Path) -> None:
        """Configurations and values by id are those of the inline engine, bit for bit."""
        here = self.search(_quadratic, tmp_path)
        there = EngineContract.search(_Inline(), _quadratic, tmp_path)
        assert [(t.id, t.hparams, t.value) for t in here.trials] == [
            (t.id, t.hparams, t.value) for t in there.trials
        ]
        assert here["best_hp"] == there["best_hp"]
        assert here["num_trials"] == 12
        assert here.outcome == "completed"

    def test_each_trial_has_a_seed_of_its_own(self, tmp_path: Path) -> None:
        """The injected seed depends on the run's seed and the trial's number alone."""
        values = [t.value for t in self.search(_seeded, tmp_path).trials]
        again = [t.value for t in self.search(_seeded, tmp_path).trials]
        other = [t.value for t in self.search(_seeded, tmp_path, seed=8).trials]
        assert values == again
        assert len({*values, *other}) == 24
        assert all(v is not None and 0 <= v < 2**31 for v in values)

    def test_every_report_arrives_in_order(self, tmp_path: Path) -> None:
        """The curve is complete, and None after broadcasts means the last of them."""
        for trial in self.search(_curve, tmp_path).trials:
            x = trial.hparams["x"]
            assert isinstance(x, float)
            assert trial.curve == (list(range(5)), [x + step for step in range(5)])
            assert trial.value == x + 4

    def test_a_dict_is_scored_by_its_key(self, tmp_path: Path) -> None:
        """The other entries are kept as information."""
        result = self.search(_as_dict, tmp_path, optimization_key="loss")
        for trial in result.trials:
            assert trial.value == trial.hparams["x"]
            assert trial.info == {"epochs": 3, "name": "net", "shape": [2, 3]}

    def test_a_dict_without_the_key_fails_with_the_keys_it_has(self, tmp_path: Path) -> None:
        """The message names what is there and what was expected."""
        with pytest.raises(ExperimentFailed, match="'metric'") as caught:
            self.search(_as_dict, tmp_path)
        assert "'loss'" in str(caught.value)

    def test_an_exception_fails_its_trial_only(self, tmp_path: Path) -> None:
        """It is recorded with its traceback, and the search goes on."""
        result = self.search(_sometimes_fails, tmp_path)
        assert result["num_trials"] == 12
        failed = [trial for trial in result.trials if trial.status == "failed"]
        assert result["failed"] == len(failed) > 0
        for trial in failed:
            assert trial.error is not None
            assert (trial.error.type, trial.error.message) == (
                "ArithmeticError",
                f"n is {trial.hparams['n']}",
            )
            assert "_sometimes_fails" in trial.error.traceback

    def test_when_all_first_trials_fail_alike_that_error_is_raised(self, tmp_path: Path) -> None:
        """Once, whole, with the result so far; not all twelve trials are burnt."""
        with pytest.raises(ExperimentFailed, match="LookupError") as caught:
            self.search(_always_fails, tmp_path)
        assert "_always_fails" in str(caught.value)
        result = caught.value.result
        assert result.outcome == "failed"
        assert result["failed"] < 12
        assert result["best_id"] is None

    def test_a_metric_that_is_no_number_fails_its_trial(self, tmp_path: Path) -> None:
        """Even when the training function swallows every Exception."""
        result = self.search(_diverges, tmp_path)
        for trial in result.trials:
            odd = int(trial.hparams["n"]) % 2 == 1  # type: ignore[arg-type]
            assert trial.status == ("failed" if odd else "completed")

    def test_a_stop_arrives_at_the_next_broadcast(self, tmp_path: Path) -> None:
        """``except Exception`` does not catch it; the curve shows how soon it came."""
        result = self.search(_stubborn, tmp_path, es_policy=_StopAtStep(), es_min=0)
        assert result["early_stopped"] == 12
        for trial in result.trials:
            assert trial.status == "stopped"
            assert trial.stop_reason == "three are enough"
            assert trial.value == trial.curve.values[-1]

    def test_a_broken_policy_ends_the_run_with_its_error(self, tmp_path: Path) -> None:
        """It is never just logged and forgotten."""
        with pytest.raises(OptimizerError, match="broken at"):
            self.search(_curve, tmp_path, es_policy=_Broken(), es_min=0)

    def test_model_and_data_sets_arrive(self, tmp_path: Path) -> None:
        """As what they are, by their names."""
        result = self.search(
            _with_all, tmp_path, model=float, train_set=[1, 2, 3], test_set={"a": 4}
        )
        assert {trial.value for trial in result.trials} == {10.0}

    def test_the_log_tells_the_same(self, tmp_path: Path) -> None:
        """A run that is loaded equals what ``lagom`` returned."""
        result = self.search(_sometimes_fails, tmp_path)
        assert result.path is not None
        loaded = experiment.load(result.path)
        assert dict(loaded) == dict(result)
        assert loaded.trials == result.trials

    def test_what_a_trial_logs_is_in_the_run(self, tmp_path: Path) -> None:
        """``reporter.log`` reaches the event log as it was said."""
        from maggy.events import LogWritten
        from maggy.store.folder import open_run
        from maggy.store.sqlite import SqliteLog

        result = self.search(_talks, tmp_path, num_trials=2)
        assert result.path is not None
        with SqliteLog.open(open_run(result.path).database) as log:
            texts = [event.text for event in log.read() if isinstance(event, LogWritten)]
        assert sorted(texts) == sorted(f"[bold]x[/] is {t.hparams['x']}" for t in result.trials)


class _Inline(EngineContract):
    """The reference that the others are compared with."""

    engine = "inline"
