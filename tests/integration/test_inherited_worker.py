"""A worker that an agent has started: its wire is a socket pair that it inherits."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from maggy.wire.framing import FrameDecoder
from maggy.wire.link import parcel
from maggy.wire.messages import Finished, Quit, Ready, Run, Setup, decode_from_worker
from maggy.worker.injection import Plan
from maggy.worker.payload import dump_payload

if TYPE_CHECKING:
    from pathlib import Path

    from maggy.wire.messages import FromWorker

pytestmark = pytest.mark.integration


def _start(told: dict[str, Any], *descriptors: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "maggy.worker"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        pass_fds=descriptors,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(told).encode() + b"\n")
    process.stdin.flush()
    return process


def _close(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate(timeout=20)


class _Agent:
    """The agent's end of the pair."""

    def __init__(self) -> None:
        self.sock, self.child = socket.socketpair()
        self.sock.settimeout(20)
        self._decoder = FrameDecoder()
        self._heard: list[FromWorker] = []

    def hear(self) -> FromWorker:
        """The worker's next message."""
        while not self._heard:
            data = self.sock.recv(2**16)
            assert data, "the worker has closed its end"
            self._heard += [decode_from_worker(f.payload) for f in self._decoder.feed(data)]
        return self._heard.pop(0)


def test_life(tmp_path: Path) -> None:
    """It is set up without a hello, and a trial's children do not inherit its wire."""
    agent = _Agent()
    descriptor = agent.child.fileno()

    def train() -> float:
        return float(os.get_inheritable(descriptor))

    process = _start({"fd": descriptor, "worker": "w0"}, descriptor)
    agent.child.close()
    try:
        with closing(agent.sock) as sock:
            setup = Setup(
                sys_path=sys.path,
                cwd=str(tmp_path),
                log_dir=str(tmp_path / "trials"),
                hb_interval=1000.0,
                plan=Plan(names=()).to_json(),
            )
            sock.sendall(parcel(setup, dump_payload(train)))
            assert agent.hear() == Ready()
            sock.sendall(parcel(Run(trial=0, attempt=0, hparams={}, budget=None, seed=0)))
            assert agent.hear() == Finished(trial=0, attempt=0, value=0.0, info=None)
            sock.sendall(parcel(Quit()))
            assert process.wait(20) == 0
    finally:
        _close(process)


def test_agent_is_gone(tmp_path: Path) -> None:
    """A worker whose agent is gone before it was set up leaves with a sentence."""
    agent = _Agent()
    process = _start({"fd": agent.child.fileno(), "worker": "w0"}, agent.child.fileno())
    agent.child.close()
    agent.sock.close()
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert b"gone before it set this worker up" in errors


@pytest.mark.parametrize("told", [{"fd": 987, "worker": "w0"}, {"fd": "x", "worker": "w0"}, {}])
def test_nothing_inherited(told: dict[str, Any]) -> None:
    """A descriptor that is not there, or no descriptor, is a sentence and no traceback."""
    process = _start(told)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert errors.startswith(b"maggy.worker: ")
    assert b"Traceback" not in errors
