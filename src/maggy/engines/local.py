"""The local engine: long-lived worker processes on this machine."""

from __future__ import annotations

import resource
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maggy.engines.direct import DirectStaff
from maggy.engines.interrupts import interrupts
from maggy.engines.resources import Shares
from maggy.engines.session import Session
from maggy.errors import ConfigError
from maggy.wire.messages import Setup
from maggy.worker.captures import large_captures
from maggy.worker.datasets import DataFile
from maggy.worker.output import tail
from maggy.worker.payload import dump_payload
from maggy.worker.processes import WorkerProcesses, thread_env, usable_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from maggy.engines.job import Job
    from maggy.events import Event

__all__ = ["LocalEngine"]

_LAST_LINES = 20
_MANY_WORKERS = 200
"""So many fit into the usual limit of 1,024 open files, whatever else the program has open."""
_FILES_PER_WORKER = 4
"""Its connection, and what is open for a moment while it starts."""
_FILES_BESIDE = 512


class LocalEngine:
    """Runs trials in ``num_workers`` subprocesses of this machine.

    Args:
        train_fn: The training function.
        provided: model, train_set and test_set, as far as given.

    Raises:
        UnpicklableError: One of them cannot be sent to a worker.
        ConfigError: There is no room for the data sets.
    """

    notes = ()

    def __init__(self, train_fn: Callable[..., Any], provided: Mapping[str, Any]) -> None:
        sets = {name: value for name, value in provided.items() if name != "model"}
        self._payload = dump_payload(train_fn, model=provided.get("model"))
        for name, size in large_captures(train_fn, len(self._payload)):
            warnings.warn(
                f"your training function carries {size / 1e6:,.0f} MB in `{name}` to every "
                f"worker: pass it as `train_set`, which the workers share.",
                stacklevel=3,
            )
        self._data = DataFile.publish(sets) if sets else None

    def run(self, job: Job, feed: Callable[[Sequence[Event]], None]) -> None:
        """See ``maggy.engines.job.Engine``.

        Raises:
            ConfigError: So many workers need more open files than this process may have.
        """
        if job.num_workers > _MANY_WORKERS:
            _allow_files(_FILES_PER_WORKER * job.num_workers + _FILES_BESIDE)
        setup = Setup(
            sys_path=sys.path,
            cwd=str(Path.cwd()),
            log_dir=str(job.trial_logs),
            hb_interval=job.hb_interval,
            plan=job.plan.to_json(),
            optimization_key=job.optimization_key,
            checkpoint_dir=None if job.checkpoints is None else str(job.checkpoints),
        )
        try:
            session = Session(
                job,
                lambda owner: DirectStaff(
                    owner,
                    setup,
                    self._payload,
                    lambda left: _Subprocesses(job, self._data, left),
                ),
            )
            with interrupts(session.cancel, heeded=lambda: job.ended_early):
                session.run(feed)
        finally:
            if self._data is not None:
                self._data.close()


def _allow_files(wanted: int) -> None:
    """Raise this process's limit of open files to ``wanted``, and leave it there.

    Raises:
        ConfigError: The system does not allow so many.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        msg = (
            f"`num_workers` needs about {wanted} open files, but this process may have {hard} at "
            "most. Lower `num_workers`, or raise the hard limit (`ulimit -Hn`)."
        )
        raise ConfigError(msg)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class _Subprocesses:
    """The processes of the local engine."""

    def __init__(self, job: Job, data: DataFile | None, left: Callable[[str, str], None]) -> None:
        self._data = data
        self._logs: Path = job.trial_logs.parent / "workers"
        self._logs.mkdir(mode=0o700, exist_ok=True)
        threads = job.allotment.threads
        self._env = {
            **(
                thread_env(usable_cores(), job.num_workers)
                if threads is None
                else thread_env(threads, 1, {})  # asked for by name: it outranks the environment
            ),
        }
        self._shares = Shares(job.allotment)
        self._left = left
        self._processes = WorkerProcesses(on_exit=self._on_exit)

    def hire(self, worker: str, address: tuple[str, int], key: bytes) -> None:
        """Start a worker process."""
        host, port = address
        fds = () if self._data is None else (self._data.fd,)
        bootstrap: dict[str, str | int] = {
            "host": host,
            "port": port,
            "key": key.hex(),
            "worker": worker,
        }
        if self._data is not None:
            bootstrap["data_fd"] = self._data.fd
        env = {**self._env, **self._shares.take(worker)}
        try:
            self._processes.start(
                worker, bootstrap=bootstrap, env=env, pass_fds=fds, output=self._log(worker)
            )
        except OSError:
            self._shares.give_back(worker)
            raise

    def fire(self, worker: str) -> None:
        """Kill the process and all its children."""
        self._processes.kill(worker)

    def last_words(self, worker: str) -> str:
        """The last lines of the process's own output."""
        return tail(self._log(worker), _LAST_LINES)

    def close(self) -> None:
        """Kill and reap every process; keep what they printed outside trials, if anything."""
        self._processes.close()
        for log in self._logs.glob("*.log"):
            if not log.stat().st_size:
                log.unlink()
        if self._logs.is_dir() and not any(self._logs.iterdir()):
            self._logs.rmdir()

    def _on_exit(self, worker: str, pid: int, code: int, how: str) -> None:
        """Once the process is gone, so that its GPU is free, and before it is replaced."""
        self._shares.give_back(worker)
        self._left(worker, how)

    def _log(self, worker: str) -> Path:
        return self._logs / f"{worker}.log"
