"""Worker processes for an event loop: started at once, and awaited to their end."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from maggy.worker.processes import WorkerProcesses

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from maggy.trial import Json

__all__ = ["Children"]


class Children:
    """The worker processes of one agent; none of them outlives it, however it ends.

    Args:
        command: What to start instead of ``python -m maggy.worker``.
        environ: Added to the environment of each.

    Raises:
        ConfigError: There is no interpreter to start them with.
        OSError: Their supervisor could not be started.
    """

    def __init__(self, command: Sequence[str] | None, environ: Mapping[str, str]) -> None:
        self._loop = asyncio.get_running_loop()
        self._environ = dict(environ)
        self._ends: dict[str, asyncio.Future[str]] = {}
        self._processes = WorkerProcesses(self._exited, command=command)

    def start(
        self,
        worker: str,
        *,
        bootstrap: Mapping[str, Json],
        pass_fds: Collection[int],
        output: Path,
    ) -> asyncio.Future[str]:
        """Start one; what is returned is done when it was reaped, and says how it ended.

        Args:
            worker: Its name.
            bootstrap: See ``WorkerProcesses.start``, as for the rest.
            pass_fds: Descriptors that it inherits.
            output: Receives its standard output and error.

        Raises:
            OSError: It could not be started.
        """
        end = self._loop.create_future()
        self._ends[worker] = end
        try:
            self._processes.start(
                worker, bootstrap=bootstrap, env=self._environ, pass_fds=pass_fds, output=output
            )
        except BaseException:
            del self._ends[worker]
            raise
        return end

    def kill(self, worker: str) -> None:
        """End one with all its descendants; nothing happens if it has ended."""
        self._processes.kill(worker)

    async def close(self) -> None:
        """End all of them, and return when nothing is left."""
        await asyncio.to_thread(self._processes.close)

    def _exited(self, worker: str, pid: int, returncode: int, description: str) -> None:
        """One was reaped; on a thread of its own."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            self._loop.call_soon_threadsafe(self._end, worker, description)

    def _end(self, worker: str, description: str) -> None:
        end = self._ends.pop(worker)
        if not end.done():
            end.set_result(description)
