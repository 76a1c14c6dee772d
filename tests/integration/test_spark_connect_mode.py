"""Searches by way of Spark Connect, whose server runs in this process's JVM."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from maggy import OptimizationConfig, Searchspace, experiment
from maggy.engines import queries, spark_connect
from maggy.engines.spark import active_cluster
from maggy.errors import ConfigError, ExperimentInterrupted
from maggy.store.folder import open_run
from maggy.store.sqlite import SqliteLog
from maggy.testing.engines import EngineContract

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from maggy.views.result import Result
    from maggy.worker.reporter import Reporter

pytest.importorskip("grpc")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Failed to set spark"),  # its builder sets them all again
]


@pytest.fixture(scope="module", autouse=True)
def session(start_spark: Callable[..., Any]) -> Iterator[Any]:
    """One remote session for all."""
    found = start_spark("local[2]", remote=True)
    yield found
    found.stop()


class TestSparkConnect(EngineContract):
    """Trials in children of the Python workers of ``mapInArrow``."""

    engine = "spark"


def search(train_fn: Callable[..., Any], folder: Path, **options: Any) -> Result:
    """A seeded random search on Spark with two workers."""
    defaults: dict[str, Any] = {
        "num_trials": 6,
        "searchspace": Searchspace(x=("DOUBLE", [0.0, 1.0])),
        "optimizer": "randomsearch",
        "direction": "min",
        "es_policy": "none",
        "folder": folder,
        "engine": "spark",
        "quiet": True,
    }
    return experiment.lagom(train_fn, OptimizationConfig(**{**defaults, **options}))


def interrupted(tmp_path: Path) -> None:
    """Interrupt a search, whose processes are gone soon."""
    pids = tmp_path / "pids"

    def train(x: float) -> float:
        with pids.open("a") as file:
            file.write(f"{os.getpid()}\n")
        while True:
            time.sleep(0.1)

    def interrupt() -> None:
        deadline = time.monotonic() + 60
        while not pids.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(ExperimentInterrupted):
        search(train, tmp_path)
    thread.join()
    for pid in pids.read_text().split():
        deadline = time.monotonic() + 30
        while Path(f"/proc/{pid}").exists():  # reaped by whoever started it
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_slots_are_cores_and_local_is_no_cluster(tmp_path: Path) -> None:
    """As many workers as the server has cores; a local server is not chosen by itself."""
    result = search(lambda x: x, tmp_path)
    assert {trial.worker for trial in result.trials} <= {"w0", "w1"}
    assert active_cluster() is None


def test_a_killed_agent_is_replaced(tmp_path: Path) -> None:
    """Its trial runs again."""
    marker = str(tmp_path / "killed")

    def train(x: float) -> float:
        try:
            Path(marker).touch(exist_ok=False)  # by one trial alone
        except FileExistsError:
            return x
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60.0)
        return x

    result = search(train, tmp_path)
    assert [trial.status for trial in result.trials] == ["completed"] * 6


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Executors cannot reach this process: the address belongs to nobody."""
    monkeypatch.setattr(spark_connect, "_PROBE", 0.3)
    monkeypatch.setattr(
        spark_connect.ConnectCluster, "hosts", lambda _: ("127.0.0.1", "192.0.2.1")
    )


@pytest.mark.usefixtures("unreachable")
def test_trials_are_queries_where_executors_cannot_reach_this_process(tmp_path: Path) -> None:
    """With a line that says why; the trials are the same, and a killed process is replaced."""
    marker = str(tmp_path / "killed")

    def train(x: float, train_set: list[int], reporter: Reporter) -> float:
        sys.stdout.write(f"x is {x}\n")
        reporter.broadcast(x / 2, step=1)
        if not os.path.exists(marker):  # noqa: PTH110
            Path(marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return x + sum(train_set)

    result = search(train, tmp_path, train_set=[1, 2], seed=3)
    there = search(train, tmp_path, train_set=[1, 2], seed=3, engine="inline")
    assert [(t.id, t.value, t.curve) for t in result.trials] == [
        (t.id, t.value, t.curve) for t in there.trials
    ]
    assert result.path is not None
    with SqliteLog.open(open_run(result.path).database) as log:
        started: Any = next(iter(log.read()))
    assert any("192.0.2.1" in note for note in started.config["notes"])
    printed = [Path(str(trial.log_path)).read_text() for trial in result.trials]
    assert all(
        f"x is {t.hparams['x']}\n" in p for t, p in zip(result.trials, printed, strict=True)
    )


@pytest.mark.usefixtures("unreachable")
def test_what_is_too_large_for_queries_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Since it would travel with each of them."""
    monkeypatch.setattr(queries, "_MOST", 1000)
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1"):
        search(lambda x: x, tmp_path, train_set=[0] * 10_000)


@pytest.mark.usefixtures("unreachable")
def test_ctrl_c_interrupts_trials_that_are_queries(tmp_path: Path) -> None:
    """And nothing of them is left."""
    interrupted(tmp_path)


def test_ctrl_c_interrupts_agents(tmp_path: Path, session: Any) -> None:
    """And no trial is left."""
    interrupted(tmp_path)
    assert session.range(3).count() == 3
