"""How soon successive halving finds the best recorded configuration: ours, others', and simpler.

Every search tries the same recorded trainings in the same random order with 8 workers, in virtual
time with the recorded durations; the unit of time is the mean duration of a training.

Goal: a configuration is *found* when its training is complete, to the last epoch, and its final
value is at most 1 % of the gap between the best and the median final value worse than the best
(or, second table, at most 1 % of the best value itself).  It may be stopped early, so some
searches try everything and find nothing; ``median`` is the time to the success or to such an end,
so it flatters who finds little.  ``time`` is therefore the expected running time of
benchmarks of optimizers (Hansen et al. 2021, COCO, section 3): the time of all searches, those in
vain included, for each success, as if one started again after a failure.  ``x faster`` is that of
random search divided by it, ``x Asha, stopping`` is that of our ASHA by stopping with the same
rungs divided by it (less than 1: slower than ours); both with bootstrap 95 % intervals over the
seeds, which are paired.  No search can be faster than the shortest training that counts.

Successive halving has eta and the first rung as given, and ends at the last epoch; a first rung
at 3 was added after a look at the results of the others.  A trial that is to be stopped hears so
at its next report, one epoch later, as in our simulator: a report does not wait for an answer.
Promotion goes on from checkpoints, and ends its runs at the rung.  ``waits`` is where the training
waits for the decision, as it does with Optuna's ``should_prune``; stopping then wastes nothing.
Optuna, Ray Tune and Syne Tune are represented by their schedulers in
our replay (``searches/halving.py``), Ray and Syne Tune in the environments that ``peers.py``
makes; without these they are left out.  That the replay is the simulator's is checked: random
search must come to the same times in both.

``oracle`` stops each training at the first rung, unless it counts: what halving can come to.
``all a little`` trains every configuration for 1 or 3 epochs, waits for the last of them, and
then goes on with the best K from their checkpoints (Egele et al. 2023).

The rule of our ASHA was chosen on other orders (seeds from 1000 on) of all four tasks: for
stopping, among ours before (n // eta, ties stop), ceil(n / eta), Ray Tune's percentile, Syne
Tune's rank and ranking again at each report; for promotion, among at most n // eta ever, algorithm
2 of Li et al. (2020), ceil(n / eta), n // eta + 1, and bounds of the order of sqrt(n) on what goes
on beyond n / eta.  Ranks of at most n / eta were best or near it for both.  Times faster than
random search with eta 3, within 1 % of the best value, 25 orders; ``docs/benchmarks.md`` has all:

======================  ===================  ===================  ======  ====  =========
task, first rung        Asha, stopping       Asha, promotion      Optuna  Ray   Syne Tune
======================  ===================  ===================  ======  ====  =========
digits-mlp, 1           1.37 (1.19 to 1.56)  1.34 (0.97 to 1.75)  0.91    1.31  1.37
digits-mlp, 3           1.32 (1.17 to 1.46)  1.41 (1.19 to 1.62)  1.04    1.37  1.32
friedman-boosting, 1    0.19 (0.04 to 0.37)  0.07 (0.00 to 0.20)  0.08    0.12  0.19
friedman-boosting, 3    1.22 (0.92 to 1.54)  1.57 (1.41 to 1.72)  1.19    1.20  1.22
digits-sgd, 1           0.58 (0.14 to 1.02)  1.44 (0.82 to 2.06)  0.26    0.48  0.58
digits-sgd, 3           3.00 (2.66 to 3.31)  3.09 (2.74 to 3.38)  2.84    3.17  3.00
digits-autoencoder, 1   3.97 (3.42 to 4.43)  4.37 (3.75 to 4.90)  2.02    3.72  3.97
digits-autoencoder, 3   3.17 (2.80 to 3.47)  3.39 (3.04 to 3.67)  3.21    3.31  3.17
======================  ===================  ===================  ======  ====  =========
"""

from __future__ import annotations

import heapq
import json
import random
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from environments import ROOT, Trouble, run
from setting import arguments, describe, markdown, table

from maggy import OptimizationConfig
from maggy.engines.conditions import Conditions
from maggy.engines.rerun import Given
from maggy.engines.simulator import simulate
from maggy.engines.workload import InOrder
from maggy.events import MetricReported
from maggy.optimizer import Asha
from maggy.testing.curves import TASKS, load_task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from maggy.contracts import Optimizer
    from maggy.engines.workload import Recording
    from maggy.testing.curves import RecordedTask

