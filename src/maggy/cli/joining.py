"""Workers started by hand: ``maggy worker``."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from maggy.cli.options import Taught
from maggy.errors import ConfigError, MaggyError, WireError
from maggy.worker.keyfile import find_key, other_drivers, parse_key, read_key

if TYPE_CHECKING:
    from types import FrameType

    from maggy.wire.token import Token

__all__ = ["worker"]

logger = logging.getLogger(__name__)

_LOOK = 0.2
"""Seconds between two looks for the key file."""

_LOST = 1
_LEFT = 130


class _Address(click.ParamType[tuple[str, int]]):
    """HOST:PORT, or [HOST]:PORT for a host that holds colons."""

    name = "HOST:PORT"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        host, colon, port = str(value).rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65_536:
            self.fail(f"must be HOST:PORT, such as node1:4040, but is {value!r}.", param, ctx)
        return host, int(port)


@click.command(
    cls=Taught,
    examples=[
        "maggy worker --connect node1:4040",
        "maggy worker --connect 10.0.0.5:4040 --key-file ~/run.key",
        "srun --ntasks 16 maggy worker --connect $DRIVER",
    ],
)
@click.option(
    "--connect", "address", type=_Address(), required=True, help="Where the driver listens."
)
@click.option(
    "--key-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A copy of the key file that the driver named.",
)
@click.option(
    "--retry",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for a driver that is not there yet, or not there any more.",
)
@click.option("--slot", help="This worker's name in the run.  [default: the host's name]")
def worker(
    address: tuple[str, int], key_file: Path | None, retry: float, slot: str | None
) -> None:
    """Run trials for a search whose config says engine="manual".

    One trial at a time: start as many workers as there is room for, whenever you like.  They may
    join late and leave early.  Each sees the GPUs that CUDA_VISIBLE_DEVICES leaves it, and
    computes with the cores that it is bound to, or with OMP_NUM_THREADS threads.

    The run's key is taken from the environment variable MAGGY_KEY, else from --key-file, else from
    where the driver wrote it, on the same machine or with a shared home folder.  There it is read
    again until a driver takes it: one that was killed leaves its file behind.

    The exit code is 0 when the search is over, 1 if the driver refused this worker or is gone, 130
    after Ctrl-C or SIGTERM.
    """
    signal.signal(signal.SIGTERM, _leave)
    given = os.environ.pop("MAGGY_KEY", "")  # what the worker starts shall not find it
    try:
        done = _serve(*address, _Key(*address, given, key_file), slot, retry)
    except KeyboardInterrupt:
        _say("left")
        sys.exit(_LEFT)
    except MaggyError:
        raise
    except OSError as error:
        msg = f"this machine has no room for a worker: {error}."
        raise click.ClickException(msg) from error
    _say("done: the search is over" if done else "the driver is gone")
    sys.exit(0 if done else _LOST)


class _Key:
    """Where the run's token comes from.

    Args:
        host: Where the driver listens.
        port: Its port.
        given: The token's text; empty: it is in a file.
        file: That file; None: where the driver of this address writes it.
    """

    def __init__(self, host: str, port: int, given: str, file: Path | None) -> None:
        self._host = host
        self._port = port
        self._given = given
        self._file = file

    @property
    def may_change(self) -> bool:
        """Whether the driver of this address writes it where it is read."""
        return not self._given and self._file is None

    def wait(self, retry: float) -> Token:
        """The token, for whose file a driver that is not there yet is given time, seconds."""
        if self._given:
            return parse_key(self._given, "MAGGY_KEY")
        deadline = time.monotonic() + retry
        waiting = False
        while True:
            path = self._path()
            if path.exists() or time.monotonic() > deadline:
                return read_key(path)
            if not waiting:
                others = other_drivers(path)
                hint = f", but {others}" if others else ""
                _say(f"waiting for the driver: there is no key file {path} yet{hint}")
                waiting = True
            time.sleep(_LOOK)

    def differs(self, token: Token) -> bool:
        """Whether another token is there by now."""
        try:
            return read_key(self._path()) != token
        except (ConfigError, WireError) as error:  # there is none, so this one may still be it
            logger.debug("%s", error)
            return False

    def _path(self) -> Path:
        return self._file or find_key(self._host, self._port)


def _serve(host: str, port: int, key: _Key, slot: str | None, retry: float) -> bool:
    """Work for the driver that has the token; whether it said that the search is over."""
    from maggy.worker.agent import SupersededToken, run_agent
    from maggy.worker.processes import thread_env, usable_cores

    slot = slot or socket.gethostname()
    while True:
        token = key.wait(retry)
        try:
            return run_agent(
                {"host": host, "port": port, "token": token.text(), "slot": slot},
                environ=thread_env(usable_cores(), 1),
                patience=retry,
                tell=_say,
                superseded=partial(key.differs, token) if key.may_change else None,
            )
        except SupersededToken:
            _say("the key file is a new one: trying again")


def _leave(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')} {text}", err=True)
