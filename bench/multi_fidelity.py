"""How soon ASHA finds a good configuration with each sampler, in virtual time.

Workers train 8 configurations at a time, up to 27 epochs, by successive halving with eta 3 from
the first epoch on.  What a configuration would have come to is

* ``digits-mlp``, ``friedman-boosting``: predicted from recorded trainings, curve and durations, by
  extremely randomised trees with 3 trainings in a leaf at least (a surrogate benchmark,
  Eggensperger et al. 2015);
* ``hartmann``: made up.  The final loss is Hartmann's function of 6 variables; the curve falls to
  it as ``(1 + e / 3)^-rate`` after ``e`` epochs, with a rate in 0.6 to 1.8 that another smooth
  function of the variables decides, so that curves cross; each report has noise of 0.5 % of the
  function's range; an epoch takes 0.5 to 2 units, by the first variable.

Goal: a training that is complete, whose final loss is at most 1 %, or 5 %, of the gap between the
best and the median of random configurations worse than the best.  ``time`` is the expected
running time, that of all searches, those in vain included, for each success; the unit is the mean
duration of a training.  ``x one rung`` is how many times faster than ASHA with ``GP, one rung``,
with a bootstrap 95 % interval over the seeds.  ``regret`` is the median over the seeds of how much
worse the best complete training is than the best possible, in percent of the same gap, at the end
of the search.

``GP, one rung`` is the Gaussian process that is told of one rung only, the highest with enough
losses (the rule of BOHB, Falkner et al. 2018), and of the curves of the trials below; under
``Asha stopping``, of complete and stopped trainings.  ``GP`` models every rung.  Optuna's are its
sampler TPE with its pruners, told at once what they decide.
"""

from __future__ import annotations

import functools
import heapq
import math
import statistics
import time
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from setting import arguments, describe, table

from maggy import OptimizationConfig
from maggy.engines.conditions import Conditions
from maggy.engines.simulator import simulate
from maggy.engines.workload import Recording
from maggy.events import MetricReported
from maggy.optimizer import GP, TPE, Asha, Hyperband, RandomSearch
from maggy.searchspace import Discrete, Double, Integer, Searchspace
from maggy.testing.curves import load_task

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from maggy.contracts import Optimizer, SearchContext
    from maggy.trial import Hparams, Resource

WORKERS, EPOCHS, ETA = 8, 27, 3
TRIALS, SEEDS = 80, 10
DRAWS = 8000
TOLERANCES = (0.01, 0.05)
RESAMPLES = 4000
BASE = "Asha, GP, one rung"

Curve: TypeAlias = "tuple[list[float], list[float]]"
"""The loss after each epoch, and the time that each takes."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is trained.

    Attributes:
        space: The search space.
        curve: What a configuration comes to.
        best: The least final loss that is known of.
        gap: That of the median minus that.
    """

    space: Searchspace
    curve: Callable[[Hparams], Curve]
    best: float
    gap: float

    def run(self, trial: int, hparams: Hparams, budget: Resource | None) -> Recording:
        """A workload of the simulator."""
        losses, seconds = self.curve(hparams)
        recording = Recording(hparams=hparams, steps=range(EPOCHS), values=losses, seconds=seconds)
        return recording.until(budget)


def recorded(name: str) -> Task:
    """A surrogate of recorded trainings."""
    from sklearn.ensemble import ExtraTreesRegressor

    source = load_task(name)
    sign = 1 if source.direction == "min" else -1
    trainings = source.scaled(1.0)
    space = source.searchspace
    rows = np.array([space.encode(training.hparams) for training in trainings])
    answers = np.array(
        [
            [*(sign * value for value in training.values), *np.log(training.seconds)]
            for training in trainings
        ]
    )
    forest = ExtraTreesRegressor(100, min_samples_leaf=3, random_state=0).fit(rows, answers)

    def snapped(u: np.ndarray) -> np.ndarray:
        return np.array([space.encode(space.decode(row.tolist())) for row in u])

    def finals(u: np.ndarray) -> np.ndarray:
        return np.asarray(forest.predict(u)[:, EPOCHS - 1])

    @functools.cache
    def predicted(row: tuple[float, ...]) -> Curve:
        answer = forest.predict([row])[0]
        return answer[:EPOCHS].tolist(), np.exp(answer[EPOCHS:]).tolist()

    rng = np.random.default_rng(0)
    drawn = snapped(rng.random((DRAWS, len(space))))
    reached = finals(drawn)
    near = np.repeat(drawn[np.argsort(reached)[:50]], 100, axis=0)
    near = snapped(np.clip(near + 0.05 * rng.standard_normal(near.shape), 0.0, 1.0))
    best = float(min(reached.min(), finals(near).min()))
    return Task(
        space,
        lambda hparams: predicted(tuple(space.encode(hparams))),
        best,
        float(np.median(reached)) - best,
    )


