"""How long workers wait for suggestions: 8 of them, trials of one second that only sleep.

Idle is the time between the end of a trial and the start of the next one on the same worker, as a
share of the time of all workers; in a real search what random search leaves is the cost of the
messages.  On a busy machine a real search shows the load, so the first rows come from virtual
time: the search is simulated once to learn what a suggestion costs in CPU time, as a line over
the trials that ended, and again with that cost charged to the clock.
"""

from __future__ import annotations

import random
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from setting import arguments, describe, table

from maggy import Double, OptimizationConfig, Searchspace, experiment
from maggy.engines.conditions import Conditions
from maggy.engines.simulator import simulate
from maggy.engines.workload import Recording
from maggy.events import TrialFinished, TrialStarted
from maggy.optimizer import GP
from maggy.store.sqlite import SqliteLog

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from maggy.contracts import Optimizer
    from maggy.events import Event
    from maggy.trial import Exhausted, Suggestion, Trial

TRIALS, WORKERS, DIMENSIONS = 240, 8, 10
QUICK = 60
SPACE = Searchspace(**{f"x{number}": Double(-2.0, 2.0) for number in range(DIMENSIONS)})


def loss(hparams: Mapping[str, Any]) -> float:
    """Rosenbrock's function."""
    x = list(hparams.values())
    return float(sum(100 * (b - a * a) ** 2 + (1 - a) ** 2 for a, b in pairwise(x)))


def duration(seed: int) -> float:
    """Half a second to one and a half, one second on average."""
    return 0.5 + random.Random(seed).random()


def train(hparams: Mapping[str, Any], seed: int) -> float:
    """A training on another machine: it costs this one nothing."""
    time.sleep(duration(seed))
    return loss(hparams)


class Sleeping:
    """The same in virtual time."""

    def run(self, trial: int, hparams: Mapping[str, Any], budget: Any) -> Recording:
        """No reports, one result."""
        value = loss(hparams)
        return Recording(
            hparams=hparams, steps=(), values=(), seconds=(), result=value, closing=duration(trial)
        )


class Timed(GP):
    """Measures itself: after how many ended trials which suggestion cost how many CPU seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.costs: list[tuple[int, float]] = []
        self._spent = 0.0

    def ask(
        self, number: int, pending: Sequence[Trial], rng: np.random.Generator
    ) -> Suggestion | Exhausted:
        """With what was told since the last one."""
        before = time.thread_time()
        answer = super().ask(number, pending, rng)
        spent = self._spent + time.thread_time() - before
        self.costs.append((len(self._ended), spent))
        self._spent = 0.0
        return answer

    def tell(self, trial: Trial) -> None:
        """Part of the next suggestion's cost."""
        before = time.thread_time()
        super().tell(trial)
        self._spent += time.thread_time() - before


def config(optimizer: str | Optimizer, trials: int) -> OptimizationConfig:
    """The search."""
    return OptimizationConfig(
        num_trials=trials,
        optimizer=optimizer,
        searchspace=SPACE,
        direction="min",
        num_workers=WORKERS,
        seed=1,
        name="idle",
        quiet=True,
    )


def idle(events: Iterable[Event], first: int) -> list[str]:
    """The share of time that workers waited from this trial on, and their longest wait."""
    worker_of: dict[int, str] = {}
    began: dict[int, float] = {}
    free: dict[str, float] = {}
    gaps, busy = [], 0.0
    for event in events:
        if isinstance(event, TrialStarted):
            worker_of[event.trial], began[event.trial] = event.worker, event.at
            if event.worker in free and event.trial >= first:
                gaps.append(event.at - free[event.worker])
        elif isinstance(event, TrialFinished):
            free[worker_of[event.trial]] = event.at
            busy += event.at - began[event.trial] if event.trial >= first else 0.0
    share = sum(gaps) / (sum(gaps) + busy)
    return [f"{100 * share:.2f} %", f"{1000 * max(gaps):.0f}"]


def virtual(trials: int) -> tuple[Sequence[Event], str]:
    """The log of a search in which suggestions take the CPU time that they cost here."""
    timed = Timed()
    simulate(config(timed, trials), Sleeping(), workers=WORKERS)
    ended, seconds = np.array(timed.costs[2 * WORKERS :]).T
    growth, start = np.polyfit(ended, seconds, 1)
    cost = Conditions(suggest=max(start, 0.0), suggest_growth=max(growth, 0.0))
    done = simulate(config("gp", trials), Sleeping(), workers=WORKERS, conditions=cost)
    return done.events, f"{1000 * (start + growth * trials):.0f} ms a suggestion at the end"


def real(optimizer: str, trials: int) -> Sequence[Event]:
    """The log of a real search."""
    result = experiment.lagom(train, config(optimizer, trials))
    assert result.path is not None
    with SqliteLog.open(result.path / "run.sqlite") as log:
        return list(log.read())


def main() -> None:
    """Search with each and print the table."""
    trials = QUICK if arguments(__doc__).quick else TRIALS
    describe(f"Idle time: {WORKERS} workers, {trials} trials of 1 s, {DIMENSIONS} dimensions")
    simulated, cost = virtual(trials)
    logs = {
        f"gp, virtual time, {cost}": simulated,
        "gp, real time": real("gp", trials),
        "randomsearch, real time": real("randomsearch", trials),
    }
    half = trials // 2
    rows = [[label, *idle(events, 0), *idle(events, half)] for label, events in logs.items()]
    table(["", "idle", "longest, ms", f"from trial {half} on", "longest, ms"], rows)


if __name__ == "__main__":
    main()
