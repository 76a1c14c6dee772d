"""Searches whose workers are started by hand, as processes of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from maggy import OptimizationConfig, Searchspace, experiment
from maggy.errors import ExperimentFailed
from maggy.events import WorkerJoined, WorkerLost
from maggy.store.folder import open_run
from maggy.store.sqlite import SqliteLog
from maggy.testing.engines import EngineContract
from maggy.worker.keyfile import key_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from maggy.events import Event
    from maggy.views.result import Result

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys go to a folder of the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def wait_until(what: Callable[[], object], seconds: float = 30.0) -> None:
    """Return when it holds."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def listens(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def start_worker(port: int, *options: str, **env: str) -> subprocess.Popen[str]:
    """``maggy worker``, as a user would."""
    command = [sys.executable, "-m", "maggy", "worker", "--connect", f"127.0.0.1:{port}"]
    return subprocess.Popen(
        [*command, *options], stderr=subprocess.PIPE, text=True, env={**os.environ, **env}
    )


@contextlib.contextmanager
def workers(port: int, count: int = 2) -> Iterator[list[subprocess.Popen[str]]]:
    """So many workers, started as soon as the run has written its key; all gone afterwards."""
    started: list[subprocess.Popen[str]] = []
    try:
        with ThreadPoolExecutor() as threads:

            def start() -> None:
                wait_until(key_path("127.0.0.1", port).exists)
                started.extend(start_worker(port, "--retry", "5") for _ in range(count))

            task = threads.submit(start)
            yield started
            task.result()
        for process in started:
            assert process.wait(30) is not None
    finally:
        for process in started:
            process.kill()
            process.communicate()


class TestManualContract(EngineContract):
    """Two workers by ``maggy worker``."""

    engine = "manual"

    def search(self, train_fn: Callable[..., Any], folder: Path, **options: Any) -> Result:
        """The same search; its workers come once it waits for them."""
        port = free_port()
        with contextlib.ExitStack() as stack:
            if options.get("engine", self.engine) == "manual" and self.engine == "manual":
                stack.enter_context(workers(port))
            return super().search(train_fn, folder, listen=f"127.0.0.1:{port}", **options)


def search(train_fn: Callable[..., Any], folder: Path, port: int, **options: Any) -> Result:
    """A seeded random search that waits for workers at this port."""
    defaults: dict[str, Any] = {
        "num_trials": 8,
        "searchspace": Searchspace(x=("DOUBLE", [0.0, 1.0])),
        "optimizer": "randomsearch",
        "es_policy": "none",
        "seed": 3,
        "folder": folder,
        "engine": "manual",
        "num_workers": 2,
        "listen": f"127.0.0.1:{port}",
        "quiet": True,
    }
    return experiment.lagom(train_fn, OptimizationConfig(**{**defaults, **options}))


def events(result: Result) -> list[Event]:
    """What the run's log holds."""
    assert result.path is not None
    with SqliteLog.open(open_run(result.path).database) as log:
        return list(log.read())


def of_a_second(x: float, reporter: Any) -> float:
    """Twenty reports, one every 50 ms."""
    for step in range(20):
        time.sleep(0.05)
        reporter.broadcast(x, step=step)
    return x


def test_workers_come_late_and_leave_early(tmp_path: Path) -> None:
    """What one of them had goes to another; the one that left was told nothing went wrong."""
    port = free_port()
    with ThreadPoolExecutor() as threads:
        running = threads.submit(search, of_a_second, tmp_path, port, num_trials=6)
        wait_until(key_path("127.0.0.1", port).exists)
        first = start_worker(port)
        time.sleep(2.5)  # the user's
        second = start_worker(port)
        time.sleep(1.0)
        first.send_signal(signal.SIGTERM)
        _, said = first.communicate(timeout=30)
        assert first.returncode == 130
        assert "left" in said
        result = running.result(60)
        _, said = second.communicate(timeout=30)
    assert second.returncode == 0
    assert "done" in said
    assert [trial.status for trial in result.trials] == ["completed"] * 6
    happened = events(result)
    assert len([event for event in happened if isinstance(event, WorkerJoined)]) >= 2
    lost = [event for event in happened if isinstance(event, WorkerLost)]
    assert [event.reason for event in lost] == ["it was told to leave"]


def test_a_killed_agent_takes_its_trial_with_it(tmp_path: Path) -> None:
    """No process stays, and the trial runs again where another worker is."""
    port = free_port()
    notes = tmp_path / "notes"
    notes.mkdir()
    folder = str(notes)

    def train(x: float, reporter: Any) -> float:
        import os
        from pathlib import Path

        Path(folder, str(os.getpid())).touch()
        return of_a_second(x, reporter)

    with ThreadPoolExecutor() as threads, workers(port, 2) as started:
        running = threads.submit(search, train, tmp_path / "runs", port, num_trials=4)
        wait_until(lambda: len(list(notes.iterdir())) == 2)
        started[0].kill()
        result = running.result(60)
    assert [trial.status for trial in result.trials] == ["completed"] * 4
    assert sum(trial.runs for trial in result.trials) == 5
    pids = [int(path.name) for path in notes.iterdir()]
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))  # noqa: PTH110