WORKERS, SEEDS = 8, 25
SETTINGS = ((3, 1), (4, 1), (3, 3))
"""Eta and the first rung."""
LITTLE = ((1, 8), (1, 24), (3, 8), (3, 24))
"""Epochs for all, and how many are finished."""
RESAMPLES = 4000
TOLERANCE = 0.01
PEERS = {
    "Optuna": (Path(sys.executable), "halving_optuna.py"),
    "Ray Tune": (ROOT / "bench/.venvs/ray/bin/python", "halving_ray.py"),
    "Syne Tune": (ROOT / "bench/.venvs/syne-tune/bin/python", "halving_syne_tune.py"),
}
PEER_LIMIT = 300
"""Seconds for all searches of one peer on one task."""
RANDOM, ORACLE = "random search", "oracle"


class InTurn(Given):
    """The given configurations in exactly this order, also at the end of the search."""

    learns = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """When which trainings were complete, and when the search ended."""

    complete: Sequence[tuple[int, float]]
    end: float

    def found(self, wanted: set[int]) -> float | None:
        """When the first of these was complete."""
        return min((at for trial, at in self.complete if trial in wanted), default=None)


Searches = dict[str, list[Search]]
"""By method; the same seeds in the same order."""


def steps(task: RecordedTask) -> int:
    """Epochs of a whole training."""
    return len(task.recordings[0].values)


def losses(task: RecordedTask) -> list[float]:
    """The final values, smaller is better."""
    sign = 1 if task.direction == "min" else -1
    return [sign * recording.final for recording in task.recordings]


def goals(task: RecordedTask) -> Mapping[str, set[int]]:
    """Which trainings count as the best, by both readings of "within 1 %"."""
    finals = losses(task)
    best = min(finals)
    margins = {
        "1 % of the gap to the median": TOLERANCE * (statistics.median(finals) - best),
        "1 % of the best value": TOLERANCE * abs(best),
    }
    return {
        name: {trial for trial, loss in enumerate(finals) if loss <= best + margin}
        for name, margin in margins.items()
    }


def ours(
    task: RecordedTask,
    trainings: Sequence[Recording],
    turns: Sequence[int],
    optimizer: Optimizer,
    seed: int,
) -> Search:
    """One simulated search."""
    sample = [trainings[turn] for turn in turns]
    config = OptimizationConfig(
        searchspace=task.searchspace,
        num_trials=len(sample),
        optimizer=optimizer,
        direction=task.direction,
        es_policy="none",
        seed=seed,
    )
    conditions = Conditions(checkpoints=True)
    done = simulate(config, InOrder(sample), workers=WORKERS, conditions=conditions)
    complete = [
        (turns[event.trial], event.at)
        for event in done.events
        if isinstance(event, MetricReported) and event.step == steps(task) - 1
    ]
    return Search(complete=complete, end=done.seconds)


def in_order(durations: Sequence[float], start: float) -> list[float]:
    """When trainings end that begin in this order, each on the first free worker."""
    free, ends = [start] * WORKERS, []
    for duration in durations:
        ends.append(free[0] + duration)
        heapq.heapreplace(free, ends[-1])
    return ends


def little(
    task: RecordedTask,
    trainings: Sequence[Recording],
    turns: Sequence[int],
    epochs: int,
    keep: int,
) -> Search:
    """All for so many epochs, then the best to the end."""
    sign = 1 if task.direction == "min" else -1
    start = max(in_order([sum(trainings[turn].seconds[:epochs]) for turn in turns], 0.0))
    ranked = sorted(turns, key=lambda turn: sign * trainings[turn].values[epochs - 1])[:keep]
    ends = in_order([sum(trainings[turn].seconds[epochs:]) for turn in ranked], start)
    return Search(complete=list(zip(ranked, ends, strict=True)), end=max(ends))


def oracle(
    trainings: Sequence[Recording], turns: Sequence[int], first: int, wanted: set[int]
) -> Search:
    """Each training stops at the first rung, unless it will count: what halving can come to."""
    lengths = [None if turn in wanted else first for turn in turns]
    ends = in_order(
        [
            sum(trainings[turn].seconds[:length])
            for turn, length in zip(turns, lengths, strict=True)
        ],
        0.0,
    )
    return Search(
        complete=[(turn, at) for turn, at in zip(turns, ends, strict=True) if turn in wanted],
        end=max(ends),
    )


