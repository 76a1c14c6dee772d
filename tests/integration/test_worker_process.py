"""A real worker process, started as an engine does it, against a driver played by the test."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from maggy.wire.framing import JSON, RAW, Frame, FrameDecoder, encode_frame
from maggy.wire.handshake import ANSWER_SIZE, DriverHandshake, new_key
from maggy.wire.messages import (
    Failed,
    Finished,
    Hello,
    Quit,
    Ready,
    Report,
    Run,
    Setup,
    Stop,
    Stopped,
    decode_from_worker,
    encode,
)
from maggy.worker.injection import Plan
from maggy.worker.payload import dump_payload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from maggy.wire.messages import FromWorker, ToWorker

pytestmark = pytest.mark.integration


class Driver:
    """The driver's end of one worker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes]
        self._key = new_key()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(20)
        self._decoder = FrameDecoder()
        self._frames: list[Frame] = []

    def start(self, function: Callable[..., object], *names: str) -> None:
        """Start a worker and set it up."""
        host, port = self._listener.getsockname()
        told = {"host": host, "port": port, "key": self._key.hex(), "worker": "w0"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "maggy.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(told).encode() + b"\n")
        self.process.stdin.flush()
        self.socket, _ = self._listener.accept()
        self.socket.settimeout(20)
        handshake = DriverHandshake(self._key)
        self.socket.sendall(handshake.greeting)
        self.socket.sendall(handshake.verify(self.socket.recv(ANSWER_SIZE, socket.MSG_WAITALL)))
        hello = self.receive()
        assert isinstance(hello, Hello)
        assert (hello.worker, hello.pid) == ("w0", self.process.pid)
        self.say(
            Setup(
                sys_path=sys.path,
                cwd=str(self.folder),
                log_dir=str(self.folder / "trials"),
                hb_interval=1000.0,
                plan=Plan(names=names).to_json(),
            )
        )
        self.socket.sendall(encode_frame(RAW, dump_payload(function)))
        assert isinstance(self.receive(), Ready)

    def say(self, message: ToWorker) -> None:
        """Send a message."""
        self.socket.sendall(encode_frame(JSON, encode(message)))

    def receive(self) -> FromWorker:
        """The worker's next message."""
        while not self._frames:
            data = self.socket.recv(65_536)
            assert data, "the worker has closed the connection"
            self._frames += self._decoder.feed(data)
        return decode_from_worker(self._frames.pop(0).payload)

    def run(self, trial: int = 0) -> FromWorker:
        """Run a trial; the first message that is no report."""
        self.say(Run(trial=trial, attempt=0, hparams={}, budget=None, seed=trial))
        while isinstance(message := self.receive(), Report):
            pass
        return message

    def log(self, trial: int = 0) -> str:
        """The output of a trial."""
        return (self.folder / "trials" / f"{trial:06d}.log").read_text()

    def quit(self) -> None:
        """Dismiss the worker, which must leave in good order."""
        self.say(Quit())
        assert self.process.wait(20) == 0

    def close(self) -> None:
        """Leave nothing behind."""
        self._listener.close()
        if hasattr(self, "socket"):
            self.socket.close()
        if hasattr(self, "process"):
            self.process.kill()
            self.process.wait(20)
            for stream in (self.process.stdin, self.process.stderr):
                assert stream is not None
                stream.close()


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    """A driver without a worker."""
    driver = Driver(tmp_path)
    yield driver
    driver.close()


def script(source: str) -> Any:
    """The function ``train`` of a user's script that runs as ``__main__``."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(source, namespace)
    return namespace["train"]


def finished(message: FromWorker) -> Finished:
    """The outcome of a trial that must succeed."""
    assert isinstance(message, Finished), message
    return message


def wait_until_gone(pid: int) -> None:
    """Until no such process runs; a zombie does not run."""
    deadline = time.monotonic() + 2.0
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        threading.Event().wait(0.01)
    pytest.fail(f"process {pid} still runs")


def test_a_worker_runs_trials_and_leaves(driver: Driver) -> None:
    """From the first line on its standard input to a clean exit."""
    driver.start(lambda seed: {"metric": seed, "twice": 2 * seed}, "seed")
    assert finished(driver.run(3)).info == {"twice": 6}
    assert finished(driver.run(4)).value == 4.0
    driver.quit()
    assert list((driver.folder / "trials").iterdir()) == []


def test_a_worker_is_light(driver: Driver) -> None:
    """Nothing heavy is imported before the user's own modules are."""

    def function() -> dict[str, object]:
        import sys

        heavy = {"numpy", "scipy", "rich", "click", "asyncio", "sqlite3", "maggy.optimizer"}
        return {"metric": 0, "heavy": sorted(heavy & set(sys.modules))}

    driver.start(function)
    assert finished(driver.run()).info == {"heavy": []}


def test_user_code_is_at_home(driver: Driver) -> None:
    """Folder, input, output, interrupts and the main thread are as a script expects them."""

    def function() -> float:
        import os
        import signal
        import subprocess
        import sys
        import threading
        import warnings

        assert sys.stdin.read() == ""
        assert threading.current_thread() is threading.main_thread()
        os.kill(os.getpid(), signal.SIGINT)
        sys.stdout.write(f"folder {Path.cwd()}\n")
        subprocess.run(["/bin/sh", "-c", "echo child; trap '' INT; kill -INT $$"], check=True)
        os.system("echo system >&2")
        warnings.warn("look out", UserWarning, stacklevel=1)
        interrupted = subprocess.run(["/bin/sh", "-c", "kill -INT $$"], check=False)
        return float(interrupted.returncode == -signal.SIGINT)

    driver.start(function)
    for trial in range(2):
        assert finished(driver.run(trial)).value == 1.0
        lines = driver.log(trial).splitlines()
        assert lines[:3] == [f"folder {driver.folder}", "child", "system"]
        assert "UserWarning: look out" in lines[3]


def test_a_process_pool_inside_a_training_function_works(driver: Driver) -> None:
    """Functions of the user's script can be pickled by name in the worker."""
    train = script(
        "import multiprocessing\n"
        "def square(x): return x * x\n"
        "def train():\n"
        "    with multiprocessing.get_context('fork').Pool(2) as pool:\n"
        "        return sum(pool.map(square, range(4)))\n"
    )
    driver.start(train)
    assert finished(driver.run()).value == 14.0


def test_a_stop_ends_a_trial_within_a_message(driver: Driver) -> None:
    """A stop takes effect at the next broadcast, whatever the heartbeat's interval."""

    def function(reporter: Any) -> None:
        while True:
            reporter.broadcast(1.0)

    driver.start(function, "reporter")
    driver.say(Run(trial=0, attempt=0, hparams={}, budget=None, seed=0))
    assert isinstance(driver.receive(), Report)
    driver.say(Stop(trial=0, attempt=0, reason="hopeless"))
    while isinstance(message := driver.receive(), Report):
        pass
    assert message == Stopped(trial=0, attempt=0)


def test_a_trial_that_leaves_by_all_means_does_not_end_the_worker(driver: Driver) -> None:
    """Exit codes, closed streams and forked children are the trial's business alone."""

    def function(seed: int) -> float:
        import os
        import sys

        if seed == 0:
            sys.exit(3)
        if seed == 1:
            os.close(1)
            os.close(2)
        if seed == 2 and os.fork() == 0:
            sys.exit(0)
        return 1.0

    driver.start(function, "seed")
    assert isinstance(driver.run(0), Failed)
    for trial in (1, 2, 3):
        assert finished(driver.run(trial)) == Finished(
            trial=trial, attempt=0, value=1.0, info=None
        )
    driver.quit()


def test_with_the_driver_gone_worker_and_children_are_gone(driver: Driver) -> None:
    """A worker in the middle of a trial kills itself and its children at once, wherever."""

    def function(reporter: Any) -> None:
        import subprocess
        import time

        child = subprocess.Popen(["sleep", "600"])
        moved = subprocess.Popen(["sleep", "600"], start_new_session=True)
        reporter.broadcast(child.pid, moved=moved.pid)
        time.sleep(600)

    driver.start(function, "reporter")
    driver.say(Run(trial=0, attempt=0, hparams={}, budget=None, seed=0))
    report = driver.receive()
    assert isinstance(report, Report)
    driver.socket.close()
    assert driver.process.wait(2) == -signal.SIGKILL
    _, child, others = report.points[0]
    assert others is not None
    wait_until_gone(int(child))
    wait_until_gone(int(others["moved"]))


def test_an_idle_worker_goes_with_its_driver(driver: Driver) -> None:
    """A worker without a trial does not outlive the connection either."""
    driver.start(lambda: 1.0)
    driver.socket.close()
    assert driver.process.wait(2) != 0


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "standard input must begin with one line of JSON"),
        ("[]\n", "standard input must begin"),
        ('{"host": "127.0.0.1", "port": 1, "key": "zz", "worker": "w"}\n', "must begin"),
        (
            '{"host": "127.0.0.1", "port": 1, "key": "' + "00" * 32 + '", "worker": "w"}\n',
            "refused",
        ),
    ],
    ids=["nothing", "no-object", "no-key", "nobody-there"],
)
def test_a_worker_without_a_driver_says_so(line: str, says: str) -> None:
    """Started wrongly, or with nobody listening, it ends with one line that says why."""
    done = subprocess.run(
        [sys.executable, "-m", "maggy.worker"],
        input=line.encode(),
        capture_output=True,
        check=False,
        timeout=20,
        env={**os.environ, "LC_ALL": "C"},
    )
    assert done.returncode == 1
    assert says in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
