"""Searches whose workers get GPUs and cores, on a machine whose GPUs are invented."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from maggy import ConfigError, OptimizationConfig, Searchspace, experiment
from maggy.engines.resources import find_gpus

pytestmark = pytest.mark.integration

COUNTS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@pytest.fixture(autouse=True)
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parent's own list: two devices, not the first ones."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-5a,MIG-7b/1")


def search(train: Any, folder: Path, **options: Any) -> Any:
    space = Searchspace(x=("DOUBLE", [0.0, 1.0]))
    defaults = {"num_trials": 4, "searchspace": space, "folder": folder, "quiet": True, "seed": 1}
    defaults["optimizer"] = "randomsearch"
    return experiment.lagom(train, OptimizationConfig(**{**defaults, **options}))


def seen(x: float, reporter: Any) -> dict[str, Any]:
    """What the process's environment was when it started, before anything was imported."""
    began = Path("/proc/self/environ").read_bytes().split(b"\0")
    names = ("CUDA_VISIBLE_DEVICES", *COUNTS)
    found = {name: os.environ.get(name) for name in names}
    early = f"CUDA_VISIBLE_DEVICES={found['CUDA_VISIBLE_DEVICES']}".encode() in began
    time.sleep(0.3)  # the training: every worker gets some
    return {"metric": x, **found, "early": early}


def test_each_worker_sees_its_own_gpu(tmp_path: Path) -> None:
    """From the start of its process, under the parent's names; one worker for each GPU."""
    result = search(seen, tmp_path, resources={"gpu": 1})
    by_worker = {t.worker: t.info["CUDA_VISIBLE_DEVICES"] for t in result.trials}
    assert by_worker == {"w0": "GPU-5a", "w1": "MIG-7b/1"}
    assert all(t.info["early"] for t in result.trials)
    assert result.config["num_workers"] == 2
    assert result.config["resources"] == {
        "gpu": 1,
        "gpus": [["GPU-5a"], ["MIG-7b/1"]],
        "found": "CUDA_VISIBLE_DEVICES is 'GPU-5a,MIG-7b/1'",
    }
    assert result.config["notes"][-1] == "GPUs, one worker's after the other's: GPU-5a; MIG-7b/1"
    assert experiment.load(result.path).config["resources"] == result.config["resources"]


def test_few_workers_on_shared_gpus_are_spread_out(tmp_path: Path) -> None:
    """Two workers on four halves use both GPUs; four are the default."""
    result = search(seen, tmp_path, resources={"gpu": 0.5}, num_workers=2)
    assert {t.info["CUDA_VISIBLE_DEVICES"] for t in result.trials} == {"GPU-5a", "MIG-7b/1"}
    assert search(lambda x: x, tmp_path, resources={"gpu": 0.5}).config["num_workers"] == 4


def test_a_worker_gets_several_gpus(tmp_path: Path) -> None:
    """All of them in one list."""
    result = search(seen, tmp_path, resources={"gpu": 2}, num_trials=2)
    assert {t.info["CUDA_VISIBLE_DEVICES"] for t in result.trials} == {"GPU-5a,MIG-7b/1"}
    assert {t.worker for t in result.trials} == {"w0"}


