"""How many threads the numerical libraries of this process use."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import threadpool_limits

__all__ = ["SINGLE", "SingleThreaded"]


class SingleThreaded:
    """Has BLAS and OpenMP use one thread while somebody wants that.

    The number is a setting of the whole process: the first who wants it sets it, and the last one
    to be done puts back what was found, whichever order they come and go in.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted = 0
        self._limits: threadpool_limits | None = None

    def __enter__(self) -> None:
        from threadpoolctl import threadpool_limits

        with self._lock:
            if not self._wanted:
                self._limits = threadpool_limits(limits=1)
            self._wanted += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._wanted -= 1
            if not self._wanted and self._limits is not None:
                self._limits.restore_original_limits()
                self._limits = None


SINGLE = SingleThreaded()
"""The setting is one for the process, and so is its account: two runs in one process share it."""
