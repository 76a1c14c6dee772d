"""Asynchronous search on Spark against bulk-synchronous rounds on the same Spark.

120 recorded trainings of perceptrons on digits, with their real durations scaled to a mean of one
second, are replayed by sleeping, on the 8 slots of ``local-cluster[2,4,1024]``: by maggy, with and
without early stopping, and by Spark jobs of 8 tasks each, one after the other.  Both sides are
warm: time is from the start of the first trial to the end of the last.  *Ideal* rounds have no
overhead; *list scheduling* gives each trial, in order, to the slot that is free first.
"""

from __future__ import annotations

import heapq
import os
import random
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

from async_vs_bsp import POLICIES, TASK, replay, rounds
from setting import arguments, describe, spread, table
from spark_engine import CONF, events, spark_home

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maggy.engines.workload import Recording

SLOTS = 8
TRIALS, REPEATS = 120, 3
MEAN = 1.0
ES_MIN = 5
RULES = ("none", "median")


def list_scheduling(trainings: Sequence[Recording]) -> float:
    """Seconds until the last slot is free."""
    free = [0.0] * SLOTS
    for training in trainings:
        heapq.heapreplace(free, free[0] + training.duration)
    return max(free)


def searched(trainings: Sequence[Recording], rule: str, folder: str) -> tuple[float, float]:
    """Seconds that maggy takes, and how far its best is from the best of all."""
    from maggy import OptimizationConfig, experiment
    from maggy.events import TrialFailed, TrialFinished, TrialStarted, TrialStopped

    config = OptimizationConfig(
        searchspace=TASK.searchspace,
        num_trials=len(trainings),
        optimizer="randomsearch",
        initial=[dict(training.hparams) for training in trainings],
        es_policy=POLICIES[rule],
        es_min=ES_MIN,
        engine="spark",
        num_workers=SLOTS,
        seed=1,
        train_set=[
            {"hparams": dict(each.hparams), "values": each.values, "seconds": each.seconds}
            for each in trainings
        ],
        folder=folder,
        quiet=True,
    )
    result = experiment.lagom(replay, config)
    kinds = (TrialStarted, TrialFinished, TrialStopped, TrialFailed)
    times = [event.at for event in events(result) if isinstance(event, kinds)]
    regret = max(training.final for training in trainings) - result["best_val"]
    return max(times) - min(times), regret


def in_rounds(context: Any, trainings: Sequence[Recording]) -> float:
    """Seconds that jobs of one task for each slot take, one job after the other."""
    durations = [training.duration for training in trainings]
    began = time.monotonic()
    for start in range(0, len(durations), SLOTS):
        batch = durations[start : start + SLOTS]
        context.parallelize(batch, len(batch)).foreach(time.sleep)
    return time.monotonic() - began


def main() -> None:
    """Measure in turns, and print the table."""
    options = arguments(__doc__)
    describe("Spark: asynchronous against bulk-synchronous rounds, 8 slots")
    repeats = 1 if options.quick else REPEATS
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}
        os.environ |= {"SPARK_LOCAL_DIRS": folder, "SPARK_HOME": spark_home(folder)}
        from pyspark.sql import SparkSession

        builder = SparkSession.builder.master(f"local-cluster[2,{SLOTS // 2},1024]")
        for name, value in CONF.items():
            builder = builder.config(name, value)
        spark = builder.getOrCreate()
        context = spark.sparkContext
        context.parallelize([0.1] * SLOTS, SLOTS).foreach(time.sleep)
        rows = [one(context, seed, folder) for seed in range(repeats)]
        spark.stop()
    names = list(rows[0])
    columns = {name: [row[name] for row in rows] for name in names}
    cells = [[name, spread(columns[name], 4 if "regret" in name else 1)] for name in names]
    table([f"{TRIALS} trials", f"median of {repeats}"], cells)


def one(context: Any, seed: int, folder: str) -> dict[str, float]:
    """All ways with the same trainings."""
    trainings = random.Random(seed).sample(TASK.scaled(MEAN), TRIALS)
    ideal, bound = rounds(trainings, SLOTS), list_scheduling(trainings)
    bsp = in_rounds(context, trainings)
    found = {"ideal rounds, s": ideal, "rounds on Spark, s": bsp, "list scheduling, s": bound}
    for rule in RULES:
        seconds, regret = searched(trainings, rule, folder)
        found |= {
            f"maggy, stopping {rule}, s": seconds,
            f"  less than rounds on Spark, {rule}, %": 100 * (1 - seconds / bsp),
            f"  less than ideal rounds, {rule}, %": 100 * (1 - seconds / ideal),
            f"  regret, {rule}": regret,
        }
        if rule == "none":
            found["  more than list scheduling, none, %"] = 100 * (seconds / bound - 1)
    return found


if __name__ == "__main__":
    main()
