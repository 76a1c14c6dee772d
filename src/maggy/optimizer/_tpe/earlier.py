"""What earlier runs add to the two densities of TPE: their own good trials, and the rest.

Each run is split by its own ranks, so its losses are never compared with new ones; what it adds
weighs as much as the run is trusted (``maggy.optimizer.agreement``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from maggy.optimizer._gp.trend import Source
from maggy.optimizer._tpe.evidence import Evidence, Split
from maggy.optimizer.agreement import agreement, latest
from maggy.optimizer.encoding import Encoding as Features
from maggy.trial import TrialStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maggy.contracts import EarlierRun
    from maggy.optimizer._tpe.encoding import Encoding
    from maggy.optimizer._tpe.evidence import Array
    from maggy.searchspace import Searchspace
    from maggy.trial import Trial

__all__ = ["Earlier"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One earlier run: what it expects, and what it adds."""

    source: Source
    split: Split


class Earlier:
    """The earlier runs that have something to say, and how the new trials agree with them.

    Args:
        runs: Earlier runs.
        space: The new space.
        encoding: Of that space.
    """

    def __init__(self, runs: Sequence[EarlierRun], space: Searchspace, encoding: Encoding) -> None:
        self._features = Features(space)
        self._runs = [
            _Run(source=source, split=_split(run, encoding))
            for run in runs
            if (source := Source.of(run.trials, self._features)) is not None
        ]
        self._expected: dict[int, Array] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def join(self, own: Split, trials: Sequence[Trial]) -> Split:
        """The split of the new trials with what the trusted runs add.

        Args:
            own: Of the new trials.
            trials: The new trials that ended, in order of their ids.
        """
        if not self._runs:
            return own
        parts = [own]
        for run, trust in zip(self._runs, self._trust(trials), strict=True):
            if trust > 0.0:
                good, rest = run.split.good_weights, run.split.rest_weights
                parts.append(Split(run.split.good, trust * good, run.split.rest, trust * rest))
        return Split(
            np.concatenate([part.good for part in parts]),
            np.concatenate([part.good_weights for part in parts]),
            np.concatenate([part.rest for part in parts]),
            np.concatenate([part.rest_weights for part in parts]),
        )

    def _trust(self, trials: Sequence[Trial]) -> list[float]:
        known = [
            trial
            for trial in trials
            if trial.status is TrialStatus.COMPLETED
            and trial.loss is not None
            and math.isfinite(trial.loss)
        ]
        known = known[latest(len(known))]
        losses = np.array([trial.loss for trial in known])
        new = [trial for trial in known if trial.id not in self._expected]
        if new:
            rows = self._features.encode([trial.hparams for trial in new])
            features = self._features.features(rows)
            columns = np.array([run.source.value(features) for run in self._runs]).T
            self._expected |= zip((trial.id for trial in new), columns, strict=True)
        if not known:
            return [agreement(losses, losses)] * len(self._runs)
        expected = np.array([self._expected[trial.id] for trial in known]).T
        return [agreement(row, losses) for row in expected]


def _split(run: EarlierRun, encoding: Encoding) -> Split:
    evidence = Evidence(encoding)
    for trial in run.trials:
        evidence.tell(trial)
    return evidence.split(())
