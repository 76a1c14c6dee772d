"""Records the learning curves that ``maggy.testing.curves`` ships: real trainings, real seconds.

``digits-mlp``: multi-layer perceptrons on scikit-learn's handwritten digits, accuracy on held-out
images after each of 27 epochs.  ``friedman-boosting``: gradient boosting on Friedman's first
function with noise, RMSE on held-out points after each of 27 blocks of trees.

``digits-sgd`` and ``digits-autoencoder`` are of the kind that successive halving is made for: 81
epochs of plain stochastic gradient descent with momentum, over spaces in which most configurations
are bad (the learning rate spans five decades).  The first classifies the digits (log loss on
held-out images), the second reconstructs them from a code of 8 numbers (mean squared error of a
pixel).  Both, with their spaces, numbers of epochs and of configurations, were chosen before
anything was recorded, after a look at what three epochs of a dozen other configurations cost, and
recorded once.  A training that has diverged goes on at its own cost, as
a loop that does not look does, and counts as the worst value that there is.

Seconds are CPU seconds of one thread, validation included and set-up not, so that other load on
the machine does not show in them.  Configuration *n* is drawn from the generator of seed
(2024, n), its training has the seed n.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python bench/record_curves.py digits-mlp 240 FILE

The counts are 240, 160, 162 and 162.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maggy import Categorical, Discrete, Double, Integer, Searchspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Steps = Iterator[float]
    """Yields NaN once it is set up; then trains on by one step each, and yields the value."""

WORST_LOG_LOSS, WORST_ERROR = 10.0, 1.0
"""What a diverged training counts as; a network that knows nothing has 2.3 and 0.074."""
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is trained, over which space."""

    metric: str
    direction: str
    step: str
    steps: int = 27
    space: Searchspace
    train: Callable[[Mapping[str, Any], int], Steps]


def digits_mlp(hparams: Mapping[str, Any], seed: int) -> Steps:
    """A perceptron on the digits; yields the validation accuracy after each epoch."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier

    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        x / 16.0, y, test_size=0.3, random_state=0, stratify=y
    )
    network = MLPClassifier(
        (hparams["width"],) * hparams["depth"],
        learning_rate_init=hparams["learning_rate"],
        batch_size=hparams["batch_size"],
        alpha=hparams["alpha"],
        random_state=seed,
    )
    yield float("nan")
    while True:
        network.partial_fit(x_train, y_train, classes=range(10))
        yield float(network.score(x_test, y_test))


def friedman_boosting(hparams: Mapping[str, Any], seed: int) -> Steps:
    """Boosted trees on Friedman's function; yields the validation RMSE after each block."""
    from sklearn.datasets import make_friedman1
    from sklearn.ensemble import GradientBoostingRegressor

    x, y = make_friedman1(n_samples=2400, n_features=12, noise=1.0, random_state=0)
    forest = GradientBoostingRegressor(
        n_estimators=hparams["trees"],
        learning_rate=hparams["learning_rate"],
        max_depth=hparams["depth"],
        subsample=hparams["subsample"],
        min_samples_leaf=hparams["leaf"],
        warm_start=True,
        random_state=seed,
    )
    yield float("nan")
    while True:
        forest.fit(x[:1400], y[:1400])
        yield float(np.sqrt(np.mean((forest.predict(x[1400:]) - y[1400:]) ** 2)))
        forest.n_estimators += hparams["trees"]


def digits_sgd(hparams: Mapping[str, Any], seed: int) -> Steps:
    """A perceptron on the digits by gradient descent; yields the validation log loss."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier

    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        x / 16.0, y, test_size=0.3, random_state=0, stratify=y
    )
    network = MLPClassifier(
        (hparams["width"],) * hparams["depth"],
        solver="sgd",
        learning_rate_init=hparams["learning_rate"],
        momentum=hparams["momentum"],
        batch_size=hparams["batch_size"],
        alpha=hparams["alpha"],
        random_state=seed,
    )
    right = (np.arange(len(y_test)), y_test)
    yield float("nan")
    while True:
        with _may_diverge():
            network.partial_fit(x_train, y_train, classes=range(10))
        chances = np.maximum(network.predict_proba(x_test)[right], math.exp(-WORST_LOG_LOSS))
        yield _or_worst(-float(np.mean(np.log(chances))), WORST_LOG_LOSS)


def digits_autoencoder(hparams: Mapping[str, Any], seed: int) -> Steps:
    """A network that reconstructs digits from a code; yields the validation squared error."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPRegressor

    x, _ = load_digits(return_X_y=True)
    x_train, x_test = train_test_split(x / 16.0, test_size=0.3, random_state=0)
    network = MLPRegressor(
        hidden_layer_sizes=(hparams["width"], 8, hparams["width"]),
        activation=hparams["activation"],
        solver="sgd",
        learning_rate_init=hparams["learning_rate"],
        momentum=hparams["momentum"],
        batch_size=hparams["batch_size"],
        alpha=0.0,
        random_state=seed,
    )
    yield float("nan")
    while True:
        with _may_diverge():
            network.partial_fit(x_train, x_train)
        yield _or_worst(float(np.mean((network.predict(x_test) - x_test) ** 2)), WORST_ERROR)


