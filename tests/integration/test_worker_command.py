"""``maggy worker`` as one types it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from maggy import OptimizationConfig, Searchspace, experiment
from maggy.wire.token import Token
from maggy.worker.keyfile import key_path, read_key, write_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from maggy.views.result import Result

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
        env={**os.environ, "XDG_STATE_HOME": str(folder), "TMPDIR": str(folder)} | environ,
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


def test_a_wrong_port_is_told_with_the_drivers_that_there_are(tmp_path: Path, port: int) -> None:
    """At once, while it waits, and when it gives up."""
    write_key(key_path("127.0.0.1", 1, {"XDG_STATE_HOME": str(tmp_path)}), Token.new())
    code, said = _run(tmp_path, "--connect", f"127.0.0.1:{port}", "--retry", "0.5")
    assert code == 1
    assert said.count("but there is one for 127.0.0.1:1") == 2


def test_what_is_no_key_is_refused_by_the_name_that_users_know(tmp_path: Path, port: int) -> None:
    """The environment variable is named, and nothing is waited for."""
    code, said = _run(tmp_path, "--connect", f"127.0.0.1:{port}", MAGGY_KEY="abc")
    assert code == 1
    assert "MAGGY_KEY must hold the run's key" in said


def test_without_a_driver_it_waits_and_says_so(tmp_path: Path, port: int) -> None:
    """With a key, from the place where drivers write them, and nobody there, it gives up."""
    write_key(key_path("127.0.0.1", port, {"XDG_STATE_HOME": str(tmp_path)}), Token.new())
    code, said = _run(tmp_path, "--connect", f"localhost:{port}", "--retry", "0.5")
    assert code == 1
    assert said.count("waiting for the driver: connection refused at localhost:") == 1
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


@contextlib.contextmanager
def _started(folder: Path, *words: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    process = _start(folder, *words, **environ)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _search(folder: Path, port: int, *, tls: bool) -> Result:
    """One trial, whose metric is 1 if the training function finds a key in its environment."""

    def train(x: float) -> float:
        assert x >= 0
        return float("MAGGY_KEY" in os.environ)

    config = OptimizationConfig(
        num_trials=1,
        optimizer="randomsearch",
        searchspace=Searchspace(x=("DOUBLE", [0, 1])),
        engine="manual",
        listen=f"127.0.0.1:{port}",
        tls=tls,
        num_workers=1,
        folder=folder / "runs",
        time_limit=60,
    )
    return experiment.lagom(train, config)


@pytest.mark.parametrize("tls", [True, False])
def test_a_key_that_a_killed_driver_left_is_replaced(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch, *, tls: bool
) -> None:
    """A worker that has read it reads the next driver's as soon as that has written it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    write_key(key_path("127.0.0.1", port), Token.new(b"an old certificate" if tls else None))
    with _started(tmp_path, "--connect", f"127.0.0.1:{port}", "--retry", "50") as worker:
        assert worker.stderr is not None
        assert "waiting for the driver: " in worker.stderr.readline()  # it has the old key
        result = _search(tmp_path, port, tls=tls)
        _, said = worker.communicate(timeout=30)
    assert worker.returncode == 0
    assert "the key file is a new one" in said
    assert [trial.status for trial in result.trials] == ["completed"]


@pytest.mark.parametrize("by", ["place", "option", "environment"])
def test_a_key_of_another_run_is_told(tmp_path: Path, port: int, by: str) -> None:
    """Whoever listens there does not take it: said at once, or after a while if it may change."""
    key = key_path("127.0.0.1", port, {"XDG_STATE_HOME": str(tmp_path)})
    write_key(key, Token.new())
    with socket.create_server(("127.0.0.1", port)) as other, ThreadPoolExecutor() as threads:
        threads.submit(_greet_wrongly, other)
        words = ["--connect", f"127.0.0.1:{port}", "--retry", "1"]
        options = {"option": ["--key-file", str(key)]}.get(by, [])
        environ = {"MAGGY_KEY": Token.new().text()} if by == "environment" else {}
        code, said = _run(tmp_path, *words, *options, **environ)
        other.shutdown(socket.SHUT_RDWR)
    assert code == 1
    assert "no maggy driver of this version listens there" in said
    assert ("could be reached for 1 s" in said) == (by == "place")


def _greet_wrongly(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            with listener.accept()[0] as sock:
                sock.sendall(b"220 mail.example.org ESMTP" * 9)


def test_the_training_function_does_not_find_the_key(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the worker was given in ``MAGGY_KEY`` is not in the environment of what it starts."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    path = key_path("127.0.0.1", port)
    with ThreadPoolExecutor() as threads:
        searching = threads.submit(_search, tmp_path, port, tls=False)
        while not path.exists() and not searching.done():
            time.sleep(0.01)
        environ = {"XDG_STATE_HOME": "/no/such/folder", "MAGGY_KEY": read_key(path).text()}
        with _started(tmp_path, "--connect", f"127.0.0.1:{port}", **environ) as worker:
            result = searching.result(60)
            assert worker.wait(30) == 0
    assert [trial.value for trial in result.trials] == [0.0]
