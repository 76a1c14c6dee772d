"""Random search with Ray Tune as a class whose actors serve one trial after the other."""

import sys
from pathlib import Path
from typing import Any

import ray
from ray import tune
from trial import train


class Objective(tune.Trainable):  # type: ignore[misc]
    """One trial at a time, in an actor that stays."""

    def setup(self, config: dict[str, Any]) -> None:
        """Begin with the first trial."""
        self.hparams = config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Go on with another trial."""
        self.hparams = new_config
        return True

    def step(self) -> dict[str, Any]:
        """Train."""
        return {"loss": train(self.hparams["x"], self.hparams["k"]), "done": True}


ray.init(num_cpus=2)
tuner = tune.Tuner(
    Objective,
    param_space={"x": tune.uniform(0, 1), "k": tune.randint(1, 9)},
    tune_config=tune.TuneConfig(
        metric="loss", mode="min", num_samples=int(sys.argv[1]), reuse_actors=True
    ),
    run_config=tune.RunConfig(storage_path=str(Path.cwd()), verbose=0),
)
tuner.fit()
