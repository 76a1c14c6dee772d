"""What remote engines differ in: how agents get started in their slots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from maggy.trial import Json
    from maggy.wire.token import Token

__all__ = ["Desk", "Invitation", "Launcher"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """What an agent needs to join a run.

    Attributes:
        host: Where the driver is, as agents see it.
        port: Where it listens.
        token: The run's secrets.
        hb_interval: Seconds between two signs of life.
    """

    host: str
    port: int
    token: Token
    hb_interval: float

    def bootstrap(self, slot: str) -> dict[str, Json]:
        """For ``maggy.worker.agent.run_agent``; it holds the token, so keep it off command lines.

        Args:
            slot: Names the place; the agent adds a random part, so that copies are told apart.
        """
        return {
            "host": self.host,
            "port": self.port,
            "token": self.token.text(),
            "slot": slot,
        }


class Desk(Protocol):
    """Where a launcher reports; every method may be called from any thread."""

    def vanished(self, slot: str, reason: str) -> None:
        """The process of every agent that was started in this slot so far is known to be gone."""
        ...

    def hopeless(self, reason: str, output: str = "") -> None:
        """No agent can be had: ends the run, unless one is there; ``reason`` is a sentence.

        Whoever still means it when an agent may have gone says it again.
        """
        ...


class Launcher(Protocol):
    """Gets agents started, and others in place of those that end.

    One is made from the ``OptimizationConfig`` for each run: ``slots``, ``advertise``, ``notes``,
    then ``open`` and ``close``; ``close`` alone if the run does not begin.

    One whose agents are started by users, who see how they end, has a true ``attended``.
    """

    def slots(self) -> int:
        """How many agents have room now; how many workers a run gets unless the config says.

        Raises:
            ConfigError: Not even one has what ``resources`` asks for.
        """
        ...

    def notes(self, invitation: Invitation) -> list[str]:
        """What the user should know before agents are started; sentences without a full stop."""
        ...

    def advertise(self) -> tuple[str, str]:
        """The address to listen on, and the one by which agents reach it.

        Raises:
            ConfigError: There is none.
        """
        ...

    def open(self, invitation: Invitation, desk: Desk, count: int) -> None:
        """Get so many agents started, and replace those that end until ``close``; returns at once.

        Raises:
            ConfigError: The cluster cannot do what the config asks for.
        """
        ...

    def close(self) -> None:
        """End what is left of them by force; called once, when they were told to leave.

        It may take seconds, and is called on a thread of its own.  After a minute the run ends
        without it.
        """
        ...
