"""Real agents with real workers, against a driver played by the test."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from maggy.engines.certificate import new_identity
from maggy.engines.files import Files
from maggy.errors import WireError
from maggy.trial import CheckpointName
from maggy.wire.framing import LIMIT, FrameDecoder
from maggy.wire.handshake import ANSWER_SIZE, DriverHandshake
from maggy.wire.link import Link, parcel
from maggy.wire.messages import (
    Ack,
    Exited,
    Failed,
    Finished,
    Fire,
    Hello,
    Hire,
    Leave,
    Logged,
    Quit,
    Ready,
    Refused,
    Report,
    Run,
    Saved,
    Setup,
    Stop,
    Stopped,
    Store,
    Welcome,
    decode_from_agent,
    decode_from_files,
)
from maggy.wire.token import Token
from maggy.worker.agent import run_agent
from maggy.worker.datasets import DataFile
from maggy.worker.injection import Plan
from maggy.worker.payload import dump_payload

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from maggy.wire.framing import Frame
    from maggy.wire.messages import FromAgent, ToAgent

pytestmark = pytest.mark.integration

HB = 0.1
SILENCE = 2.0

AGENT = """
import json, sys
from maggy.worker.agent import run_agent
told = json.loads(sys.stdin.readline())
tell = lambda text: sys.stderr.write(text + chr(10))
sys.exit(0 if run_agent(told, patience=1.0, tell=tell, environ={"MARK": "of the agent"}) else 1)
"""


class Peer:
    """One connection, at the driver."""

    def __init__(self, sock: socket.socket, key: bytes) -> None:
        self.sock = sock
        self._decoder = FrameDecoder(LIMIT)
        self._frames: list[Frame] = []
        handshake = DriverHandshake(key)
        sock.sendall(handshake.greeting)
        answer = b""
        while len(answer) < ANSWER_SIZE:
            part = sock.recv(ANSWER_SIZE - len(answer))
            if not part:
                raise ConnectionResetError
            answer += part
        sock.sendall(handshake.verify(answer))

    def frame(self) -> Frame:
        """The next frame."""
        while not self._frames:
            data = self.sock.recv(65_536)
            if not data:
                raise ConnectionResetError
            self._frames += self._decoder.feed(data)
        return self._frames.pop(0)


class Driver:
    """A driver for agents; it keeps to the protocol, and breaks links when told to."""

    def __init__(self, folder: Path, tls: ssl.SSLContext | None, token: Token) -> None:
        self.folder = folder
        self.token = token
        self.link = Link()
        self.heard: queue.Queue[FromAgent] = queue.Queue()
        self.hellos: queue.Queue[Hello] = queue.Queue()
        self.answer: Callable[[Hello], Refused | None] = lambda _: None
        self.fetched: list[str] = []
        self.deaf = False  # says that nothing new has come
        self._admitted = 0
        self.lose = 0  # of so many requests for files one loses its answer
        self.data: DataFile | None = None
        self.files = self.new_files()
        self.processes: list[subprocess.Popen[str]] = []
        self._tls = tls
        self._peer: Peer | None = None
        self._lock = threading.RLock()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._closed = False
        self._cut = False
        threading.Thread(target=self._accept, args=(self._socket,), daemon=True).start()

    def new_files(self, limit: int = 1_000_000) -> Files:
        """What serves files, with small checkpoints."""
        return Files(
            data_fd=None if self.data is None else self.data.fd,
            trials=self.folder / "trials",
            checkpoints=self.folder / "checkpoints",
            limit=limit,
        )

    def told(self) -> dict[str, Any]:
        """What an agent is told."""
        host, port = self._socket.getsockname()
        return {"host": host, "port": port, "token": self.token.text(), "slot": "slot-0"}

    def start_agent(self, **environ: str) -> subprocess.Popen[str]:
        """Start an agent in a process of its own."""
        process = subprocess.Popen(
            [sys.executable, "-c", AGENT],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(self.folder / "tmp"), **environ},
            cwd=self.folder,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(self.told()) + "\n")
        process.stdin.close()
        self.processes.append(process)
        return process

    def set_up(self, function: Callable[..., object], *names: str, **changes: Any) -> None:
        """Send ``Setup``, and have a worker started."""
        provided = tuple(name for name in names if name == "train_set")
        setup = Setup(
            sys_path=sys.path,
            cwd="/no/such/folder",
            log_dir="/no/such/log",
            hb_interval=HB,
            plan=Plan(names=names, provided=provided).to_json(),
            **{"checkpoint_dir": "/no/such/checkpoints", "checkpoint_limit": 1_000_000, **changes},
        )
        self.say(setup, dump_payload(function))
        self.say(Hire(worker="w0"))

    def run(self, trial: int, attempt: int = 0, **hparams: Any) -> None:
        """Have a trial run."""
        self.say(Run(trial=trial, attempt=attempt, hparams=hparams, budget=None, seed=0))

    def say(self, message: ToAgent, blob: bytes | None = None) -> None:
        """Say one numbered message."""
        with self._lock:
            frames = parcel(message, blob)
            self.link.sent(frames)
            if self._peer is not None:
                self._peer.sock.sendall(frames)

    def hear(self, kind: type[Any], timeout: float = 20.0) -> Any:
        """The next message, which must be of this kind."""
        message = self.heard.get(timeout=timeout)
        assert isinstance(message, kind), message
        return message

    def cut(self) -> None:
        """Break the connection, and let no new one in until ``mend``."""
        with self._lock:
            self._cut = True
            if self._peer is not None:
                with contextlib.suppress(OSError):  # it is gone already
                    self._peer.sock.shutdown(socket.SHUT_RDWR)
                self._peer = None

    def mend(self) -> None:
        """Let agents in again."""
        self._cut = False

    def close(self) -> None:
        """End everything."""
        self._closed = True
        self.cut()
        self._socket.close()
        for process in self.processes:
            process.kill()
            process.wait()
            assert process.stderr is not None
            process.stderr.close()
        self.files.close()
        if self.data is not None:
            self.data.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        sock = raw
        try:
            if self._cut:
                return
            if self._tls is not None:
                sock = self._tls.wrap_socket(raw, server_side=True)
            self._greet(Peer(sock, self.token.key))
        except OSError:
            return  # the test has cut it, or the agent is gone
        finally:
            sock.close()

    def _greet(self, peer: Peer) -> None:
        hello = decode_from_agent(peer.frame().payload)
        assert isinstance(hello, Hello)
        if hello.role == "files":
            self._file(hello.worker, peer)
            return
        self.hellos.put(hello)
        refused = self.answer(hello)
        if refused is not None:
            peer.sock.sendall(parcel(refused))
            return
        with self._lock:
            welcome = Welcome(received=self.link.received, hb_interval=HB, silence_limit=SILENCE)
            peer.sock.sendall(b"".join([parcel(welcome), *self.link.resume(hello.received)]))
            self._peer = peer
        self._listen(peer)

    def _listen(self, peer: Peer) -> None:
        while True:
            frame = peer.frame()
            with self._lock:
                if self._peer is not peer:
                    return
                message = decode_from_agent(frame.payload)
                if isinstance(message, Ack):
                    self.link.acknowledged(message.received)
                    if not self.deaf:
                        self._admitted = self.link.received
                    peer.sock.sendall(parcel(Ack(received=self._admitted)))
                else:
                    self.link.took()
                    self.heard.put(message)

    def _file(self, agent: str, peer: Peer) -> None:
        while True:
            request = decode_from_files(peer.frame().payload)
            assert not isinstance(request, Hello)
            blob = peer.frame().payload if isinstance(request, Store) else None
            self.fetched.append(request.name)
            answer = parcel(*asyncio.run(self.files.answer(agent, request, blob)))
            if self.lose and len(self.fetched) % self.lose == 0:
                raise ConnectionResetError
            peer.sock.sendall(answer)


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    """A driver without TLS."""
    (tmp_path / "tmp").mkdir()
    driver = Driver(tmp_path, None, Token.new())
    yield driver
    driver.close()


def _report(lr: float, reporter: Any) -> float:
    reporter.broadcast(lr)
    return lr


def _endless(reporter: Any) -> None:
    step = 0
    while True:
        reporter.broadcast(step, step=step)
        step += 1
        time.sleep(0.01)


def _tell_pid(reporter: Any) -> None:
    print("some output")  # noqa: T201
    reporter.log(f"{os.getpid()} {os.environ['MARK']} {os.getcwd()}")  # noqa: PTH109
    while True:
        time.sleep(0.01)


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def _until(condition: Callable[[], bool], seconds: float) -> float:
    """Wait for this; how long it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, "it has not happened in time"
        threading.Event().wait(0.01)
    return time.monotonic() - start


