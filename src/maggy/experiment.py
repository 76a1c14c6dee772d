"""The front door: run a search, load one, or drive one by hand.

This is the composition root, the only place that knows every part.
"""

from __future__ import annotations

import platform
import sys
import time
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from maggy.ask_tell import Search, search_context
from maggy.config import OptimizationConfig, inside_a_worker
from maggy.core.failure import Blame
from maggy.core.machine import ExperimentMachine
from maggy.core.summary import Summary
from maggy.engines.inline import InlineEngine
from maggy.engines.job import Job
from maggy.engines.local import LocalEngine
from maggy.engines.processes import usable_cores
from maggy.engines.seeds import draw_seed
from maggy.errors import ConfigError, ExperimentFailed, ExperimentInterrupted, OptimizerError
from maggy.events import ExperimentStarted
from maggy.store.folder import create_run
from maggy.store.sqlite import SqliteLog
from maggy.version import VERSION
from maggy.views.progress import make_display
from maggy.views.result import Result, load_result
from maggy.worker.injection import callable_name, plan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from maggy.contracts import Optimizer
    from maggy.engines.job import Engine
    from maggy.events import Event
    from maggy.store.folder import RunFolder
    from maggy.trial import Json
    from maggy.worker.injection import Plan

__all__ = ["ask_tell", "lagom", "load"]

_ENGINES: dict[str, Callable[[Callable[..., Any], dict[str, Any]], Engine]] = {
    "local": LocalEngine,
    "inline": InlineEngine,
}
_FIRST_TRIALS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choices:
    """What the config left open, decided for one run."""

    engine: str
    workers: int
    seed: int
    now: datetime

    def describe(self) -> dict[str, Json]:
        """For the log."""
        return {
            "engine": self.engine,
            "num_workers": self.workers,
            "seed": self.seed,
            "version": VERSION,
            "python": platform.python_version(),
            "started": self.now.isoformat(timespec="seconds"),
        }


def lagom(train_fn: Callable[..., Any], config: OptimizationConfig) -> Result:
    """Search for the best hyperparameters of a training function.

    Args:
        train_fn: Trains once and returns the metric, or a dict that holds it.  It asks by name
            for what it needs: ``hparams``, ``reporter``, ``model``, ``train_set``, ``test_set``,
            ``budget``, ``seed``, or any hyperparameter.
        config: What to search and how.

    Raises:
        ConfigError: Something is wrong with the function or the config; nothing was started.
        UnpicklableError: The function or its data cannot be sent to a worker.
        ExperimentFailed: All of the first trials failed alike, or the workers did.
        ExperimentInterrupted: Ctrl-C; carries the result so far.
        OptimizerError: The optimizer or the stopping policy raised.
    """
    _check_config(config)
    calling = _plan(train_fn, config)
    choices = _choose(config)
    optimizer = config.build_optimizer()
    optimizer.start(search_context(config, choices.workers, choices.seed))
    machine = _machine(config, optimizer, choices.workers)
    engine = _ENGINES[choices.engine](train_fn, config.provided())
    folder = create_run(config.folder, config.name, now=choices.now)
    described = {**config.describe(), **choices.describe(), "train_fn": callable_name(train_fn)}
    with SqliteLog.create(folder.database) as log:
        job = Job(
            machine=machine,
            log=log,
            started=ExperimentStarted(at=0.0, config=described),
            optimizer=optimizer,
            space=config.space,
            seed=choices.seed,
            plan=calling,
            optimization_key=config.optimization_key,
            hb_interval=config.hb_interval,
            num_workers=choices.workers,
            trial_logs=folder.trials,
        )
        summary = _run(engine, job, folder, quiet=config.quiet)
    result = Result(summary, folder.path)
    _raise_what_ended_it(machine, result)
    return result


def load(path: str | Path) -> Result:
    """The result of any run, finished or not.

    Args:
        path: The run's folder, its database, or the beginning of its id.

    Raises:
        RunError: There is no such run, or it cannot be read.
    """
    return load_result(path)


def ask_tell(config: OptimizationConfig) -> Search:
    """A search that you drive by hand: ``ask`` for a trial, run it yourself, ``tell`` its value.

    Nothing is started, printed or written.

    Raises:
        ConfigError: Something is wrong with the config.
    """
    _check_config(config)
    return Search(config, seed=draw_seed() if config.seed is None else config.seed)


def _check_config(config: object) -> None:
    if not isinstance(config, OptimizationConfig):
        msg = (
            f"`config` must be an OptimizationConfig, but got {type(config).__name__}. Write "
            f"OptimizationConfig(num_trials=20, searchspace=Searchspace(...))."
        )
        raise ConfigError(msg)


def _plan(train_fn: Callable[..., Any], config: OptimizationConfig) -> Plan:
    calling = plan(
        train_fn,
        hyperparameters=tuple(config.space),
        provided=tuple(config.provided()),
        conditional=tuple(name for name, kind in config.space.items() if kind.when),
    )
    if calling.takes_nothing:
        warnings.warn(
            f"`{callable_name(train_fn)}` takes no parameters, so every trial trains the same. "
            "Let it take `hparams`, or hyperparameters by name.",
            stacklevel=3,
        )
    return calling


def _choose(config: OptimizationConfig) -> _Choices:
    engine = config.engine or "local"
    workers = config.num_workers or (1 if inside_a_worker() else usable_cores())
    if config.num_trials is not None:
        workers = min(workers, config.num_trials)
    return _Choices(
        engine=engine,
        workers=1 if engine == "inline" else workers,
        seed=draw_seed() if config.seed is None else config.seed,
        now=datetime.now(UTC),
    )


def _machine(config: OptimizationConfig, optimizer: Optimizer, workers: int) -> ExperimentMachine:
    first = max(_FIRST_TRIALS, workers)
    return ExperimentMachine(
        direction=config.direction,
        num_trials=config.num_trials,
        policy=config.build_policy(),
        es_min=config.es_min,
        es_interval=config.es_interval,
        prefetch=0 if getattr(optimizer, "suggests_inline", False) else 1,
        first=first if config.num_trials is None else min(first, config.num_trials),
    )


def _run(engine: Engine, job: Job, folder: RunFolder, *, quiet: bool) -> Summary:
    """Let the engine work, and show how it goes."""
    summary = Summary()
    display = make_display(sys.stderr, quiet=quiet, path=folder.path)
    began = time.monotonic()

    def feed(news: Sequence[Event]) -> None:
        for event in news:
            summary.apply(event)
        display.update(summary, news, time.monotonic() - began)

    try:
        engine.run(job, feed)
    finally:
        display.close(summary)
    return summary


def _raise_what_ended_it(machine: ExperimentMachine, result: Result) -> None:
    finish = machine.finish
    assert finish is not None
    if finish.outcome == "interrupted":
        message = (
            f"The run was interrupted. Load what it reached: experiment.load({str(result.path)!r})"
        )
        raise ExperimentInterrupted(message, result)
    failure = machine.failure
    if failure is None:
        return
    error = failure.error
    parts = [finish.reason, error.traceback, error.output and f"Its output:\n{error.output}"]
    message = "\n\n".join(part.strip() for part in (*parts, f"The run: {result.path}") if part)
    if failure.blame in (Blame.OPTIMIZER, Blame.POLICY):
        raise OptimizerError(message)
    raise ExperimentFailed(message, result)
