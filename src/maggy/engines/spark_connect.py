"""Agents on Spark by way of Spark Connect: no driver in this process, and no RDDs.

Each agent is a query of one partition that runs inside ``mapInArrow`` and comes to nothing.
Executors have to reach this process, which is no matter of course here: it is tried first.  Where
they cannot, each trial is a query (``maggy.engines.queries``).
"""

from __future__ import annotations

import contextlib
import secrets
import socket
from typing import TYPE_CHECKING, Any

from maggy.engines.spark_errors import explain
from maggy.engines.spark_jobs import slot_name
from maggy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from maggy.engines.launcher import Invitation
    from maggy.engines.query_task import Errand
    from maggy.trial import Json

__all__ = ["ConnectCluster", "ConnectQueries", "UnreachableError", "server", "slots"]

_PROBE = 5.0
"""Seconds that an executor has to reach this process."""
_PROFILES = 4
"""The version of Spark whose queries can have resource profiles."""
_ROWS = 10_000
"""So many rows have at least as many partitions as a cluster of that many cores."""


class UnreachableError(ConfigError):
    """Executors cannot reach this process; says where it was, and why not."""


class ConnectCluster:
    """See ``maggy.engines.spark_jobs.Cluster``.

    Args:
        session: The remote session.
        resources: The config's option: a resource profile of the queries.
        serve: What a task does: takes an agent's bootstrap, and the threads of its worker.
        listen: Host and port that the config fixes; empty and 0 for those it does not.

    Raises:
        UnreachableError: The executors cannot reach this process.
        ConfigError: This Spark cannot do that.
    """

    def __init__(
        self,
        session: Any,
        *,
        resources: Mapping[str, float],
        serve: Callable[..., Any],
        listen: tuple[str, int] = ("", 0),
    ) -> None:
        self._session = session
        self._resources = resources
        self._serve = serve
        self._tag = f"maggy-{secrets.token_hex(4)}"
        self._profile = _profile(resources)
        self._require_a_way_here(listen)

    def slots(self) -> int:
        """The partitions that Spark makes of many rows by itself, which are its cores."""
        return slots(self._session, self._resources)

    def hosts(self) -> tuple[str, str]:
        """Where this process is, seen from the Spark server; beside it: what Spark tells."""
        if self._setting("spark.master").startswith("local"):
            return "127.0.0.1", "127.0.0.1"
        here = _own_address(server(self._session))
        if here is not None:
            return here, here
        host = self._setting("spark.driver.host")
        if not host:
            msg = (
                "Spark Connect does not say where executors can reach this process. Set "
                'listen="HOST:PORT" in the config.'
            )
            raise ConfigError(msg)
        return "0.0.0.0", host  # noqa: S104 - a container's inner address may be another one

    def where(self) -> str:
        """The server and the tag of our queries."""
        return f"Spark Connect at {server(self._session)}, tag {self._tag}"

    def submit(self, invitation: Invitation, slots: Sequence[int]) -> None:
        """Collect a query of one row and partition for each slot."""
        self._session.addTag(self._tag)
        bootstraps = {slot: invitation.bootstrap(slot_name(slot)) for slot in slots}
        threads = int(self._resources["cpu"]) if "cpu" in self._resources else None
        rows = self._session.range(slots[0], slots[-1] + 1, 1, len(slots))
        task = _batches(self._serve, bootstraps, threads)
        rows.mapInArrow(task, "id long", **self._profile).collect()

    def cancel(self) -> None:
        """Interrupt the queries with our tag."""
        self._session.interruptTag(self._tag)

    def inheriting(self) -> Callable[[Callable[[], None]], None]:
        """With this thread's tags, and its session as the active one."""
        return _inheriting(self._session)

    def _setting(self, name: str) -> str:
        return str(self._session.conf.get(name, "") or "")

    def _require_a_way_here(self, listen: tuple[str, int]) -> None:
        """Have one executor connect to this process.

        Raises:
            ConfigError: It could not.
        """
        bind, tell = self.hosts()
        host = listen[0] or tell
        with contextlib.closing(_listening(listen[0] or bind, listen[1])) as sock:
            port = sock.getsockname()[1]
            try:
                rows = self._session.range(0, 1, 1, 1).mapInArrow(
                    _probe(host, port, _PROBE), "answer string"
                )
                answer = str(rows.collect()[0][0])
            except Exception as error:
                msg = f"a first query on this Spark failed: {explain(error)}."
                raise ConfigError(msg) from error
        if answer:
            msg = (
                f"the executors of this Spark cannot reach this process at {host}, port {port}: "
                f"{answer}. Run it on a machine of the cluster, or set `listen` to an address by "
                "which they can"
            )
            raise UnreachableError(msg)