def test_a_worker_is_relayed(driver: Driver) -> None:
    """Trials run, and what the worker says arrives in order and without its heartbeats."""
    agent = driver.start_agent()
    hello = driver.hellos.get(timeout=20)
    assert (hello.role, hello.incarnation, hello.received) == ("agent", 0, 0)
    assert hello.worker.startswith("slot-0.")
    driver.set_up(_report, "lr", "reporter")
    driver.hear(Ready)
    for trial in range(3):
        driver.run(trial, lr=trial / 4)
        assert [value for _, value, _ in driver.hear(Report).points] == [trial / 4]
        assert driver.hear(Finished).value == trial / 4
    driver.say(Quit())
    exited = driver.hear(Exited)
    assert (exited.worker, exited.reason) == ("w0", "exited with status 0")
    driver.say(Hire(worker="w1"))
    driver.hear(Ready)
    driver.say(Leave(reason="the run is over"))
    assert agent.wait(10) == 0
    assert list((driver.folder / "tmp").iterdir()) == []


def test_a_killed_worker_is_told_at_once(driver: Driver) -> None:
    """The end of a worker's process is with the driver in half a second, with its output."""
    driver.start_agent()
    driver.set_up(_tell_pid, "reporter")
    driver.hear(Ready)
    driver.run(7)
    pid, mark = driver.hear(Logged).text.split(" ", 1)
    assert mark.startswith("of the agent ")
    assert Path(mark.split(" ")[-1]).is_relative_to(driver.folder / "tmp")
    os.kill(int(pid), signal.SIGKILL)
    exited = driver.hear(Exited, timeout=0.5)
    assert "SIGKILL" in exited.reason
    assert (driver.folder / "trials" / "000007.log").read_text() == "some output\n"


