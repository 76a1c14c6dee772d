"""The Spark engine's launcher: agents as Spark jobs, one long-running task for each slot.

It uses the session that is active and leaves it as it was found; without one it starts a session
for the run, the way ``spark-submit`` has configured it, and stops it afterwards.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from maggy.config import address
from maggy.engines.code import carry, pack
from maggy.engines.spark_classic import ClassicCluster
from maggy.engines.spark_connect import (
    ConnectCluster,
    ConnectQueries,
    UnreachableError,
    server,
    slots,
)
from maggy.engines.spark_jobs import JobKeeper
from maggy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from maggy.config import OptimizationConfig
    from maggy.engines.launcher import Desk, Invitation
    from maggy.engines.spark_jobs import Cluster

__all__ = ["SparkLauncher", "active_cluster"]

_TASK = "maggy.engines.spark_task:serve"
_QUERY = "maggy.engines.query_task:answer"


class SparkLauncher:
    """See ``maggy.engines.launcher.Launcher``; build it on the thread that called ``lagom``.

    Args:
        config: The options: ``name``, ``resources``, ``py_files``, ``listen``.

    Raises:
        ConfigError: There is no Spark, or it cannot do what the config asks for; says why.

    Attributes:
        queries: For ``maggy.engines.queries``, where executors cannot reach this process: then no
            agents can be had.
    """

    def __init__(self, config: OptimizationConfig) -> None:
        code = pack(config.py_files)
        resources = config.resources or {}
        self._spark, self._ours = _find_or_start()
        self.queries: ConnectQueries | None = None
        self._keeper: JobKeeper | None = None
        self._slots: Callable[[], int]
        try:
            self._cluster = _cluster(self._spark, config, carry(code, _TASK))
            self._slots = self._cluster.slots
            self._keeper = JobKeeper(self._cluster, self._cluster.inheriting())
        except UnreachableError as error:
            self.queries = ConnectQueries(
                self._spark, resources=resources, run=carry(code, _QUERY), reason=str(error)
            )
            self._slots = lambda: slots(self._spark, resources)
        except BaseException:
            self._give_back()
            raise

    def slots(self) -> int:
        """How many trials Spark can run at a time, as far as it knows now; at least 1."""
        return self._slots()

    def notes(self, invitation: Invitation) -> list[str]:
        """Where the agents are to be found."""
        return [f"agents: {self._cluster.where()}"]

    def advertise(self) -> tuple[str, str]:
        """See ``Launcher``."""
        return self._cluster.hosts()

    def open(self, invitation: Invitation, desk: Desk, count: int) -> None:
        """Submit the jobs."""
        assert self._keeper is not None
        self._keeper.start(invitation, desk, count)

    def close(self) -> None:
        """Cancel the jobs that have not ended."""
        assert self._keeper is not None
        self._keeper.close()
        self._give_back()

    def _give_back(self) -> None:
        """Stop the session if there was none before."""
        if self._ours:
            self._spark.stop()


def active_cluster() -> str | None:
    """The cluster whose session is active in this process, if there is one.

    Nothing is imported: a program that uses Spark has done so.
    """
    remote = _remote_session()
    if remote is not None:
        local = str(remote.conf.get("spark.master", "")).startswith("local")
        return None if local else f"Spark Connect at {server(remote)}"
    pyspark = sys.modules.get("pyspark")
    context = getattr(getattr(pyspark, "SparkContext", None), "_active_spark_context", None)
    if context is None or str(context.master).startswith("local"):
        return None
    return str(context.master)


def _cluster(spark: Any, config: OptimizationConfig, serve: Callable[..., Any]) -> Cluster:
    resources = config.resources or {}
    if _is_remote(spark):
        listen = ("", 0) if config.listen is None else address(config.listen)
        return ConnectCluster(spark, resources=resources, serve=serve, listen=listen)
    return ClassicCluster(spark, name=config.name, resources=resources, serve=serve)


def _find_or_start() -> tuple[Any, bool]:
    """The active remote session or Spark context, or a new one; True for a new one.

    Raises:
        ConfigError: There is no Spark here, or it cannot be started.
    """
    remote = _remote_session()
    if remote is not None:
        return remote, False
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        msg = (
            f"engine='spark' needs the extra `maggy[spark]` ({error}): pip install pyspark "
            "cryptography. Spark needs Java 17 as well."
        )
        raise ConfigError(msg) from error
    context = getattr(sys.modules["pyspark"], "SparkContext", None)
    active = getattr(context, "_active_spark_context", None)
    if active is not None:
        return active, False
    try:
        builder = SparkSession.builder.appName("maggy")
        session = builder.config("spark.ui.showConsoleProgress", "false").getOrCreate()
    except Exception as error:
        msg = (
            f"engine='spark' found no active session, and none could be started: {error}. Build "
            "one with SparkSession.builder.getOrCreate() before, as your cluster wants it; Spark "
            "needs Java 17."
        )
        raise ConfigError(msg) from error
    if _is_remote(session):
        return session, True
    if session.sparkContext.master.startswith("local"):
        session.sparkContext.pythonExec = sys.executable  # else whatever `python3` is
    return session.sparkContext, True


def _remote_session() -> Any:
    """The session of Spark Connect that is active in this process, or None."""
    connect = sys.modules.get("pyspark.sql.connect.session")
    if connect is None:
        return None
    session = connect.SparkSession.getActiveSession()
    return connect.SparkSession._default_session if session is None else session  # noqa: SLF001


def _is_remote(spark: object) -> bool:
    return type(spark).__module__.startswith("pyspark.sql.connect")
