"""A thousand workers that report once a second: the driver's cost, and how fast a stop gets out.

Run ``python bench/server_load.py``, and with ``--tls`` for agents of other machines, which talk
TLS and answer for a worker each.  They are simulated by other processes, the server is the real
one on loopback.  Whoever is turned away at the door because it is crowded comes again, as agents
do.  Every twentieth report is answered with a ``Stop`` that carries the moment of its decision;
``time.monotonic_ns`` is one clock for all processes of a Linux machine.  Goals: under half of one
core, and 99 of 100 stops within 50 ms; with ``--tls`` all connected within 5 seconds.
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

from maggy.engines.certificate import new_identity
from maggy.engines.server import Server
from maggy.wire.dialing import pinned_context
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
    import ssl

    from maggy.wire.fields import Role
    from maggy.wire.messages import FromAgent, FromWorker, Hello

SETUP = Setup(sys_path=[], cwd="/", log_dir="/tmp", hb_interval=1.0, plan={})
STOP_EVERY = 20
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0


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
        self.settled = False
        self._workers = workers

    def hello(self, _: Hello) -> tuple[Setup, bytes]:
        """Everybody is welcome."""
        if self.first_hello is None:
            self.first_hello = time.monotonic()
        return SETUP, b"x" * 2000

    def message(self, worker: str, message: FromWorker | FromAgent) -> None:
        """Count it, and now and then decide to stop."""
        if isinstance(message, Ready):
            self.ready += 1
            if self.ready == self._workers:
                self.all_ready.set()
        elif isinstance(message, Report):
            self.reports += 1
            if self.settled and self.reports % STOP_EVERY == 0 and self.server is not None:
                stop = Stop(trial=message.trial, attempt=0, reason=str(time.monotonic_ns()))
                self.stops += self.server.send(worker, stop)

    def gone(self, worker: str, reason: str) -> None:
        """Nobody should leave before the end."""
        self.lost.append(f"{worker}: {reason}")

    def error(self, error: BaseException) -> None:
        """Nothing should raise."""
        raise error


async def drive(workers: int, processes: int, seconds: float, *, tls: bool) -> None:
    """Start the server and the processes of workers, watch, and print the table."""
    tally, key = Tally(workers), new_key()
    server = tally.server = Server(
        key=key,
        on_hello=tally.hello,
        on_message=tally.message,
        on_agent=tally.message,
        on_gone=tally.gone,
        on_error=tally.error,
        silence_limit=30.0,
    )
    _, port = await server.start(tls=new_identity().context if tls else None)
    options = ["--port", str(port), "--workers", str(workers // processes)]
    start, begun = time.monotonic(), time.process_time()
    clients = [await _start(key, options + ["--tls"] * tls) for _ in range(processes)]
    await asyncio.wait_for(tally.all_ready.wait(), 60)
    connected, joining = time.monotonic(), time.process_time() - begun
    crowd = connected - (tally.first_hello or start)
    await asyncio.sleep(1.0)  # the crowd has settled: every worker is in its own rhythm
    tally.reports, tally.settled = 0, True
    wall, cpu = time.monotonic(), time.process_time()
    await asyncio.sleep(seconds)
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    reports, stops, lost = tally.reports, tally.stops, list(tally.lost)
    for client in clients:
        assert client.stdin is not None
        client.stdin.close()
    outputs = await asyncio.gather(*(client.communicate() for client in clients))
    told = [json.loads(output) for output, _ in outputs]
    ways = sorted(way for one in told for way in one["ways"])
    await server.close()
    rate = reports / wall
    kind = "agents, TLS" if tls else "workers"
    print(f"{kind:<27}{workers} in {processes} processes")
    print(f"all connected and ready    {crowd:.2f} s after the first hello,")
    print(
        f"                           {connected - start:.2f} s after their processes were started"
    )
    print(f"turned away at the door    {sum(one['turned_away'] for one in told)} times")
    print(f"driver CPU for each        {1e3 * joining / workers:.2f} ms to let it in")
    print(f"CPU on the other side      {1e3 * sum(one['cpu'] for one in told) / workers:.2f} ms")
    print(f"driver memory, most        {_peak_memory():.0f} MB")
    print(f"lost                       {len(lost)} {lost[:3]}")
    print(f"reports                    {rate:.0f} a second for {wall:.1f} s, {stops} stops")
    print(f"driver CPU                 {100 * cpu / wall:.1f} % of a core (goal: < 50 %)")
    print(f"driver CPU per report      {1e6 * cpu / max(reports, 1):.0f} us")
    print(f"way of a stop, median      {1e3 * ways[len(ways) // 2]:.2f} ms")
    print(f"way of a stop, 99th perc.  {1e3 * ways[len(ways) * 99 // 100]:.2f} ms (goal: < 50)")
    print(f"way of a stop, longest     {1e3 * ways[-1]:.2f} ms")


def _peak_memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts kilobytes


async def _start(key: bytes, options: list[str]) -> asyncio.subprocess.Process:
    client = await asyncio.create_subprocess_exec(
        sys.executable, __file__, *options, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert client.stdin is not None
    client.stdin.write(key)
    return client


class Worker(asyncio.Protocol):
    """One simulated worker: proves the key, then reports once a second."""

    def __init__(self, hello: Hello, key: bytes, ways: list[float]) -> None:
        self._hello = hello
        self._handshake = WorkerHandshake(key)
        self._head = b""
        self._stage = 0
        self._decoder = FrameDecoder(2**32 - 1)
        self._ways = ways
        self._step = 0
        self.settled: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the greeting."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """The door was crowded, or the run is over."""
        if not self.settled.done():
            self.settled.set_result(False)

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
            self._send(self._hello)
            self._head, self._stage = self._head[PROOF_SIZE:], 2
            self.settled.set_result(True)
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


async def _join(
    port: int, hello: Hello, key: bytes, ways: list[float], context: ssl.SSLContext | None
) -> int:
    """Connect until it succeeds; how often it did not."""
    loop = asyncio.get_running_loop()
    pause, failures = FIRST_PAUSE, 0
    while True:
        worker = Worker(hello, key, ways)
        try:
            await loop.create_connection(partial(_same, worker), "127.0.0.1", port, ssl=context)
            if await worker.settled:
                return failures
        except OSError:
            pass
        failures += 1
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(2 * pause, LONGEST_PAUSE)


async def work(port: int, workers: int, key: bytes, *, tls: bool) -> dict[str, object]:
    """Run so many workers until stdin is closed; the way of each stop, seconds."""
    context = pinned_context() if tls else None
    ways: list[float] = []
    role: Role = "agent" if tls else "worker"
    crowd = [introduce(f"{os.getpid()}-{number}", role) for number in range(workers)]
    failures = await asyncio.gather(*(_join(port, hello, key, ways, context) for hello in crowd))
    cpu = time.process_time()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
    return {"ways": ways, "turned_away": sum(failures), "cpu": cpu}


def main() -> None:
    """Drive, or with ``--port`` work."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--tls", action="store_true", help="agents over TLS, not workers")
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if options.port is None:
        asyncio.run(drive(options.workers, options.processes, options.seconds, tls=options.tls))
        return
    key = sys.stdin.buffer.read(32)
    told = asyncio.run(work(options.port, options.workers, key, tls=options.tls))
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
