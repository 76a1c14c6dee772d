"""One trial in a task that nobody can talk to: what it said is returned when it has ended."""

from __future__ import annotations

import dataclasses
import os
import secrets
import socket
import threading
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from maggy.engines.spark_task import environment, given
from maggy.errors import WireError
from maggy.trial import log_name
from maggy.wire.framing import JSON, MAX_PAYLOAD, RAW, FrameDecoder, encode_frame
from maggy.wire.messages import (
    Failed,
    Finished,
    Heartbeat,
    Quit,
    Ready,
    Run,
    Setup,
    SetupFailed,
    Stopped,
    decode_from_worker,
    decode_to_worker,
    encode,
)
from maggy.worker.output import tail
from maggy.worker.processes import WorkerProcesses
from maggy.worker.scratch import held, sweep, temporary_root

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["LOG", "MESSAGE", "Errand", "answer", "run_one"]

MESSAGE, LOG = "message", "log"
"""The kinds of what is returned: a message of the worker's, and the trial's whole output."""

_CHUNK = 2**16
_LAST_LINES = 20
_NAME = "query"
_GRACE = 2.0
"""Seconds that the process gets to leave by itself, for the exit handlers of user code."""


class Errand(NamedTuple):
    """What such a task is given.

    Attributes:
        setup: ``Setup``, encoded.
        payload: The training function, pickled.
        data: The file of the data sets, whole; None: there are none.
        run: ``Run``, encoded.
        threads: How many threads the trial computes with; None: as many as the task has cores.
    """

    setup: bytes
    payload: bytes
    data: bytes | None
    run: bytes
    threads: int | None


def answer(*errand: Any) -> list[tuple[str, bytes]]:
    """``run_one`` for the fields of an ``Errand``, which is unknown where the query was sent."""
    return run_one(Errand(*errand))


def run_one(errand: Errand) -> list[tuple[str, bytes]]:
    """Run the trial in a process of its own, which is gone afterwards with all it started.

    Returns:
        Kinds and contents, in order; the outcome is the last message.

    Raises:
        ChildProcessError: The process ended without an outcome; says how, and what it printed.
        OSError: It could not be started.
    """
    setup, run = decode_to_worker(errand.setup), decode_to_worker(errand.run)
    assert isinstance(setup, Setup)
    assert isinstance(run, Run)
    with ExitStack() as stack:
        root = temporary_root()
        sweep(root)
        folder = stack.enter_context(held(f"query-{secrets.token_hex(8)}", root))
        output, logs = folder / "output", folder / "trials"
        logs.mkdir()
        ends: list[str] = []
        ended = threading.Event()

        def on_exit(worker: str, pid: int, code: int, how: str) -> None:
            ends.append(how)
            ended.set()

        ours = _start(stack, errand, output, WorkerProcesses(on_exit))
        local = dataclasses.replace(setup, log_dir=str(logs))
        ours.sendall(encode_frame(JSON, encode(local)) + encode_frame(RAW, errand.payload))
        said = list(_converse(ours, errand.run))
        ended.wait(_GRACE)
        if not said or not _is_outcome(said[-1]):
            how = ends[0] if ends else "has hung up"
            msg = f"the process of trial {run.trial} {how}. {tail(output, _LAST_LINES)}".rstrip()
            raise ChildProcessError(msg)
        log = logs / log_name(run.trial)
        found = [(LOG, log.read_bytes())] if log.exists() else []
        return [*found, *((MESSAGE, message) for message in said)]


def _start(
    stack: ExitStack, errand: Errand, output: Path, processes: WorkerProcesses
) -> socket.socket:
    """Start the worker, and return our end of the connection to it."""
    stack.callback(processes.close)
    ours, theirs = socket.socketpair()
    stack.callback(ours.close)
    bootstrap: dict[str, str | int] = {"fd": theirs.fileno(), "worker": _NAME}
    fds = [theirs.fileno()]
    with theirs:
        if errand.data is not None:
            data = output.with_name("data")
            data.write_bytes(errand.data)
            file = stack.enter_context(data.open("rb"))
            bootstrap["data_fd"] = file.fileno()
            fds.append(file.fileno())
        env = _environment(errand.threads)
        processes.start(_NAME, bootstrap=bootstrap, env=env, pass_fds=fds, output=output)
    return ours


def _environment(threads: int | None) -> dict[str, str]:
    cores, gpus = given()
    return environment(threads or cores, gpus, os.environ)


def _converse(sock: socket.socket, run: bytes) -> Iterator[bytes]:
    """Have it run the trial; its messages up to the outcome, or up to its end."""
    for payload in _payloads(sock):
        message = decode_from_worker(payload)
        if isinstance(message, Ready):
            sock.sendall(encode_frame(JSON, run))
        elif not isinstance(message, Heartbeat):
            yield payload
            if _is_outcome(payload):
                with suppress(ConnectionError):  # it has left by itself
                    sock.sendall(encode_frame(JSON, encode(Quit())))
                return


def _payloads(sock: socket.socket) -> Iterator[bytes]:
    decoder = FrameDecoder(MAX_PAYLOAD)
    while True:
        try:
            data = sock.recv(_CHUNK)
        except ConnectionError:
            return
        if not data:
            return
        for frame in decoder.feed(data):
            if frame.kind != JSON:
                msg = f"a message was due, but the worker sent {len(frame.payload)} raw bytes."
                raise WireError(msg)
            yield frame.payload


def _is_outcome(payload: bytes) -> bool:
    return isinstance(decode_from_worker(payload), (Finished, Failed, Stopped, SetupFailed))