def test_a_fired_worker_is_killed(driver: Driver) -> None:
    """``Fire`` ends a worker whatever it does, and the agent takes the next one."""
    driver.start_agent()
    driver.set_up(_tell_pid, "reporter")
    driver.hear(Ready)
    driver.run(0)
    pid = int(driver.hear(Logged).text.split()[0])
    driver.say(Fire(worker="w0"))
    assert driver.hear(Exited, timeout=1.0).reason == "ended by maggy"
    assert _gone(pid)
    driver.say(Hire(worker="w1"))
    driver.hear(Ready)


def test_stop_reaches_the_trial(driver: Driver) -> None:
    """A trial leaves when the driver says so."""
    driver.start_agent()
    driver.set_up(_endless, "reporter")
    driver.hear(Ready)
    driver.run(0)
    driver.hear(Report)
    driver.say(Stop(trial=0, attempt=0, reason="hopeless"))
    while not isinstance(message := driver.heard.get(timeout=5), Stopped):
        assert isinstance(message, Report)


def test_a_killed_agent_takes_its_worker_along(driver: Driver) -> None:
    """Whatever kills an agent kills its worker; what it left, the next one deletes."""
    agent = driver.start_agent()
    driver.set_up(_tell_pid, "reporter")
    driver.hear(Ready)
    driver.run(0)
    pid = int(driver.hear(Logged).text.split()[0])
    agent.kill()
    _until(lambda: _gone(pid), 5.0)
    driver.hellos.get()
    left = set((driver.folder / "tmp").iterdir())
    driver.cut()
    driver.link = Link()
    driver.mend()
    driver.start_agent()
    driver.hellos.get(timeout=20)
    assert left
    assert not any(path.exists() for path in left if "agent" in path.name)


