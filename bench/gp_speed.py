"""What a suggestion of the Gaussian process costs, beside Optuna's GPSampler in the same run.

Ten continuous hyperparameters, one thread.  "Warm" is a suggestion after one new result: refit,
acquisition and its maximum.  Both tools search the same function from the same random history and
take turns, so that other load on the machine hits both.  Times are CPU milliseconds of this
process.  Optuna's sampler needs torch: ``pip install optuna torch``; without it only ours is
measured.
"""

from __future__ import annotations

import importlib
import importlib.util
import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from setting import arguments, describe, spread, table
from threadpoolctl import threadpool_limits

from maggy.contracts import SearchContext
from maggy.optimizer import GP
from maggy.searchspace import Double, Searchspace
from maggy.trial import Suggestion, Trial, TrialStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DIMENSIONS = 10
SIZES, QUICK = (50, 100, 200, 500, 1000), (50, 100)
PENDING = 4


def loss(point: Sequence[float]) -> float:
    """Rosenbrock's function in [0, 1]^d, with its valley somewhere inside."""
    x = 3.0 * np.asarray(point) - 1.0
    return float((100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2).sum())


def history(n: int) -> list[list[float]]:
    """Random points."""
    points: list[list[float]] = np.random.default_rng(n).random((n, DIMENSIONS)).tolist()
    return points


class Ours:
    """The Gaussian process of maggy."""

    def __init__(self, n: int, pending: int) -> None:
        names = [f"x{number}" for number in range(DIMENSIONS)]
        space = Searchspace(**{name: Double(0.0, 1.0) for name in names})
        self._optimizer = GP()
        self._optimizer.start(
            SearchContext(searchspace=space, num_trials=2 * n, num_workers=1, seed=0)
        )
        self._names, self._n = names, 0
        for point in history(n):
            self._tell(point)
        self._pending = [
            Trial(id=10**6 + number, hparams=dict(zip(names, point, strict=True)))
            for number, point in enumerate(history(pending))
        ]

    def _tell(self, point: Sequence[float]) -> None:
        hparams = dict(zip(self._names, point, strict=True))
        trial = Trial(id=self._n, hparams=hparams, status=TrialStatus.COMPLETED, loss=loss(point))
        self._optimizer.tell(trial)
        self._n += 1

    def ask(self) -> Callable[[], None]:
        """Suggest; what it returns tells the result."""
        answer = self._optimizer.ask(self._n, self._pending, np.random.default_rng(self._n))
        assert isinstance(answer, Suggestion)
        point = [float(answer.hparams[name]) for name in self._names]  # type: ignore[arg-type]
        return lambda: self._tell(point)


class Optunas:
    """The Gaussian process of Optuna, with its storage in memory."""

    def __init__(self, n: int, pending: int) -> None:
        import optuna

        importlib.import_module("torch").set_num_threads(1)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._study = optuna.create_study(sampler=optuna.samplers.GPSampler(seed=0))
        range_ = optuna.distributions.FloatDistribution(0.0, 1.0)
        self._ranges: dict[str, Any] = {f"x{number}": range_ for number in range(DIMENSIONS)}
        for point in history(n):
            params = dict(zip(self._ranges, point, strict=True))
            self._study.add_trial(
                optuna.trial.create_trial(
                    params=params, distributions=self._ranges, value=loss(point)
                )
            )
        for point in history(pending):
            self._study.enqueue_trial(dict(zip(self._ranges, point, strict=True)))
            self._study.ask(self._ranges)

    def ask(self) -> Callable[[], None]:
        """Suggest; what it returns tells the result."""
        trial = self._study.ask(self._ranges)
        point = list(trial.params.values())

        def tell() -> None:
            self._study.tell(trial, loss(point))

        return tell


def measure(n: int, pending: int, repeats: int) -> dict[str, list[float]]:
    """CPU milliseconds of each warm suggestion, the tools in turns; the first is not counted."""
    kinds: list[Any] = [Ours]
    if importlib.util.find_spec("torch") and importlib.util.find_spec("optuna"):
        kinds.append(Optunas)
    tools = {kind.__name__: kind(n, pending) for kind in kinds}
    times: dict[str, list[float]] = {name: [] for name in tools}
    for turn in range(repeats + 1):
        for name, tool in tools.items():
            before = time.process_time()
            tell = tool.ask()
            used = 1000.0 * (time.process_time() - before)
            tell()
            if turn:
                times[name].append(used)
    return times


def main() -> None:
    """Measure every size, without and with pending trials, and print the table."""
    options = arguments(__doc__)
    describe("Cost of a suggestion: Gaussian process, d = 10, CPU milliseconds")
    rows = []
    for n in QUICK if options.quick else SIZES:
        for pending in (0, PENDING):
            with threadpool_limits(limits=1):
                times = measure(n, pending, 5 if options.quick or n > 200 else 15)
            ours, theirs = times["Ours"], times.get("Optunas")
            ratio = "-"
            if theirs:
                ratio = f"{statistics.median(theirs) / statistics.median(ours):.1f}"
            shown = spread(theirs, 1) if theirs else "-"
            rows.append([str(n), str(pending), spread(ours, 1), shown, ratio])
    table(["results", "pending", "maggy", "Optuna", "times cheaper"], rows)


if __name__ == "__main__":
    main()
