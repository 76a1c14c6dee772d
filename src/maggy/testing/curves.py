"""Recorded learning curves for the simulator and for tests of policies: real trainings.

Each task is a file beside this module, written by ``bench/record_curves.py``: validation metric
and CPU seconds after each of 27 or 81 steps, for configurations drawn uniformly from its space.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from maggy.engines.workload import Recording
from maggy.errors import ConfigError
from maggy.searchspace import Searchspace
from maggy.searchspace.naming import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TASKS", "RecordedTask", "load_task"]

TASKS = ("digits-mlp", "friedman-boosting", "digits-sgd", "digits-autoencoder")
"""27 steps: perceptrons on handwritten digits (accuracy, 240), and boosted trees on Friedman's
first function (RMSE, 160).  81 epochs of gradient descent, over spaces in which most
configurations are bad: perceptrons (log loss, 162) and autoencoders (squared error, 162), both of
the digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedTask:
    """Real trainings of many configurations of one space.

    Attributes:
        name: One of ``TASKS``.
        metric: What was measured.
        direction: ``"max"`` or ``"min"``.
        searchspace: From where the configurations were drawn.
        recordings: The trainings, in the order of the draws.
    """

    name: str
    metric: str
    direction: str
    searchspace: Searchspace
    recordings: Sequence[Recording]

    def scaled(self, mean: float) -> Sequence[Recording]:
        """The recordings, stretched so that they take ``mean`` seconds on average."""
        total = sum(recording.duration for recording in self.recordings)
        factor = mean * len(self.recordings) / total
        return [recording.scaled(factor) for recording in self.recordings]


def load_task(name: str) -> RecordedTask:
    """A recorded task by name.

    Raises:
        ConfigError: There is no such task.
    """
    if name not in TASKS:
        names = ", ".join(map(repr, TASKS))
        msg = f"`name` must be one of {names}, but got {name!r}. {did_you_mean(name, TASKS)}"
        raise ConfigError(msg)
    text = resources.files("maggy.testing").joinpath(f"{name}.json").read_text("utf-8")
    data = json.loads(text)
    recordings = [
        Recording(
            hparams=curve["hparams"],
            steps=range(len(curve["values"])),
            values=curve["values"],
            seconds=curve["seconds"],
        )
        for curve in data["curves"]
    ]
    return RecordedTask(
        name=name,
        metric=data["metric"],
        direction=data["direction"],
        searchspace=Searchspace.from_json(data["space"]),
        recordings=recordings,
    )
