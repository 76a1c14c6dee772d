"""What the policies save and lose on recorded curves.

The median and percentile rules have nothing to calibrate.  The defaults of the curve rule were
chosen on recorded curves of seven other tasks (perceptrons, linear models and boosting on other
data): it saves 42 % of the epochs there and stops the best trial in none of 420 runs.  A first
choice (``delta=0.5``, ``keep=0.3``, four reports) was made stricter several times after a look
at the two tasks below, ``keep=0.28`` because it met both goals on them: their tables are not held
out.  On three more tasks, recorded after the choice, it saves 43 % and stops the best in none of
600 runs (median rule: 53 % and 19 %).

Each run takes 100 recordings in random order through the simulator with 8 workers.  ``saved`` is
the share of all epochs that is not trained, ``best stopped`` the share of the runs in which the
trial that would have been the best was stopped, ``best lost`` those where the best value was lost,
``loss`` how much of the gap between the best and the median trial that cost on average.
"""

from __future__ import annotations

import random
import statistics
import time
from typing import TYPE_CHECKING

from setting import arguments, describe, table

from maggy import OptimizationConfig
from maggy.earlystop import CurveRule, MedianRule, PercentileRule
from maggy.engines.simulator import simulate
from maggy.engines.workload import InOrder
from maggy.testing.curves import TASKS, load_task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from maggy.contracts import Decision, StoppingPolicy
    from maggy.engines.workload import Recording
    from maggy.testing.curves import RecordedTask
    from maggy.trial import Trial

TRIALS, WORKERS, ES_MIN = 100, 8, 10

POLICIES: dict[str, Callable[[], StoppingPolicy]] = {
    "median": lambda: MedianRule(min_peers=ES_MIN // 2),
    "percentile 25": lambda: PercentileRule(25, min_peers=ES_MIN // 2),
    "curve": lambda: CurveRule(min_peers=ES_MIN // 2),
}


class Timed:
    """A policy, and how long its decisions take."""

    def __init__(self, policy: StoppingPolicy) -> None:
        self.policy = policy
        self.seconds: list[float] = []

    def __deepcopy__(self, memo: object) -> Timed:
        return self  # a config copies its policy; the times are wanted here

    def finished(self, trial: Trial) -> None:
        """Pass it on."""
        self.policy.finished(trial)

    def decide(self, trial: Trial) -> Decision:
        """Pass it on, with a stopwatch."""
        began = time.thread_time()
        decision = self.policy.decide(trial)
        self.seconds.append(time.thread_time() - began)
        return decision


def outcome(
    task: RecordedTask, sample: Sequence[Recording], timed: Timed
) -> tuple[float, bool, float]:
    """Share of the epochs saved, whether the best trial was stopped, what was lost of the gap."""
    config = OptimizationConfig(
        searchspace=task.searchspace,
        num_trials=len(sample),
        optimizer="randomsearch",
        direction=task.direction,
        es_policy=timed,
        es_min=ES_MIN,
        seed=0,
    )
    done = simulate(config, InOrder(sample), workers=WORKERS)
    sign = 1 if task.direction == "min" else -1
    finals = [sign * recording.final for recording in sample]
    best = finals.index(min(finals))
    epochs = sum(len(trial.steps) for trial in done.summary.trials.values())
    kept = done.summary.standing.best
    assert kept is not None
    gap = statistics.median(finals) - finals[best]
    stopped = bool(done.summary.trials[best].stop_reason)
    return (
        1 - epochs / sum(len(recording.steps) for recording in sample),
        stopped,
        (sign * kept[1] - finals[best]) / gap,
    )


def row(task: RecordedTask, name: str, runs: int) -> list[str]:
    """One policy on one task."""
    results, seconds = [], []
    for seed in range(runs):
        sample = random.Random(seed).sample(list(task.recordings), TRIALS)
        timed = Timed(POLICIES[name]())
        results.append(outcome(task, sample, timed))
        seconds += timed.seconds
    seconds.sort()
    saved, stopped, lost = zip(*results, strict=True)
    return [
        f"{task.name}, {name}",
        f"{statistics.mean(saved):.1%} ({min(saved):.1%} to {max(saved):.1%})",
        f"{statistics.mean(stopped):.1%}",
        f"{statistics.mean(loss > 0 for loss in lost):.1%}",
        f"{statistics.mean(lost):.2%}",
        f"{1e3 * statistics.mean(seconds):.3f}",
        f"{1e3 * seconds[int(0.99 * len(seconds))]:.3f}",
    ]


def main() -> None:
    """Print the table."""
    options = arguments(__doc__)
    describe(f"Stopping policies on recorded curves: {TRIALS} trials, {WORKERS} workers")
    runs = 10 if options.quick else 200
    rows = [row(load_task(task), name, runs) for task in TASKS for name in POLICIES]
    header = ["task, policy", f"saved ({runs} runs)", "best stopped", "best lost", "loss"]
    table([*header, "ms a decision", "99th percentile"], rows)


if __name__ == "__main__":
    main()
