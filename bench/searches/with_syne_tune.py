"""Random search with Syne Tune: two trials at a time, each a new interpreter."""

import sys
from pathlib import Path

from syne_tune import StoppingCriterion, Tuner
from syne_tune.backend import LocalBackend
from syne_tune.config_space import randint, uniform
from syne_tune.optimizer.baselines import RandomSearch

tuner = Tuner(
    trial_backend=LocalBackend(entry_point=str(Path(__file__).with_name("syne_tune_trial.py"))),
    scheduler=RandomSearch({"x": uniform(0, 1), "k": randint(1, 8)}, metrics=["loss"]),
    n_workers=2,
    stop_criterion=StoppingCriterion(max_num_trials_finished=int(sys.argv[1])),
)
tuner.run()
