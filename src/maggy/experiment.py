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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maggy.ask_tell import Search
from maggy.config import OptimizationConfig
from maggy.contracts import MultiFidelityOptimizer
from maggy.core.failure import Blame
from maggy.core.summary import Summary
from maggy.engines.earlier import read_earlier
from maggy.engines.job import Job
from maggy.engines.machines import describe_optimizer, new_machine, search_context
from maggy.engines.registry import find_place
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

    from maggy.core.machine import ExperimentMachine
    from maggy.engines.job import Engine
    from maggy.engines.registry import Place
    from maggy.events import Event
    from maggy.store.folder import RunFolder
    from maggy.trial import Json
    from maggy.worker.injection import Plan

__all__ = ["ask_tell", "lagom", "load"]

_HOW_TO_INSTALL = (
    "Packages that the training function imports have to be installed where the workers run, "
    "in the Python that runs them; your own modules travel with it."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choices:
    """What the config left open, decided for one run."""

    place: Place
    seed: int
    now: datetime

    def describe(self) -> dict[str, Json]:
        """For the log."""
        return {
            "engine": self.place.engine,
            "num_workers": self.place.workers,
            "resources": self.place.allotment.describe(self.place.workers),
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
        RunError: The log of a run in ``warm_start`` is damaged; nothing was started.
        UnpicklableError: The function or its data cannot be sent to a worker.
        ExperimentFailed: All of the first trials failed alike, or the workers did.
        ExperimentInterrupted: Ctrl-C; carries the result so far.
        OptimizerError: The optimizer or the stopping policy raised.
    """
    _check_config(config)
    optimizer = config.build_optimizer()
    calling = _plan(train_fn, config, budgets=isinstance(optimizer, MultiFidelityOptimizer))
    choices = _choose(config)
    warm = read_earlier(config)
    optimizer.start(
        search_context(config, choices.place.workers, choices.seed, calling, earlier=warm.runs)
    )
    machine = new_machine(config, optimizer, choices.place.workers)
    engine = choices.place.build(train_fn, config)
    folder = create_run(config.folder, config.name, now=choices.now)
    notes = [*choices.place.remarks(), *engine.notes]
    described = {
        **config.describe(),
        **describe_optimizer(optimizer, warm, notes, given=config.optimizer),
        **choices.describe(),
        "train_fn": callable_name(train_fn),
    }
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
            num_workers=choices.place.workers,
            trial_logs=folder.trials,
            checkpoints=_checkpoints(config, folder),
            allotment=choices.place.allotment,
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


def _checkpoints(config: OptimizationConfig, folder: RunFolder) -> Path:
    """Where this run's checkpoints go: a shared folder serves several runs."""
    if config.checkpoint_dir is None:
        return folder.checkpoints
    return Path(config.checkpoint_dir, folder.path.parent.name, folder.path.name)


def _choose(config: OptimizationConfig) -> _Choices:
    return _Choices(
        place=find_place(config),
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
    missing = failure.blame is Blame.WORKERS and error.type == "ModuleNotFoundError"
    parts = [
        finish.reason,
        _HOW_TO_INSTALL if missing else "",
        error.traceback,
        error.output and f"Its output:\n{error.output}",
    ]
    message = "\n\n".join(part.strip() for part in (*parts, f"The run: {result.path}") if part)
    if failure.blame in (Blame.OPTIMIZER, Blame.POLICY):
        raise OptimizerError(message)
    raise ExperimentFailed(message, result)
