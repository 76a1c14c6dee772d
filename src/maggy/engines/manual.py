"""Workers started by hand: the run waits for them, and takes all that come."""

from __future__ import annotations

import logging
import socket
import weakref
from typing import TYPE_CHECKING

from maggy.errors import ConfigError
from maggy.worker.keyfile import key_path, write_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from maggy.config import OptimizationConfig
    from maggy.engines.launcher import Desk, Invitation

__all__ = ["ManualLauncher"]

logger = logging.getLogger(__name__)

_WORKERS = 16
"""How many trials run at a time at most, unless the config says."""
_ELSEWHERE = {
    socket.AF_INET: ("192.0.2.1", "0.0.0.0"),  # noqa: S104  with TLS
    socket.AF_INET6: ("2001:db8::1", "::"),
}
"""Addresses kept for documentation (RFC 5737, RFC 3849): asking for the way there sends nothing.
With each, all of this machine's addresses of its kind."""
_DISCARD = 9
"""Any port would do."""


class ManualLauncher:
    """Starts nothing: leaves the run's secrets in a file, and says how to start a worker.

    Args:
        config: The options of the run.

    Raises:
        ConfigError: It asks for what only those can give who start the workers.

    Attributes:
        attended: Users see how their workers end.
    """

    attended = True

    def __init__(self, config: OptimizationConfig) -> None:
        if config.resources is not None:
            msg = (
                "`resources` must be left out with engine='manual', but got "
                f"{config.resources!r}. Each worker has what you start it with: set "
                "--cpus-per-task of Slurm, OMP_NUM_THREADS or CUDA_VISIBLE_DEVICES there."
            )
            raise ConfigError(msg)
        if config.py_files:
            msg = (
                f"`py_files` must be left out with engine='manual', but got {config.py_files!r}. "
                "Put these files where the workers run, and their folder into PYTHONPATH there."
            )
            raise ConfigError(msg)
        self._forget: Callable[[], object] = bool

    def slots(self) -> int:
        """Nobody knows who will come."""
        return _WORKERS

    def advertise(self) -> tuple[str, str]:
        """All addresses of this machine, and the one by which it reaches others."""
        for family, (elsewhere, everywhere) in _ELSEWHERE.items():
            try:
                with socket.socket(family, socket.SOCK_DGRAM) as probe:
                    probe.connect((elsewhere, _DISCARD))
                    return everywhere, str(probe.getsockname()[0])
            except OSError as error:  # no network of this kind
                logger.debug("there is no way to %s: %s", elsewhere, error)
        return "127.0.0.1", "127.0.0.1"

    def notes(self, invitation: Invitation) -> list[str]:
        """Write the key file, and say what to run.

        Raises:
            ConfigError: The file cannot be written.
        """
        key = key_path(invitation.host, invitation.port)
        write_key(key, invitation.token)
        self._forget = weakref.finalize(self, key.unlink, missing_ok=True)
        host = f"[{invitation.host}]" if ":" in invitation.host else invitation.host
        return [
            f"start workers with `maggy worker --connect {host}:{invitation.port}`; "
            f"elsewhere they need a copy of {key}, by --key-file"
        ]

    def open(self, invitation: Invitation, desk: Desk, count: int) -> None:
        """Nothing to do: others start the agents."""

    def close(self) -> None:
        """Delete the key file."""
        self._forget()
