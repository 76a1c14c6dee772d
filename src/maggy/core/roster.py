"""The workers of a run as the machine knows them: who is idle, and who runs which trial."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn, overload

from maggy.core.transitions import WORKER_MOVES, WorkerStatus
from maggy.errors import TransitionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from maggy.commands import Assign, Command
    from maggy.events import Event
    from maggy.trial import Trial

__all__ = ["OpenTrials", "Roster", "Story"]

_REMEMBERED = 200
_TOLD = 20


class Story:
    """The last events of a run, which explain an illegal move."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=_REMEMBERED)

    def add(self, event: Event) -> None:
        """Remember an event."""
        self._events.append(event)

    def refuse(self, kind: str, key: int | str, state: str, cause: Event | Command) -> NoReturn:
        """This cause moves that trial or worker (``kind``) nowhere from where it is.

        Raises:
            TransitionError: Always; with the last events that touched the subject.
        """
        past = [repr(known) for known in self._events if getattr(known, kind, None) == key]
        subject, event = f"{kind} {key}", type(cause).__name__
        raise TransitionError(subject, state, event, tuple(past[-_TOLD:]))


class OpenTrials(Sequence["Trial"]):
    """The trials that have not ended, oldest first: a view, since there can be thousands.

    Args:
        by_id: The trials; what happens to it shows here.
    """

    def __init__(self, by_id: dict[int, Trial]) -> None:
        self._by_id = by_id

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Trial]:
        return iter(self._by_id.values())

    def __reversed__(self) -> Iterator[Trial]:
        return reversed(self._by_id.values())

    @overload
    def __getitem__(self, index: int) -> Trial: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Trial]: ...

    def __getitem__(self, index: int | slice) -> Trial | Sequence[Trial]:
        return list(self._by_id.values())[index]


class Roster:
    """Where each worker is; one that is not listed is gone.

    Args:
        story: Explains illegal moves.
    """

    def __init__(self, story: Story) -> None:
        self._story = story
        self._idle: dict[str, None] = {}  # longest idle first
        self._busy: dict[str, Trial] = {}
        self._once: set[str] = set()

    @property
    def statuses(self) -> Mapping[str, WorkerStatus]:
        """Where those workers are that are here."""
        idle = dict.fromkeys(self._idle, WorkerStatus.IDLE)
        return {**idle, **dict.fromkeys(self._busy, WorkerStatus.BUSY)}

    @property
    def running(self) -> Mapping[str, Trial]:
        """The trial of each busy worker, for reading."""
        return self._busy

    @property
    def idle(self) -> str | None:
        """Who has been idle for longest, or None: nobody is."""
        return next(iter(self._idle), None)

    def status(self, worker: str) -> WorkerStatus:
        """Where this worker is."""
        if worker in self._busy:
            return WorkerStatus.BUSY
        return WorkerStatus.IDLE if worker in self._idle else WorkerStatus.GONE

    def give(self, command: Assign, trial: Trial) -> None:
        """Give an idle worker its trial.

        Raises:
            TransitionError: It is not idle.
        """
        self.move(command.worker, command)
        self._busy[command.worker] = trial

    def serve_once(self, worker: str) -> None:
        """This worker leaves after its next trial, without being lost."""
        self._once.add(worker)

    def move(self, worker: str, cause: Event | Command) -> None:
        """Move a worker as the table says.

        Raises:
            TransitionError: The table does not list that move.
        """
        status = self.status(worker)
        moved = WORKER_MOVES[status].get(type(cause))
        if moved is None:
            self._story.refuse("worker", worker, status.value, cause)
        if worker in self._once and moved is not WorkerStatus.BUSY:
            self._once.discard(worker)
            moved = WorkerStatus.GONE
        self._busy.pop(worker, None)
        self._idle.pop(worker, None)
        if moved is WorkerStatus.IDLE:
            self._idle[worker] = None
