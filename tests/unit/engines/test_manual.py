"""The launcher of workers that are started by hand."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from maggy import OptimizationConfig, Searchspace
from maggy.engines.launcher import Invitation
from maggy.engines.manual import ManualLauncher
from maggy.errors import ConfigError
from maggy.wire.token import Token

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def config(**options: Any) -> OptimizationConfig:
    """A config for workers started by hand."""
    space = Searchspace(x=("DOUBLE", [0.0, 1.0]))
    return OptimizationConfig(num_trials=1, searchspace=space, engine="manual", **options)


def test_what_only_the_starter_of_a_worker_can_give_is_refused(tmp_path: Path) -> None:
    """Rather than ignored: the message says where to say it."""
    with pytest.raises(ConfigError, match=r"`resources` .*CUDA_VISIBLE_DEVICES"):
        ManualLauncher(config(resources={"gpu": 1}))
    (tmp_path / "helper.py").touch()
    with pytest.raises(ConfigError, match=r"`py_files` .*PYTHONPATH"):
        ManualLauncher(config(py_files=[tmp_path / "helper.py"]))


def probe(family: int) -> Callable[..., Any]:
    """Sockets of a machine that has a network of this family only."""

    class Probe:
        def __init__(self, family: int, kind: int) -> None:
            self.family = family

        def __enter__(self) -> Probe:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def connect(self, address: tuple[str, int]) -> None:
            if self.family != family:
                msg = "Network is unreachable"
                raise OSError(msg)

        def getsockname(self) -> tuple[str, int]:
            return ("10.0.0.5" if family == socket.AF_INET else "fd00::5"), 1

    return Probe


@pytest.mark.parametrize(
    ("family", "addresses"),
    [
        (socket.AF_INET, ("0.0.0.0", "10.0.0.5")),
        (socket.AF_INET6, ("::", "fd00::5")),
        (-1, ("127.0.0.1", "127.0.0.1")),
    ],
    ids=["IPv4", "IPv6 alone", "no network"],
)
def test_it_listens_where_other_machines_are(
    monkeypatch: pytest.MonkeyPatch, family: int, addresses: tuple[str, str]
) -> None:
    """On all addresses of the kind that the machine has a network for, else on loopback."""
    monkeypatch.setattr(socket, "socket", probe(family))
    assert ManualLauncher(config()).advertise() == addresses


def test_the_note_is_a_command_that_works_and_the_key_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An IPv6 address stands in brackets; the token is in the file, and not in the note."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    token = Token.new()
    launcher = ManualLauncher(config())
    (note,) = launcher.notes(Invitation(host="fd00::5", port=4040, token=token, hb_interval=1.0))
    assert "maggy worker --connect [fd00::5]:4040" in note
    (key,) = (tmp_path / "maggy" / "keys").iterdir()
    assert str(key) in note
    assert token.text() not in note
    assert key.read_text().strip() == token.text()
    launcher.close()
    assert not key.exists()
