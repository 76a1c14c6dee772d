"""The same search wherever there are machines: `python one_function_any_scale.py [ENGINE]`.

ENGINE is local (the default), inline, spark, ray or manual.  Spark and Ray start on this machine
unless a session or RAY_ADDRESS says otherwise; with manual, start workers as the run tells you.
"""

from __future__ import annotations

import sys
from typing import Any

from maggy import OptimizationConfig, Searchspace, experiment


def train(hparams: dict[str, Any], reporter: Any) -> float:
    """Train a small network on handwritten digits, and return its accuracy on unseen ones."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier

    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x / 16, y, random_state=0)
    network = MLPClassifier(
        hidden_layer_sizes=(hparams["units"],) * hparams["layers"],
        learning_rate_init=hparams["rate"],
        alpha=hparams["alpha"],
        random_state=0,
    )
    accuracy = 0.0
    for epoch in range(10):
        network.partial_fit(x_train, y_train, classes=range(10))
        accuracy = float(network.score(x_test, y_test))
        reporter.broadcast(accuracy, step=epoch)
    return accuracy


def main(engine: str) -> None:
    """Search on this engine."""
    config = OptimizationConfig(
        name=f"digits-on-{engine}",
        num_trials=12,
        optimizer="tpe",
        searchspace=Searchspace(
            units=("INTEGER", [8, 128]),
            layers=("INTEGER", [1, 3]),
            rate=("DOUBLE", [1e-4, 1e-1]),
            alpha=("DOUBLE", [1e-6, 1e-1]),
        ),
        engine=engine,
        seed=1,
    )
    result = experiment.lagom(train, config)
    sys.stdout.write(f"{result['best_val']:.4f} with {result['best_hp']}\n")


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == "spark":
        from pyspark.sql import SparkSession

        SparkSession.builder.appName("maggy").getOrCreate()
    main(sys.argv[1] if len(sys.argv) > 1 else "local")
