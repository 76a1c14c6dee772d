"""Random search with Hyperopt: one trial at a time, which is all that it does without Spark."""

import sys
from typing import Any

from hyperopt import fmin, hp, rand
from trial import train


def objective(hparams: dict[str, Any]) -> float:
    """One trial."""
    return train(hparams["x"], int(hparams["k"]))


space = {"x": hp.uniform("x", 0, 1), "k": hp.quniform("k", 1, 8, 1)}
fmin(objective, space, algo=rand.suggest, max_evals=int(sys.argv[1]))
