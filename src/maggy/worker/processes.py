"""The worker processes of one run on this machine, none of which outlives the driver.

Each worker leads a session and process group of its own; a supervisor process kills these groups
when the driver is gone (``maggy.worker.supervisor``).  A worker's id is registered there before
the worker learns its bootstrap, so no user code ever runs unsupervised.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import math
import os
import signal
import site
import subprocess
import sys
import sysconfig
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from maggy.errors import ConfigError, TransitionError
from maggy.worker import supervisor
from maggy.worker.cgroups import own_groups, read_number
from maggy.worker.supervision import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from maggy.trial import Json

__all__ = [
    "INSIDE_A_WORKER",
    "OnExit",
    "WorkerProcesses",
    "inside_a_worker",
    "python_executable",
    "thread_env",
    "usable_cores",
]

INSIDE_A_WORKER = "MAGGY_WORKER"
"""Set in the environment of every worker, so that a search inside a trial uses one worker."""

_log = logging.getLogger(__name__)

OnExit: TypeAlias = "Callable[[str, int, int, str], None]"
"""``on_exit(worker, pid, returncode, description)``."""

_PATIENCE = 10.0
"""Seconds that ``close`` waits for killed processes: the kernel may hold one for a while."""

_THREAD_COUNTS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)

_SIGNALS = {
    signal.SIGKILL: ", which is what the kernel does when memory runs out",
    signal.SIGSEGV: ", a crash in native code",
    signal.SIGABRT: ", with which native code gives up",
    signal.SIGBUS: ", which happens when a mapped file shrinks or memory is damaged",
    signal.SIGILL: ", an instruction that this processor does not know",
    signal.SIGXCPU: ": its limit of processor time is used up",
}


@dataclass(slots=True)
class _Running:
    """A worker that is not reaped yet, so that its process id is its own.

    Attributes:
        process: It.
        killed: We ended it ourselves.
    """

    process: subprocess.Popen[bytes]
    killed: bool = False


class WorkerProcesses:
    """Starts, kills and reaps worker processes; every method may be called from any thread.

    Args:
        on_exit: Called once per worker that ended, from a thread of its own, after the worker was
            reaped and what it left in its process group was killed.  The description is a clause
            such as ``"exited with status 3"``.
        command: What to start instead of ``python -m maggy.worker``.

    Raises:
        ConfigError: There is no interpreter to start workers with.
        OSError: The supervisor could not be started.
    """

    def __init__(self, on_exit: OnExit, *, command: Sequence[str] | None = None) -> None:
        python = python_executable()
        self._on_exit = on_exit
        self._command = list(command or (python, "-P", "-m", "maggy.worker"))
        self._lock = threading.Lock()
        self._workers: dict[str, _Running] = {}
        self._threads: set[threading.Thread] = set()
        self._closed = False
        self._supervisor = Supervisor(python)

    def start(
        self,
        worker: str,
        *,
        bootstrap: Mapping[str, Json],
        env: Mapping[str, str],
        pass_fds: Collection[int] = (),
        output: Path | None = None,
    ) -> int:
        """Start a worker and return its process id.

        Args:
            worker: Its name; free again once ``on_exit`` was called for it.
            bootstrap: Sent as one line of JSON on its standard input; secrets belong here.
            env: Added to this process's environment.
            pass_fds: Descriptors that it inherits under the same numbers.
            output: Receives its standard output and error, appended; None discards them.

        Raises:
            OSError: The process could not be started.
            TransitionError: The worker runs already, or ``close`` was called.
        """
        with self._lock:
            subject = f"worker {worker!r}"
            if self._closed or worker in self._workers:
                state = "closed" if self._closed else "running already"
                raise TransitionError(subject, state, "start")
            entry = _Running(self._launch(env, pass_fds, output))
            self._workers[worker] = entry
            self._supervisor.add(entry.process.pid)
            self._watch(worker, entry)
        stdin = entry.process.stdin
        assert stdin is not None
        # A worker that is dead already leaves a broken pipe; its thread reports the exit.
        with contextlib.suppress(BrokenPipeError), stdin:
            stdin.write(json.dumps(bootstrap).encode() + b"\n")
        return entry.process.pid

    def kill(self, worker: str) -> None:
        """End a worker and all its descendants by SIGKILL; nothing happens if it has ended."""
        with self._lock:
            self._kill([self._workers[worker]] if worker in self._workers else [])

    def close(self) -> None:
        """Kill and reap everything, then stop the supervisor; may be called twice.

        ``on_exit`` was called for every worker, and is not called any more, when it returns.
        """
        with self._lock:
            self._closed = True
            self._kill(list(self._workers.values()))
            threads = self._threads - {threading.current_thread()}
        for thread in threads:
            thread.join(_PATIENCE)
            if thread.is_alive():
                _log.warning(
                    "%s has not ended %s s after SIGKILL: the kernel holds its process, probably "
                    "in a file system call", thread.name, _PATIENCE,
                )  # fmt: skip
        self._supervisor.close()

    def _launch(
        self, env: Mapping[str, str], pass_fds: Collection[int], output: Path | None
    ) -> subprocess.Popen[bytes]:
        with contextlib.ExitStack() as stack:
            target = (
                subprocess.DEVNULL if output is None else stack.enter_context(output.open("ab"))
            )
            try:
                return subprocess.Popen(  # noqa: S603  our own interpreter
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=target,
                    stderr=target,
                    env={**os.environ, **_import_path(), INSIDE_A_WORKER: "1", **env},
                    pass_fds=pass_fds,
                    start_new_session=True,
                )
            except OSError as error:
                msg = (
                    f"a worker (`{self._command[0]}`) could not be started: {error.strerror}. "
                    "Lower `num_workers`, or raise the limit of processes or memory."
                )
                raise OSError(error.errno, msg) from error

    def _kill(self, entries: Sequence[_Running]) -> None:
        """Kill these workers with their descendants; the lock is held."""
        for entry in entries:
            entry.killed = True
        supervisor.kill_groups([entry.process.pid for entry in entries])

    def _watch(self, worker: str, entry: _Running) -> None:
        """Have a thread wait for the end of a worker; the lock is held."""
        thread = threading.Thread(
            target=self._follow, args=(worker, entry), name=f"worker {worker}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:
            self._kill([entry])
            self._reap(worker, entry)
            assert entry.process.stdin is not None
            entry.process.stdin.close()
            msg = f"no thread for worker {worker!r} could be started: {error}."
            raise OSError(errno.EAGAIN, msg) from error
        self._threads.add(thread)

    def _follow(self, worker: str, entry: _Running) -> None:
        """Wait for the end of a worker and clear up after it, in its own thread."""
        _await_exit(entry.process)
        with self._lock:
            returncode = self._reap(worker, entry)
        description = "ended by maggy" if entry.killed else _describe(returncode)
        self._on_exit(worker, entry.process.pid, returncode, description)
        with self._lock:
            self._threads.discard(threading.current_thread())

    def _reap(self, worker: str, entry: _Running) -> int:
        """Kill what a worker left in its group, then reap and forget it; the lock is held."""
        del self._workers[worker]
        supervisor.signal_group(entry.process.pid, signal.SIGKILL)
        self._supervisor.remove(entry.process.pid)
        return entry.process.wait()


def _await_exit(process: subprocess.Popen[bytes]) -> None:
    """Return when the process has exited, without reaping it where the system can do that."""
    if hasattr(os, "waitid"):
        # Somebody who ignores SIGCHLD has children reaped at once: then it is gone as well.
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    else:
        process.wait()


def _describe(returncode: int) -> str:
    if returncode >= 0:
        return f"exited with status {returncode}"
    try:
        number = signal.Signals(-returncode)
    except ValueError:  # a real-time signal
        return f"killed by signal {-returncode}"
    return f"killed by signal {-returncode} ({number.name}){_SIGNALS.get(number, '')}"


def inside_a_worker() -> bool:
    """Whether this process runs a trial: a search inside a trial gets one worker."""
    return bool(os.environ.get(INSIDE_A_WORKER))


def python_executable() -> str:
    """The interpreter to start workers with.

    Raises:
        ConfigError: This process is no ordinary Python, and none is found where it is installed.
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    folders = [Path(prefix, "bin") for prefix in (sys.prefix, sys.base_prefix)]
    candidates = [folder / name for folder in folders for name in (version, "python3", "python")]
    if sys.executable and "python" in Path(sys.executable).name.lower():
        candidates.insert(0, Path(sys.executable))
    for candidate in candidates:
        if os.access(candidate, os.X_OK):
            return str(candidate)
    msg = (
        f"Workers need a Python interpreter, but `sys.executable` is {sys.executable!r} and "
        f"there is none in {folders[0]}. Set `sys.executable` to the path of a "
        f'{version} that has maggy, or use `engine="inline"`.'
    )
    raise ConfigError(msg)


