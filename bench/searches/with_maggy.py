"""Random search with maggy: two worker processes, event log, early stopping, its display."""

import sys

from trial import train

from maggy import OptimizationConfig, Searchspace, experiment

space = Searchspace(x=("DOUBLE", [0, 1]), k=("INTEGER", [1, 8]))
config = OptimizationConfig(
    num_trials=int(sys.argv[1]),
    num_workers=2,
    optimizer="randomsearch",
    searchspace=space,
    direction="min",
    name="peers",
)
experiment.lagom(train_fn=train, config=config)
