"""The one place that knows the sign of the user's metric.

Events and the log hold the user's own values; optimizers and policies minimise losses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maggy.contracts import Decision

__all__ = ["DIRECTIONS", "Sense"]

DIRECTIONS = ("max", "min")


class Sense:
    """Turns values into losses and back.

    Args:
        direction: ``"max"`` or ``"min"``.
    """

    def __init__(self, direction: str) -> None:
        self._sign = {"max": -1.0, "min": 1.0}[direction]

    def flip(self, number: float) -> float:
        """The loss of a value, or the value of a loss: the same operation both ways."""
        return self._sign * number

    def sentence(self, decision: Decision) -> str:
        """The decision's reason with its losses filled in, in the user's own sign."""
        if not decision.losses:
            return decision.reason
        values = {name: f"{self.flip(loss):.4g}" for name, loss in decision.losses.items()}
        return decision.reason.format(**values)
