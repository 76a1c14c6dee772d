"""What a Ray actor of ours does: be an agent with the resources that Ray gave it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maggy.worker.agent import run_agent
from maggy.worker.processes import thread_env

if TYPE_CHECKING:
    from collections.abc import Mapping

    from maggy.trial import Json

__all__ = ["serve"]


def serve(bootstrap: Mapping[str, Json], threads: int) -> None:
    """Serve the run until it is over; the GPUs are those that Ray shows this process.

    Args:
        bootstrap: For ``run_agent``.
        threads: How many threads a trial computes with.

    Raises:
        WireError: The driver cannot be reached, or does not want this agent.
    """
    run_agent(bootstrap, environ=thread_env(threads, 1, {}))
