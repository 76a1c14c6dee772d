"""What a suggestion of TPE costs beside Optuna's, in one process and interleaved.

Both have seen the same trials.  A repeat asks each once and tells it one more result, so each ask
comes right after news; "warm" asks again without news, with one more trial pending.  Milliseconds
of CPU time, one thread; the ratio is Optuna's over ours, each the median of the repeats.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from setting import arguments, describe, spread, table
from threadpoolctl import threadpool_limits

from maggy.contracts import SearchContext
from maggy.optimizer import TPE
from maggy.searchspace import Categorical, Double, Integer, Searchspace
from maggy.trial import Suggestion, Trial, TrialStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

_SEED = 1


def continuous(columns: int) -> Searchspace:
    """Only real numbers."""
    return Searchspace(**{f"x{i}": Double(0.0, 1.0) for i in range(columns)})


def mixed(columns: int) -> Searchspace:
    """Real and whole numbers and categories in turn."""
    kinds = (Double(0.0, 1.0), Integer(1, 64, log=True), Categorical(["a", "b", "c"]))
    return Searchspace(**{f"x{i}": kinds[i % 3] for i in range(columns)})


def loss(point: list[float]) -> float:
    """A bowl with its bottom off the centre."""
    return float(np.sum((np.array(point) - 0.3) ** 2))


@dataclass
class Ours:
    """TPE and what it was told."""

    space: Searchspace
    pending: list[Trial] = field(default_factory=list)
    count: int = 0

    def __post_init__(self) -> None:
        self.optimizer = TPE()
        context = SearchContext(
            searchspace=self.space, num_trials=100_000, num_workers=1, seed=_SEED
        )
        self.optimizer.start(context)

    def know(self, hparams: Mapping[str, Any]) -> None:
        """Tell the outcome of a configuration."""
        trial = Trial(id=self.count, hparams=hparams)
        trial.status, trial.loss = TrialStatus.COMPLETED, loss(self.space.encode(hparams))
        self.count += 1
        self.optimizer.tell(trial)

    def ask(self) -> tuple[Mapping[str, Any], float]:
        """A configuration, and the milliseconds that it took."""
        rng = np.random.default_rng([_SEED, self.count])
        began = time.process_time()
        answer = self.optimizer.ask(self.count + len(self.pending), self.pending, rng)
        taken = 1000 * (time.process_time() - began)
        assert isinstance(answer, Suggestion)
        return answer.hparams, taken


class Theirs:
    """Optuna's TPE and what it was told."""

    def __init__(self, space: Searchspace) -> None:
        self.space = space
        sampler = optuna.samplers.TPESampler(seed=_SEED)
        self.study = optuna.create_study(sampler=sampler)
        self.distributions = {name: _distribution(kind) for name, kind in space.items()}

    def know(self, hparams: Mapping[str, Any]) -> None:
        """Tell the outcome of a configuration."""
        value = loss(self.space.encode(hparams))
        trial = optuna.trial.create_trial(
            params=dict(hparams), distributions=self.distributions, value=value
        )
        self.study.add_trial(trial)

    def ask(self) -> float:
        """The milliseconds that one suggestion takes."""
        began = time.process_time()
        trial = self.study.ask(self.distributions)
        taken = 1000 * (time.process_time() - began)
        self.study.tell(trial, loss(self.space.encode(trial.params)))
        return taken


def _distribution(kind: object) -> optuna.distributions.BaseDistribution:
    match kind:
        case Double(low=low, high=high, log=log):
            return optuna.distributions.FloatDistribution(low, high, log=log)
        case Integer(low=low, high=high, log=log):
            return optuna.distributions.IntDistribution(low, high, log=log)
        case Categorical(choices=choices):
            return optuna.distributions.CategoricalDistribution(list(choices))
        case _:
            raise TypeError(kind)


def row(space: Searchspace, label: str, count: int, repeats: int) -> list[str]:
    """One line of the table; Optuna is left out beyond 2,000 trials."""
    rng = np.random.default_rng(0)
    ours, theirs = Ours(space), Theirs(space) if count <= 2000 else None
    for _ in range(count):
        known = space.sample(rng)
        ours.know(known)
        if theirs is not None:
            theirs.know(known)
    cold, warm, other = [], [], []
    for _ in range(repeats):
        hparams, taken = ours.ask()
        cold.append(taken)
        ours.pending = [Trial(id=ours.count, hparams=hparams)]
        warm.append(ours.ask()[1])
        ours.pending = []
        ours.know(hparams)
        if theirs is not None:
            other.append(theirs.ask())
    ratio = f"{statistics.median(other) / statistics.median(cold):.1f}" if other else "-"
    shown = spread(other, 2) if other else "-"
    return [label, f"{count:,}", spread(cold, 2), spread(warm, 2), shown, ratio]


def main() -> None:
    """Print the table."""
    options = arguments(__doc__)
    describe("TPE: milliseconds of CPU time a suggestion")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    repeats = 5 if options.quick else 15
    counts = (100, 1000, 4000) if options.quick else (100, 500, 1000, 2000, 5000, 10_000)
    with threadpool_limits(limits=1):
        rows = [row(continuous(10), "10 real", count, repeats) for count in counts]
        rows += [row(mixed(10), "10 mixed", count, repeats) for count in counts]
        rows += [row(continuous(20), "20 real", 1000, repeats)]
    table(["space", "trials", "after news", "warm", "Optuna", "ratio"], rows)


if __name__ == "__main__":
    main()
