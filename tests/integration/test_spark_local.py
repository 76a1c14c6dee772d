"""Searches on Spark's ``local[2]``, which gives a job up at its first failure."""

from __future__ import annotations

import importlib.util
import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from maggy import OptimizationConfig, Searchspace, experiment
from maggy.errors import ConfigError, ExperimentFailed, ExperimentInterrupted
from maggy.events import WorkerJoined, WorkerLost
from maggy.store.folder import open_run
from maggy.store.sqlite import SqliteLog
from maggy.testing.engines import EngineContract

if TYPE_CHECKING:
    from collections.abc import Callable

    from maggy.events import Event
    from maggy.views.result import Result
    from maggy.worker.reporter import Reporter

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

LIMIT = 60.0


@pytest.fixture(scope="module", autouse=True)
def spark(start_spark: Callable[..., Any]) -> Any:
    """One session for all."""
    return start_spark("local[2]")


class TestSparkLocal(EngineContract):
    """Trials in children of Spark's Python workers."""

    engine = "spark"


def search(train_fn: Callable[..., Any], folder: Path, **options: Any) -> Result:
    """A seeded random search on Spark with two workers."""
    defaults: dict[str, Any] = {
        "num_trials": 6,
        "searchspace": Searchspace(x=("DOUBLE", [0.0, 1.0])),
        "optimizer": "randomsearch",
        "direction": "min",
        "es_policy": "none",
        "seed": 3,
        "folder": folder,
        "engine": "spark",
        "num_workers": 2,
        "quiet": True,
    }
    return experiment.lagom(train_fn, OptimizationConfig(**{**defaults, **options}))


def events(result: Result) -> list[Event]:
    """What the run's log holds."""
    assert result.path is not None
    with SqliteLog.open(open_run(result.path).database) as log:
        return list(log.read())


def until(true: Callable[[], bool]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"


def busy(spark: Any) -> int:
    """How many jobs Spark runs."""
    return len(spark.sparkContext.statusTracker().getActiveJobsIds())


def test_a_killed_agent_is_replaced_and_its_trial_run_again(tmp_path: Path) -> None:
    """Although it takes its Spark job with it; no trial is lost, and none is counted twice."""
    marker = str(tmp_path / "killed")

    def train(x: float) -> float:
        try:
            Path(marker).touch(exist_ok=False)  # by one trial alone
        except FileExistsError:
            return x
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(LIMIT)
        return x

    result = search(train, tmp_path)
    assert [trial.status for trial in result.trials] == ["completed"] * 6
    assert sorted(trial.value or 0 for trial in result.trials) == sorted(
        float(trial.hparams["x"])  # type: ignore[arg-type]
        for trial in search(lambda x: x, tmp_path, engine="inline").trials
    )
    story = events(result)
    assert len([event for event in story if isinstance(event, WorkerLost)]) == 1


def test_more_agents_than_slots(tmp_path: Path, spark: Any) -> None:
    """Those that find no slot wait in Spark's queue, and leave it with the run."""
    result = search(lambda x: x, tmp_path, num_workers=5, num_trials=10)
    joined = {event.worker for event in events(result) if isinstance(event, WorkerJoined)}
    assert result["num_trials"] == 10
    assert 1 <= len(joined) <= 2
    until(lambda: busy(spark) == 0)


def test_slots_are_the_default_number_of_workers(tmp_path: Path) -> None:
    """As many as Spark has cores."""
    result = search(lambda x: x, tmp_path, num_workers=None)
    started: Any = events(result)[0]
    assert started.config["num_workers"] == 2
    assert started.config["engine"] == "spark"
    assert any("job group maggy-" in note for note in started.config["notes"])


def test_the_session_is_left_as_it_was_found(tmp_path: Path, spark: Any) -> None:
    """Local properties, conf, files, no job of ours, and Python workers without our modules."""
    context = spark.sparkContext

    def state() -> tuple[Any, ...]:
        names = ("spark.jobGroup.id", "spark.job.description", "spark.scheduler.pool", "mine")
        return (
            [context.getLocalProperty(name) for name in names],
            sorted(context.getConf().getAll()),
            list(context._python_includes),
            signal.getsignal(signal.SIGINT),
            busy(spark),
        )

    context.setJobGroup("my group", "my job")
    context.setLocalProperty("mine", "yes")
    try:
        before = state()
        search(lambda x: x, tmp_path)
        until(lambda: busy(spark) == 0)
        assert state() == before
    finally:
        for name in ("spark.jobGroup.id", "spark.job.description", "mine"):
            context.setLocalProperty(name, None)

    def left(_: Any) -> Any:
        brought = [name for name, module in sys.modules.items() if "maggy-code" in repr(module)]
        return [brought, [entry for entry in sys.path if "maggy-code" in entry]]

    assert context.parallelize(range(2), 2).map(left).collect() == [[[], []]] * 2


def test_modules_of_the_driver_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training function's module travels by value, and ``py_files`` brings the others."""
    theirs = tmp_path / "only_by_file.py"
    theirs.write_text("SHIFT = 40\n")
    mine = tmp_path / "only_here.py"
    mine.write_text("def shift(x):\n    import only_by_file\n    return only_by_file.SHIFT + x\n")
    spec = importlib.util.spec_from_file_location("only_here", mine)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "only_here", module)
    spec.loader.exec_module(module)
    mine.unlink()

    def train(x: float) -> float:
        return float(module.shift(x))

    with pytest.raises(ExperimentFailed, match="only_by_file"):
        search(train, tmp_path)
    result = search(train, tmp_path, py_files=[theirs])
    assert result["best_val"] > 40