@contextmanager
def _may_diverge() -> Iterator[None]:
    """scikit-learn trains an epoch, and then complains of weights that are no longer finite."""
    try:
        yield
    except ValueError as error:
        if "non-finite" not in str(error):
            raise


def _or_worst(loss: float, worst: float) -> float:
    """The loss, or the worst if it is larger or no number."""
    return min(worst, loss)  # in this order: no number is smaller than NaN


TASKS = {
    "digits-mlp": Task(
        metric="accuracy",
        direction="max",
        step="epoch",
        train=digits_mlp,
        space=Searchspace(
            width=Integer(8, 256, log=True),
            depth=Integer(1, 3),
            learning_rate=Double(3e-5, 0.3, log=True),
            batch_size=Integer(8, 256, log=True),
            alpha=Double(1e-6, 1.0, log=True),
        ),
    ),
    "friedman-boosting": Task(
        metric="RMSE",
        direction="min",
        step="block of trees",
        train=friedman_boosting,
        space=Searchspace(
            trees=Discrete([1, 2, 4, 8]),
            learning_rate=Double(1e-2, 1.0, log=True),
            depth=Integer(1, 6),
            subsample=Double(0.3, 1.0),
            leaf=Integer(1, 64, log=True),
        ),
    ),
    "digits-sgd": Task(
        metric="log loss",
        direction="min",
        step="epoch",
        steps=81,
        train=digits_sgd,
        space=Searchspace(
            width=Integer(8, 128, log=True),
            depth=Integer(1, 3),
            learning_rate=Double(1e-5, 1.0, log=True),
            momentum=Double(0.0, 0.99),
            batch_size=Integer(16, 256, log=True),
            alpha=Double(1e-6, 1.0, log=True),
        ),
    ),
    "digits-autoencoder": Task(
        metric="squared error",
        direction="min",
        step="epoch",
        steps=81,
        train=digits_autoencoder,
        space=Searchspace(
            width=Integer(16, 128, log=True),
            activation=Categorical(["relu", "tanh", "logistic"]),
            learning_rate=Double(1e-5, 1.0, log=True),
            momentum=Double(0.0, 0.99),
            batch_size=Integer(16, 256, log=True),
        ),
    ),
}


def record(task: Task, number: int) -> dict[str, Any]:
    """Train one configuration to the end, as trial ``number``."""
    hparams = task.space.sample(np.random.default_rng([2024, number]))
    values: list[float] = []
    seconds: list[float] = []
    steps = task.train(hparams, number)
    next(steps)
    while len(values) < task.steps:
        began = time.process_time()
        values.append(round(next(steps), 5))
        seconds.append(round(time.process_time() - began, 4))
    rounded = {
        key: float(f"{value:.4g}") if isinstance(value, float) else value
        for key, value in hparams.items()
    }
    return {"hparams": rounded, "values": values, "seconds": seconds}


def main() -> None:
    """Record one task into a file, one curve a line."""
    if any(os.environ.get(name) != "1" for name in _THREADS):
        sys.exit(f"set {' and '.join(_THREADS)} to 1: seconds of one thread are recorded.")
    name, count, path = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    warnings.simplefilter("ignore")  # overflows of configurations that diverge
    task = TASKS[name]
    head = {"metric": task.metric, "direction": task.direction, "step": task.step}
    lines = []
    for number in range(count):
        lines.append(json.dumps(record(task, number), separators=(",", ":")))
        if number % 20 == 0:
            print(number, flush=True)
    head_text = json.dumps({"task": name, **head, "space": task.space.to_json()})
    path.write_text(head_text[:-1] + ',\n"curves": [\n' + ",\n".join(lines) + "\n]}\n")


if __name__ == "__main__":
    main()
