"""Asynchronous, early-stopped search against bulk-synchronous rounds of the same trainings.

The rounds are ideal: as many trials as workers, wait for the slowest, begin the next, without any
overhead.  The trainings are the recorded perceptrons on digits with their real durations, drawn at
random; their mean duration is the unit of time.  Real workers replay them by sleeping.
``curve 0.5`` is the curve rule with a bolder bound than its default.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from typing import TYPE_CHECKING, Any

from setting import arguments, describe, spread, table

from maggy import OptimizationConfig, Reporter, experiment
from maggy.earlystop import CurveRule, MedianRule
from maggy.engines.rerun import Given
from maggy.engines.simulator import simulate
from maggy.engines.workload import InOrder
from maggy.testing.curves import load_task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from maggy.contracts import StoppingPolicy
    from maggy.engines.workload import Recording

TASK = load_task("digits-mlp")
ES_MIN = 5
REAL_TRIALS, REAL_MEAN = 40, 0.7
REPEATS = {2: 20, 8: 20, 64: 6, 1000: 2}
PEERS = 3
POLICIES: dict[str, StoppingPolicy | str] = {
    "none": "none",
    "median": MedianRule(min_peers=PEERS),
    "curve": CurveRule(min_peers=PEERS),
    "curve 0.5": CurveRule(0.5, min_peers=PEERS),
}
REAL_POLICY = "curve 0.5"


def sample(count: int, seed: int) -> Sequence[Recording]:
    """Trainings drawn with replacement; the mean of all recordings is one unit."""
    return random.Random(seed).choices(TASK.scaled(1.0), k=count)


def rounds(trainings: Sequence[Recording], workers: int) -> float:
    """How long ideal bulk-synchronous rounds take."""
    durations = [training.duration for training in trainings]
    starts = range(0, len(durations), workers)
    return sum(max(durations[start : start + workers]) for start in starts)


def simulated(policy: str, workers: int, repeats: int) -> list[str]:
    """One row: a policy with so many workers."""
    savings, regrets, busy = [], [], []
    count = max(100, 10 * workers)
    for repeat in range(repeats):
        trainings = sample(count, 1000 * workers + repeat)
        config = OptimizationConfig(
            searchspace=TASK.searchspace,
            num_trials=count,
            optimizer=Given([training.hparams for training in trainings]),
            es_policy=POLICIES[policy],
            es_min=ES_MIN,
            seed=repeat,
        )
        done = simulate(config, InOrder(trainings), workers=workers)
        best = done.summary.standing.best
        assert best is not None
        savings.append(100 * (1 - done.seconds / rounds(trainings, workers)))
        regrets.append(max(training.final for training in trainings) - best[1])
        spent, _ = done.summary.crew.seconds(done.seconds)
        busy.append(100 * spent / (workers * done.seconds))
    kept = sum(regret <= 0 for regret in regrets)
    return [
        f"{workers:,}, {policy}",
        f"{count:,}",
        spread(savings, 1),
        f"{statistics.mean(busy):.0f}",
        f"{kept} of {repeats}",
        f"{statistics.mean(regrets):.4f}",
    ]


def replay(
    hparams: Mapping[str, Any], reporter: Reporter, train_set: Sequence[Mapping[str, Any]]
) -> float:
    """Train as recorded: sleep the seconds, report the values."""
    training = next(each for each in train_set if each["hparams"] == dict(hparams))
    for step, (value, seconds) in enumerate(
        zip(training["values"], training["seconds"], strict=True)
    ):
        time.sleep(seconds)
        reporter.broadcast(value, step=step)
    return float(training["values"][-1])


def real(seed: int, folder: str) -> tuple[float, float, float]:
    """Percent saved by two real workers, percent that the simulator says, and the regret."""
    trainings = random.Random(seed).sample(TASK.scaled(REAL_MEAN), REAL_TRIALS)
    config = OptimizationConfig(
        searchspace=TASK.searchspace,
        num_trials=REAL_TRIALS,
        optimizer="randomsearch",
        initial=[dict(training.hparams) for training in trainings],
        es_policy=POLICIES[REAL_POLICY],
        es_min=ES_MIN,
        num_workers=2,
        seed=seed,
        train_set=[
            {"hparams": dict(each.hparams), "values": each.values, "seconds": each.seconds}
            for each in trainings
        ],
        folder=folder,
        quiet=True,
    )
    result = experiment.lagom(train_fn=replay, config=config)
    ideal = rounds(trainings, 2)
    done = simulate(config, InOrder(trainings), workers=2)
    regret = max(training.final for training in trainings) - result["best_val"]
    return (
        100 * (1 - result["duration"] / ideal),
        100 * (1 - done.seconds / ideal),
        regret,
    )


def main() -> None:
    """Print both tables."""
    options = arguments(__doc__)
    describe("Asynchronous against ideal bulk-synchronous rounds of the same trainings")
    rows = [
        simulated(policy, workers, 1 if options.quick else repeats)
        for workers, repeats in REPEATS.items()
        for policy in POLICIES
        if workers < 1000 or not options.quick
    ]
    header = [
        "simulated workers, policy",
        "trials",
        "% less time",
        "busy %",
        "best kept",
        "regret",
    ]
    table(header, rows)
    with tempfile.TemporaryDirectory() as folder:
        results = [real(seed, folder) for seed in range(1 if options.quick else 3)]
    saved, predicted, regrets = zip(*results, strict=True)
    row = [
        REAL_POLICY,
        str(REAL_TRIALS),
        spread(saved, 1),
        spread(predicted, 1),
        f"{sum(regret <= 0 for regret in regrets)} of {len(regrets)}",
    ]
    table(["2 real workers", "trials", "% less time", "simulated", "best kept"], [row])


if __name__ == "__main__":
    main()
