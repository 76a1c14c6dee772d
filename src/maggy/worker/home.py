"""Makes user code feel at home in a worker, and tidies up after each trial."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maggy.worker.payload import Payload

__all__ = ["Home", "publish", "settle"]

logger = logging.getLogger(__name__)


def settle(sys_path: Sequence[str], cwd: str) -> None:
    """Import from where the driver imports, and work where it works.

    The driver's entries come first, relative ones (``""`` among them) made absolute; this
    process's own entries stay behind them.  A folder that does not exist here is not entered.
    """
    wanted = [str(Path(cwd, entry)) for entry in sys_path]  # an absolute entry stays as it is
    sys.path[:] = list(dict.fromkeys([*wanted, *sys.path]))
    importlib.invalidate_caches()
    try:
        os.chdir(cwd)
    except OSError as error:
        logger.warning("the worker stays in %s: %s", Path.cwd(), error)


def publish(payload: Payload) -> None:
    """Start a fresh ``__main__`` that holds what the driver's had for the training function.

    With it ``pickle`` works inside a training function, for instance in a process pool of its own:
    it looks functions and classes up as ``__main__.name``.  The module knows no file, so a process
    that is spawned rather than forked does not run maggy's or the user's script again.
    """
    main = types.ModuleType("__main__")
    payload.publish(vars(main))
    sys.modules["__main__"] = main


class Home:
    """This process's working directory and environment as every trial shall find them."""

    def __init__(self) -> None:
        self._cwd = Path.cwd()
        self._environ = dict(os.environ)

    def restore(self) -> None:
        """Undo what a trial has changed."""
        if dict(os.environ) != self._environ:
            os.environ.clear()
            os.environ.update(self._environ)
        try:
            if os.getcwd() == str(self._cwd):  # noqa: PTH109 - Path.cwd() costs four times as much
                return
        except FileNotFoundError as error:  # the trial has removed the folder it was in
            logger.debug("the working directory is gone: %s", error)
        try:
            os.chdir(self._cwd)
        except OSError as error:
            logger.warning("the working directory could not be restored: %s", error)