def peers(
    task: RecordedTask,
    trainings: Sequence[Recording],
    orders: Sequence[Sequence[int]],
    setting: tuple[int, int],
    folder: Path,
) -> Searches:
    """The same searches with the schedulers of the other tools that are installed."""
    sign = 1 if task.direction == "min" else -1
    question, answer = folder / "question.json", folder / "answer.json"
    told: dict[str, Any] = {
        "losses": [[sign * value for value in each.values] for each in trainings],
        "seconds": [list(each.seconds) for each in trainings],
        "orders": orders,
        "workers": WORKERS,
        "factor": setting[0],
        "first": setting[1],
        "top": steps(task),
    }
    question.write_text(json.dumps(told))
    searches: Searches = {}
    for name, (python, script) in PEERS.items():
        if not python.exists():
            continue
        path = ROOT / "bench" / "searches" / script
        try:
            run(python, path, question, answer, limit=PEER_LIMIT, cwd=folder)
        except Trouble as trouble:
            sys.exit(f"{name}: {trouble}")
        replies = json.loads(answer.read_text())
        names = {"none": f"{name}, none", "reports": name, "waits": f"{name}, waits"}
        for way, each in names.items():
            searches[each] = [
                Search(complete=[(trial, at) for trial, at in reply["complete"]], end=reply["end"])
                for reply in replies[way]
            ]
    return searches


def check(by_replay: Sequence[Search], by_simulator: Sequence[Search]) -> None:
    """Both must come to the same times where nothing is stopped."""
    for one, other in zip(by_replay, by_simulator, strict=True):
        assert np.allclose(sorted(one.complete), sorted(other.complete)), "the replay differs"
        assert np.isclose(one.end, other.end), "the replay ends at another time"


def measure(
    task: RecordedTask, orders: Sequence[Sequence[int]], folder: Path
) -> Mapping[tuple[int, int], Searches]:
    """All searches of a task, by setting."""
    trainings = task.scaled(1.0)
    givens = [InTurn([trainings[turn].hparams for turn in turns]) for turns in orders]
    shared: Searches = {
        RANDOM: [
            ours(task, trainings, turns, given, seed)
            for seed, (turns, given) in enumerate(zip(orders, givens, strict=True))
        ]
    }
    for epochs, keep in LITTLE:
        name = f"all a little: {epochs} ep., best {keep}"
        shared[name] = [little(task, trainings, turns, epochs, keep) for turns in orders]
    results = {}
    for setting in SETTINGS:
        searches = dict(shared)
        for mode in ("stopping", "promotion"):
            searches[f"Asha, {mode}"] = [
                ours(
                    task,
                    trainings,
                    turns,
                    Asha(*setting, steps(task), mode=mode, sampler=given),
                    seed,
                )
                for seed, (turns, given) in enumerate(zip(orders, givens, strict=True))
            ]
        theirs = peers(task, trainings, orders, setting, folder)
        for name in PEERS:
            if (unstopped := theirs.pop(f"{name}, none", None)) is not None:
                check(unstopped, shared[RANDOM])
        results[setting] = {**searches, **theirs}
    return results


def costs(searches: Sequence[Search], wanted: set[int]) -> tuple[np.ndarray, np.ndarray]:
    """For each seed, the time to the success or the end, and whether it was a success."""
    found = [search.found(wanted) for search in searches]
    spent = [search.end if at is None else at for search, at in zip(searches, found, strict=True)]
    return np.array(spent), np.array([at is not None for at in found], dtype=float)