def test_without_a_driver_agent_and_worker_end(driver: Driver) -> None:
    """When the driver is not heard for the limit the worker is killed; then the agent leaves."""
    agent = driver.start_agent()
    driver.set_up(_tell_pid, "reporter")
    driver.hear(Ready)
    driver.run(0)
    pid = int(driver.hear(Logged).text.split()[0])
    driver.cut()
    took = _until(lambda: _gone(pid), SILENCE + 2.0)
    assert took > SILENCE - 0.5
    assert agent.wait(10) == 1
    assert list((driver.folder / "tmp").iterdir()) == []


def test_a_cut_link_loses_and_doubles_nothing(driver: Driver) -> None:
    """After cuts every report arrives once and in order, and the trial goes on."""
    driver.start_agent()
    driver.set_up(_endless, "reporter")
    driver.hear(Ready)
    driver.run(0)
    for incarnation in range(4):
        assert driver.hellos.get(timeout=5).incarnation == incarnation
        driver.hear(Report)
        driver.cut()
        threading.Event().wait(0.2)  # long enough for reports to wait
        driver.say(Stop(trial=9, attempt=9, reason="nobody knows this trial"))
        driver.mend()
    driver.hellos.get(timeout=5)
    driver.say(Stop(trial=0, attempt=0, reason="enough"))
    steps: list[int] = []
    while not isinstance(message := driver.heard.get(timeout=5), Stopped):
        assert isinstance(message, Report)
        steps += [step for step, _, _ in message.points]
    assert steps == list(range(steps[0], steps[0] + len(steps)))
    assert len(steps) > 20


def test_a_welcome_that_is_lost_is_no_matter(driver: Driver) -> None:
    """An agent whose driver has taken it, without the agent's knowing, comes back and is known."""
    losses = [True, True]

    def lose(hello: Hello) -> None:
        if losses:
            losses.pop()
            raise ConnectionResetError

    driver.answer = lose
    driver.start_agent()
    hellos = [driver.hellos.get(timeout=20) for _ in range(3)]
    assert [hello.incarnation for hello in hellos] == [0, 1, 2]
    assert len({hello.worker for hello in hellos}) == 1
    driver.set_up(_report, "lr", "reporter")
    driver.hear(Ready)


def test_an_agent_that_was_given_up_joins_anew(driver: Driver) -> None:
    """It kills its worker, and comes back under another name."""
    driver.start_agent()
    first = driver.hellos.get(timeout=20)
    driver.set_up(_tell_pid, "reporter")
    driver.hear(Ready)
    driver.run(0)
    pid = int(driver.hear(Logged).text.split()[0])
    driver.answer = lambda hello: (
        Refused(reason="You were silent.", again=True) if hello.worker == first.worker else None
    )
    driver.cut()
    driver.link = Link()
    driver.mend()
    assert driver.hellos.get(timeout=5).worker == first.worker
    second = driver.hellos.get(timeout=5)
    assert second.worker != first.worker
    assert (second.incarnation, second.received) == (0, 0)
    _until(lambda: _gone(pid), 1.0)
    driver.set_up(_report, "lr", "reporter")
    driver.hear(Ready)


def test_a_refused_agent_says_why(driver: Driver) -> None:
    """A refusal for good ends the agent with the driver's sentence."""
    driver.answer = lambda _: Refused(reason="Install maggy 3.")
    agent = driver.start_agent()
    assert agent.wait(20) == 1
    assert agent.stderr is not None
    assert "the driver refused this agent: Install maggy 3." in agent.stderr.read()


