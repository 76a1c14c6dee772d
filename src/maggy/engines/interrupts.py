"""Ctrl-C and SIGTERM as a message instead of an end in the middle of anything."""

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
    """Call ``deliver`` for each SIGINT and SIGTERM until the block ends.

    A SIGTERM that would not just end this process, since somebody handles or ignores it, stays
    as it is.  Outside the main thread Python delivers no signals, so nothing is changed there.

    Args:
        deliver: Asks for the end; called between any two instructions of the main thread.
        heeded: Asked at the end of a block that a signal came to: whether it changed anything.

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

    with contextlib.ExitStack() as restoring:
        for number in (signal.SIGINT, signal.SIGTERM):
            previous = signal.getsignal(number)
            if number == signal.SIGINT or previous is signal.SIG_DFL:
                restoring.callback(signal.signal, number, previous)
                signal.signal(number, handle)
        yield
    if came.is_set() and not heeded():
        raise KeyboardInterrupt
