"""Agents on a Spark cluster by way of its driver in this process: one-task jobs of an RDD."""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, Any

from maggy.engines.spark_errors import explain
from maggy.engines.spark_jobs import slot_name
from maggy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pyspark import SparkContext
    from pyspark.resource import ResourceProfile

    from maggy.engines.launcher import Invitation
    from maggy.trial import Json

__all__ = ["ClassicCluster"]

logger = logging.getLogger(__name__)


class ClassicCluster:
    """See ``maggy.engines.spark_jobs.Cluster``.

    Jobs get the local properties of the thread that starts them (its scheduler pool, for
    instance), and a group and descriptions of their own.

    Args:
        context: The active Spark context.
        name: The experiment's, for descriptions.
        resources: The config's option: a resource profile of the tasks, unless it is what each
            task has anyway.
        serve: What a task does: takes an agent's bootstrap, and the threads of its worker.

    Raises:
        ConfigError: This Spark cannot do that; says why.
    """

    def __init__(
        self,
        context: SparkContext,
        *,
        name: str,
        resources: Mapping[str, float],
        serve: Callable[..., Any],
    ) -> None:
        _require_pinned_threads(context)
        self._context = context
        self._name = name
        self._resources = resources
        self._profile = _profile(context, resources)
        self._serve = serve
        self._group = f"maggy-{secrets.token_hex(4)}"

    def slots(self) -> int:
        """What Spark's scheduler says; while executors are being started, what they will be."""
        return max(1, _running_at_once(self._context, self._profile, self._resources))

    def hosts(self) -> tuple[str, str]:
        """The address that Spark's own driver listens on, and the one that it tells executors."""
        if _on_this_machine(self._context.master):
            return "127.0.0.1", "127.0.0.1"
        conf = self._context.getConf()
        host = conf.get("spark.driver.host")
        if not host:
            msg = (
                "Spark does not say where its driver can be reached. Set `spark.driver.host` when "
                "the session is built, or `listen=` in the config."
            )
            raise ConfigError(msg)
        return conf.get("spark.driver.bindAddress") or host, host

    def where(self) -> str:
        """The application, the job group, and the user interface if there is one."""
        context = self._context
        ui = f", {context.uiWebUrl}" if context.uiWebUrl else ""
        return f"Spark application {context.applicationId}, job group {self._group}{ui}"

    def submit(self, invitation: Invitation, slots: Sequence[int]) -> None:
        """Collect an RDD of one partition for each slot, which comes to nothing.

        Raises:
            ConnectionError: The session was stopped.
        """
        if self._context._jsc is None:  # noqa: SLF001 - what `stop` leaves
            msg = "the Spark session was stopped while the search went on"
            raise ConnectionError(msg)
        first, last = slots[0], slots[-1]
        what = f"agent {first}" if first == last else f"agents {first} to {last}"
        self._context.setJobGroup(self._group, f"maggy {self._name}: {what}")
        bootstraps = {slot: invitation.bootstrap(slot_name(slot)) for slot in slots}
        threads = int(self._resources["cpu"]) if "cpu" in self._resources else None
        task = _partition(self._serve, bootstraps, threads)
        job = self._context.parallelize(slots, len(slots)).mapPartitions(task)
        if self._profile is not None:
            job = job.withResources(self._profile)
        job.collect()

    def cancel(self) -> None:
        """Cancel the job group."""
        self._context.cancelJobGroup(self._group)

    def inheriting(self) -> Callable[[Callable[[], None]], None]:
        """As ``pyspark.inheritable_thread_target``.

        That one wants a session in some versions, and gives all threads that use one wrapper the
        same properties object.
        """
        from pyspark import InheritableThread

        scala: Any = self._context._jsc.sc()  # noqa: SLF001 - the way that pyspark itself goes
        properties = scala.getLocalProperties().clone()
        hang_up = getattr(InheritableThread, "_clean_py4j_conn_for_current_thread", None)

        def inside(call: Callable[[], None]) -> None:
            scala.setLocalProperties(properties)
            try:
                call()
            finally:
                if hang_up is not None:  # before Spark 4 the JVM's half of a thread stays
                    hang_up()

        return inside


def _partition(
    serve: Callable[..., Any], bootstraps: Mapping[int, Mapping[str, Json]], threads: int | None
) -> Callable[[Iterable[int]], Iterator[Any]]:
    """A function, to be sent by value, for the partitions of a job."""

    def run(slots: Iterable[int]) -> Iterator[Any]:
        for slot in slots:
            serve(bootstraps[slot], threads)
        return iter(())

    return run