_ALPHA = np.array([1.0, 1.2, 3.0, 3.2])
_A = np.array(
    [
        [10, 3, 17, 3.5, 1.7, 8],
        [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8],
        [17, 8, 0.05, 10, 0.1, 14],
    ]
)
_P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)
_RANGE = 3.32237
"""Minus the minimum of Hartmann's function (Dixon and Szego 1978)."""


def hartmann(u: np.ndarray) -> np.ndarray:
    """The function at rows of [0, 1]^6, shape (n,)."""
    squares = (_A * np.square(u[:, np.newaxis] - _P)).sum(axis=2)
    return np.asarray(-np.exp(-squares) @ _ALPHA)


def made_up() -> Task:
    """Hartmann's function with learning curves."""
    space = Searchspace(**{f"x{number}": Double(0.0, 1.0) for number in range(6)})
    finals = hartmann(np.random.default_rng(0).random((DRAWS, 6)))
    left = 1.0 + np.arange(1, EPOCHS + 1) / 3.0
    end = left[-1]

    def curve(hparams: Hparams) -> Curve:
        u = np.array(space.encode(hparams))
        rate = 1.2 + 0.6 * math.sin(2 * math.pi * (u[1] + 0.5 * u[2]) + 1.0)
        level = float(hartmann(u[np.newaxis])[0]) + _RANGE * (left**-rate - end**-rate)
        seed = np.frombuffer(u.tobytes(), dtype=np.uint32).tolist()
        noise = 0.005 * _RANGE * np.random.default_rng(seed).standard_normal(EPOCHS)
        noise[-1] = 0.0  # what counts at the end is the function itself
        seconds = (0.5 + 1.5 * u[0]) / (1.25 * EPOCHS)
        return (level + noise).tolist(), [seconds] * EPOCHS

    return Task(space, curve, -_RANGE, float(np.median(finals)) + _RANGE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """One search: when trainings were complete and with which loss, when it ended, its cost.

    Attributes:
        complete: Times and final losses.
        end: When nothing was left to do.
        cost: Real seconds for all that the optimizer and the simulator did.
    """

    complete: Sequence[tuple[float, float]]
    end: float
    cost: float

    def found(self, threshold: float) -> float | None:
        """When the first loss of at most this was there."""
        return min((at for at, loss in self.complete if loss <= threshold), default=None)

    def best(self, at: float) -> float:
        """The best loss by then; infinity if nothing was complete."""
        return min((loss for when, loss in self.complete if when <= at), default=math.inf)


class OneRung:
    """A sampler that is not told where the rungs are.

    Args:
        sampler: Who proposes.
    """

    def __init__(self, sampler: Optimizer) -> None:
        self._sampler = sampler
        self.ask, self.tell = sampler.ask, sampler.tell

    def start(self, context: SearchContext) -> None:
        """Start it without the rungs."""
        self._sampler.start(replace(context, rungs=()))


def ours(task: Task, optimizer: Optimizer, seed: int, trials: int) -> Search:
    """One simulated search."""
    config = OptimizationConfig(
        searchspace=task.space,
        num_trials=trials,
        optimizer=optimizer,
        direction="min",
        es_policy="none",
        seed=seed,
    )
    began = time.perf_counter()
    done = simulate(config, task, workers=WORKERS, conditions=Conditions(checkpoints=True))
    complete = [
        (event.at, event.value)
        for event in done.events
        if isinstance(event, MetricReported) and event.step == EPOCHS - 1
    ]
    return Search(complete=complete, end=done.seconds, cost=time.perf_counter() - began)


def optunas(task: Task, pruner: Any, seed: int, trials: int) -> Search:
    """One search with Optuna's TPE; trials begin as workers get free."""
    import optuna

    sampler = optuna.samplers.TPESampler(multivariate=True, constant_liar=True, seed=seed)
    study = optuna.create_study(sampler=sampler, pruner=pruner)
    began = time.perf_counter()
    heap: list[tuple[float, int, Any, Curve, int]] = []
    ties, left, now = count(), trials, 0.0
    complete = []
    for _ in range(WORKERS):
        heapq.heappush(heap, (0.0, next(ties), None, ([], []), -1))
    while heap:
        now, _, trial, curve, epoch = heapq.heappop(heap)
        if trial is not None:
            loss = curve[0][epoch]
            trial.report(loss, epoch + 1)
            last = epoch == EPOCHS - 1
            if last:
                complete.append((now, loss))
                study.tell(trial, loss)
            elif trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            else:
                entry = (now + curve[1][epoch + 1], next(ties), trial, curve, epoch + 1)
                heapq.heappush(heap, entry)
                continue
        if left:
            left -= 1
            trial = study.ask()
            curve = task.curve(_suggested(task.space, trial))
            heapq.heappush(heap, (now + curve[1][0], next(ties), trial, curve, 0))
    return Search(complete=complete, end=now, cost=time.perf_counter() - began)


def _suggested(space: Searchspace, trial: Any) -> Hparams:
    """What Optuna proposes for this space."""
    hparams: dict[str, Any] = {}
    for name, kind in space.items():
        if isinstance(kind, Double):
            hparams[name] = trial.suggest_float(name, kind.low, kind.high, log=kind.log)
        elif isinstance(kind, Integer):
            hparams[name] = trial.suggest_int(name, kind.low, kind.high, log=kind.log)
        else:
            assert isinstance(kind, Discrete), "no task has another"
            number = trial.suggest_int(name, 0, int(kind.cardinality or 1) - 1)
            hparams[name] = kind.value_at(number)
    return hparams


Method: TypeAlias = "Callable[[Task, int, int], Search]"
"""A search of a task, from a seed and a number of configurations."""

SAMPLERS: Mapping[str, Callable[[], Any]] = {
    "random": RandomSearch,
    "TPE": TPE,
    "GP, one rung": lambda: OneRung(GP()),
    "GP": GP,
}


def by_maggy(make: Callable[..., Optimizer], sampler: Callable[[], Any]) -> Method:
    """Ours, with this scheduler and sampler."""

    def search(task: Task, seed: int, trials: int) -> Search:
        return ours(task, make(ETA, 1, EPOCHS, sampler=sampler()), seed, trials)

    return search


def by_optuna(pruner: Callable[[], Any]) -> Method:
    """Optuna's, with this pruner."""

    def search(task: Task, seed: int, trials: int) -> Search:
        return optunas(task, pruner(), seed, trials)

    return search


def methods() -> Mapping[str, Method]:
    """Every search by name."""
    schedulers: Mapping[str, Callable[..., Optimizer]] = {
        "Asha": Asha,
        "Asha stopping": functools.partial(Asha, mode="stopping"),
        "Hyperband": Hyperband,
    }
    found = {
        f"{scheduler}, {name}": by_maggy(make, sampler)
        for scheduler, make in schedulers.items()
        for name, sampler in SAMPLERS.items()
    }
    try:
        import optuna
    except ModuleNotFoundError:
        return found
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruners = optuna.pruners
    found["Optuna TPE, halving"] = by_optuna(lambda: pruners.SuccessiveHalvingPruner(1, ETA))
    found["Optuna TPE, Hyperband"] = by_optuna(lambda: pruners.HyperbandPruner(1, EPOCHS, ETA))
    return found


def costs(searches: Sequence[Search], threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """For each seed, the time to the success or the end, and whether it was a success."""
    found = [search.found(threshold) for search in searches]
    spent = [search.end if at is None else at for search, at in zip(searches, found, strict=True)]
    return np.array(spent), np.array([at is not None for at in found], dtype=float)


def ratio(base: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> str:
    """How many times the running time of the second the first's is, and how sure.

    Without any success the time is infinite; resamples in which both are count for nothing.
    """
    rng = np.random.default_rng(0)
    size = len(base[0])
    draws = np.vstack([np.arange(size), rng.integers(0, size, (RESAMPLES, size))])
    with np.errstate(divide="ignore", invalid="ignore"):
        times = [spent[draws].sum(axis=1) / won[draws].sum(axis=1) for spent, won in (base, other)]
        ratios = times[0] / times[1]
    if np.isnan(ratios[0]):
        return "-"
    known = ratios[1:][~np.isnan(ratios[1:])]
    low, high = np.quantile(known, (0.025, 0.975), method="inverted_cdf")
    return f"{ratios[0]:.2f} ({low:.2f} to {high:.2f})"


def rows(task: Task, results: Mapping[str, Sequence[Search]], tolerance: float) -> list[list[str]]:
    """One row for each method."""
    threshold = task.best + tolerance * task.gap
    base = costs(results[BASE], threshold)
    lines = []
    for name, searches in results.items():
        spent, won = costs(searches, threshold)
        regrets = [100 * (search.best(math.inf) - task.best) / task.gap for search in searches]
        lines.append(
            [
                name,
                f"{won.sum():.0f} of {len(won)}",
                f"{spent.sum() / won.sum():.1f}" if won.any() else "never",
                ratio(base, (spent, won)),
                f"{statistics.median(regrets):.1f} %",
                f"{statistics.mean(search.cost for search in searches):.1f}",
            ]
        )
    return lines


def main() -> None:
    """Print a table for each task and goal."""
    options = arguments(__doc__)
    describe(f"Samplers of successive halving: {WORKERS} workers")
    seeds, trials = (2, 40) if options.quick else (SEEDS, TRIALS)
    header = ["method", "found", "time", "x one rung", "regret", "seconds a search"]
    tasks: Mapping[str, Callable[[], Task]] = {
        "digits-mlp": functools.partial(recorded, "digits-mlp"),
        "friedman-boosting": functools.partial(recorded, "friedman-boosting"),
        "hartmann": made_up,
    }
    for title, make in tasks.items():
        task = make()
        results = {
            name: [search(task, seed, trials) for seed in range(seeds)]
            for name, search in methods().items()
        }
        for tolerance in TOLERANCES:
            print(f"## {title}: within {tolerance:.0%}; {trials} configurations, {seeds} seeds\n")
            table(header, rows(task, results, tolerance))


if __name__ == "__main__":
    main()
