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
def interrupts(deliver: Callable[[], None], *, heeded: Callable[[], bool]) -> Iterator[None]:
    """Call ``deliver`` for each SIGINT until the block ends.

    Outside the main thread Python delivers no signals, so nothing is changed there.

    Args:
        deliver: Asks for the end; called between any two instructions of the main thread.
        heeded: Asked at the end of a block that a SIGINT came to: whether it changed anything.

    Raises:
        KeyboardInterrupt: It came too late to be heeded; the block's work is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    came = threading.Event()

    def handle(signum: int, frame: FrameType | None) -> None:
        came.set()
        deliver()

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if came.is_set() and not heeded():
        raise KeyboardInterrupt