def ratio(base: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> str:
    """How many times the expected running time of the second the first's is, and how sure.

    A resample in which only the first finds nothing counts as infinitely many times, one in which
    neither finds anything is left out.
    """
    rng = np.random.default_rng(0)
    count = len(base[0])
    draws = np.vstack([np.arange(count), rng.integers(0, count, (RESAMPLES, count))])
    spent, won = (base[part][draws].sum(axis=1) for part in (0, 1))
    other_spent, other_won = (other[part][draws].sum(axis=1) for part in (0, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = (spent * other_won) / (won * other_spent)
    if np.isnan(ratios[0]):
        return "-"
    told = ratios[1:][~np.isnan(ratios[1:])]
    low, high = np.quantile(told, (0.025, 0.975), method="inverted_cdf")
    return f"{ratios[0]:.2f} ({low:.2f} to {high:.2f})"


def rows(searches: Searches, wanted: set[int]) -> list[list[str]]:
    """One row for each method."""
    by_name = {name: costs(each, wanted) for name, each in searches.items()}
    lines = []
    for name, (spent, won) in by_name.items():
        expected = f"{spent.sum() / won.sum():.1f}" if won.any() else "never"
        lines.append(
            [
                name,
                f"{won.sum():.0f} of {len(won)}",
                f"{np.median(spent):.1f}",
                expected,
                ratio(by_name[RANDOM], (spent, won)),
                ratio(by_name["Asha, stopping"], (spent, won)),
            ]
        )
    return lines


def facts(task: RecordedTask, wanted: set[int]) -> str:
    """What decides how well any search that stops early can do."""
    sign = 1 if task.direction == "min" else -1
    ranks = []
    for epochs in (1, 3, 9, 27):
        values = [sign * recording.values[epochs - 1] for recording in task.recordings]
        ahead = (sum(value < values[trial] for value in values) for trial in wanted)
        ranks.append(f"{min(ahead) + 1} after {epochs}")
    shortest = min(task.scaled(1.0)[trial].duration for trial in wanted)
    return (
        f"{len(wanted)} of {len(task.recordings)} count; the first of them is number "
        f"{', '.join(ranks)} epochs; the shortest takes {shortest:.2f}"
    )


OURS = ("Asha, stopping", "Asha, promotion")
BRIEF = (
    *OURS,
    *PEERS,
    "all a little: 1 ep., best 24",
    "all a little: 3 ep., best 24",
    ORACLE,
)


def faster(searches: Searches, wanted: set[int]) -> list[str]:
    """Random search's time, and how many times faster others are."""
    by_name = {name: costs(each, wanted) for name, each in searches.items()}
    base = by_name[RANDOM]
    cells = [ratio(base, by_name[name]) if name in by_name else "" for name in BRIEF]
    return [f"{base[0].mean():.1f}", *cells]


def against(searches: Searches, wanted: set[int]) -> list[str]:
    """How many times faster than each peer ours are."""
    by_name = {name: costs(each, wanted) for name, each in searches.items()}
    return [
        ratio(by_name[peer], by_name[name]) if peer in by_name else ""
        for name in OURS
        for peer in PEERS
    ]


def report(name: str, seeds: int) -> list[tuple[list[str], list[str], list[str]]]:
    """Print the tables of a task; what its rows of the two summaries begin with and say."""
    task = load_task(name)
    trainings = task.scaled(1.0)
    everything = range(len(trainings))
    orders = [random.Random(seed).sample(everything, len(everything)) for seed in range(seeds)]
    with tempfile.TemporaryDirectory() as folder:
        results = measure(task, orders, Path(folder))
    summary = []
    header = ["method", "found", "median", "time", "x faster than random", "x Asha, stopping"]
    for goal, wanted in goals(task).items():
        print(f"## {name}, within {goal}\n\n{facts(task, wanted)}\n")
        for (factor, first), searches in results.items():
            best = [oracle(trainings, turns, first, wanted) for turns in orders]
            whole = {**searches, ORACLE: best}
            print(f"eta {factor}, rungs from {first}")
            table(header, rows(whole, wanted))
            start = [name, goal, f"{factor}, {first}"]
            summary.append((start, faster(whole, wanted), against(whole, wanted)))
    return summary


def main() -> None:
    """Print a table for each task, eta and reading of the goal, and the summary."""
    options = arguments(__doc__)
    describe(f"Successive halving on recorded curves: {WORKERS} workers")
    missing = [name for name, (python, _) in PEERS.items() if not python.exists()]
    if missing:
        print(f"Left out, for want of their environments (peers.py): {', '.join(missing)}\n")
    seeds = 5 if options.quick else SEEDS
    summary = [row for name in TASKS for row in report(name, seeds)]
    start = ["task", "within", "eta, first rung"]
    print("## Times faster than random search\n")
    header = [*start, "random search", *BRIEF]
    print(markdown(header, [[*begin, *cells] for begin, cells, _ in summary]))
    print("\n## Times faster than each peer\n")
    pairs = [f"{name} : {peer}" for name in OURS for peer in PEERS]
    print(markdown([*start, *pairs], [[*begin, *cells] for begin, _, cells in summary]))


if __name__ == "__main__":
    main()