def test_an_interrupted_agent_leaves_in_order(driver: Driver) -> None:
    """Ctrl-C ends worker and agent, and the driver hears of it."""
    agent = driver.start_agent()
    driver.set_up(_tell_pid, "reporter")
    driver.hear(Ready)
    driver.run(0)
    pid = int(driver.hear(Logged).text.split()[0])
    agent.send_signal(signal.SIGINT)
    assert driver.hear(Exited, timeout=2.0).worker == "w0"
    assert agent.wait(5) != 0
    assert _gone(pid)
    assert list((driver.folder / "tmp").iterdir()) == []


@pytest.mark.parametrize("right", [True, False])
def test_tls_is_pinned(tmp_path: Path, *, right: bool) -> None:
    """An agent talks to the holder of the run's certificate, and to nobody else."""
    (tmp_path / "tmp").mkdir()
    identity, other = new_identity(), new_identity()
    token = Token.new((identity if right else other).certificate)
    driver = Driver(tmp_path, identity.context, token)
    try:
        agent = driver.start_agent()
        if right:
            driver.set_up(_report, "lr", "reporter")
            driver.hear(Ready)
        else:
            assert agent.wait(20) == 1
            assert agent.stderr is not None
            assert "does not have this run's certificate" in agent.stderr.read()
    finally:
        driver.close()


def _sum_of(train_set: Any) -> float:
    return float(train_set.sum())


def test_data_sets_are_fetched_once_per_machine(driver: Driver) -> None:
    """Two agents share one copy, which goes with the last of them."""
    import numpy as np

    driver.data = DataFile.publish({"train_set": np.ones(400_000)})
    driver.files.close()
    driver.files = driver.new_files()
    first, second = driver.start_agent(), None
    try:
        driver.hellos.get(timeout=20)
        driver.set_up(_sum_of, "train_set")
        driver.hear(Ready)
        driver.run(0)
        assert driver.hear(Finished).value == 400_000
        assert driver.fetched.count("data") == 4  # pieces of 1 MiB
        (other := Driver(driver.folder, None, driver.token)).data = driver.data
        try:
            second = other.start_agent()
            other.set_up(_sum_of, "train_set")
            other.hear(Ready)
            other.run(1)
            assert other.hear(Finished).value == 400_000
            assert "data" not in other.fetched
            driver.say(Leave(reason="over"))
            assert first.wait(10) == 0
            other.run(2)
            assert other.hear(Finished).value == 400_000
            other.say(Leave(reason="over"))
            assert second.wait(10) == 0
        finally:
            other.data = None
            other.close()
        assert list((driver.folder / "tmp").iterdir()) == []
    finally:
        first.kill()


def _continue(reporter: Any, size: int) -> float:
    found = reporter.restore()
    if found is None:
        print("anew")  # noqa: T201
        step, content = -1, b""
    else:
        step, content = found.step, (found.path / "deep" / "w").read_bytes()
    folder = Path("model")
    (folder / "deep" / "empty").mkdir(parents=True, exist_ok=True)
    (folder / "deep" / "w").write_bytes(content + b"x" * size)
    reporter.save(folder, step=step + 1)
    return float(len(content))


def test_checkpoints_travel(driver: Driver) -> None:
    """A checkpoint is with the driver before ``Saved``, and with the next attempt's worker."""
    driver.start_agent()
    driver.set_up(_continue, "reporter", "size")
    driver.hear(Ready)
    place = driver.folder / "checkpoints" / "000003"
    for attempt in range(3):
        driver.run(3, attempt, size=300_000)
        saved = driver.hear(Saved)
        (name,) = [entry.name for entry in place.iterdir()]
        parsed = CheckpointName.parse(name)
        assert parsed is not None
        assert (parsed.attempt, parsed.step, parsed.size) == (attempt, saved.step, saved.size)
        content = place / name / "model" / "deep"
        assert (content / "w").read_bytes() == b"x" * 300_000 * (attempt + 1)
        assert (content / "empty").is_dir()
        assert driver.hear(Finished).value == attempt * 300_000
    assert (driver.folder / "trials" / "000003.log").read_text() == "anew\n"
    assert len(list((driver.folder / "tmp").glob("*/checkpoints/*"))) == 0


