"""Trials that wait for a worker, and which of them is next.

They are taken in the order of their suggestion until a long one becomes critical: when it is
expected to take as long as everything that is left will keep the workers busy.  From there on the
longest is taken first, so that at the end no worker waits for one straggler (Graham 1969, longest
processing time first).  Until durations are known, and with a single worker, the order stays.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from typing import TYPE_CHECKING

from maggy.core.durations import Durations

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from maggy.trial import Hparams, Trial

__all__ = ["Backlog"]

_MARGIN = 2.0
"""A trial is critical when so many times its duration is as long as what is left."""

_WORTH = 0.05
"""Seconds; shorter trials end together anyhow, and many of them should cost little."""


class Backlog:
    """A queue that knows how long its trials are expected to take.

    Args:
        encode: The point of ``[0, 1]^d`` of a configuration, for learning durations; None: always
            in order.
    """

    def __init__(self, encode: Callable[[Hparams], Sequence[float]] | None = None) -> None:
        self._durations = None if encode is None else Durations(encode)
        self._waiting: OrderedDict[int, Trial] = OrderedDict()
        self._features: dict[int, Sequence[float]] = {}  # of those that were ranked
        self._again: set[int] = set()
        self._longest: list[tuple[float, int]] | None = None  # until they have to be ranked
        self._began: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, trial: Trial) -> None:
        """Put a suggested trial at the end."""
        self._waiting[trial.id] = trial
        if self._longest is not None:
            heapq.heappush(self._longest, self._entry(trial))

    def add_first(self, trial: Trial) -> None:
        """Put a trial that lost its worker in front of all others."""
        self._waiting[trial.id] = trial
        self._waiting.move_to_end(trial.id, last=False)
        self._again.add(trial.id)

    def take(self, *, unsuggested: int, workers: int, at: float) -> Trial:
        """The trial to run next, which begins now.

        Args:
            unsuggested: How many further trials will be suggested.
            workers: How many there are.
            at: Now.
        """
        number = self._critical(unsuggested + len(self._waiting), workers)
        if number is None:
            number, trial = self._waiting.popitem(last=False)
        else:
            trial = self._waiting.pop(number)
        self._again.discard(number)
        self._features.pop(number, None)
        if self._durations is not None:
            self._began[number] = at
        return trial

    def ended(self, trial: Trial, at: float) -> None:
        """A run of a trial is over."""
        began = self._began.pop(trial.id, None)
        if began is None or self._durations is None or at - began < _WORTH:
            return
        if self._durations.learn(trial, at - began):
            self._longest = None

    def _critical(self, left: int, workers: int) -> int | None:
        """The longest trial that waits, if it must not wait any longer.

        Most of the time no trial whatever can be as long as that; nothing is ranked until then.
        """
        if self._durations is None or self._again or workers < 2:
            return None
        share = left * self._durations.mean_spent / workers
        if not self._durations.known or _MARGIN * self._durations.longest < share:
            return None
        if self._longest is None:
            self._longest = [self._entry(trial) for trial in self._waiting.values()]
            heapq.heapify(self._longest)
        while self._longest and self._longest[0][1] not in self._waiting:
            heapq.heappop(self._longest)
        if not self._longest:
            return None
        expected, number = -self._longest[0][0], self._longest[0][1]
        return number if _MARGIN * expected >= share else None

    def _entry(self, trial: Trial) -> tuple[float, int]:
        assert self._durations is not None
        features = self._features.get(trial.id)
        if features is None:
            features = self._features[trial.id] = self._durations.features(trial.hparams)
        return -self._durations.expected_at(features), trial.id
