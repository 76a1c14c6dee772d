"""Warnings of maggy while a display owns the terminal: shown above it, not through it."""

from __future__ import annotations

import logging
from collections import deque

__all__ = ["Alerts"]

_ROOM = 100
"""Warnings that are kept between two drawings; of more, the last ones."""


class Alerts(logging.Handler):
    """Holds what maggy's loggers say from warnings on until the display has taken it.

    Without it Python writes warnings to standard error at once, where a display that is redrawn in
    place erases them.  Where the user has set up logging, this holds nothing.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._held: deque[str] = deque(maxlen=_ROOM)
        self._logger = logging.getLogger("maggy")

    def listen(self) -> None:
        """Hold the warnings from now on."""
        if not self._logger.hasHandlers():
            self._logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Hold a warning; called in any thread."""
        self._held.append(self.format(record))

    def take(self) -> list[str]:
        """What has been said since the last call, oldest first."""
        return [self._held.popleft() for _ in range(len(self._held))]

    def close(self) -> None:
        """Leave the logger as it was."""
        self._logger.removeHandler(self)
        super().close()