def _import_path() -> dict[str, str]:
    """``PYTHONPATH`` by which a worker finds this very maggy when it is not an installed one."""
    root = str(Path(supervisor.__file__).resolve().parents[2])
    installed = {
        *site.getsitepackages(), site.getusersitepackages(),
        sysconfig.get_path("purelib"), sysconfig.get_path("platlib"),
    }  # fmt: skip
    if root in {str(Path(folder).resolve()) for folder in installed}:
        return {}
    existing = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join([root, existing] if existing else [root])}


def thread_env(
    cores: int, workers: int, environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Environment variables by which BLAS and OpenMP share the cores among the workers.

    What the user has set stays; ``OMP_NUM_THREADS`` governs the others too, as it does for the
    libraries themselves.

    Args:
        cores: Cores for all workers together.
        workers: How many run at a time.
        environ: The environment to respect; None means this process's.
    """
    environ = os.environ if environ is None else environ
    if "OMP_NUM_THREADS" in environ:
        return {}
    count = str(max(1, cores // workers))
    return {name: count for name in _THREAD_COUNTS if name not in environ}


def usable_cores(*, root: Path = Path("/")) -> int:
    """Cores that this process may use: its affinity, bounded by the quota of its control groups.

    A quota of 1.5 cores counts as 2.

    Args:
        root: Where ``proc`` and ``sys`` are mounted.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    for folder in own_groups("cpu", root=root):
        quota = _quota(folder)
        if quota is not None:
            cores = min(cores, math.ceil(quota))
    return max(1, cores)


def _quota(folder: Path) -> float | None:
    """Cores that a control group may use; None without a limit."""
    with contextlib.suppress(OSError, ValueError):  # no such file, or the quota is "max"
        quota, period = (folder / "cpu.max").read_text().split()
        return int(quota) / int(period)
    v1, period_v1 = (
        read_number(folder / "cpu.cfs_quota_us"),
        read_number(folder / "cpu.cfs_period_us"),
    )
    return v1 / period_v1 if v1 is not None and v1 > 0 and period_v1 else None
