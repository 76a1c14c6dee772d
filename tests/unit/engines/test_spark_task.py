"""A Spark task passes what Spark gave it on to its worker, and fails when it has to."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from maggy.engines import spark_task
from maggy.engines.spark_task import environment, serve
from maggy.worker.processes import INSIDE_A_WORKER, thread_env

THREADS = {**thread_env(4, 1, {}), INSIDE_A_WORKER: "1"}


@pytest.mark.parametrize(
    ("gpus", "environ", "shown"),
    [
        ([], {"CUDA_VISIBLE_DEVICES": "0,1"}, {}),
        (["1", "3"], {}, {"CUDA_VISIBLE_DEVICES": "1,3"}),
        (["3"], {"CUDA_VISIBLE_DEVICES": "2,3"}, {"CUDA_VISIBLE_DEVICES": "3"}),
        (["1"], {"CUDA_VISIBLE_DEVICES": "6, 7"}, {"CUDA_VISIBLE_DEVICES": "7"}),
        (["1"], {"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"}, {"CUDA_VISIBLE_DEVICES": "GPU-b"}),
        (["GPU-c"], {"CUDA_VISIBLE_DEVICES": "GPU-a"}, {"CUDA_VISIBLE_DEVICES": "GPU-c"}),
        (["0"], {"HIP_VISIBLE_DEVICES": "4,5"}, {"HIP_VISIBLE_DEVICES": "4"}),
    ],
    ids=["none", "addresses", "listed", "counted", "named", "strange", "amd"],
)
def test_a_worker_sees_the_gpus_of_its_task(
    gpus: list[str], environ: dict[str, str], shown: dict[str, str]
) -> None:
    """Whether Spark's addresses name devices or count those that are visible anyway."""
    assert environment(4, gpus, environ) == {**THREADS, **shown}


def given(monkeypatch: pytest.MonkeyPatch, *, told: bool) -> list[Any]:
    """What ``run_agent`` is called with, in a task with three cores and a GPU."""
    calls: list[Any] = []

    def run_agent(bootstrap: Any, *, environ: Any) -> bool:
        calls.extend([bootstrap, environ])
        return told

    resource = types.SimpleNamespace(addresses=["2"])
    context = types.SimpleNamespace(cpus=lambda: 3, resources=lambda: {"gpu": resource})
    pyspark: Any = types.ModuleType("pyspark")
    pyspark.TaskContext = types.SimpleNamespace(get=lambda: context)
    monkeypatch.setitem(sys.modules, "pyspark", pyspark)
    monkeypatch.setattr(spark_task, "run_agent", run_agent)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("HIP_VISIBLE_DEVICES", raising=False)
    return calls


def test_cores_and_gpus_are_those_of_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the driver says with how many threads a trial computes."""
    calls = given(monkeypatch, told=True)
    serve({"host": "h"})
    serve({"host": "h"}, 8)
    assert calls[0] == {"host": "h"}
    assert calls[1]["OMP_NUM_THREADS"] == "3"
    assert calls[1]["CUDA_VISIBLE_DEVICES"] == "2"
    assert calls[3]["OMP_NUM_THREADS"] == "8"


def test_an_agent_that_lost_its_driver_fails_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """A success would make Spark end the other copies of the task."""
    given(monkeypatch, told=False)
    with pytest.raises(ConnectionError, match="not heard"):
        serve({"host": "10.0.0.1"})
