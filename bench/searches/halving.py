"""Recorded trainings replayed in virtual time, for schedulers of other tools.

The rules are those of ``maggy.engines.simulator``: trials begin in the given order as workers get
free, a report is not waited for, and a stop is heard at the next report.
"""

from __future__ import annotations

import heapq
import json
import sys
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable


class Rule(Protocol):
    """What stops trials; made anew for each search."""

    def begin(self, trial: int) -> None:
        """A trial begins."""

    def stops(self, trial: int, epochs: int, loss: float) -> bool:
        """Whether the trial, having reported after so many epochs, is to stop."""
        ...

    def end(self, trial: int, epochs: int, loss: float, *, stopped: bool) -> None:
        """A trial has ended with this report."""


class Order(TypedDict):
    """What to replay: trainings (losses and seconds, an entry each epoch), orders, and how."""

    losses: list[list[float]]
    seconds: list[list[float]]
    orders: list[list[int]]
    workers: int
    factor: int
    first: int
    top: int


class Replayed(TypedDict):
    """One search: when which trainings were complete, and when it ended."""

    complete: list[tuple[int, float]]
    end: float


class NoRule:
    """Stops nothing."""

    def begin(self, trial: int) -> None:
        """Nothing to note."""

    def stops(self, trial: int, epochs: int, loss: float) -> bool:
        """Never."""
        return False

    def end(self, trial: int, epochs: int, loss: float, *, stopped: bool) -> None:
        """Nothing to note."""


class Replay:
    """One search in virtual time.

    Args:
        order: What to replay.
        turns: The trials, in the order in which they begin.
        rule: What stops them.
        waits: A trial hears at once what is decided on its report, instead of at the next.
    """

    def __init__(self, order: Order, turns: list[int], rule: Rule, *, waits: bool) -> None:
        self._order = order
        self._queue = iter(turns)
        self._rule = rule
        self._waits = waits
        self._heap: list[tuple[float, int, int, int]] = []
        self._ties = count()
        self._stopped: set[int] = set()
        self._now = 0.0
        self._complete: list[tuple[int, float]] = []

    def run(self) -> Replayed:
        """Let the reports come in, in the order of their times."""
        for _ in range(self._order["workers"]):
            self._hire()
        while self._heap:
            self._now, _, trial, epoch = heapq.heappop(self._heap)
            if trial in self._stopped or self._report(trial, epoch):
                self._hire()
            else:
                self._train(trial, epoch + 1)
        return {"complete": self._complete, "end": self._now}

    def _hire(self) -> None:
        trial = next(self._queue, None)
        if trial is not None:
            self._rule.begin(trial)
            self._train(trial, 0)

    def _train(self, trial: int, epoch: int) -> None:
        at = self._now + self._order["seconds"][trial][epoch]
        heapq.heappush(self._heap, (at, next(self._ties), trial, epoch))

    def _report(self, trial: int, epoch: int) -> bool:
        """Whether the worker is free after it."""
        losses = self._order["losses"][trial]
        last = epoch + 1 == len(losses)
        stop = self._rule.stops(trial, epoch + 1, losses[epoch])
        if last:
            self._complete.append((trial, self._now))
        if last or stop:
            self._rule.end(trial, epoch + 1, losses[epoch], stopped=not last)
        if stop:
            self._stopped.add(trial)
        return last or (stop and self._waits)


def serve(make: Callable[[Order], Rule]) -> None:
    """Replay what the file of the first argument says; the answer goes into the second's."""
    order: Order = json.loads(Path(sys.argv[1]).read_text())
    ways: dict[str, tuple[Callable[[Order], Rule], bool]] = {
        "none": (lambda _: NoRule(), False),
        "reports": (make, False),
        "waits": (make, True),
    }
    answer = {
        way: [Replay(order, turns, rule(order), waits=waits).run() for turns in order["orders"]]
        for way, (rule, waits) in ways.items()
    }
    Path(sys.argv[2]).write_text(json.dumps(answer))