def test_cores_are_threads_and_limit_the_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was asked for outranks the environment; GPUs are what the parent sees."""
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setattr("maggy.engines.registry.usable_cores", lambda: 7)
    result = search(seen, tmp_path, resources={"cpu": 3})
    assert result.config["num_workers"] == 2
    for trial in result.trials:
        assert [trial.info[name] for name in COUNTS] == ["3"] * 3
        assert trial.info["CUDA_VISIBLE_DEVICES"] == "GPU-5a,MIG-7b/1"


def test_a_replaced_worker_gets_its_predecessor_s_gpu(tmp_path: Path) -> None:
    """Whoever dies: never two workers on one GPU, never an idle one."""

    def train(x: float) -> dict[str, Any]:
        mark = Path(os.environ["MARKS"], f"{x}")
        if not mark.exists() and x > 0.5:
            mark.write_text(os.environ["CUDA_VISIBLE_DEVICES"])
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.05)  # the training
        return {"metric": x, "gpu": os.environ["CUDA_VISIBLE_DEVICES"]}

    marks = tmp_path / "marks"
    marks.mkdir()
    os.environ["MARKS"] = str(marks)
    try:
        result = search(train, tmp_path / "runs", resources={"gpu": 1}, num_trials=12)
    finally:
        del os.environ["MARKS"]
    assert [t.status for t in result.trials] == ["completed"] * 12
    gpus: dict[str, set[str]] = {}
    for trial in result.trials:
        gpus.setdefault(trial.worker, set()).add(trial.info["gpu"])
    assert all(len(one) == 1 for one in gpus.values())
    assert {gpu for one in gpus.values() for gpu in one} == {"GPU-5a", "MIG-7b/1"}
    assert len(list(marks.iterdir())) == sum(t.hparams["x"] > 0.5 for t in result.trials)


def test_without_a_request_workers_see_what_the_parent_sees(tmp_path: Path) -> None:
    """Nothing is looked for, nothing is set."""
    result = search(seen, tmp_path, num_workers=2)
    assert {t.info["CUDA_VISIBLE_DEVICES"] for t in result.trials} == {"GPU-5a,MIG-7b/1"}
    assert result.config["resources"] is None


@pytest.mark.parametrize("engine", ["local", "inline"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resources": {"gpu": 3}}, "asks for 3 GPUs for each worker, but 2 were found: CUDA"),
        ({"resources": {"cpu": 10_000}}, "asks for 10000 cores"),
        ({"resources": {"gpu": 1}, "num_workers": 3}, "has room for 2 here"),
    ],
)
def test_what_is_not_there_is_an_error_before_anything_is_created(
    tmp_path: Path, engine: str, options: dict[str, Any], message: str
) -> None:
    """No waiting for ever, no run folder."""
    with pytest.raises(ConfigError, match=message):
        search(lambda x: x, tmp_path, engine=engine, **options)
    assert list(tmp_path.iterdir()) == []


def test_inline_sees_what_this_process_sees(tmp_path: Path) -> None:
    """One trial at a time; nothing is hidden from this process, and the log says no share."""
    options = {"engine": "inline", "resources": {"gpu": 1}, "num_trials": 2}
    result = search(seen, tmp_path, **options)
    assert {t.info["CUDA_VISIBLE_DEVICES"] for t in result.trials} == {"GPU-5a,MIG-7b/1"}
    assert result.config["resources"] == {"gpu": 1}


def test_a_search_inside_a_trial_shares_its_gpu(tmp_path: Path) -> None:
    """The inner search finds the outer worker's GPU, and no other."""

    def outer(x: float) -> dict[str, Any]:
        def inner(y: float) -> dict[str, Any]:
            return {"metric": y, "gpu": os.environ["CUDA_VISIBLE_DEVICES"]}

        config = OptimizationConfig(
            num_trials=2,
            searchspace=Searchspace(y=("DOUBLE", [0.0, 1.0])),
            folder=tmp_path / "inner",
            resources={"gpu": 1},
            quiet=True,
        )
        found = experiment.lagom(inner, config)
        gpus = sorted({str(t.info["gpu"]) for t in found.trials if t.info})
        return {"metric": x, "gpus": gpus, "own": os.environ["CUDA_VISIBLE_DEVICES"]}

    result = search(outer, tmp_path / "outer", resources={"gpu": 1}, num_trials=2)
    for trial in result.trials:
        assert trial.info["gpus"] == [trial.info["own"]]


def test_a_search_for_the_gpus_of_this_machine_never_fails() -> None:
    """Whatever is or is not there."""
    assert isinstance(find_gpus({}).devices, tuple)
