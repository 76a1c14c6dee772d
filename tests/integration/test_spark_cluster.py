"""Searches on executors of their own (``local-cluster``), and what can go wrong on them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from maggy import OptimizationConfig, Searchspace, experiment
from maggy.engines import spark_jobs
from maggy.errors import ConfigError
from maggy.events import WorkerLost
from maggy.store.folder import open_run
from maggy.store.sqlite import SqliteLog
from maggy.testing.engines import EngineContract

if TYPE_CHECKING:
    from collections.abc import Callable

    from maggy.views.result import Result

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

LIMIT = 60.0
GPUS = """#!/bin/sh
echo '{"name": "gpu", "addresses": ["4", "5"]}'
"""


@pytest.fixture(scope="module", autouse=True)
def spark(start_spark: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two executors with one core and two invented GPUs each."""
    script = tmp_path_factory.mktemp("gpus") / "gpus.sh"
    script.write_text(GPUS)
    script.chmod(0o755)
    conf = {}
    for who in ("executor", "worker"):
        conf[f"spark.{who}.resource.gpu.amount"] = "2"
        conf[f"spark.{who}.resource.gpu.discoveryScript"] = str(script)
    return start_spark("local-cluster[2,1,1024]", conf)


class TestSparkCluster(EngineContract):
    """Trials in children of the Python workers of executors."""

    engine = "spark"


def search(train_fn: Callable[..., Any], folder: Path, **options: Any) -> Result:
    """A seeded random search on Spark with two workers."""
    defaults: dict[str, Any] = {
        "num_trials": 8,
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


def losses(result: Result) -> int:
    """How often a worker was lost."""
    assert result.path is not None
    with SqliteLog.open(open_run(result.path).database) as log:
        return sum(isinstance(event, WorkerLost) for event in log.read())


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


@pytest.mark.parametrize("generations", [0, 1, 3], ids=["trial", "agent", "executor"])
def test_after_kill_9_no_trial_is_lost_and_nothing_is_left(
    generations: int, tmp_path: Path, spark: Any
) -> None:
    """Of a trial's process, of its agent, or of the executor's JVM above that.

    The trials are those of an undisturbed search, each counted once, and every process that ran
    one is gone afterwards.
    """
    folder = str(tmp_path)

    def train(x: float) -> float:
        pid = os.getpid()
        Path(folder, f"pid-{pid}").touch()
        if not os.path.exists(f"{folder}/killed"):  # noqa: PTH110
            Path(folder, "killed").touch()
            for _ in range(generations):
                pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            os.kill(pid, signal.SIGKILL)
            time.sleep(60.0)
        return x

    result = search(train, tmp_path)
    there = search(lambda x: x, tmp_path, engine="inline")
    assert [(t.id, t.hparams, t.value) for t in result.trials] == [
        (t.id, t.hparams, t.value) for t in there.trials
    ]
    assert result["best_hp"] == there["best_hp"]
    assert losses(result) == 1
    pids = [int(path.name.removeprefix("pid-")) for path in tmp_path.glob("pid-*")]
    assert len(pids) >= 2
    until(lambda: all(is_gone(pid) for pid in pids))
    until(lambda: not spark.sparkContext.statusTracker().getActiveJobsIds())


def test_an_agent_that_is_killed_again_and_again(tmp_path: Path) -> None:
    """Five times, which is more than Spark allows a task to fail: nobody else is disturbed."""
    folder = str(tmp_path)

    def train(x: float) -> float:
        kills = len(list(Path(folder).glob("kill-*")))
        if x < 0.5 and kills < 5:
            Path(folder, f"kill-{kills}").touch()
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60.0)
        return x

    result = search(train, tmp_path, num_trials=12)
    assert {trial.status for trial in result.trials} <= {"completed", "failed"}
    assert losses(result) == 5
    assert result["num_trials"] == 12


def test_agents_that_share_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where there are more than a hundred; the death of one does not end the other."""
    monkeypatch.setattr(spark_jobs, "_MOST_JOBS", 1)
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
    assert [trial.status for trial in result.trials] == ["completed"] * 8
    assert losses(result) == 1


def test_gpus_of_the_task_are_all_that_a_trial_sees(tmp_path: Path) -> None:
    """By a resource profile, since the cluster gives none to tasks unless asked."""

    def train(x: float) -> float:
        gpus = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
        return float(len(gpus) * 100 + int(gpus[0]))

    one = search(train, tmp_path, resources={"gpu": 1})
    assert {trial.value for trial in one.trials} <= {104.0, 105.0}
    two = search(train, tmp_path, resources={"gpu": 2})
    assert {trial.value for trial in two.trials} == {204.0}


def test_resources_that_the_cluster_lacks_are_refused(tmp_path: Path) -> None:
    """Before anything is started, with Spark's reason."""
    with pytest.raises(ConfigError, match="cannot be had from this Spark"):
        search(lambda x: x, tmp_path, resources={"cpu": 2})