def test_answers_that_are_lost_do_no_harm(driver: Driver) -> None:
    """Requests for files that are made again change nothing twice."""
    driver.lose = 3
    driver.start_agent()
    driver.set_up(_continue, "reporter", "size")
    driver.hear(Ready)
    for attempt in range(2):
        driver.run(0, attempt, size=300_000)
        driver.hear(Saved)
        assert driver.hear(Finished).value == attempt * 300_000
    assert (driver.folder / "trials" / "000000.log").read_text() == "anew\n"


def test_a_checkpoint_that_is_too_large_is_refused(driver: Driver) -> None:
    """The trial is told the limit and what to do."""
    driver.start_agent()
    driver.set_up(_continue, "reporter", "size")
    driver.hear(Ready)
    driver.run(0, size=1_000_001)
    error = driver.hear(Failed).error
    assert error.type.endswith("CheckpointError")
    assert "`checkpoint_dir`" in error.message


def test_an_upload_that_fails_is_told(driver: Driver) -> None:
    """A checkpoint that the driver cannot keep is told in the run's log, and not as saved."""
    driver.files.close()
    driver.files = driver.new_files(limit=1000)
    driver.start_agent()
    driver.set_up(_continue, "reporter", "size")
    driver.hear(Ready)
    driver.run(0, size=2000)
    assert "is not kept" in driver.hear(Logged).text
    driver.hear(Finished)


def test_shared_checkpoints_stay_where_they_are(driver: Driver) -> None:
    """With a folder that all machines share nothing travels."""
    shared = driver.folder / "shared"
    shared.mkdir()
    driver.start_agent()
    driver.set_up(_continue, "reporter", "size", checkpoint_dir=str(shared), checkpoint_limit=None)
    driver.hear(Ready)
    driver.run(0, size=2_000_000)
    driver.hear(Saved)
    driver.hear(Finished)
    assert len(list(shared.glob("000000/*/model/deep/w"))) == 1
    assert not [name for name in driver.fetched if name.startswith("checkpoints")]


def test_a_shared_folder_that_is_missing_is_told(driver: Driver) -> None:
    """Where the shared folder is not mounted no worker starts, and the reason says so."""
    driver.start_agent()
    driver.set_up(_report, "lr", "reporter", checkpoint_limit=None)
    assert "`checkpoint_dir`" in driver.hear(Exited).reason


def _greedy(reporter: Any) -> int:
    for step in range(60):
        reporter.save(b"x" * 200_000, step=step)
        reporter.broadcast(step, step=step)
    return 1


def test_frequent_saves_are_passed_over_but_the_last_arrives(driver: Driver) -> None:
    """A worker that saves faster than the link carries loses only what newer ones replace."""
    driver.start_agent()
    driver.set_up(_greedy, "reporter")
    driver.hear(Ready)
    driver.run(0)
    saved: list[int] = []
    while not isinstance(message := driver.heard.get(timeout=20), Finished):
        if isinstance(message, Saved):
            saved.append(message.step)
    assert saved == sorted(set(saved))
    assert saved[-1] == 59
    (place,) = (driver.folder / "checkpoints" / "000000").iterdir()
    assert (place / "data").stat().st_size == 200_000


def test_an_agent_in_a_thread(here: Driver) -> None:
    """It serves in any thread, leaves the process's signal handlers alone, and waits for links."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    here.cut()
    with _in_a_thread(here):
        threading.Event().wait(0.3)
        here.mend()
        here.set_up(_report, "lr", "reporter")
        here.hear(Ready)
        during = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert during == before
    assert list((here.folder / "tmp").iterdir()) == []


@contextlib.contextmanager
def _in_a_thread(driver: Driver, **options: Any) -> Iterator[Future[bool]]:
    """An agent in a thread, which leaves at the end."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(run_agent, driver.told(), patience=20.0, **options)
        try:
            yield future
        finally:
            driver.say(Leave(reason="over"))
        assert future.result(10)


