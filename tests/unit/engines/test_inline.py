"""The inline engine: what fails on our side is never blamed on the training function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from maggy import OptimizationConfig, Searchspace
from maggy.engines import inline
from maggy.engines.inline import InlineEngine
from maggy.engines.job import Job
from maggy.engines.machines import new_machine, search_context
from maggy.errors import RunError
from maggy.events import ExperimentStarted, MetricReported
from maggy.store.sqlite import SqliteLog
from maggy.worker.injection import plan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SPACE = Searchspace(x=("DOUBLE", [0.0, 1.0]))


def job_for(train: Callable[..., Any], log: Any, folder: Path, **options: Any) -> Job:
    config = OptimizationConfig(
        num_trials=2, searchspace=SPACE, optimizer="randomsearch", seed=1, **options
    )
    optimizer = config.build_optimizer()
    optimizer.start(search_context(config, 1, 1))
    return Job(
        machine=new_machine(config, optimizer, 1),
        log=log,
        started=ExperimentStarted(at=0.0, config={}),
        optimizer=optimizer,
        space=SPACE,
        seed=1,
        plan=plan(train, hyperparameters=("x",), provided=()),
        optimization_key="metric",
        hb_interval=1.0,
        num_workers=1,
        trial_logs=folder,
    )


class Full:
    """A log that takes no second report."""

    def __init__(self) -> None:
        self.inner = SqliteLog.in_memory()
        self.reports = 0

    def append(self, event: Any) -> None:
        self.reports += isinstance(event, MetricReported)
        if isinstance(event, MetricReported) and self.reports == 2:
            msg = "the disk is full"
            raise RunError(msg)
        self.inner.append(event)

    def commit(self) -> None:
        self.inner.commit()

    def read(self, start: int = 0) -> Any:
        return self.inner.read(start)


@pytest.mark.parametrize("hides", [False, True])
def test_a_log_that_fails_ends_the_run(tmp_path: Path, hides: bool) -> None:
    """Even when the training function catches what its broadcast raised, nothing goes on."""
    after = []

    def train(x: float, reporter: Any) -> float:
        for step in range(3):
            try:
                reporter.broadcast(x, step=step)
            except RunError:
                if not hides:
                    raise
        after.append(x)
        return x

    log = Full()
    job = job_for(train, log, tmp_path)
    with pytest.raises(RunError, match="the disk is full"):
        InlineEngine(train, {}).run(job, lambda news: None)
    assert len(after) == hides
    assert not job.machine.trials[0].status.ended
    log.inner.close()


def test_a_display_that_fails_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its error is raised to the caller, and no trial is recorded as failed."""

    def train(x: float, reporter: Any) -> float:
        reporter.broadcast(x)
        return x

    def feed(news: Any) -> None:
        if any(isinstance(event, MetricReported) for event in news):
            msg = "no terminal"
            raise ValueError(msg)

    monkeypatch.setattr(inline, "_FEED_INTERVAL", 0.0)
    with SqliteLog.in_memory() as log:
        engine = InlineEngine(train, {})
        job = job_for(train, log, tmp_path)
        with pytest.raises(ValueError, match="no terminal"):
            engine.run(job, feed)
        assert not any("Failed" in type(event).__name__ for event in log.read())
