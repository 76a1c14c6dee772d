"""A search on Spark: ``spark-submit spark_search.py``, or here: ``python spark_search.py``.

Each slot of the cluster trains a small neural network on handwritten digits, with other
hyperparameters each time, and gets its next trial the moment it is free.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from pyspark.sql import SparkSession

from maggy import OptimizationConfig, Searchspace, experiment

if TYPE_CHECKING:
    from maggy.views.result import Result
    from maggy.worker.reporter import Reporter


def train(hparams: dict[str, Any], reporter: Reporter) -> float:
    """Train on the executor that it is called on; the accuracy after each epoch is reported."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier

    data, labels = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(data / 16, labels, random_state=0)
    network = MLPClassifier(
        hidden_layer_sizes=(hparams["units"],),
        learning_rate_init=hparams["rate"],
        random_state=0,
    )
    accuracy = 0.0
    for epoch in range(10):
        network.partial_fit(x, y, classes=range(10))
        accuracy = network.score(x_test, y_test)
        reporter.broadcast(metric=accuracy, step=epoch)
    return accuracy


def main(num_trials: int = 20, **options: Any) -> Result:
    """Search on the session that is active, or on all cores of this machine."""
    session = SparkSession.builder.appName("maggy example").getOrCreate()
    config = OptimizationConfig(
        name="spark-digits",
        num_trials=num_trials,
        searchspace=Searchspace(units=("INTEGER", [8, 64]), rate=("DOUBLE", [1e-4, 1e-1])),
        direction="max",
        engine="spark",
        **options,
    )
    result = experiment.lagom(train, config)
    counted = session.range(result["num_trials"]).count()  # Spark is free again
    sys.stdout.write(f"{counted} trials, best {result['best_val']:.3f}: {result['best_hp']}\n")
    return result


if __name__ == "__main__":
    main()