class NotEverywhere:
    """A training function that cannot be loaded where the environment says so."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, x: float) -> float:
        return x

    def __reduce__(self) -> Any:
        def load(folder: str) -> Any:
            import os
            import time
            from pathlib import Path

            if "NO_NUMPY" in os.environ:
                msg = "there is no numpy on this machine"
                raise ImportError(msg)

            def train(x: float) -> float:
                Path(folder, "begun").touch()
                deadline = time.monotonic() + 60
                while not Path(folder, "go").exists() and time.monotonic() < deadline:
                    time.sleep(0.02)
                return x

            return train

        return load, (self.folder,)


def test_a_worker_that_cannot_load_the_function_leaves_the_others_alone(tmp_path: Path) -> None:
    """It ends, and says why; the search goes on with those that can."""
    port = free_port()
    train = NotEverywhere(str(tmp_path))
    with ThreadPoolExecutor() as threads:
        running = threads.submit(search, train, tmp_path / "runs", port, num_trials=3)
        wait_until(key_path("127.0.0.1", port).exists)
        good = start_worker(port)
        wait_until((tmp_path / "begun").exists)
        bad = start_worker(port, NO_NUMPY="1")
        _, said = bad.communicate(timeout=30)
        assert bad.returncode == 1
        assert "ImportError: there is no numpy on this machine" in said
        (tmp_path / "go").touch()
        result = running.result(60)
        good.communicate(timeout=30)
    assert good.returncode == 0
    assert [trial.status for trial in result.trials] == ["completed"] * 3


def test_the_only_worker_that_cannot_load_the_function_is_told(tmp_path: Path) -> None:
    """The search fails and so does the worker, each with the reason."""
    port = free_port()
    train = NotEverywhere(str(tmp_path))
    with ThreadPoolExecutor() as threads:
        running = threads.submit(search, train, tmp_path / "runs", port)
        wait_until(key_path("127.0.0.1", port).exists)
        bad = start_worker(port, NO_NUMPY="1")
        _, said = bad.communicate(timeout=30)
        with pytest.raises(ExperimentFailed, match="there is no numpy"):
            running.result(30)
    assert bad.returncode == 1
    assert "the training function cannot be loaded here: ImportError: there is no numpy" in said


DRIVER = """
import sys
from maggy import OptimizationConfig, Searchspace, experiment

config = OptimizationConfig(
    num_trials=2, searchspace=Searchspace(x=("DOUBLE", [0.0, 1.0])), engine="manual",
    listen=sys.argv[1], folder=sys.argv[2],
)
experiment.lagom(lambda x: x, config)
"""


def test_a_driver_that_is_told_to_end_says_goodbye(tmp_path: Path) -> None:
    """SIGTERM, with which Slurm ends jobs, is as Ctrl-C: the key goes, and how to load is told."""
    port = free_port()
    key = key_path("127.0.0.1", port)
    command = [sys.executable, "-c", DRIVER, f"127.0.0.1:{port}", str(tmp_path)]
    driver = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: key.exists() and signal.SIGTERM in caught(driver.pid))
        driver.send_signal(signal.SIGTERM)
        _, said = driver.communicate(timeout=30)
    finally:
        driver.kill()
        driver.communicate()
    assert "ExperimentInterrupted" in said
    assert "experiment.load(" in said
    assert not key.exists()


def caught(pid: int) -> set[int]:
    """The signals that a process has handlers for."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    mask = int(status.partition("SigCgt:")[2].split()[0], 16)
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


def test_without_any_worker_the_time_limit_ends_the_run(tmp_path: Path) -> None:
    """It counts from the beginning, and nobody has to come first; the key goes as ever."""
    port = free_port()
    result = search(of_a_second, tmp_path, port, time_limit=0.5)
    assert result.trials == []
    assert not key_path("127.0.0.1", port).exists()


def test_the_key_is_gone_when_the_run_is(tmp_path: Path) -> None:
    """It had mode 0600, outside of the run's folder."""
    port = free_port()
    path = key_path("127.0.0.1", port)
    with ThreadPoolExecutor() as threads, workers(port, 1):
        running = threads.submit(search, of_a_second, tmp_path, port, num_trials=1)
        wait_until(path.exists)
        assert path.stat().st_mode & 0o777 == 0o600
        assert tmp_path not in path.parents
        running.result(60)
    assert not path.exists()


def test_encryption_by_name_on_loopback(tmp_path: Path) -> None:
    """``tls=True`` encrypts even there; the token says so to the workers."""
    port = free_port()
    with ThreadPoolExecutor() as threads, workers(port):
        running = threads.submit(search, of_a_second, tmp_path, port, num_trials=2, tls=True)
        wait_until(lambda: listens(port))
        with socket.create_connection(("127.0.0.1", port), 5) as sock:
            sock.settimeout(0.5)
            with pytest.raises(TimeoutError):  # nothing is said before TLS
                sock.recv(1)
        result = running.result(60)
    assert [trial.status for trial in result.trials] == ["completed"] * 2


def test_data_sets_and_checkpoints_travel(tmp_path: Path) -> None:
    """Arrays arrive, a promoted trial goes on from what another machine's would have saved."""
    import numpy as np

    from maggy.optimizer import Asha

    def train(x: float, budget: int, train_set: Any, reporter: Any) -> float:
        saved = reporter.restore()
        step = 0 if saved is None else int(saved.bytes.decode())
        assert float(train_set[-1]) == 99_999.0
        while step < budget:
            step += 1
            reporter.save(str(step).encode(), step)
        print("reached", step)  # noqa: T201
        return x * step

    port = free_port()
    with ThreadPoolExecutor() as threads, workers(port):
        running = threads.submit(
            search,
            train,
            tmp_path,
            port,
            num_trials=4,
            optimizer=Asha(2, 1, 4),
            train_set=np.arange(100_000.0),
        )
        result = running.result(60)
    assert [trial.status for trial in result.trials] == ["completed"] * 4
    best = result.trials[result["best_id"]]
    assert best.budget == 4
    assert best.log_path is not None
    assert "reached 4" in best.log_path.read_text()
    assert result.path is not None
    assert any((result.path / "checkpoints").rglob("data"))
