"""Events a second of the pure machine, in processor time, with and without early stopping.

A world of 100 workers runs 10,000 trials of up to 20 reports.  It is played once to learn the
order of events; then the same events are handled by a fresh machine, and only this is timed.
"""

from __future__ import annotations

import random
import time
from collections import deque
from typing import TYPE_CHECKING, TypeAlias

from setting import arguments, describe, spread, table

from maggy.commands import Assign, StopTrial, Suggest
from maggy.core.machine import ExperimentMachine
from maggy.earlystop import resolve_policy
from maggy.events import (
    ExperimentStarted,
    MetricReported,
    Suggested,
    TrialFinished,
    TrialStopped,
    WorkerJoined,
)

if TYPE_CHECKING:
    from maggy.commands import Command
    from maggy.events import Event

    Run: TypeAlias = tuple[int, int]
    """Trial and attempt."""

WORKERS, STEPS = 100, 20


def machine(policy: str, trials: int) -> ExperimentMachine:
    """A fresh machine."""
    return ExperimentMachine(
        direction="max",
        num_trials=trials,
        policy=resolve_policy(policy, es_min=10),
        es_min=10,
    )


class World:
    """Workers that report in turns and obey; remembers every event."""

    def __init__(self, policy: str, trials: int) -> None:
        self.machine = machine(policy, trials)
        self.events: list[Event] = []
        self.turns: deque[tuple[Run, int]] = deque()
        self.stopped: set[Run] = set()
        self.quality: dict[int, float] = {}
        self.rng = random.Random(0)

    def play(self) -> list[Event]:
        """Run the whole experiment; returns its events."""
        self.tell(ExperimentStarted(at=0.0, config={}))
        for worker in range(WORKERS):
            self.tell(WorkerJoined(at=0.0, worker=f"w{worker}"))
        while self.turns:
            self.turn(*self.turns.popleft())
        assert self.machine.finish is not None
        return self.events

    def turn(self, run: Run, step: int) -> None:
        """One worker's next message."""
        trial, attempt = run
        at = float(len(self.events))
        value = self.quality[trial] * (1 - 0.7**step) + self.rng.gauss(0, 0.01)
        if run in self.stopped:
            self.tell(TrialStopped(at=at, trial=trial, attempt=attempt))
        elif step == STEPS:
            self.tell(TrialFinished(at=at, trial=trial, attempt=attempt, value=value))
        else:
            self.tell(MetricReported(at=at, trial=trial, attempt=attempt, step=step, value=value))
            self.turns.append((run, step + 1))

    def tell(self, event: Event) -> None:
        """Hand an event to the machine, and do what it says."""
        self.events.append(event)
        for command in self.machine.handle(event):
            self.obey(command)

    def obey(self, command: Command) -> None:
        """What the optimizer and the workers do."""
        if isinstance(command, Suggest):
            self.quality[command.number] = self.rng.random()
            hparams = {"x": self.quality[command.number], "k": 3}
            self.tell(Suggested(at=0.0, trial=command.number, hparams=hparams))
        elif isinstance(command, Assign):
            self.turns.append(((command.trial, command.attempt), 0))
        elif isinstance(command, StopTrial):
            self.stopped.add((command.trial, command.attempt))


def main() -> None:
    """Play, replay, and print the table."""
    options = arguments(__doc__)
    describe("The pure machine: 100 workers, up to 20 reports a trial")
    trials, repeats = (1000, 1) if options.quick else (10_000, 5)
    rows = []
    for policy in ("none", "median"):
        world = World(policy, trials)
        events = world.play()
        rates = []
        for _ in range(repeats):
            fresh = machine(policy, trials)
            began = time.process_time()
            for event in events:
                fresh.handle(event)
            rates.append(len(events) / (time.process_time() - began))
            assert fresh.finish == world.machine.finish
        rows.append([policy, f"{len(events):,}", f"{len(world.stopped):,}", spread(rates)])
    table(["policy", "events", "trials stopped", "events/s"], rows)


if __name__ == "__main__":
    main()
