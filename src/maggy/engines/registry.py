"""Engines by name: which one a config gets, how many workers it has room for, and the engine."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from maggy.engines.inline import InlineEngine
from maggy.engines.local import LocalEngine
from maggy.engines.resources import Allotment, allot
from maggy.worker.processes import inside_a_worker, usable_cores

if TYPE_CHECKING:
    from collections.abc import Callable

    from maggy.config import OptimizationConfig
    from maggy.engines.job import Engine
    from maggy.engines.launcher import Launcher

__all__ = ["Place", "find_place"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the trials of a run are to run.

    Attributes:
        engine: Its name.
        workers: How many run at a time.
        allotment: What each of them gets to itself.
        launcher: What gets agents started, unless workers are here.
        notes: What the user should know about the choice; sentences without a full stop.
    """

    engine: str
    workers: int
    allotment: Allotment
    launcher: Launcher | None = None
    notes: tuple[str, ...] = ()

    def remarks(self) -> list[str]:
        """What the user should know of it; sentences without a full stop."""
        return [*self.notes, *self.allotment.notes(self.workers)]

    def build(self, train_fn: Callable[..., Any], config: OptimizationConfig) -> Engine:
        """The engine.

        Raises:
            UnpicklableError: The function or its data cannot be sent to a worker.
            ConfigError: There is no room for the data sets, or no way to reach this process.
        """
        queries = getattr(self.launcher, "queries", None)
        if queries is not None:  # agents could not reach this process
            from maggy.engines.queries import QueryEngine

            return QueryEngine(train_fn, config, queries)
        if self.launcher is not None:
            from maggy.engines.remote import RemoteEngine  # loads ssl

            return RemoteEngine(train_fn, config, self.launcher)
        kind = InlineEngine if self.engine == "inline" else LocalEngine
        return kind(train_fn, config.provided())


def find_place(config: OptimizationConfig) -> Place:
    """Where the config wants its trials to run, or where they run best.

    Raises:
        ConfigError: Not even one worker has room there, or what it takes is not installed.
    """
    name, notes = _chosen() if config.engine is None else (config.engine, ())
    if name in ("local", "inline"):
        return _here(name, config)
    launcher = _launcher(name, config)
    allotment = Allotment(asked=dict(config.resources or {}))
    workers = config.num_workers if config.num_workers is not None else max(1, launcher.slots())
    return Place(
        engine=name,
        workers=_at_most(workers, config.num_trials),
        allotment=allotment,
        launcher=launcher,
        notes=notes,
    )


def _chosen() -> tuple[str, tuple[str, ...]]:
    if "pyspark" not in sys.modules or inside_a_worker():
        return "local", ()
    from maggy.engines.spark import active_cluster

    master = active_cluster()
    if master is None:
        return "local", ()
    note = f"trials run on Spark, since a session of {master} is active; engine='local' stays here"
    return "spark", (note,)


def _here(name: str, config: OptimizationConfig) -> Place:
    cores = usable_cores()
    allotment = allot(config.resources, cores=cores)
    default = 1 if inside_a_worker() else allotment.limit or cores
    workers = allotment.workers(config.num_workers, default)
    if name == "inline":  # nothing is hidden from this process
        workers, allotment = 1, Allotment(asked=allotment.asked)
    workers = _at_most(workers, config.num_trials)
    notes = _unneeded(name, config)
    return Place(engine=name, workers=workers, allotment=allotment, notes=notes)


def _unneeded(name: str, config: OptimizationConfig) -> tuple[str, ...]:
    """A note if the config says what only workers elsewhere need: another engine may use it."""
    given = {
        "listen": config.listen is not None,
        "tls": config.tls is not None,
        "py_files": bool(config.py_files),
    }
    options = [f"`{option}`" for option, there in given.items() if there]
    if not options:
        return ()
    *others, last = options
    what = f"{', '.join(others)} and {last} are" if others else f"{last} is"
    return (
        f"{what} not used: engine={name!r} runs all trials on this machine; for workers elsewhere "
        "set `engine` to 'manual', 'spark' or 'ray'",
    )


def _launcher(name: str, config: OptimizationConfig) -> Launcher:
    if name == "spark":
        from maggy.engines.spark import SparkLauncher

        return SparkLauncher(config)
    if name == "ray":
        from maggy.engines.ray import RayLauncher

        return RayLauncher(config)
    from maggy.engines.manual import ManualLauncher

    return ManualLauncher(config)


def _at_most(workers: int, num_trials: int | None) -> int:
    return workers if num_trials is None else min(workers, num_trials)
