"""Trials a second with 1 ms training functions and 2 workers, beside Optuna in the same run.

Every tool does a random search of two hyperparameters whose training function sleeps for 1 ms.
maggy runs as its users run it: event log, early stopping and live display on, in a terminal.
Optuna runs in three ways: two threads and its storage in memory; two processes that share a
JournalFile; two processes that share an SQLite file.  Rates are from the start of the first trial
to the end of the last; CPU is that of the driver alone, for Optuna's processes that of both.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from setting import arguments, describe, in_a_terminal, spread, table

if TYPE_CHECKING:
    from collections.abc import Mapping

TRIALS = {"maggy": 5000, "threads": 5000, "journal": 1000, "sqlite": 200}
QUICK = {"maggy": 1000, "threads": 1000, "journal": 100, "sqlite": 40}
NAMES = {
    "maggy": "maggy, 2 worker processes, SQLite log, display",
    "threads": "Optuna, 2 threads, in memory",
    "journal": "Optuna, 2 processes, JournalFile",
    "sqlite": "Optuna, 2 processes, SQLite",
}
REPEATS = 3


def cpu() -> float:
    """CPU seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def train(hparams: Mapping[str, Any]) -> float:
    """One trial."""
    time.sleep(0.001)
    return float(hparams["x"])


def run_maggy(trials: int) -> dict[str, float]:
    """Search with maggy; the times are those of its log."""
    from maggy import OptimizationConfig, Searchspace, experiment

    config = OptimizationConfig(
        num_trials=trials,
        num_workers=2,
        optimizer="randomsearch",
        searchspace=Searchspace(x=("DOUBLE", [0, 1]), k=("INTEGER", [1, 8])),
        name="throughput",
        folder="runs",
    )
    before = cpu()
    result = experiment.lagom(train_fn=train, config=config)
    used = cpu() - before
    assert result["num_trials"] == trials
    assert result.path is not None
    with sqlite3.connect(result.path / "run.sqlite") as database:
        (seconds,) = database.execute(
            "SELECT MAX(at) - (SELECT MIN(at) FROM events WHERE kind = 'TrialStarted')"
            " FROM events WHERE kind = 'TrialFinished'"
        ).fetchone()
    return {"rate": trials / seconds, "cpu_ms": 1000 * used / trials}


def objective(trial: Any) -> float:
    """The same trial for Optuna."""
    x: float = trial.suggest_float("x", 0, 1)
    trial.suggest_int("k", 1, 8)
    time.sleep(0.001)
    return x


def storage(kind: str) -> Any:
    """Optuna's storage, in the current folder."""
    if kind == "journal":
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        return JournalStorage(JournalFileBackend("journal.log"))
    return None if kind == "threads" else "sqlite:///study.db"


def optimize(kind: str, trials: int) -> float:
    """One of Optuna's processes; returns its CPU seconds."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.RandomSampler()
    study = optuna.load_study(study_name="s", storage=storage(kind), sampler=sampler)
    before = cpu()
    study.optimize(objective, n_trials=trials)
    return cpu() - before


def run_optuna(kind: str, trials: int) -> dict[str, float]:
    """Search with Optuna; the times are those of its storage."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.RandomSampler()
    study = optuna.create_study(study_name="s", storage=storage(kind), sampler=sampler)
    if kind == "threads":
        before = cpu()
        study.optimize(objective, n_trials=trials, n_jobs=2)
        used = cpu() - before
    else:
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            used = sum(pool.starmap(optimize, [(kind, trials // 2)] * 2))
    done = study.get_trials(deepcopy=False)
    first = min(trial.datetime_start for trial in done if trial.datetime_start)
    last = max(trial.datetime_complete for trial in done if trial.datetime_complete)
    return {"rate": len(done) / (last - first).total_seconds(), "cpu_ms": 1000 * used / len(done)}


def child(job: str, answer: str) -> None:
    """One repeat of one tool, in this interpreter."""
    kind, trials = job.split(":")
    measured = run_maggy(int(trials)) if kind == "maggy" else run_optuna(kind, int(trials))
    Path(answer).write_text(json.dumps(measured))


def main() -> None:
    """Measure all, in turns, and print the table."""
    options = arguments(__doc__)
    if options.child:
        return child(*options.child)
    describe("Throughput: 1 ms training functions, 2 workers")
    sizes, repeats = (QUICK, 1) if options.quick else (TRIALS, REPEATS)
    measured: dict[str, list[dict[str, float]]] = {kind: [] for kind in sizes}
    for _ in range(repeats):
        for kind, trials in sizes.items():
            with tempfile.TemporaryDirectory() as folder:
                job = f"{kind}:{trials}"
                measured[kind].append(in_a_terminal(__file__, job, Path(folder)))
            sys.stderr.write(f"  {kind}: {measured[kind][-1]['rate']:,.0f} trials/s\n")
    rows = []
    for kind, found in measured.items():
        ratios = [
            ours["rate"] / m["rate"] for ours, m in zip(measured["maggy"], found, strict=True)
        ]
        rows.append(
            [
                NAMES[kind],
                f"{sizes[kind]:,}",
                spread([m["rate"] for m in found]),
                spread([m["cpu_ms"] for m in found], 2),
                "" if kind == "maggy" else spread(ratios, 1),
            ]
        )
    table(["tool", "trials", "trials/s", "driver CPU, ms/trial", "maggy, times as fast"], rows)
    return None


if __name__ == "__main__":
    main()
