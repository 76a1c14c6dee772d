"""What engines differ in: how a run gets its workers, reaches them, and learns of their end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from maggy.wire.messages import FromWorker, Quit, Run, Stop

__all__ = ["MakeStaff", "Order", "Owner", "Staff"]

Order: TypeAlias = "Run | Stop | Quit"
"""What a run tells a worker."""


class Owner(Protocol):
    """Whom a staff tells what happens; every method is called on the driver's thread."""

    def heard(self, worker: str, message: FromWorker) -> None:
        """A worker says this."""
        ...

    def lost(self, worker: str, reason: str) -> None:
        """A worker is gone for good, and was heard to the end; ``reason`` is a clause."""
        ...

    def unable(self, reason: str, output: str = "") -> None:
        """No worker can be had at all, a sentence says why: the run fails."""
        ...

    def fail(self, error: BaseException) -> None:
        """The staff itself failed: the run ends with this error."""
        ...


class Staff(Protocol):
    """The workers of one run; every method is called on the driver's thread."""

    async def open(self) -> None:
        """Be ready to hire.

        Raises:
            OSError: What workers need could not be started.
            ConfigError: It cannot be had on this machine.
        """
        ...

    def hire(self, worker: str) -> None:
        """Get a worker of this name, now or as soon as there is a place for it.

        Raises:
            OSError: It cannot be had now; it is tried again later.
        """
        ...

    def send(self, worker: str, order: Order) -> None:
        """Tell a worker; to one that is gone nothing is said."""
        ...

    def fire(self, worker: str) -> None:
        """End a worker by force; nothing happens when it is gone already."""
        ...

    def last_words(self, worker: str) -> str:
        """The end of what a worker that is gone printed outside trials."""
        ...

    async def close(self) -> None:
        """End every worker by force; nothing is left, and nobody is told anything, afterwards."""
        ...


MakeStaff: TypeAlias = "Callable[[Owner], Staff]"
