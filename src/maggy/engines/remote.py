"""What all engines with workers elsewhere share: the door, the payload, the run."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import sys
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maggy.config import address
from maggy.engines.agents import Door, RemoteStaff
from maggy.engines.certificate import new_identity
from maggy.engines.files import CHECKPOINT_LIMIT, Files
from maggy.engines.interrupts import interrupts
from maggy.engines.launcher import Invitation
from maggy.engines.session import Session
from maggy.errors import ConfigError
from maggy.wire.messages import Setup
from maggy.wire.token import Token
from maggy.worker.datasets import DataFile
from maggy.worker.payload import dump_payload

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from maggy.config import OptimizationConfig
    from maggy.engines.job import Job
    from maggy.engines.launcher import Launcher
    from maggy.events import Event

__all__ = ["RemoteEngine"]


class RemoteEngine:
    """Runs trials in slots that agents hold; how these get started is the launcher's business.

    Args:
        train_fn: The training function.
        config: The options: ``listen``, ``tls``, ``checkpoint_dir`` and what workers are given.
        launcher: Gets agents started.

    Raises:
        UnpicklableError: The function or what it is given cannot be sent to a worker.
        ConfigError: There is no room for the data sets, the address cannot be used, or nothing
            can make a certificate.

    Attributes:
        invitation: What agents are told.
        notes: What the user should know before the run begins.
    """

    def __init__(
        self, train_fn: Callable[..., Any], config: OptimizationConfig, launcher: Launcher
    ) -> None:
        self._unused = weakref.finalize(self, launcher.close)  # if the run never begins
        provided = config.provided()
        sets = {name: value for name, value in provided.items() if name != "model"}
        self._payload = dump_payload(train_fn, model=provided.get("model"), travels=True)
        self._data = DataFile.publish(sets, travels=True) if sets else None
        self._launcher = launcher
        self._shared = config.checkpoint_dir is not None
        bind, tell = launcher.advertise()
        host, port = address(config.listen) if config.listen is not None else ("", 0)
        self._socket = _bound(host or bind, port)
        self._give_up = weakref.finalize(self, self._socket.close)
        self._tls, token = _secrets(self._socket, tls=config.tls)
        self.invitation = Invitation(
            host=tell if not host or _is_wildcard(host) else host,
            port=self._socket.getsockname()[1],
            token=token,
            hb_interval=config.hb_interval,
        )
        self.notes = (*launcher.notes(self.invitation), *_doubts(host, self._socket))

    def run(self, job: Job, feed: Callable[[Sequence[Event]], None]) -> None:
        """See ``maggy.engines.job.Engine``.

        Raises:
            OSError: The driver cannot listen.
            ConfigError: The cluster cannot do what the config asks for.
        """
        door = Door(
            socket=self._socket,
            tls=self._tls,
            insecure=self._tls is None,
            invitation=self.invitation,
        )
        checkpoints = None if job.checkpoints is None else str(job.checkpoints)
        if self._shared and job.checkpoints is not None:
            _make_shared(job.checkpoints)
        files = Files(
            data_fd=None if self._data is None else self._data.fd,
            trials=job.trial_logs,
            checkpoints=None if self._shared else job.checkpoints,
        )
        setup = Setup(
            sys_path=sys.path,
            cwd=str(Path.cwd()),
            log_dir=str(job.trial_logs),
            hb_interval=job.hb_interval,
            plan=job.plan.to_json(),
            optimization_key=job.optimization_key,
            checkpoint_dir=checkpoints,
            checkpoint_limit=None if self._shared else CHECKPOINT_LIMIT,
        )
        self._unused.detach()  # the staff ends it
        with contextlib.ExitStack() as closing:
            if self._data is not None:
                closing.callback(self._data.close)
            closing.callback(self._give_up)
            closing.callback(files.close)
            session = Session(
                job,
                lambda owner: RemoteStaff(
                    owner,
                    setup=setup,
                    payload=self._payload,
                    door=door,
                    launcher=self._launcher,
                    count=job.num_workers,
                    files=files,
                    attended=getattr(self._launcher, "attended", False),
                ),
            )
            with interrupts(session.cancel, heeded=lambda: job.ended_early):
                session.run(feed)


def _bound(host: str, port: int) -> socket.socket:
    """A socket that listens: nobody else gets the port, and whoever comes early has to wait.

    Raises:
        ConfigError: The address is not this machine's, or in use.
    """
    try:
        family, *_, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(where)
            sock.listen()
        except BaseException:
            sock.close()
            raise
    except (OSError, UnicodeError) as error:  # the latter: no such name can be
        reason = getattr(error, "strerror", None) or error
        advice = "an address of this machine, such as '0.0.0.0:0'"
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            advice = "another port, or ':0' for any free one: perhaps another search has this one"
        msg = (
            f"the driver cannot listen on {host}, port {port}: {reason}. Set `listen` to {advice}."
        )
        raise ConfigError(msg) from error
    return sock


def _secrets(sock: socket.socket, *, tls: bool | None) -> tuple[ssl.SSLContext | None, Token]:
    local = ipaddress.ip_address(sock.getsockname()[0]).is_loopback
    if tls is False or (tls is None and local):
        return None, Token.new()
    identity = new_identity()
    return identity.context, Token.new(identity.certificate)


def _doubts(host: str, sock: socket.socket) -> list[str]:
    """A sentence if ``listen`` names this machine, by a name that only itself can reach it by."""
    where = sock.getsockname()[0]
    if host in {"", "localhost", where} or not ipaddress.ip_address(where).is_loopback:
        return []
    return [
        f"`listen`: {host} is {where} here, which no other machine reaches; 0.0.0.0 in its place "
        "listens on all addresses"
    ]


def _make_shared(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"`checkpoint_dir`: {folder} cannot be made: {error.strerror}. Choose another one."
        raise ConfigError(msg) from error


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:  # a name
        return False
