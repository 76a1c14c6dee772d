"""The conditions of a simulated cluster: delays, losses, stragglers, the cost of suggestions."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

from maggy.errors import ConfigError

__all__ = ["Conditions", "Fate"]

_STREAM = 0x66617465
"""Keeps the fates of workers apart from every other draw of the same seed."""


class Fate(NamedTuple):
    """What is in store for a worker: its slowness (1 is normal), and the seconds it lives."""

    pace: float
    life: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """How far a simulated cluster is from perfect; every time in seconds.

    Attributes:
        start: From asking for a worker until it is ready.
        assign: From the decision until the training begins.
        report: From a broadcast, return or failure until the driver hears of it.
        stop: From the decision until the worker can hear of it, at its next broadcast.
        suggest: What a suggestion costs; meanwhile nothing else is suggested.
        suggest_growth: What a suggestion costs more for each run that has ended.
        lost_every: Mean life of a worker, exponentially distributed; a lost worker is replaced.
            None: no worker is lost.
        slow_share: Share of the workers that are slow, in [0, 1].
        slow_factor: How many times as long a slow worker takes, at least 1.
        checkpoints: Whether a run goes on where the last run of its trial had reported.

    Raises:
        ConfigError: A number is out of its range.
    """

    start: float = 0.0
    assign: float = 0.0
    report: float = 0.0
    stop: float = 0.0
    suggest: float = 0.0
    suggest_growth: float = 0.0
    lost_every: float | None = None
    slow_share: float = 0.0
    slow_factor: float = 1.0
    checkpoints: bool = False

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if value is not None and not 0 <= value < math.inf:
                self._refuse(item.name, f"0 <= {item.name} < inf")
        if self.lost_every == 0:
            self._refuse("lost_every", "lost_every > 0")
        if self.slow_share > 1:
            self._refuse("slow_share", "slow_share <= 1")
        if self.slow_factor < 1:
            self._refuse("slow_factor", "slow_factor >= 1")

    def fate(self, seed: int, worker: int) -> Fate:
        """What is in store for the worker that was hired as number ``worker``."""
        if self.lost_every is None and not self.slow_share:
            return Fate(1.0, math.inf)
        import numpy as np

        sequence = np.random.SeedSequence(seed, spawn_key=(_STREAM, worker))
        luck, health = np.random.default_rng(sequence).random(2).tolist()
        pace = self.slow_factor if luck < self.slow_share else 1.0
        life = math.inf if self.lost_every is None else -self.lost_every * math.log1p(-health)
        return Fate(pace, life)

    def _refuse(self, name: str, rule: str) -> None:
        msg = f"`{rule}` must hold, but got {name}={getattr(self, name)!r}."
        raise ConfigError(msg)
