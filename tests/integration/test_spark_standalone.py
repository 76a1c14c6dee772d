"""A search on a standalone Spark cluster of two hosts, which are addresses of this machine."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from maggy import OptimizationConfig, Searchspace, experiment
from maggy.events import WorkerJoined
from maggy.store.folder import open_run
from maggy.store.sqlite import SqliteLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from maggy.views.result import Result

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

LIMIT = 120.0
DEPLOY = "org.apache.spark.deploy"


class Daemons:
    """Spark's own, each in a process group that ends with the test."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.folder = folder
        self.command = Path(environ["SPARK_HOME"]) / "bin" / "spark-class"
        self.environ = {**os.environ, **environ, "SPARK_DAEMON_MEMORY": "256m"}
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, host: str, *arguments: str) -> Path:
        """Start a master or a worker, and return its log."""
        log = self.folder / f"{name.rpartition('.')[2]}-{host}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [
                    self.command,
                    f"{DEPLOY}.{name}",
                    "--host",
                    host,
                    "--webui-port",
                    "0",
                    *arguments,
                ],
                stdout=file,
                stderr=file,
                env={**self.environ, "SPARK_LOCAL_IP": host},
                start_new_session=True,
            )
        self.processes.append(process)
        return log

    def close(self) -> None:
        """Kill and reap them."""
        for process in reversed(self.processes):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def found(pattern: str, log: Path) -> str:
    """The first group of this pattern, once the log has it."""
    deadline = time.monotonic() + LIMIT
    while (match := re.search(pattern, log.read_text())) is None:
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    return match[1]


@pytest.fixture(scope="module")
def master(
    spark_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A cluster with a core on each of two hosts."""
    folder = tmp_path_factory.mktemp("standalone")
    daemons = Daemons(folder, spark_environment)
    try:
        log = daemons.start("master.Master", "127.0.0.1", "--port", "0")
        address = found(r"Starting Spark master at (spark://\S+)", log)
        for host in ("127.0.0.2", "127.0.0.3"):
            cores = ("--cores", "1", "--memory", "700m", "--work-dir", str(folder / host))
            worker = daemons.start("worker.Worker", host, *cores, address)
            found(r"Successfully (registered) with master", worker)
        yield address
    finally:
        daemons.close()


@pytest.fixture(scope="module", autouse=True)
def spark(master: str, start_spark: Callable[..., Any]) -> Any:
    """One session for all."""
    return start_spark(master)


def search(folder: Path, **options: Any) -> Result:
    """A seeded random search."""
    defaults: dict[str, Any] = {
        "num_trials": 8,
        "searchspace": Searchspace(x=("DOUBLE", [0.0, 1.0])),
        "optimizer": "randomsearch",
        "direction": "min",
        "seed": 3,
        "folder": folder,
        "num_workers": 2,
        "quiet": True,
    }
    return experiment.lagom(lambda x: x * x, OptimizationConfig(**{**defaults, **options}))


def test_a_cluster_is_chosen_by_itself_and_gives_the_same(tmp_path: Path) -> None:
    """With a line that says so; encrypted, the trials are those of this process, bit for bit."""
    result = search(tmp_path, tls=True)
    there = search(tmp_path, engine="inline")
    assert [(t.id, t.hparams, t.value) for t in result.trials] == [
        (t.id, t.hparams, t.value) for t in there.trials
    ]
    assert result.path is not None
    with SqliteLog.open(open_run(result.path).database) as log:
        story = list(log.read())
    started: Any = story[0]
    assert started.config["engine"] == "spark"
    assert any("session of spark://127.0.0.1" in note for note in started.config["notes"])
    assert any(isinstance(event, WorkerJoined) for event in story)
