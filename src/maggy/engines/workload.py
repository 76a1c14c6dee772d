"""What simulated trainings do: learning curves with their durations, recorded or made up.

A workload is a function of the trial's number, its hyperparameters and its budget, so that it
gives the same answer however often and in whatever order it is asked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from maggy.errors import ConfigError
from maggy.searchspace import Categorical

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.random import Generator

    from maggy.searchspace import Searchspace
    from maggy.trial import Hparams, Resource

__all__ = ["InOrder", "Nearest", "Recording", "Resampled", "Synthetic", "Workload"]

_STREAM = 0x63757276
"""Keeps the draws of workloads apart from every other draw of the same seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One training, from its start to its return.

    Attributes:
        hparams: The configuration that was trained.
        steps: Steps at which it reports, ascending.
        values: What it reports there, in the user's own sign; NaN ends it as failed.
        seconds: How long it takes to each report from the one before.
        result: What it returns; None: its last report.
        closing: Seconds from the last report to the return.

    Raises:
        ConfigError: The lengths differ, or there is neither a report nor a result.
    """

    hparams: Hparams
    steps: Sequence[int]
    values: Sequence[float]
    seconds: Sequence[float]
    result: float | None = None
    closing: float = 0.0

    def __post_init__(self) -> None:
        lengths = len(self.steps), len(self.values), len(self.seconds)
        if len(set(lengths)) > 1 or (not self.steps and self.result is None):
            msg = (
                f"a recording needs as many values and seconds as steps, and without any a "
                f"result, but got {lengths[0]} steps, {lengths[1]} values, {lengths[2]} seconds "
                f"and result={self.result}."
            )
            raise ConfigError(msg)

    @property
    def duration(self) -> float:
        """Seconds from the start to the return."""
        return sum(self.seconds) + self.closing

    @property
    def final(self) -> float:
        """What it returns."""
        return self.values[-1] if self.result is None else self.result

    def scaled(self, factor: float) -> Recording:
        """The same training, ``factor`` times as long."""
        seconds = [step * factor for step in self.seconds]
        return replace(self, seconds=seconds, closing=self.closing * factor)

    def until(self, budget: Resource | None) -> Recording:
        """The training up to a total budget; the unit of resource is that of the reporter.

        A budget beyond the end of the recording changes nothing.
        """
        if budget is None or not self.steps:
            return self
        offset = 0 if self.steps[0] >= 1 else 1
        reached = max(1, sum(step + offset <= budget for step in self.steps))
        if reached == len(self.steps):
            return self
        return replace(
            self,
            steps=self.steps[:reached],
            values=self.values[:reached],
            seconds=self.seconds[:reached],
            result=None,
            closing=0.0,
        )


class Workload(Protocol):
    """What a simulated training function does."""

    def run(self, trial: int, hparams: Hparams, budget: Resource | None) -> Recording:
        """The training of this configuration, up to this total budget, from its first step."""
        ...


class InOrder:
    """Gives trial ``n`` the recording number ``n``, from the first again after the last.

    Args:
        recordings: Trainings, in the order of the trials.
    """

    def __init__(self, recordings: Sequence[Recording]) -> None:
        self._recordings = _some(recordings)

    def run(self, trial: int, hparams: Hparams, budget: Resource | None) -> Recording:
        """See ``Workload``."""
        return self._recordings[trial % len(self._recordings)].until(budget)


class Resampled:
    """Gives each trial a recording drawn at random, with replacement, whatever its configuration.

    Right for what depends on times and curves only; an optimizer that learns has nothing to learn
    here.

    Args:
        recordings: What to draw from.
        seed: Trial ``n`` gets the same recording under the same seed.
    """

    def __init__(self, recordings: Sequence[Recording], *, seed: int) -> None:
        self._recordings = _some(recordings)
        self._seed = seed

    def run(self, trial: int, hparams: Hparams, budget: Resource | None) -> Recording:
        """See ``Workload``."""
        index = int(_uniform(self._seed, trial) * len(self._recordings))
        return self._recordings[index].until(budget)


class Nearest:
    """Gives each trial the recording whose configuration is nearest to its own.

    Distance is Euclidean in the unit cube of the search space, where a categorical hyperparameter
    that differs counts 1; equal distances: the earlier recording.

    Args:
        recordings: Trainings of configurations of the space.
        space: The search space.
    """

    def __init__(self, recordings: Sequence[Recording], space: Searchspace) -> None:
        import numpy as np

        self._recordings = _some(recordings)
        self._space = space
        self._points = np.array([space.encode(item.hparams) for item in recordings])
        self._names = [name for name, kind in space.items() if isinstance(kind, Categorical)]
        self._labels = [[item.hparams.get(name) for name in self._names] for item in recordings]
        columns = [index for index, name in enumerate(space) if name in self._names]
        self._points[:, columns] = 0.0
        self._columns = columns

    def run(self, trial: int, hparams: Hparams, budget: Resource | None) -> Recording:
        """See ``Workload``."""
        import numpy as np

        point = np.array(self._space.encode(hparams))
        point[self._columns] = 0.0
        squares = ((self._points - point) ** 2).sum(axis=1)
        if self._names:
            wanted = [hparams.get(name) for name in self._names]
            squares += [_differences(wanted, labels) for labels in self._labels]
        return self._recordings[int(np.argmin(squares))].until(budget)


class Synthetic:
    """Made-up trainings: an exponential approach to a plateau, with noise, at a random pace.

    Good for size and speed, where recorded curves would only repeat; nothing is learnable from
    the hyperparameters.

    Args:
        steps: Reports of each training.
        seed: Trial ``n`` trains the same under the same seed.
        spread: Standard deviation of the logarithm of the durations.
    """

    def __init__(self, *, steps: int = 27, seed: int = 0, spread: float = 0.7) -> None:
        if steps < 1:
            msg = f"`steps >= 1` must hold, but got {steps=}."
            raise ConfigError(msg)
        self._steps = steps
        self._seed = seed
        self._spread = spread

    def run(self, trial: int, hparams: Hparams, budget: Resource | None) -> Recording:
        """See ``Workload``."""
        import numpy as np

        rng = _generator(self._seed, trial)
        plateau, rate, pace = rng.random(), 0.05 + 0.5 * rng.random(), rng.standard_normal()
        noise = 0.01 * rng.standard_normal(self._steps)
        seconds = math.exp(self._spread * pace - self._spread**2 / 2) / self._steps
        gaps = np.multiply.accumulate(np.full(self._steps, 1 - rate))
        return Recording(
            hparams=hparams,
            steps=range(self._steps),
            values=(plateau * (1 - gaps) + noise).tolist(),
            seconds=[seconds] * self._steps,
        ).until(budget)


def _some(recordings: Sequence[Recording]) -> Sequence[Recording]:
    if not recordings:
        msg = "`recordings` must hold at least one training, but it is empty."
        raise ConfigError(msg)
    return recordings


def _differences(wanted: Sequence[object], labels: Sequence[object]) -> int:
    return sum(a != b for a, b in zip(wanted, labels, strict=True))


def _generator(seed: int, number: int) -> Generator:
    import numpy as np

    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_STREAM, number)))


def _uniform(seed: int, number: int) -> float:
    return float(_generator(seed, number).random())
