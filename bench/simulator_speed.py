"""Events a second of the simulator, in processor time, up to 1,000 workers and 10,000 trials.

Events are those of the log.  The machine, the loop, random search, the policy, the summary, a log
in memory and the making up of the learning curves are all in the time.  With a policy most trials
are short, so that fewer events share what a trial costs.
"""

from __future__ import annotations

import time

from setting import arguments, describe, spread, table

from maggy import Double, OptimizationConfig, Searchspace
from maggy.engines.simulator import simulate
from maggy.engines.workload import Synthetic

SPACE = Searchspace(x=Double(0, 1), y=Double(1e-5, 1, log=True))
STEPS = 27


def row(workers: int, trials: int, policy: str, repeats: int) -> list[str]:
    """One size and policy."""
    config = OptimizationConfig(
        searchspace=SPACE,
        num_trials=trials,
        optimizer="randomsearch",
        es_policy=policy,
        es_min=10,
        seed=1,
    )
    rates, seconds, events = [], [], 0
    for _ in range(repeats):
        began = time.process_time()
        done = simulate(config, Synthetic(steps=STEPS), workers=workers)
        seconds.append(time.process_time() - began)
        events = len(done.events)
        rates.append(events / seconds[-1])
    return [
        f"{workers:,} workers, {trials:,} trials, {policy}",
        f"{events:,}",
        spread(seconds, 1),
        spread(rates),
    ]


def main() -> None:
    """Print the table."""
    options = arguments(__doc__)
    describe(f"The simulator: {STEPS} reports a trial")
    sizes = [(100, 1000), (100, 10_000)] + ([] if options.quick else [(1000, 10_000)])
    repeats = 1 if options.quick else 3
    rows = [
        row(workers, trials, policy, repeats)
        for workers, trials in sizes
        for policy in ("none", "median")
    ]
    table(["", "events", "seconds", "events/s"], rows)


if __name__ == "__main__":
    main()
