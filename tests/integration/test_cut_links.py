"""A whole search over links that break all the time."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from maggy import OptimizationConfig, Searchspace, experiment
from maggy.worker.keyfile import key_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from maggy import Reporter

pytestmark = pytest.mark.integration

STEPS = 60


class Proxy:
    """Passes connections on, and breaks all of them from time to time.

    Args:
        port: Where to.
        every: Seconds between two breaks.
    """

    def __init__(self, port: int, every: float) -> None:
        self.breaks = 0
        self._target = port
        self._every = every
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = self._door.getsockname()[1]
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._door, selectors.EVENT_READ)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def close(self) -> None:
        """End everything."""
        self._closed.set()
        self._thread.join()
        self._break()
        self._selector.close()
        self._door.close()

    def _work(self) -> None:
        due = time.monotonic() + self._every
        while not self._closed.is_set():
            for key, _ in self._selector.select(0.02):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if sock is self._door:
                    self._let_in()
                elif sock in self._pairs:
                    self._pass_on(sock)
            if self._pairs and time.monotonic() > due:
                self._break()
                self.breaks += 1
                due = time.monotonic() + self._every

    def _let_in(self) -> None:
        near, _ = self._door.accept()
        try:
            far = socket.create_connection(("127.0.0.1", self._target), 5)
        except OSError:
            near.close()
            return
        for one, other in ((near, far), (far, near)):
            self._pairs[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _pass_on(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            data = sock.recv(65_536)
            if data:
                self._pairs[sock].sendall(data)
                return
        other = self._pairs.pop(sock)
        del self._pairs[other]
        for end in (sock, other):
            self._selector.unregister(end)
            end.close()

    def _break(self) -> None:
        for sock in self._pairs:
            self._selector.unregister(sock)
            sock.close()
        self._pairs.clear()


def train(x: float, reporter: Reporter) -> float:
    """Report and save, in small steps."""
    assert reporter.restore() is None
    for step in range(STEPS):
        reporter.broadcast(x + step, step=step)
        if step % 10 == 0:
            reporter.save(bytes(100_000), step=step)
        time.sleep(0.02)
    return x


@contextlib.contextmanager
def _worker(proxy: Proxy, key: Path, folder: Path) -> Iterator[subprocess.Popen[str]]:
    address = f"127.0.0.1:{proxy.port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "maggy", "worker", "--connect", address, "--key-file", str(key)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_search_over_links_that_break(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No trial is run twice, and every report and checkpoint arrives once, encrypted."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = OptimizationConfig(
        num_trials=4,
        optimizer="randomsearch",
        searchspace=Searchspace(x=("DOUBLE", [0, 1])),
        es_policy="none",
        engine="manual",
        listen=f"127.0.0.1:{port}",
        tls=True,
        num_workers=2,
        folder=tmp_path / "runs",
        seed=1,
    )
    proxy = Proxy(port, 0.7)
    key = key_path("127.0.0.1", port)
    try:
        with _worker(proxy, key, tmp_path) as first, _worker(proxy, key, tmp_path) as second:
            result = experiment.lagom(train, config)
            assert [first.wait(20), second.wait(20)] == [0, 0]
    finally:
        proxy.close()
    assert proxy.breaks >= 3
    assert result["num_trials"] == 4
    for trial in result.trials:
        assert trial.runs == 1
        steps, values = trial.curve
        assert list(steps) == list(range(STEPS))
        assert trial.value is not None
        assert trial.value == trial.hparams["x"]
        assert list(values) == [trial.value + step for step in range(STEPS)]
