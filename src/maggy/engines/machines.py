"""From a config to the parts of a search: the one place that translates the options."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maggy.contracts import Fidelity, MultiFidelityOptimizer, SearchContext
from maggy.core.machine import ExperimentMachine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from maggy.config import OptimizationConfig
    from maggy.contracts import Optimizer
    from maggy.trial import Json
    from maggy.worker.injection import Plan

__all__ = ["describe_optimizer", "new_machine", "search_context"]

_FIRST_TRIALS = 3
"""When so many trials, or one for each worker, have all failed alike, the run ends."""


def search_context(
    config: OptimizationConfig, num_workers: int, seed: int, plan: Plan | None = None
) -> SearchContext:
    """What the optimizer of a new search gets to know; without a plan, trials can do anything."""
    return SearchContext(
        searchspace=config.space,
        num_trials=config.num_trials,
        num_workers=num_workers,
        seed=seed,
        takes_budget=plan is None or plan.takes_budget,
        takes_reporter=plan is None or plan.takes_reporter,
    )


def new_machine(
    config: OptimizationConfig, optimizer: Optimizer, workers: int
) -> ExperimentMachine:
    """The machine of a new search with this started optimizer, for so many trials at a time."""
    rungs, promotes = None, False
    if isinstance(optimizer, MultiFidelityOptimizer):
        rungs, promotes = optimizer.rungs, optimizer.fidelity is Fidelity.PROMOTION
    first = max(_FIRST_TRIALS, workers)
    return ExperimentMachine(
        direction=config.direction,
        num_trials=config.num_trials,
        policy=config.build_policy(),
        es_min=config.es_min,
        es_interval=config.es_interval,
        rungs=rungs,
        promotes=promotes,
        prefetch=0 if getattr(optimizer, "suggests_inline", False) else 1,
        first=first if config.num_trials is None else min(first, config.num_trials),
        trial_timeout=config.trial_timeout,
        time_limit=config.time_limit,
    )


def describe_optimizer(optimizer: Optimizer) -> Mapping[str, Json]:
    """For the log: what this started optimizer says of the search, and how it uses budgets."""
    told: dict[str, Json] = {"notes": list(getattr(optimizer, "notes", ()))}
    if isinstance(optimizer, MultiFidelityOptimizer):
        told["fidelity"] = optimizer.fidelity.value
    return told
