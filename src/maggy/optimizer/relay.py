"""One optimizer for the first trials, another for all that follow."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from maggy.contracts import Optimizer, SearchContext
    from maggy.trial import Exhausted, Suggestion, Trial, Wait

__all__ = ["Relay"]


class Relay:
    """Lets one optimizer propose the first configurations, and hands all it knew to another.

    Args:
        first: Proposes the configurations numbered below ``after``.
        second: Goes on; it is started when its turn comes, and told of every trial before.
        after: Number of the first configuration that is not the first optimizer's.

    Attributes:
        notes: After ``start``: the first optimizer's own notes.
        preload: The modules that the first one will need.
    """

    def __init__(self, first: Optimizer, second: Optimizer, *, after: int) -> None:
        self.first = first
        self.second = second
        self.after = after
        self.preload = tuple(getattr(first, "preload", ()))
        self.notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Relay({self.first!r}, {self.second!r}, after={self.after})"

    def start(self, context: SearchContext) -> None:
        """Start the first one.

        Raises:
            ConfigError: It cannot search this space.
        """
        self._context = context
        self._current = self.first
        self._told: dict[int, Trial] = {}
        self.first.start(context)
        self.notes = tuple(getattr(self.first, "notes", ()))

    def ask(
        self, number: int, pending: Sequence[Trial], rng: np.random.Generator
    ) -> Suggestion | Wait | Exhausted:
        """What the one whose turn it is proposes."""
        if number >= self.after and self._current is self.first:
            self._hand_over()
        return self._current.ask(number, pending, rng)

    def tell(self, trial: Trial) -> None:
        """Tell the one whose turn it is, and remember it for the other."""
        if self._current is self.first:
            self._told[trial.id] = trial.snapshot()
        self._current.tell(trial)

    def _hand_over(self) -> None:
        self.second.start(self._context)
        for number in sorted(self._told):
            self.second.tell(self._told[number])
        self._told.clear()
        self._current = self.second
