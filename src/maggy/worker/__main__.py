"""``python -m maggy.worker``: one worker process.

It reads where the driver is from one line of JSON on its standard input, so that the run's key
shows in no list of processes: ``{"host", "port", "key", "worker"}``, the key in hexadecimal.  A
worker that was started by an agent reads ``{"fd", "worker"}`` instead: its end of a socket pair.
Either has ``"data_fd"`` if the worker inherits the data sets.  After that its standard input is
empty.

It does nothing on SIGINT: a Ctrl-C at the terminal is the driver's to handle.  The signal has a
handler that does nothing rather than being ignored, because processes that users' code starts
would inherit the latter.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from maggy.wire.channel import connect, inherit
from maggy.wire.handshake import introduce
from maggy.worker.client import serve

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from maggy.wire.channel import Channel

_MAX_LINE = 65_536


def main() -> None:
    """Connect to the driver, or to the agent that stands for it, and serve it.

    Raises:
        SystemExit: The driver cannot be reached, or does not want this worker; says why.
    """
    signal.signal(signal.SIGINT, _leave_it_to_the_driver)
    faulthandler.enable()
    try:
        told = _bootstrap(_read_line())
        channel = told.open()
        try:
            serve(channel, data_fd=told.data_fd)
        finally:
            channel.close()
    except OSError as error:  # WireError is one
        msg = f"maggy.worker: {error}"
        raise SystemExit(msg) from None


def _leave_it_to_the_driver(number: int, frame: FrameType | None) -> None:
    """Do nothing."""


class _Bootstrap(NamedTuple):
    open: Callable[[], Channel]
    data_fd: int | None


def _bootstrap(line: bytes) -> _Bootstrap:
    try:
        told: dict[str, Any] = json.loads(line)
        data_fd = told.get("data_fd")
        return _Bootstrap(_way(told), None if data_fd is None else int(data_fd))
    except (ValueError, KeyError, TypeError, AttributeError):
        msg = (
            "maggy.worker: standard input must begin with one line of JSON that holds `worker`, "
            f"and `host`, `port` and `key` or `fd`, but has {len(line)} bytes of something else. "
            "maggy starts this program by itself."
        )
        raise SystemExit(msg) from None


def _way(told: dict[str, Any]) -> Callable[[], Channel]:
    """How to get to whoever started this process."""
    worker = str(told["worker"])
    if "fd" in told:
        return partial(inherit, int(told["fd"]))
    host, port, key = str(told["host"]), int(told["port"]), bytes.fromhex(told["key"])
    return partial(connect, host, port, key, introduce(worker))


def _read_line() -> bytes:
    """The first line of standard input, which is empty from then on."""
    line = b""
    while not line.endswith(b"\n") and len(line) < _MAX_LINE:
        part = os.read(0, 1)
        if not part:
            break
        line += part
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return line


if __name__ == "__main__":
    main()
