"""The simulator equals reality: the same curves through a real engine give the same log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from maggy import OptimizationConfig, Reporter, experiment
from maggy.engines.simulator import simulate
from maggy.engines.workload import Nearest
from maggy.store.sqlite import SqliteLog
from maggy.testing.curves import load_task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from maggy.events import Event

TASK = load_task("digits-mlp")
WORKLOAD = Nearest(TASK.recordings, TASK.searchspace)


def train(hparams: Mapping[str, Any], reporter: Reporter) -> float:
    """Report what the nearest recorded training reported."""
    recording = WORKLOAD.run(0, hparams, None)
    for step, value in zip(recording.steps, recording.values, strict=True):
        reporter.broadcast(value, step=step)
    return recording.final


def timeless(events: list[Event]) -> list[str]:
    """The events without their times, names of workers and descriptions of the run."""
    return [
        repr(
            {
                name: getattr(event, name)
                for name in event.__dataclass_fields__
                if name not in ("at", "worker", "config")
            }
            | {"kind": type(event).__name__}
        )
        for event in events
    ]


@pytest.mark.parametrize("policy", ["none", "median", "curve"])
def test_one_worker_gives_the_same_log(tmp_path: Any, policy: str) -> None:
    """Suggestions, reports, stops with their sentences and ends: all in the same order."""
    config = OptimizationConfig(
        searchspace=TASK.searchspace,
        num_trials=40,
        optimizer="randomsearch",
        es_policy=policy,
        seed=5,
        engine="inline",
        folder=tmp_path,
        quiet=True,
    )
    result = experiment.lagom(train_fn=train, config=config)
    assert result.path is not None
    with SqliteLog.open(result.path / "run.sqlite") as log:
        real = timeless(list(log.read()))
    simulated = timeless(list(simulate(config, WORKLOAD, workers=1).events))
    assert real == simulated
    assert bool(result["early_stopped"]) == (policy != "none")


def test_several_workers_try_the_same_configurations() -> None:
    """Whatever the number of workers, random search gives trial n the same configuration."""
    config = OptimizationConfig(
        searchspace=TASK.searchspace,
        num_trials=30,
        optimizer="randomsearch",
        es_policy="median",
        seed=5,
    )
    tried = [
        {n: trial.hparams for n, trial in done.summary.trials.items()}
        for done in (simulate(config, WORKLOAD, workers=count) for count in (1, 7, 30))
    ]
    assert tried[0] == tried[1] == tried[2]
