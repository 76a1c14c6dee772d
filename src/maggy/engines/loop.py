"""The loop that all engines share: log the event, let the machine decide, then act.

Each turn takes in every event that is there, commits the log once, and only then sends anything to
a worker: whatever a worker is told to do has been written down before.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Protocol, assert_never

from maggy.commands import (
    Assign,
    Finish,
    GiveUp,
    Interrupt,
    Kill,
    Note,
    Shutdown,
    StopTrial,
    Suggest,
    Tell,
)
from maggy.events import (
    ExperimentFinished,
    StopDecided,
    Tick,
    TrialFailed,
    TrialStarted,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from maggy.commands import Command
    from maggy.contracts import EventLog
    from maggy.core.machine import ExperimentMachine
    from maggy.engines.advisor import Advisor
    from maggy.events import Event

__all__ = ["Hands", "Loop"]

_LOGGER = logging.getLogger(__name__)


class Hands(Protocol):
    """The workers of an engine, as the loop sees them."""

    def assign(self, command: Assign) -> None:
        """Let the worker run the trial."""
        ...

    def stop(self, command: StopTrial | Interrupt) -> None:
        """Tell the worker to leave the trial at its next report."""
        ...

    def kill(self, worker: str) -> None:
        """End the worker by force."""
        ...

    def shutdown(self, worker: str) -> None:
        """Let the worker go."""
        ...


class Loop:
    """Carries events to the machine and its commands to the workers; owned by one thread.

    Args:
        machine: Decides.
        log: Keeps every event.
        crew: Does what was decided.
        clock: Seconds of the run's active time.
        watch: Called with each event, after it was logged.
    """

    def __init__(
        self,
        *,
        machine: ExperimentMachine,
        log: EventLog,
        crew: Hands,
        clock: Callable[[], float],
        watch: Callable[[Event], None],
    ) -> None:
        self.machine = machine
        self._log = log
        self._crew = crew
        self._clock = clock
        self._watch = watch
        self._advisor: Advisor | None = None
        self._events: deque[Event] = deque()
        self._outbox: list[Assign | StopTrial | Interrupt | Kill | Shutdown] = []
        self._ahead: Suggest | None = None
        self._busy = False

    def advise(self, advisor: Advisor) -> None:
        """Use this optimizer; before the first worker joins."""
        self._advisor = advisor

    def dispatch(self, event: Event, sender: str | None = None) -> None:
        """Take in one event and what follows from it; acts on workers only at ``flush``.

        Args:
            event: What happened.
            sender: The worker that says so.  What it cannot have said is not even logged, so that
                the log replays to the same state.
        """
        if sender is not None and (note := self.machine.objection(sender, event)) is not None:
            self._perform(note)
            return
        self._events.append(event)
        if not self._busy:
            self._drain()

    def _drain(self) -> None:
        self._busy = True
        try:
            while self._events:
                event = self._events.popleft()
                self._log.append(event)
                self._watch(event)
                for command in self.machine.handle(event):
                    self._perform(command)
        finally:
            self._busy = False

    def flush(self) -> None:
        """Commit the log, then send what was decided since the last flush.

        Only then ask for what no worker waits for: the answer is committed with what comes next.
        """
        self._send()
        while self._ahead is not None:
            question, self._ahead = self._ahead, None
            if self.machine.finish is None:
                self._consult(question)
                self._drain()
            if self._outbox:
                self._send()

    def _send(self) -> None:
        self._log.commit()
        if not self._outbox:
            return
        outbox, self._outbox = self._outbox, []
        for command in outbox:
            match command:
                case Assign():
                    self._crew.assign(command)
                case StopTrial() | Interrupt():
                    self._crew.stop(command)
                case Kill(worker=worker):
                    self._crew.kill(worker)
                case Shutdown(worker=worker):
                    self._crew.shutdown(worker)
                case _:
                    assert_never(command)

    def tick(self) -> None:
        """Tell the machine that the moment it asked for has come, if it has."""
        wake = self.machine.wake_at()
        if wake is not None and wake <= self._clock():
            self.dispatch(Tick(at=self._clock()))

    def _record(self, event: Event) -> None:
        self._log.append(event)
        self._watch(event)

    def _perform(self, command: Command) -> None:  # noqa: C901 - one case each
        match command:
            case Assign(trial=trial, attempt=attempt, worker=worker):
                started = TrialStarted(
                    at=self._clock(), trial=trial, attempt=attempt, worker=worker
                )
                self._record(started)
                self._outbox.append(command)
            case StopTrial():
                self._record(_stop_decided(command, self._clock()))
                self._outbox.append(command)
            case Interrupt() | Kill() | Shutdown():
                self._outbox.append(command)
            case Suggest(ahead=True):
                self._ahead = command
            case Suggest() | Tell():
                self._consult(command)
            case GiveUp(trial=trial, attempt=attempt, error=error):
                at = self._clock()
                self._events.append(TrialFailed(at=at, trial=trial, attempt=attempt, error=error))
            case Note(text=text):
                _LOGGER.debug("%s", text)
            case Finish(outcome=outcome, reason=reason):
                self._record(ExperimentFinished(at=self._clock(), outcome=outcome, reason=reason))
            case _:
                assert_never(command)

    def _consult(self, command: Suggest | Tell) -> None:
        assert self._advisor is not None
        answer: Event | None
        if isinstance(command, Tell):
            answer = self._advisor.tell(self.machine.trials[command.trial])
        else:
            answer = self._advisor.suggest(command.number, self.machine.open_trials)
        if answer is not None:
            self._events.append(answer)


def _stop_decided(command: StopTrial, at: float) -> StopDecided:
    return StopDecided(
        at=at,
        trial=command.trial,
        attempt=command.attempt,
        reason=command.reason,
        threshold=command.threshold,
        final=command.final,
    )