class ConnectQueries:
    """See ``maggy.engines.queries.Queries``.

    Args:
        session: The remote session.
        resources: The config's option: a resource profile of the queries.
        run: What a query does: takes an ``Errand``, and returns kinds and contents.
        reason: Why there are no agents.
    """

    def __init__(
        self, session: Any, *, resources: Mapping[str, float], run: Callable[..., Any], reason: str
    ) -> None:
        self._session = session
        self._run = run
        self._profile = _profile(resources)
        self._tag = f"maggy-{secrets.token_hex(4)}"
        self.reason = reason

    def ask(self, worker: str, errand: Errand) -> Sequence[tuple[str, bytes]]:
        """Collect a query of one partition, whose rows are the answer."""
        self._session.addTag(f"{self._tag}-{worker}")
        row = self._session.range(0, 1, 1, 1)
        answer = _answer(self._run, tuple(errand))
        found = row.mapInArrow(answer, "kind string, content binary", **self._profile).collect()
        return [(str(kind), bytes(content)) for kind, content in found]

    def interrupt(self, worker: str) -> None:
        """Interrupt the query with this worker's tag."""
        self._session.interruptTag(f"{self._tag}-{worker}")

    def inheriting(self) -> Callable[[Callable[[], None]], None]:
        """See ``ConnectCluster``."""
        return _inheriting(self._session)


def server(session: Any) -> str:
    """The host of the session's server."""
    return str(session._client.host)  # noqa: SLF001 - Spark 3 has no public name for it


def slots(session: Any, resources: Mapping[str, float]) -> int:
    """The partitions that Spark makes of many rows by itself, which are its cores."""
    from pyspark.sql.functions import spark_partition_id

    partitions = session.range(_ROWS).select(spark_partition_id().alias("n")).distinct().count()
    return max(1, int(partitions) // int(resources.get("cpu") or 1))


def _inheriting(session: Any) -> Callable[[Callable[[], None]], None]:
    from pyspark import inheritable_thread_target

    inside: Callable[[Callable[[], None]], None]
    inside = inheritable_thread_target(session)(lambda call: call())
    return inside


def _profile(resources: Mapping[str, float]) -> dict[str, Any]:
    if not resources:
        return {}
    import pyspark
    from pyspark.resource import ResourceProfileBuilder, TaskResourceRequests

    if int(pyspark.__version__.partition(".")[0]) < _PROFILES:
        msg = (
            f"`resources` needs Spark {_PROFILES} with Spark Connect, but this is "
            f"{pyspark.__version__}. Leave it out, or use a session without Connect."
        )
        raise ConfigError(msg)
    requests = TaskResourceRequests()
    if "cpu" in resources:
        requests.cpus(int(resources["cpu"]))
    if "gpu" in resources:
        requests.resource("gpu", resources["gpu"])
    return {"profile": ResourceProfileBuilder().require(requests).build}


def _own_address(server: str) -> str | None:
    """This machine's address on the way to the server; None if it is this machine."""
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        try:
            sock.connect((server, 9))  # nothing is sent
        except OSError:
            return None
        here = str(sock.getsockname()[0])
        return None if here == sock.getpeername()[0] or here.startswith("127.") else here


def _listening(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), reuse_port=False)
    except OSError as error:
        msg = (
            f"the driver cannot listen on {host}, port {port}: {error.strerror or error}. Set "
            '`listen` to an address of this machine, such as "0.0.0.0:0".'
        )
        raise ConfigError(msg) from error


def _probe(host: str, port: int, timeout: float) -> Callable[[Iterable[Any]], Iterator[Any]]:
    """A function, to be sent by value, that answers why this address cannot be reached, or ""."""

    def run(batches: Iterable[Any]) -> Iterator[Any]:
        import socket

        import pyarrow

        for _ in batches:
            try:
                socket.create_connection((host, port), timeout).close()
                answer = ""
            except OSError as error:
                answer = str(error) or type(error).__name__
            yield pyarrow.RecordBatch.from_pydict({"answer": [answer]})

    return run


def _answer(
    run: Callable[..., Any], errand: tuple[Any, ...]
) -> Callable[[Iterable[Any]], Iterator[Any]]:
    """A function, to be sent by value, that runs one trial."""

    def answer(batches: Iterable[Any]) -> Iterator[Any]:
        import pyarrow

        types = pyarrow.schema([("kind", pyarrow.string()), ("content", pyarrow.binary())])
        for _ in batches:
            kinds, contents = zip(*run(*errand), strict=True)
            yield pyarrow.RecordBatch.from_pydict(
                {"kind": list(kinds), "content": list(contents)}, schema=types
            )

    return answer


def _batches(
    serve: Callable[..., Any], bootstraps: Mapping[int, Mapping[str, Json]], threads: int | None
) -> Callable[[Iterable[Any]], Iterator[Any]]:
    """A function, to be sent by value, for the partitions of a query."""

    def run(batches: Iterable[Any]) -> Iterator[Any]:
        for batch in batches:
            for slot in batch.column(0).to_pylist():
                serve(bootstraps[slot], threads)
            yield batch

    return run
