"""From a config to the parts of a search: the one place that translates the options."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maggy.contracts import Fidelity, MultiFidelityOptimizer, SearchContext
from maggy.core.backlog import Backlog
from maggy.core.machine import ExperimentMachine
from maggy.engines.earlier import WarmStart

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from maggy.config import OptimizationConfig
    from maggy.contracts import EarlierRun, Optimizer
    from maggy.trial import Json
    from maggy.worker.injection import Plan

__all__ = ["describe_optimizer", "new_machine", "search_context"]

_CHOICE = 8
"""Suggestions to choose from for each worker, near the end of a search (``core.backlog``)."""
_WORKERS_PER_SUGGESTION = 4
_MOST_AHEAD = 4
"""Of an optimizer that learns, a suggestion is held ready for every so many workers (ADR 16)."""
_FIRST_TRIALS = 3
"""When so many trials, or one for each worker, have all failed alike, the run ends."""


def search_context(
    config: OptimizationConfig,
    num_workers: int,
    seed: int,
    plan: Plan | None = None,
    earlier: Sequence[EarlierRun] = (),
) -> SearchContext:
    """What the optimizer of a new search gets to know; without a plan, trials can do anything.

    Raises:
        SearchspaceError: The constraints allow less than 1 % of the space.
    """
    if config.space.constraints:
        from numpy.random import default_rng  # loads numpy, which most searches need later

        config.space.feasible_fraction(default_rng(seed))
    return SearchContext(
        searchspace=config.space,
        num_trials=config.num_trials,
        num_workers=num_workers,
        seed=seed,
        takes_budget=plan is None or plan.takes_budget,
        takes_reporter=plan is None or plan.takes_reporter,
        earlier=earlier,
    )


def new_machine(
    config: OptimizationConfig, optimizer: Optimizer, workers: int | None
) -> ExperimentMachine:
    """The machine of a new search with this started optimizer.

    Args:
        config: What was asked for.
        optimizer: Started.
        workers: How many trials an engine runs at a time.  None: a user runs them by hand, so
            nothing is asked for ahead, and no number of failures ends the search.
    """
    rungs, promotes = None, False
    if isinstance(optimizer, MultiFidelityOptimizer):
        rungs, promotes = optimizer.rungs, optimizer.fidelity is Fidelity.PROMOTION
    return ExperimentMachine(
        direction=config.direction,
        num_trials=config.num_trials,
        policy=config.build_policy(),
        es_min=config.es_min,
        es_interval=config.es_interval,
        rungs=rungs,
        promotes=promotes,
        prefetch=0 if workers is None else _prefetch(optimizer, workers),
        backlog=Backlog(config.space.encode),
        first=None if workers is None else _first(config, workers),
        trial_timeout=config.trial_timeout,
        time_limit=config.time_limit,
    )


def _prefetch(optimizer: Optimizer, workers: int) -> int:
    """How many suggestions are held ready: none that is had at once and better had late.

    Where no result changes what is suggested, there is a choice of what to run next.
    """
    if not getattr(optimizer, "learns", True):
        return _CHOICE * workers if workers > 1 else 1
    if getattr(optimizer, "suggests_inline", False):
        return 0
    return min(max(workers // _WORKERS_PER_SUGGESTION, 1), _MOST_AHEAD)


def _first(config: OptimizationConfig, workers: int) -> int:
    unknown = config.engine == "manual" and config.num_workers is None  # who will come
    first = max(_FIRST_TRIALS, 1 if unknown else workers)
    return first if config.num_trials is None else min(first, config.num_trials)


def describe_optimizer(
    optimizer: Optimizer,
    warm: WarmStart | None = None,
    notes: Sequence[str] = (),
    *,
    given: object = None,
) -> Mapping[str, Json]:
    """For the log: what this started optimizer says of the search, and how it uses budgets.

    What is used of earlier runs is written down too, so whoever reads the log needs none of them.

    Args:
        optimizer: Started.
        warm: What it was told of earlier runs, if there are any.
        notes: Further sentences about the run.
        given: What the config calls the optimizer.
    """
    own, warm = getattr(optimizer, "notes", ()), warm or WarmStart()
    told: dict[str, Json] = {
        "notes": [*own, *warm.notes, *_unused(optimizer, warm, given), *notes]
    }
    if warm.runs:
        told["earlier"] = warm.evidence
    if isinstance(optimizer, MultiFidelityOptimizer):
        told["fidelity"] = optimizer.fidelity.value
    return told


def _unused(optimizer: Optimizer, warm: WarmStart, given: object) -> Sequence[str]:
    """A sentence if nothing that earlier runs found can change the search."""
    sampler = getattr(optimizer, "sampler", optimizer)
    if not warm.runs or getattr(sampler, "learns", True):
        return ()
    who = given if isinstance(given, str) and sampler is optimizer else sampler
    return (f"{who!r} does not learn, so the warm start changes nothing: use 'gp' or 'tpe'.",)
