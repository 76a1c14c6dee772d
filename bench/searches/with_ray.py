"""Random search with Ray Tune: two actors on this machine."""

import sys
from pathlib import Path
from typing import Any

import ray
from ray import tune
from trial import train


def objective(hparams: dict[str, Any]) -> None:
    """One trial."""
    tune.report({"loss": train(hparams["x"], hparams["k"])})


ray.init(num_cpus=2)
tuner = tune.Tuner(
    objective,
    param_space={"x": tune.uniform(0, 1), "k": tune.randint(1, 9)},
    tune_config=tune.TuneConfig(metric="loss", mode="min", num_samples=int(sys.argv[1])),
    run_config=tune.RunConfig(storage_path=str(Path.cwd())),
)
tuner.fit()
