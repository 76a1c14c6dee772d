"""Ctrl-C as a message instead of an exception in the middle of anything."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

__all__ = ["interrupts"]


@contextlib.contextmanager
def interrupts(deliver: Callable[[], None]) -> Iterator[None]:
    """Call ``deliver`` for each SIGINT until the block ends.

    Outside the main thread Python delivers no signals, so nothing is changed there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(signum: int, frame: FrameType | None) -> None:
        deliver()

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
