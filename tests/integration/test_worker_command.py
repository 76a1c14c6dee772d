"""``maggy worker`` as one types it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from maggy.wire.token import Token
from maggy.worker.keyfile import key_path, write_key

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration


@pytest.fixture
def port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _start(folder: Path, *words: str, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "maggy", "worker", *words],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_STATE_HOME": str(folder), "TMPDIR": str(folder), **environ},
    )


def _run(folder: Path, *words: str, **environ: str) -> tuple[int, str]:
    """Its exit code, and what it said."""
    process = _start(folder, *words, **environ)
    _, said = process.communicate(timeout=60)
    return process.returncode, said


@pytest.mark.parametrize("address", ["node1", "node1:", ":4040", "node1:0", "node1:70000", "a:b"])
def test_an_address_must_be_one(tmp_path: Path, address: str) -> None:
    """A mistake in the command is exit code 2."""
    code, said = _run(tmp_path, "--connect", address)
    assert code == 2
    assert "must be HOST:PORT" in said


def test_without_a_key_it_waits_and_says_what_to_do(tmp_path: Path, port: int) -> None:
    """The driver may not be there yet; after a while the ways to give the key are told."""
    code, said = _run(tmp_path, "--connect", f"node1:{port}", "--retry", "0.5")
    assert code == 1
    assert "waiting for the driver" in said
    assert "Set MAGGY_KEY" in said


def test_without_a_driver_it_waits_and_says_so(tmp_path: Path, port: int) -> None:
    """With a key, from the place where drivers write them, and nobody there, it gives up."""
    write_key(key_path("127.0.0.1", port, {"XDG_STATE_HOME": str(tmp_path)}), Token.new())
    code, said = _run(tmp_path, "--connect", f"localhost:{port}", "--retry", "0.5")
    assert code == 1
    assert "waiting for the driver: " in said
    assert "no driver could be reached for 0.5 s" in said


def test_a_key_that_others_read_is_refused(tmp_path: Path, port: int) -> None:
    """As by ssh."""
    key = tmp_path / "run.key"
    write_key(key, Token.new())
    key.chmod(0o644)
    code, said = _run(tmp_path, "--connect", f"node1:{port}", "--key-file", str(key))
    assert code == 1
    assert "chmod 600" in said


def test_a_signal_ends_it(tmp_path: Path, port: int) -> None:
    """SIGTERM, with which clusters end jobs, is exit code 130, in order."""
    process = _start(tmp_path, "--connect", f"127.0.0.1:{port}", MAGGY_KEY=Token.new().text())
    assert process.stderr is not None
    assert "waiting for the driver" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert said.rstrip().endswith("left")
    assert list(tmp_path.iterdir()) == []
