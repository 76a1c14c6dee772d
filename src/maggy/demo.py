"""The demo: a real search for a small neural network that reads handwritten digits.

Everything up to ``main`` is what a user writes: a training function, a search space, a config.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from maggy import (
    Categorical,
    Discrete,
    Double,
    Integer,
    OptimizationConfig,
    Searchspace,
    experiment,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from maggy import Reporter

    Samples = tuple[np.ndarray, np.ndarray]
    """Images of shape ``(n, 64)`` in [0, 1], and the digits they show, shape ``(n,)``."""

__all__ = ["main", "searchspace", "train"]

EPOCHS = 20

searchspace = Searchspace(
    learning_rate=Double(1e-4, 1e-1, log=True),
    units=Integer(16, 256, log=True),
    layers=Integer(1, 3),
    batch_size=Discrete([8, 16, 32, 64]),
    alpha=Double(1e-6, 1e-1, log=True),
    activation=Categorical(["relu", "tanh"]),
)


def train(
    hparams: Mapping[str, Any],
    reporter: Reporter,
    train_set: Samples,
    test_set: Samples,
    seed: int,
) -> float:
    """Train one network, epoch by epoch, and report how well it does on images it never saw."""
    network = build_network(hparams, seed)
    accuracy = 0.0
    for epoch in range(EPOCHS):
        network.partial_fit(*train_set, classes=range(10))  # one pass in mini-batches
        accuracy = network.score(*test_set)
        reporter.broadcast(metric=accuracy, step=epoch)
    return accuracy


def build_network(hparams: Mapping[str, Any], seed: int) -> Any:
    """An untrained multi-layer perceptron with these hyperparameters."""
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier(
        hidden_layer_sizes=(hparams["units"],) * hparams["layers"],
        activation=hparams["activation"],
        solver="sgd",
        learning_rate_init=hparams["learning_rate"],
        batch_size=hparams["batch_size"],
        alpha=hparams["alpha"],
        random_state=seed,
    )


def load_digits() -> tuple[Samples, Samples, Samples]:
    """scikit-learn's 1797 digits: 60 % to train with, 20 % to validate, 20 % to test."""
    from sklearn.datasets import load_digits as load
    from sklearn.model_selection import train_test_split

    images, digits = load(return_X_y=True)
    images /= 16
    x_train, x_rest, y_train, y_rest = train_test_split(
        images, digits, test_size=0.4, random_state=0, stratify=digits
    )
    x_valid, x_test, y_valid, y_test = train_test_split(
        x_rest, y_rest, test_size=0.5, random_state=0, stratify=y_rest
    )
    return (x_train, y_train), (x_valid, y_valid), (x_test, y_test)


def main(num_trials: int = 60, num_workers: int | None = None, folder: str = "maggy-runs") -> int:
    """Search, and test the best network found on images that the search never saw.

    Args:
        num_trials: Configurations to try.
        num_workers: Trials at a time; None for one per core.
        folder: Where the run is kept.

    Returns:
        The exit status: 0, or 1 without scikit-learn.
    """
    try:
        train_set, valid_set, test_set = load_digits()
    except ImportError as error:
        click.echo(f"The demo needs scikit-learn ({error}): pip install scikit-learn", err=True)
        return 1

    config = OptimizationConfig(
        num_trials=num_trials,
        optimizer="randomsearch",
        searchspace=searchspace,
        direction="max",
        es_interval=3,
        es_min=10,
        name="demo",
        description="A neural network for handwritten digits",
        train_set=train_set,
        test_set=valid_set,
        seed=1,
        num_workers=num_workers,
        folder=folder,
    )
    result = experiment.lagom(train_fn=train, config=config)

    network = build_network(result["best_hp"], seed=0)
    for _ in range(EPOCHS):
        network.partial_fit(*train_set, classes=range(10))
    click.echo(
        f"\nThe best configuration, trained again, reads {network.score(*test_set):.1%} of "
        f"{len(test_set[1])} test images that no trial saw."
    )
    return 0
