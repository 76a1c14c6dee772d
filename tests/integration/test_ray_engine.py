"""Searches on a real Ray: one node, two nodes, and what can go wrong on them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from maggy import OptimizationConfig, Searchspace, experiment
from maggy.engines.ray import RayLauncher
from maggy.errors import ConfigError
from maggy.events import WorkerJoined, WorkerLost
from maggy.store.folder import open_run
from maggy.store.sqlite import SqliteLog
from maggy.testing.engines import EngineContract

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from maggy.events import Event
    from maggy.views.result import Result

ray: Any = pytest.importorskip("ray")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes with one core each, in which this process is the driver."""
    from ray.cluster_utils import Cluster

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nodes = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
        )
        nodes.add_node(num_cpus=1)
        ray.init(address=nodes.address, log_to_driver=False)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.mark.usefixtures("cluster")
class TestRayContract(EngineContract):
    """Trials in actors on two nodes."""

    engine = "ray"


def search(train_fn: Callable[..., Any], folder: Path, **options: Any) -> Result:
    """A seeded random search on Ray with two workers."""
    defaults: dict[str, Any] = {
        "num_trials": 6,
        "searchspace": Searchspace(x=("DOUBLE", [0.0, 1.0])),
        "optimizer": "randomsearch",
        "direction": "min",
        "es_policy": "none",
        "seed": 3,
        "folder": folder,
        "engine": "ray",
        "num_workers": 2,
        "quiet": True,
    }
    return experiment.lagom(train_fn, OptimizationConfig(**{**defaults, **options}))


def events(result: Result) -> list[Event]:
    """What the run's log holds."""
    assert result.path is not None
    with SqliteLog.open(open_run(result.path).database) as log:
        return list(log.read())


def alive(pid: int) -> bool:
    """Whether a process of this machine runs."""
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123 - one line
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(what: Callable[[], object], seconds: float = 30.0) -> None:
    """Return when it holds."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def notes_its_process(x: float, reporter: Any) -> float:
    """Write down this process and its parent, then take a while."""
    import os
    import time
    from pathlib import Path

    folder = Path(os.environ.get("NOTES", "/nowhere"))
    (folder / f"{os.getpid()}").write_text(str(os.getppid()))
    for step in range(20):
        time.sleep(0.05)
        reporter.broadcast(x, step=step)
    return x


def with_notes(folder: Path) -> Callable[..., float]:
    """The function above, with its folder in it."""
    notes = str(folder)

    def train(x: float, reporter: Any) -> float:
        import os

        os.environ["NOTES"] = notes
        return notes_its_process(x, reporter)

    return train


def kill_one(folder: Path, whom: Callable[[Path], int]) -> threading.Thread:
    """Kill somebody as soon as two trials run; a thread to be joined."""

    def work() -> None:
        wait_until(lambda: len(list(folder.iterdir())) >= 2, 120)
        time.sleep(0.2)
        os.kill(whom(next(iter(folder.iterdir()))), signal.SIGKILL)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    "whom",
    [
        pytest.param(lambda note: int(note.name), id="trial"),
        pytest.param(lambda note: int(note.read_text()), id="actor"),
    ],
)
def test_nothing_is_lost_when_a_process_is_killed(
    tmp_path: Path, whom: Callable[[Path], int]
) -> None:
    """Each trial completes once, its worker is replaced, and no process is left."""
    notes = tmp_path / "notes"
    notes.mkdir()
    killer = kill_one(notes, whom)
    result = search(with_notes(notes), tmp_path / "runs")
    killer.join()
    assert [trial.status for trial in result.trials] == ["completed"] * 6
    assert [trial.value for trial in result.trials] == [t.hparams["x"] for t in result.trials]
    happened = events(result)
    assert any(isinstance(event, WorkerLost) for event in happened)
    assert len([event for event in happened if isinstance(event, WorkerJoined)]) >= 3
    wait_until(lambda: not any(alive(int(note.name)) for note in notes.iterdir()))


def test_a_node_that_leaves_is_survived_and_one_that_joins_is_used(
    tmp_path: Path, cluster: Any
) -> None:
    """The trials of the lost node run again; another node takes its place."""
    notes = tmp_path / "notes"
    notes.mkdir()
    extra = cluster.add_node(num_cpus=1)
    with ThreadPoolExecutor() as threads:  # nodes can be started by the main thread only
        running = threads.submit(
            search, with_notes(notes), tmp_path / "runs", num_trials=10, num_workers=3
        )
        wait_until(lambda: len(list(notes.iterdir())) >= 3 or running.done(), 120)
        cluster.remove_node(extra, allow_graceful=False)
        cluster.add_node(num_cpus=1)
        result = running.result()
    assert [trial.status for trial in result.trials] == ["completed"] * 10
    assert any(isinstance(event, WorkerLost) for event in events(result))


@pytest.mark.usefixtures("cluster")
def test_a_ray_that_was_there_is_left_as_it_was(tmp_path: Path) -> None:
    """It goes on, without our actors."""
    search(lambda x: x, tmp_path)
    assert ray.is_initialized()

    @ray.remote(num_cpus=1)  # type: ignore[untyped-decorator]
    def where() -> int:
        return os.getpid()

    assert len(ray.get([where.remote(), where.remote()], timeout=60)) == 2


@pytest.mark.usefixtures("cluster")
def test_more_than_any_node_has_is_refused(tmp_path: Path) -> None:
    """Before anything starts, with what was asked for."""
    with pytest.raises(ConfigError, match="asks for 64 cores"):
        search(lambda x: x, tmp_path, resources={"cpu": 64}, num_workers=None)


@pytest.mark.usefixtures("cluster")
def test_slots_count_the_cores_of_all_nodes(tmp_path: Path) -> None:
    """Two nodes or more, each with one core, and one that two cores per worker do not fit."""
    space = Searchspace(x=("DOUBLE", [0.0, 1.0]))
    config = OptimizationConfig(num_trials=4, searchspace=space, folder=tmp_path)
    nodes = [node for node in ray.nodes() if node["Alive"]]
    assert RayLauncher(config).slots() == len(nodes)


def test_without_ray_a_local_one_is_started_and_ended(tmp_path: Path) -> None:
    """On one node, with the trials of any other engine; no process of Ray's stays."""
    source = """
        import os, subprocess
        from maggy import OptimizationConfig, Searchspace, experiment

        def search(engine):
            config = OptimizationConfig(
                num_trials=8, searchspace=Searchspace(x=("DOUBLE", [0.0, 1.0])),
                optimizer="randomsearch", engine=engine, num_workers=2, seed=5, quiet=True,
            )
            return experiment.lagom(lambda x: x, config)

        values = [[t.value for t in search(engine).trials] for engine in ("ray", "inline")]
        assert values[0] == values[1], values
        import ray
        assert not ray.is_initialized()
        children = f"/proc/{os.getpid()}/task/{os.getpid()}/children"
        assert not open(children).read().split()
    """
    environ = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
