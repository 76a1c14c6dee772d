"""What a warm start gains on a related task, and what a misleading one costs.

The earlier run is 60 trials of TPE on a function, in other units (3 times the losses, plus 10).
The new search is on the same function, its optimum shifted by up to a tenth of each range.  For
the misleading case the losses of the earlier run are reversed: its best trials are its worst.
Each figure is regret with the warm start over regret without, the geometric mean over seeds with
an interval of two standard errors; under 1 the warm start helps.  Regret under 0.01 counts as
that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from quality import FUNCTIONS, Function
from setting import arguments, describe, table

from maggy.contracts import EarlierRun, SearchContext
from maggy.optimizer.registry import resolve
from maggy.searchspace import Double
from maggy.trial import Suggestion, Trial, TrialStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Array: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

NAMES = ("branin", "hartmann 6", "network")
OPTIMIZERS = ("gp", "tpe")
EARLIER, SEEDS = 60, 10
CHECKPOINTS = (5, 10, 20, 40)
QUICK = 3
FLOOR = 1e-2
SHIFT = 0.1
CASES = {"related": 3.0, "misleading": -3.0}
"""What the losses of the earlier run are multiplied by."""


@dataclass(frozen=True, slots=True)
class Task:
    """A function with its arguments moved, in the coordinates of the unit cube."""

    function: Function
    shift: Mapping[str, float]

    def loss(self, hparams: Mapping[str, Any]) -> float:
        """The loss of a configuration; moved arguments may lie outside the range."""
        moved = dict(hparams)
        for name, by in self.shift.items():
            kind = self.function.space[name]
            assert isinstance(kind, Double)
            if kind.log:
                moved[name] = hparams[name] * (kind.high / kind.low) ** by
            else:
                moved[name] = hparams[name] + by * (kind.high - kind.low)
        return self.function.loss(moved)


def related(function: Function, seed: int) -> Task:
    """The function with its continuous arguments moved by up to a tenth."""
    rng = np.random.default_rng([seed, 7])
    names = [n for n, kind in function.space.items() if isinstance(kind, Double) and not kind.when]
    return Task(function, {name: float(rng.uniform(-SHIFT, SHIFT)) for name in names})


def search(
    name: str,
    task: Task,
    trials: int,
    seed: int,
    earlier: Sequence[EarlierRun] = (),
) -> list[Trial]:
    """So many trials, one after the other."""
    optimizer = resolve(name)
    space = task.function.space
    optimizer.start(
        SearchContext(
            searchspace=space, num_trials=trials, num_workers=1, seed=seed, earlier=earlier
        )
    )
    done = []
    for number in range(trials):
        answer = optimizer.ask(number, (), np.random.default_rng([seed, number]))
        assert isinstance(answer, Suggestion)
        trial = Trial(id=number, hparams=answer.hparams, status=TrialStatus.COMPLETED)
        trial.loss = task.loss(answer.hparams)
        optimizer.tell(trial)
        done.append(trial)
    return done


def retold(trials: Sequence[Trial], factor: float) -> EarlierRun:
    """An earlier run of these trials, with losses in other units."""
    told = []
    for trial in trials:
        assert trial.loss is not None
        copy = trial.snapshot()
        copy.loss = 10 + factor * trial.loss
        told.append(copy)
    return EarlierRun(name="earlier", trials=told)


def regrets(trials: Sequence[Trial], minimum: float) -> list[float]:
    """The logarithm of the regret at each checkpoint."""
    losses = np.minimum.accumulate(np.array([trial.loss for trial in trials], dtype=float))
    return [math.log(max(losses[count - 1] - minimum, FLOOR)) for count in CHECKPOINTS]


def compare(name: str, function: Function, seeds: int) -> dict[str, list[Array]]:
    """The logarithms of the ratios for each seed, shape (checkpoints,), in both cases."""
    gains: dict[str, list[Array]] = {case: [] for case in CASES}
    for seed in range(seeds):
        before = search("tpe", Task(function, {}), EARLIER, seed + 1000)
        task, count = related(function, seed), CHECKPOINTS[-1]
        cold = np.array(regrets(search(name, task, count, seed), function.minimum))
        for case, factor in CASES.items():
            run = retold(before, factor)
            warm = search(name, task, count, seed, [run])
            gains[case].append(np.array(regrets(warm, function.minimum)) - cold)
    return gains


def interval(logs: Array) -> str:
    """The geometric mean of the ratios, and two standard errors."""
    middle, error = logs.mean(), 2 * logs.std(ddof=1) / math.sqrt(len(logs))
    low, high = math.exp(middle - error), math.exp(middle + error)
    return f"{math.exp(middle):.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__)
    describe("Warm start: regret with it over regret without")
    seeds = QUICK if options.quick else SEEDS
    rows = []
    for name in OPTIMIZERS:
        gains = {title: compare(name, FUNCTIONS[title], seeds) for title in NAMES}
        for case in CASES:
            parts = {title: gains[title][case] for title in NAMES}
            parts["all"] = [logs for title in NAMES for logs in gains[title][case]]
            rows += [
                [f"{name}, {case}, {title}", *map(interval, np.array(logs).T)]
                for title, logs in parts.items()
            ]
    table(["", *(f"{count} trials" for count in CHECKPOINTS)], rows)


if __name__ == "__main__":
    main()