def test_ctrl_c_ends_jobs_and_trials(tmp_path: Path, spark: Any) -> None:
    """A trial that does not listen is killed, and no job and no process is left."""
    pids = tmp_path / "pids"

    def train(x: float) -> float:
        with pids.open("a") as file:
            file.write(f"{os.getpid()}\n")
        while True:
            time.sleep(0.1)

    def interrupt() -> None:
        until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(ExperimentInterrupted) as caught:
        search(train, tmp_path)
    thread.join(LIMIT)
    assert caught.value.result.outcome == "interrupted"
    until(lambda: busy(spark) == 0)
    until(lambda: all(is_gone(int(pid)) for pid in pids.read_text().split()))


def test_what_local_mode_cannot_give_is_refused(tmp_path: Path) -> None:
    """GPUs, and more cores than there are."""
    with pytest.raises(ConfigError, match='engine="local"'):
        search(lambda x: x, tmp_path, resources={"gpu": 1})
    with pytest.raises(ConfigError, match="asks for 3 cores"):
        search(lambda x: x, tmp_path, resources={"cpu": 3})


def test_cores_become_threads(tmp_path: Path) -> None:
    """Fewer workers, each of which computes with so many threads."""

    def train(x: float, reporter: Reporter) -> float:
        return float(os.environ["OMP_NUM_THREADS"])

    result = search(train, tmp_path, resources={"cpu": 2}, num_workers=None)
    assert {trial.value for trial in result.trials} == {2.0}
    started: Any = events(result)[0]
    assert started.config["num_workers"] == 1


def test_executors_that_cannot_run_an_agent_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spark: Any
) -> None:
    """With Spark's reason, instead of waiting for ever."""
    monkeypatch.setattr(spark.sparkContext, "pythonExec", str(tmp_path / "none"))
    with pytest.raises(ExperimentFailed, match="Spark could not run any agent"):
        search(lambda x: x, tmp_path)
    until(lambda: busy(spark) == 0)


def test_the_example_runs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """On the session that is active."""
    path = Path(__file__).parents[2] / "examples" / "spark_search.py"
    example = runpy.run_path(str(path))
    result = example["main"](num_trials=3, folder=tmp_path, num_workers=2, quiet=True, seed=1)
    assert result["best_val"] > 0.5
    assert capfd.readouterr().out.startswith("3 trials, best 0.")