def _require_pinned_threads(context: SparkContext) -> None:
    from py4j.clientserver import ClientServer

    if not isinstance(context._gateway, ClientServer):  # noqa: SLF001 - pyspark asks the same way
        msg = (
            "PYSPARK_PIN_THREAD=false makes all threads share one job group, so the run could not "
            'end its own jobs alone. Unset it before the session is built, or use engine="local".'
        )
        raise ConfigError(msg)


def _on_this_machine(master: str) -> bool:
    """True for masters whose executors are threads or processes beside the driver."""
    return master.startswith("local")


def _without_executors(master: str) -> bool:
    return _on_this_machine(master) and not master.startswith("local-cluster")


def _profile(context: SparkContext, resources: Mapping[str, float]) -> ResourceProfile | None:
    """What each task asks for, if that is not what it gets anyway.

    Raises:
        ConfigError: This cluster cannot give it; says why.
    """
    if not resources:
        return None
    conf = context.getConf()
    if _without_executors(context.master):
        if "gpu" in resources:
            msg = (
                f"`resources` asks for GPUs, but Spark's master is {context.master!r}, which "
                'gives none to tasks. Use engine="local", which does.'
            )
            raise ConfigError(msg)
        if resources["cpu"] > _local_cores(context):
            msg = (
                f"`resources` asks for {resources['cpu']:g} cores for each worker, but Spark's "
                f"master is {context.master!r}. Ask for less."
            )
            raise ConfigError(msg)
        return None
    if "gpu" in resources and conf.get("spark.executor.resource.gpu.amount") is None:
        msg = (
            "`resources` asks for GPUs, but the executors of this Spark session have none: "
            "`spark.executor.resource.gpu.amount` is not set. Set it, and "
            "`spark.executor.resource.gpu.discoveryScript`, when the session is built."
        )
        raise ConfigError(msg)
    there = {
        "cpu": conf.get("spark.task.cpus", "1"),
        "gpu": conf.get("spark.task.resource.gpu.amount", "0"),
    }
    if all(float(there[kind] or 0) == amount for kind, amount in resources.items()):
        return None
    return _new_profile(context, resources)


def _new_profile(context: SparkContext, resources: Mapping[str, float]) -> ResourceProfile:
    from pyspark.resource import ResourceProfileBuilder, TaskResourceRequests

    requests = TaskResourceRequests()
    if "cpu" in resources:
        requests.cpus(int(resources["cpu"]))
    if "gpu" in resources:
        requests.resource("gpu", resources["gpu"])
    try:
        profile = ResourceProfileBuilder().require(requests).build
        context.parallelize([0], 1).withResources(profile)
    except Exception as error:
        raise _cannot(resources, explain(error)) from error
    if _schedulable_or(0, context, None) and not _schedulable_or(1, context, profile):
        raise _cannot(resources, "no executor that is up has room for even one such task")
    return profile


def _cannot(resources: Mapping[str, float], reason: str) -> ConfigError:
    return ConfigError(
        f"`resources={dict(resources)!r}` cannot be had from this Spark: {reason}. Ask for what "
        "its executors have, or set `spark.task.cpus` and `spark.task.resource.gpu.amount` when "
        "the session is built and leave `resources` out."
    )


def _running_at_once(
    context: SparkContext, profile: ResourceProfile | None, resources: Mapping[str, float]
) -> int:
    """Tasks that Spark can run at a time: now, or when all the executors it asked for are up."""
    conf = context.getConf()
    cpus = int(resources.get("cpu") or conf.get("spark.task.cpus") or 1)
    if _without_executors(context.master):
        return _local_cores(context) // cpus
    instances = int(conf.get("spark.executor.instances") or 0)
    expected = instances * (int(conf.get("spark.executor.cores") or 1) // cpus)
    now = _schedulable_or(int(context.defaultParallelism) // cpus, context, profile)
    return max(now, 0 if "gpu" in resources else expected)


def _local_cores(context: SparkContext) -> int:
    """The ``n`` of ``local[n]``."""
    cpus = int(context.getConf().get("spark.task.cpus") or 1)
    return cpus * _schedulable_or(int(context.defaultParallelism) // cpus, context, None)


def _schedulable_or(default: int, context: SparkContext, profile: ResourceProfile | None) -> int:
    """The tasks of this profile for which the executors that are up have room, busy or not.

    Only Spark's scheduler knows, and there is no way to ask it from Python; ``default`` is for a
    Spark that hides it.
    """
    try:
        scala: Any = context._jsc.sc()  # noqa: SLF001
        wanted = (
            scala.resourceProfileManager().defaultResourceProfile()
            if profile is None
            else profile._java_resource_profile  # noqa: SLF001
        )
        return int(scala.maxNumConcurrentTasks(wanted))
    except Exception as error:  # noqa: BLE001 - py4j raises what Spark raises
        logger.debug("Spark does not say how many tasks it can run: %s", error)
        return default
