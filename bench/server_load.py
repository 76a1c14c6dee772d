"""A thousand workers that report once a second: the driver's cost, and how fast a stop gets out.

Run ``python bench/server_load.py``.  The workers are simulated by other processes, the server is
the real one on loopback.  Every twentieth report is answered with a ``Stop`` that carries the
moment of its decision; ``time.monotonic_ns`` is one clock for all processes of a Linux machine.
Goals: under half of one core, and 99 of 100 stops within 50 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import subprocess
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

from maggy.engines.server import Server
from maggy.wire.framing import JSON, FrameDecoder, encode_frame
from maggy.wire.handshake import (
    GREETING_SIZE,
    PROOF_SIZE,
    WorkerHandshake,
    introduce,
    new_key,
)
from maggy.wire.messages import Ready, Report, Setup, Stop, decode_to_worker, encode

if TYPE_CHECKING:
    from maggy.wire.messages import FromWorker, Hello

SETUP = Setup(sys_path=[], cwd="/", log_dir="/tmp", hb_interval=1.0, plan={})
STOP_EVERY = 20


class Tally:
    """The driver's side: counts, and answers every twentieth report with a stop."""

    def __init__(self, workers: int) -> None:
        self.server: Server | None = None
        self.reports = 0
        self.stops = 0
        self.ready = 0
        self.lost: list[str] = []
        self.first_hello: float | None = None
        self.all_ready = asyncio.Event()
        self._workers = workers

    def hello(self, _: Hello) -> tuple[Setup, bytes]:
        """Everybody is welcome."""
        if self.first_hello is None:
            self.first_hello = time.monotonic()
        return SETUP, b"x" * 2000

    def message(self, worker: str, message: FromWorker) -> None:
        """Count it, and now and then decide to stop."""
        if isinstance(message, Ready):
            self.ready += 1
            if self.ready == self._workers:
                self.all_ready.set()
        elif isinstance(message, Report):
            self.reports += 1
            if self.reports % STOP_EVERY == 0 and self.server is not None:
                stop = Stop(trial=message.trial, attempt=0, reason=str(time.monotonic_ns()))
                self.stops += self.server.send(worker, stop)

    def gone(self, worker: str, reason: str) -> None:
        """Nobody should leave before the end."""
        self.lost.append(f"{worker}: {reason}")

    def error(self, error: BaseException) -> None:
        """Nothing should raise."""
        raise error


async def drive(workers: int, processes: int, seconds: float) -> None:
    """Start the server and the processes of workers, watch, and print the table."""
    tally, key = Tally(workers), new_key()
    server = tally.server = Server(
        key=key,
        on_hello=tally.hello,
        on_message=tally.message,
        on_gone=tally.gone,
        on_error=tally.error,
        silence_limit=30.0,
    )
    _, port = await server.start()
    start = time.monotonic()
    clients = [
        await _start(key, ["--port", str(port), "--workers", str(workers // processes)])
        for _ in range(processes)
    ]
    await asyncio.wait_for(tally.all_ready.wait(), 60)
    connected = time.monotonic()
    crowd = connected - (tally.first_hello or start)
    await asyncio.sleep(1.0)  # the crowd has settled: every worker is in its own rhythm
    tally.reports = tally.stops = 0
    wall, cpu = time.monotonic(), time.process_time()
    await asyncio.sleep(seconds)
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    reports, stops, lost = tally.reports, tally.stops, list(tally.lost)
    for client in clients:
        assert client.stdin is not None
        client.stdin.close()
    outputs = await asyncio.gather(*(client.communicate() for client in clients))
    ways = sorted(way for output, _ in outputs for way in json.loads(output)["ways"])
    await server.close()
    rate = reports / wall
    print(f"workers                    {workers} in {processes} processes")
    print(f"all connected and ready    {crowd:.2f} s after the first hello,")
    print(
        f"                           {connected - start:.2f} s after their processes were started"
    )
    print(f"lost                       {len(lost)} {lost[:3]}")
    print(f"reports                    {rate:.0f} a second for {wall:.1f} s, {stops} stops")
    print(f"driver CPU                 {100 * cpu / wall:.1f} % of a core (goal: < 50 %)")
    print(f"driver CPU per report      {1e6 * cpu / max(reports, 1):.0f} us")
    print(f"way of a stop, median      {1e3 * ways[len(ways) // 2]:.2f} ms")
    print(f"way of a stop, 99th perc.  {1e3 * ways[len(ways) * 99 // 100]:.2f} ms (goal: < 50)")
    print(f"way of a stop, longest     {1e3 * ways[-1]:.2f} ms")


async def _start(key: bytes, options: list[str]) -> asyncio.subprocess.Process:
    client = await asyncio.create_subprocess_exec(
        sys.executable, __file__, *options, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert client.stdin is not None
    client.stdin.write(key)
    return client


class Worker(asyncio.Protocol):
    """One simulated worker: proves the key, then reports once a second."""

    def __init__(self, name: str, key: bytes, ways: list[float]) -> None:
        self._name = name
        self._handshake = WorkerHandshake(key)
        self._head = b""
        self._stage = 0
        self._decoder = FrameDecoder(2**32 - 1)
        self._ways = ways
        self._step = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the greeting."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """The driver's greeting, its proof, or frames."""
        if self._stage < 2:
            self._head += data
            data = self._prove()
        for frame in self._decoder.feed(data):
            if frame.kind == JSON:
                message = decode_to_worker(frame.payload)
                if isinstance(message, Stop):
                    self._ways.append((time.monotonic_ns() - int(message.reason)) / 1e9)
            else:
                self._send(Ready())
                delay = random.random()  # workers are not in step
                asyncio.get_running_loop().call_later(delay, self._report)

    def _prove(self) -> bytes:
        if self._stage == 0 and len(self._head) >= GREETING_SIZE:
            self._transport.write(self._handshake.answer(self._head[:GREETING_SIZE]))
            self._head, self._stage = self._head[GREETING_SIZE:], 1
        if self._stage == 1 and len(self._head) >= PROOF_SIZE:
            self._handshake.verify(self._head[:PROOF_SIZE])
            self._send(introduce(self._name))
            self._head, self._stage = self._head[PROOF_SIZE:], 2
            return self._head
        return b""

    def _send(self, message: FromWorker) -> None:
        self._transport.write(encode_frame(JSON, encode(message)))

    def _report(self) -> None:
        if not self._transport.is_closing():
            point = (self._step, random.random(), None)
            self._send(Report(trial=0, attempt=0, points=[point]))
            self._step += 1
            asyncio.get_running_loop().call_later(1.0, self._report)


def _same(worker: Worker) -> Worker:
    return worker


async def work(port: int, workers: int, key: bytes) -> list[float]:
    """Run so many workers until stdin is closed; the way of each stop, seconds."""
    loop = asyncio.get_running_loop()
    ways: list[float] = []
    crowd = [Worker(f"{os.getpid()}-{number}", key, ways) for number in range(workers)]
    await asyncio.gather(
        *(loop.create_connection(partial(_same, worker), "127.0.0.1", port) for worker in crowd)
    )
    await loop.run_in_executor(None, sys.stdin.buffer.read)
    return ways


def main() -> None:
    """Drive, or with ``--port`` work."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if options.port is None:
        asyncio.run(drive(options.workers, options.processes, options.seconds))
        return
    ways = asyncio.run(work(options.port, options.workers, sys.stdin.buffer.read(32)))
    json.dump({"ways": ways}, sys.stdout)


if __name__ == "__main__":
    main()
