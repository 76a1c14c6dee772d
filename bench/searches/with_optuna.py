"""Random search with Optuna: two threads, or two processes that share a file."""

import multiprocessing
import sys
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from trial import train


def objective(trial: optuna.Trial) -> float:
    """One trial."""
    return train(trial.suggest_float("x", 0, 1), trial.suggest_int("k", 1, 8))


def study(kind: str) -> Any:
    """The study in memory, in a journal, or in an SQLite file; made if it is not there."""
    storage: Any = None
    if kind == "journal":
        storage = JournalStorage(JournalFileBackend("journal.log"))
    elif kind == "sqlite":
        storage = "sqlite:///study.db"
    return optuna.create_study(
        study_name="peers",
        storage=storage,
        sampler=optuna.samplers.RandomSampler(),
        load_if_exists=True,
    )


def work(kind: str, trials: int) -> None:
    """What one of two processes does."""
    study(kind).optimize(objective, n_trials=trials)


if __name__ == "__main__":
    total, way = int(sys.argv[1]), sys.argv[2]
    shared = study(way)
    if way == "threads":
        shared.optimize(objective, n_trials=total, n_jobs=2)
    else:
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            pool.starmap(work, [(way, total // 2)] * 2)
