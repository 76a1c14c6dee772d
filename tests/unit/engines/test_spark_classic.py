"""What is read off a Spark context: addresses, slots, and whether resources can be had."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from maggy.engines import spark_classic
from maggy.engines.spark_classic import ClassicCluster
from maggy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Context:
    """The part of a Spark context that is looked at; its scheduler does not answer."""

    defaultParallelism = 8  # noqa: N815 - as in pyspark
    applicationId = "app-7"  # noqa: N815
    uiWebUrl: str | None = None  # noqa: N815

    def __init__(self, master: str, conf: Mapping[str, str]) -> None:
        self.master = master
        self._conf = dict(conf)

    def getConf(self) -> dict[str, str]:  # noqa: N802
        return self._conf


@pytest.fixture(autouse=True)
def pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if threads were pinned, which only a real gateway shows."""
    monkeypatch.setattr(spark_classic, "_require_pinned_threads", lambda _: None)


def cluster(
    master: str = "yarn", resources: Mapping[str, float] | None = None, **conf: str
) -> ClassicCluster:
    """On a context with this configuration; ``_`` in names stands for dots."""
    dotted = {f"spark.{name.replace('_', '.')}": value for name, value in conf.items()}
    context: Any = Context(master, dotted)
    return ClassicCluster(context, name="n", resources=resources or {}, serve=print)


def test_executors_are_told_what_spark_tells_them() -> None:
    """The address may be another one than that which the driver can listen on."""
    assert cluster(driver_host="node1").hosts() == ("node1", "node1")
    behind = cluster(driver_host="node1", driver_bindAddress="0.0.0.0")
    assert behind.hosts() == ("0.0.0.0", "node1")
    assert cluster("local-cluster[2,1,1024]", driver_host="node1").hosts() == ("127.0.0.1",) * 2
    with pytest.raises(ConfigError, match="listen="):
        cluster().hosts()


def test_slots_count_executors_that_are_still_being_started() -> None:
    """Where the scheduler does not say; at least one, and local mode has what its name says."""
    assert cluster().slots() == 8
    assert cluster(task_cpus="4").slots() == 2
    assert cluster(executor_instances="10", executor_cores="4").slots() == 40
    assert cluster(executor_instances="10", executor_cores="4", task_cpus="2").slots() == 20
    assert cluster(task_cpus="16").slots() == 1
    assert cluster("local[8]", {"cpu": 3}).slots() == 2
    assert cluster("local[8]", {"cpu": 3}, task_cpus="2").slots() == 2
    with pytest.raises(ConfigError, match="asks for 9 cores"):
        cluster("local[8]", {"cpu": 9})


def test_what_each_task_has_anyway_needs_no_profile() -> None:
    """So it works on every kind of cluster."""
    conf = {"executor_resource_gpu_amount": "4", "task_resource_gpu_amount": "1"}
    asked = cluster(resources={"gpu": 1, "cpu": 2}, task_cpus="2", **conf)
    assert asked._profile is None


def test_gpus_that_executors_do_not_have_are_refused() -> None:
    """Before Spark waits for them for ever."""
    with pytest.raises(ConfigError, match=r"spark\.executor\.resource\.gpu\.amount"):
        cluster(resources={"gpu": 1})


def test_where_to_look() -> None:
    """Application, group and user interface."""
    one = cluster()
    assert one.where() == f"Spark application app-7, job group {one._group}"
    one._context.uiWebUrl = "http://node1:4040"
    assert one.where().endswith(", http://node1:4040")


def test_threads_that_share_a_job_group_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Because ending our jobs would end the user's."""
    monkeypatch.undo()
    context: Any = Context("yarn", {})
    context._gateway = object()
    pytest.importorskip("py4j")
    with pytest.raises(ConfigError, match="PYSPARK_PIN_THREAD"):
        ClassicCluster(context, name="n", resources={}, serve=print)