@pytest.fixture
def here(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """A driver whose agents run in this process."""
    monkeypatch.setattr("tempfile.tempdir", str(driver.folder / "tmp"))
    return driver


def test_last_words_come_along(here: Driver) -> None:
    """What a worker has printed outside trials is told with its end."""
    command = [sys.executable, "-c", "print('boom'); raise SystemExit(3)"]
    with _in_a_thread(here, command=command):
        here.set_up(_report, "lr", "reporter")
        exited = here.hear(Exited)
        assert (exited.reason, exited.output) == ("exited with status 3", "boom")


def test_a_worker_that_cannot_be_started_is_told(here: Driver) -> None:
    """The agent stays, and tells why there is no worker."""
    with _in_a_thread(here, command=["/no/such/python"]):
        here.set_up(_report, "lr", "reporter")
        assert "a worker (`/no/such/python`) could not be started" in here.hear(Exited).reason


def test_a_worker_that_speaks_nonsense_is_ended(here: Driver) -> None:
    """Whatever is on the other end of the socket pair, the agent goes on."""
    code = "import os, json; os.write(json.loads(input())['fd'], b'x' * 99); os.read(0, 1)"
    with _in_a_thread(here, command=[sys.executable, "-c", code]):
        here.set_up(_report, "lr", "reporter")
        assert "broke the protocol" in here.hear(Exited).reason


def test_a_driver_that_is_far_behind_is_told_no_more(
    here: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept for it is bounded; a worker that waits for it can be ended all the same."""
    monkeypatch.setattr("maggy.worker.conversation._ROOM", 5_000)
    here.deaf = True
    with _in_a_thread(here):
        here.set_up(_endless, "reporter")
        here.hear(Ready)
        here.run(0)
        count = -1
        while here.heard.qsize() > count:
            count = here.heard.qsize()
            threading.Event().wait(0.3)
        assert 5_000 / 200 < count < 5_000 / 50
        here.say(Fire(worker="w0"))
        while not isinstance(here.heard.get(timeout=2), Exited):
            continue


def test_without_any_driver_it_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that never reaches a driver says why, after its patience."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    told = {"host": "127.0.0.1", "port": port, "token": Token.new().text(), "slot": "s"}
    said: list[str] = []
    with pytest.raises(WireError, match=r"no driver could be reached for 0\.3 s"):
        run_agent(told, patience=0.3, tell=said.append)
    assert said == [f"waiting for the driver: connection refused at 127.0.0.1:{port}"]


def test_a_key_that_the_driver_does_not_take_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once while it is tried again, and at the end with what to do."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    said: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor() as threads:
        threads.submit(_turn_away, listener)
        port = listener.getsockname()[1]
        told = {"host": "127.0.0.1", "port": port, "token": Token.new().text(), "slot": "s"}
        reason = f"the driver at 127.0.0.1:{port} does not accept this key"
        with pytest.raises(WireError, match=f"^{reason}: copy the run's key file again"):
            run_agent(told, patience=0.8, tell=said.append)
        listener.shutdown(socket.SHUT_RDWR)
    assert said == [f"waiting for the driver: {reason}"]


def _turn_away(listener: socket.socket) -> None:
    """Be the driver of another run."""
    with contextlib.suppress(OSError):
        while True:
            with listener.accept()[0] as sock, contextlib.suppress(WireError, ConnectionError):
                Peer(sock, Token.new().key)


@pytest.mark.parametrize("change", [{"token": "nonsense"}, {"port": "x"}, {"slot": None}])
def test_nonsense_is_refused_before_anything_starts(change: dict[str, Any]) -> None:
    """What an agent is told must be complete; no error shows the token."""
    told = {"host": "h", "port": 1, "token": Token.new().text(), "slot": "s", **change}
    with pytest.raises(WireError) as caught:
        run_agent({name: value for name, value in told.items() if value is not None})
    assert told["token"] not in str(caught.value) or change == {"token": "nonsense"}
