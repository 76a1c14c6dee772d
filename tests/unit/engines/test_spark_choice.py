"""Which Spark is used, decided without importing it."""

from __future__ import annotations

import subprocess
import sys
import types
from typing import Any

import pytest

from maggy.engines.spark import active_cluster


def spark(monkeypatch: pytest.MonkeyPatch, master: str | None) -> None:
    """A program in which a context of this master is active."""
    context = None if master is None else types.SimpleNamespace(master=master)
    pyspark: Any = types.ModuleType("pyspark")
    pyspark.SparkContext = types.SimpleNamespace(_active_spark_context=context)
    monkeypatch.setitem(sys.modules, "pyspark", pyspark)
    monkeypatch.delitem(sys.modules, "pyspark.sql.connect.session", raising=False)


@pytest.mark.parametrize(
    ("master", "found"),
    [
        (None, None),
        ("local", None),
        ("local[*]", None),
        ("local-cluster[2,1,1024]", None),
        ("yarn", "yarn"),
        ("spark://10.0.0.1:7077", "spark://10.0.0.1:7077"),
        ("k8s://https://api:443", "k8s://https://api:443"),
    ],
)
def test_a_context_of_a_cluster_is_found(
    monkeypatch: pytest.MonkeyPatch, master: str | None, found: str | None
) -> None:
    """One of this machine is no reason to leave it."""
    spark(monkeypatch, master)
    assert active_cluster() == found


@pytest.mark.parametrize(("master", "is_found"), [("local[2]", False), ("yarn", True)])
def test_a_remote_session_of_a_cluster_is_found(
    monkeypatch: pytest.MonkeyPatch, master: str, *, is_found: bool
) -> None:
    """By what its server says."""
    spark(monkeypatch, None)
    session = types.SimpleNamespace(
        conf={"spark.master": master}, _client=types.SimpleNamespace(host="example.org")
    )
    connect: Any = types.ModuleType("pyspark.sql.connect.session")
    connect.SparkSession = types.SimpleNamespace(getActiveSession=lambda: session)
    monkeypatch.setitem(sys.modules, "pyspark.sql.connect.session", connect)
    assert active_cluster() == ("Spark Connect at example.org" if is_found else None)


def test_nothing_of_spark_is_imported() -> None:
    """Neither by the launcher's modules nor by the question."""
    code = (
        "import sys; from maggy.engines.spark import active_cluster; active_cluster();"
        "sys.exit(any(name.partition('.')[0] in ('pyspark', 'py4j') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
