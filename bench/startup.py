"""How long until something happens: importing, the first trial, and ten trivial trials in all.

Each number is from fresh interpreters, with warm file caches.  The first trial's is from the call
of ``lagom`` to the first line of a training function in a worker; that of ten trials is a whole
script with two workers, from process start to exit.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time

from setting import arguments, describe, spread, table

IMPORT = """
import time
began = time.perf_counter()
import {module}
print(time.perf_counter() - began)
"""
MAGGY = """
import time
from maggy import OptimizationConfig, Searchspace, experiment
config = OptimizationConfig(
    num_trials=10, num_workers=2, searchspace=Searchspace(x=("DOUBLE", [0, 1])), direction="min"
)
began = time.monotonic()
result = experiment.lagom(train_fn=lambda hparams: time.monotonic(), config=config)
print(result["best_val"] - began)
"""  # the metric is the moment at which the trial starts, so that the best one is the first
OPTUNA = """
import optuna
study = optuna.create_study(sampler=optuna.samplers.RandomSampler())
study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=10, n_jobs=2)
"""


def run(code: str) -> tuple[float, str]:
    """Seconds from start to exit of a fresh interpreter, and the last line it printed."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
        )
        return time.perf_counter() - began, done.stdout.strip().rpartition("\n")[2]


def main() -> None:
    """Measure all, in turns, and print the table."""
    repeats = 3 if arguments(__doc__).quick else 10
    describe("Start-up")
    names = ("import maggy", "import optuna", "first trial", "ten trials", "ten trials, Optuna")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(repeats + 1):
        found = {
            "import maggy": float(run(IMPORT.format(module="maggy"))[1]),
            "import optuna": float(run(IMPORT.format(module="optuna"))[1]),
            "ten trials, Optuna": run(OPTUNA)[0],
        }
        found["ten trials"], first = run(MAGGY)
        found["first trial"] = float(first)
        if repeat:  # the first round only warms the caches
            for name, value in found.items():
                seconds[name].append(value)
    bare = spread([run("pass")[0] for _ in range(repeats)], 3)
    rows = [
        ["import maggy", spread(seconds["import maggy"], 3)],
        ["import optuna", spread(seconds["import optuna"], 3)],
        ["maggy: lagom() to the first trial, 2 workers", spread(seconds["first trial"], 3)],
        ["maggy: ten trials, process start to exit", spread(seconds["ten trials"], 3)],
        ["Optuna, 2 threads: ten trials, the same", spread(seconds["ten trials, Optuna"], 3)],
        ["an empty Python script, the same", bare],
    ]
    table(["", f"seconds, {repeats} repeats"], rows)


if __name__ == "__main__":
    main()
