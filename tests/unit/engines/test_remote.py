"""The engine of workers elsewhere, before its run begins."""

from __future__ import annotations

import gc
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from maggy import OptimizationConfig, Searchspace
from maggy.engines.remote import RemoteEngine
from maggy.errors import ConfigError, UnpicklableError

if TYPE_CHECKING:
    from maggy.engines.launcher import Desk, Invitation


class Office:
    """A launcher that counts how often it was closed."""

    def __init__(self) -> None:
        self.closed = 0

    def slots(self) -> int:
        return 1

    def notes(self, invitation: Invitation) -> list[str]:
        return ["a note"]

    def advertise(self) -> tuple[str, str]:
        return "127.0.0.1", "127.0.0.1"

    def open(self, invitation: Invitation, desk: Desk, count: int) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self.closed += 1


def config(**options: Any) -> OptimizationConfig:
    """A config whose workers are elsewhere."""
    space = Searchspace(x=("DOUBLE", [0.0, 1.0]))
    return OptimizationConfig(num_trials=1, searchspace=space, engine="manual", **options)


def train(x: float) -> float:
    """The plainest training function."""
    return x


def test_a_launcher_whose_run_never_begins_is_closed() -> None:
    """What it has started for the run does not stay, whatever was wrong."""
    office = Office()
    engine = RemoteEngine(train, config(), office)
    assert office.closed == 0
    del engine
    gc.collect()
    assert office.closed == 1
    lock, office = threading.Lock(), Office()

    def unpicklable(x: float) -> float:
        return x * lock.locked()

    with pytest.raises(UnpicklableError):
        RemoteEngine(unpicklable, config(), office)
    gc.collect()
    assert office.closed == 1


def test_an_address_that_is_taken_is_refused() -> None:
    """Also by a run that has not begun; the message names it, and what to do."""
    first = RemoteEngine(train, config(listen="127.0.0.1:0"), Office())
    listen = f"127.0.0.1:{first.invitation.port}"
    with pytest.raises(
        ConfigError, match=r"cannot listen on 127\.0\.0\.1, port \d+: .*another port"
    ):
        RemoteEngine(train, config(listen=listen), Office())


@pytest.mark.parametrize("host", ["192.0.2.1", "a" * 70])
def test_an_address_that_is_not_here_is_refused(host: str) -> None:
    """Another machine's, and one that nobody can have."""
    with pytest.raises(ConfigError, match="Set `listen` to an address of this machine"):
        RemoteEngine(train, config(listen=f"{host}:0"), Office())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", ""])
def test_listening_on_loopback_by_its_name_is_meant(host: str) -> None:
    """Nothing is said about it."""
    engine = RemoteEngine(train, config(listen=f"{host}:0"), Office())
    assert engine.notes == ("a note",)


def test_a_name_that_only_this_machine_takes_for_itself_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As some systems have it in /etc/hosts: other machines would wait for ever."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.1.1", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    engine = RemoteEngine(train, config(listen="node1:0"), Office())
    assert engine.invitation.host == "node1"
    assert "node1 is 127.0.1.1 here" in engine.notes[1]


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0"])
def test_of_a_wildcard_agents_are_told_an_address(listen: str) -> None:
    """They could not connect to it; it is encrypted, unless the user says otherwise."""
    if listen.startswith("["):
        try:
            socket.create_server(("::", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("there is no IPv6 on this machine")
    engine = RemoteEngine(train, config(listen=listen), Office())
    assert engine.invitation.host == "127.0.0.1"
    assert engine.invitation.token.pin is not None
    plain = RemoteEngine(train, config(listen=listen, tls=False), Office())
    assert plain.invitation.token.pin is None
