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

from maggy.ask_tell import Search
from maggy.config import OptimizationConfig, inside_a_worker
from maggy.contracts import MultiFidelityOptimizer
from maggy.core.failure import Blame
from maggy.core.summary import Summary
from maggy.engines.inline import InlineEngine
from maggy.engines.job import Job
from maggy.engines.local import LocalEngine
from maggy.engines.machines import describe_optimizer, new_machine, search_context
from maggy.engines.processes import usable_cores
from maggy.engines.resources import Allotment, allot
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
    from maggy.core.machine import ExperimentMachine
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choices:
    """What the config left open, decided for one run."""

    engine: str
    workers: int
    allotment: Allotment
    seed: int
    now: datetime

    def describe(self) -> dict[str, Json]:
        """For the log."""
        return {
            "engine": self.engine,
            "num_workers": self.workers,
            "resources": self.allotment.describe(self.workers),
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
    optimizer = config.build_optimizer()
    calling = _plan(train_fn, config, budgets=isinstance(optimizer, MultiFidelityOptimizer))
    choices = _choose(config)
    optimizer.start(search_context(config, choices.workers, choices.seed, calling))
    machine = new_machine(config, optimizer, choices.workers)
    engine = _ENGINES[choices.engine](train_fn, config.provided())
    folder = create_run(config.folder, config.name, now=choices.now)
    described = _describe(train_fn, config, optimizer, choices)
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
            checkpoints=folder.checkpoints,
            allotment=choices.allotment,
        )
        summary, late = _run(engine, job, folder, quiet=config.quiet)
    result = Result(summary, folder.path)
    _raise_what_ended_it(machine, result, late=late)
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


def _plan(train_fn: Callable[..., Any], config: OptimizationConfig, *, budgets: bool) -> Plan:
    calling = plan(
        train_fn,
        hyperparameters=tuple(config.space),
        provided=tuple(config.provided()),
        conditional=tuple(name for name, kind in config.space.items() if kind.when),
        multi_fidelity=budgets,
    )
    doubts = []
    if calling.takes_nothing:
        doubts.append(
            "takes no parameters, so every trial trains the same. Let it take `hparams`, or "
            "hyperparameters by name."
        )
    if budgets and not calling.takes_budget and not calling.takes_reporter:
        doubts.append(
            "takes neither `budget` nor `reporter`, so each configuration is trained once, as if "
            "at `resource_max`. For short runs of most configurations let it take `budget`, the "
            "epochs to have trained on return, or `reporter`, and call "
            "`reporter.broadcast(metric)` after each epoch."
        )
    if doubts:
        name = f"`{callable_name(train_fn)}`"
        warnings.warn(" ".join(f"{name} {doubt}" for doubt in doubts), stacklevel=3)
    return calling


def _describe(
    train_fn: Callable[..., Any],
    config: OptimizationConfig,
    optimizer: Optimizer,
    choices: _Choices,
) -> dict[str, Json]:
    """The run as the first event of its log tells it."""
    notes = [*getattr(optimizer, "notes", ()), *choices.allotment.notes(choices.workers)]
    return {
        **config.describe(),
        **describe_optimizer(optimizer),
        **choices.describe(),
        "notes": notes,
        "train_fn": callable_name(train_fn),
    }


def _choose(config: OptimizationConfig) -> _Choices:
    engine = config.engine or "local"
    cores = usable_cores()
    allotment = allot(config.resources, cores=cores)
    default = 1 if inside_a_worker() else allotment.limit or cores
    workers = allotment.workers(config.num_workers, default)
    if engine == "inline":  # nothing is hidden from this process
        allotment = Allotment(asked=allotment.asked)
    if config.num_trials is not None:
        workers = min(workers, config.num_trials)
    return _Choices(
        engine=engine,
        workers=1 if engine == "inline" else workers,
        allotment=allotment,
        seed=draw_seed() if config.seed is None else config.seed,
        now=datetime.now(UTC),
    )


def _run(engine: Engine, job: Job, folder: RunFolder, *, quiet: bool) -> tuple[Summary, bool]:
    """Let the engine work, and show how it goes; True if Ctrl-C came when all was done."""
    summary, late = Summary(), False
    display = make_display(sys.stderr, quiet=quiet, path=folder.path)
    began = time.monotonic()

    def feed(news: Sequence[Event]) -> None:
        for event in news:
            summary.apply(event)
        display.update(summary, news, time.monotonic() - began)

    try:
        engine.run(job, feed)
    except KeyboardInterrupt:
        if job.machine.finish is None:
            raise
        late = True
    finally:
        display.close(summary)
    return summary, late


def _raise_what_ended_it(machine: ExperimentMachine, result: Result, *, late: bool) -> None:
    finish = machine.finish
    assert finish is not None
    if late or finish.outcome == "interrupted":
        what = "The interruption came when the run had ended." if late else finish.reason
        message = f"{what} Load what it reached: experiment.load({str(result.path)!r})"
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
