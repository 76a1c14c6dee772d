"""Worker processes start, end and leave nothing behind, however the driver or they end."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import site
import subprocess
import sys
import sysconfig
import textwrap
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import maggy
from maggy.errors import ConfigError, TransitionError
from maggy.worker import processes
from maggy.worker.processes import (
    INSIDE_A_WORKER,
    WorkerProcesses,
    inside_a_worker,
    python_executable,
    thread_env,
    usable_cores,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from maggy.trial import Json

pytestmark = pytest.mark.integration

# A stand-in for a worker.  It reads its bootstrap, starts a child, a child in a session of its own
# and a process pool, says so in a file, and then does what the bootstrap wants.
WORKER = """
import json, multiprocessing, os, re, subprocess, sys, time

def main():
    boot = json.loads(sys.stdin.readline())
    children = [subprocess.Popen(["sleep", "1000"]).pid]
    if isinstance(boot["then"], str):
        children += [subprocess.Popen(["sleep", "1000"], start_new_session=True).pid]
    pool = multiprocessing.get_context("fork").Pool(2)
    children += pool.map(pid_of, range(2), chunksize=1)
    facts = {
        "pids": [os.getpid(), *children], "argv": sys.argv, "token": os.environ.get("TOKEN"),
        "environ": list(os.environ.values()), "file": os.pread(boot["fd"], 99, 0).decode(),
        "leader": os.getpgrp() == os.getpid() == os.getsid(0),
    }
    with open(boot["report"] + ".new", "w") as file:
        json.dump(facts, file)
    os.rename(boot["report"] + ".new", boot["report"])
    print("out"); print("err", file=sys.stderr, flush=True)
    if boot["then"] == "gil":
        re.match(r"(a+)+$", "a" * 60 + "b")
    while boot["then"] == "wait":
        time.sleep(1000)
    sys.stdout.flush()
    os._exit(boot["then"])

def pid_of(_):
    return os.getpid()

main()
"""

DRIVER = """
import json, sys, time
from pathlib import Path
from maggy.worker.processes import WorkerProcesses

if __name__ == "__main__":
    folder, then, fd = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    processes = WorkerProcesses(
        lambda *a: None, command=[sys.executable, str(folder / "worker.py")]
    )
    for worker in ("w0", "w1"):
        boot = {"then": then, "report": str(folder / worker), "fd": fd}
        processes.start(worker, bootstrap=boot, env={}, pass_fds=[fd])
    (folder / "supervisor").write_text(str(processes._supervisor.pid))
    time.sleep(1000)
"""


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie (of somebody else than us)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Return as soon as the condition holds; fail when it does not within so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.005)


class Bench:
    """Worker processes that run the stand-in, and what they said and how they ended."""

    def __init__(self, folder: Path, fd: int) -> None:
        self.folder = folder
        self.fd = fd
        self.exits: queue.SimpleQueue[tuple[str, int, int, str]] = queue.SimpleQueue()
        self.processes = WorkerProcesses(
            lambda *args: self.exits.put(args), command=[sys.executable, str(folder / "worker.py")]
        )

    def start(self, worker: str, then: int | str, **options: Any) -> int:
        report = str(self.folder / worker)
        boot: dict[str, Json] = {"then": then, "report": report, "fd": self.fd, "key": "s3cret"}
        return self.processes.start(
            worker, bootstrap=boot, env=options.pop("env", {}), pass_fds=[self.fd], **options
        )

    def facts(self, worker: str) -> Any:
        wait_until((self.folder / worker).exists)
        return json.loads((self.folder / worker).read_text())

    def exit(self) -> tuple[str, int, int, str]:
        return self.exits.get(timeout=30)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "worker.py").write_text(WORKER)
    (tmp_path / "driver.py").write_text(DRIVER)
    (tmp_path / "data").write_text("inherited")
    yield tmp_path
    for report in tmp_path.glob("w?"):  # a failed test must not leave its processes either
        for pid in json.loads(report.read_text())["pids"]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def fd(folder: Path) -> Iterator[int]:
    with (folder / "data").open("rb") as file:
        yield file.fileno()


@pytest.fixture
def bench(folder: Path, fd: int) -> Iterator[Bench]:
    made = Bench(folder, fd)
    yield made
    made.processes.close()


def test_a_worker_gets_what_it_needs(bench: Bench, folder: Path) -> None:
    """Bootstrap, environment, descriptors and output arrive; the key is seen by nobody else."""
    log = folder / "w0.log"
    pid = bench.start("w0", 3, env={"TOKEN": "t"}, output=log)
    facts = bench.facts("w0")
    assert facts["pids"][0] == pid
    assert (facts["token"], facts["file"]) == ("t", "inherited")
    assert facts["leader"]
    assert "s3cret" not in " ".join([*facts["argv"], *facts["environ"]])
    assert bench.exit() == ("w0", pid, 3, "exited with status 3")
    assert log.read_text().splitlines() == ["out", "err"]


def test_an_exit_takes_the_group_along(bench: Bench) -> None:
    """When a worker ends, its children and its pool are killed too."""
    bench.start("w0", 0)
    _, *children = bench.facts("w0")["pids"]
    assert bench.exit()[2:] == (0, "exited with status 0")
    wait_until(lambda: not any(map(alive, children)), 2.0)


def test_a_killed_worker_is_described(bench: Bench) -> None:
    """A kill from outside takes the children along and is reported with its usual cause."""
    pid = bench.start("w0", "wait")
    _, *children = bench.facts("w0")["pids"]
    moved = children.pop(1)
    os.kill(pid, signal.SIGKILL)
    worker, _, returncode, description = bench.exit()
    assert (worker, returncode) == ("w0", -9)
    assert description == (
        "killed by signal 9 (SIGKILL), which is what the kernel does when memory runs out"
    )
    assert not exists(pid)
    wait_until(lambda: not any(map(alive, children)), 2.0)
    os.kill(moved, signal.SIGKILL)  # nobody can know any more that it was the worker's


@pytest.mark.parametrize("then", ["wait", "gil"])
def test_kill_ends_the_whole_tree(bench: Bench, then: str) -> None:
    """``kill`` ends a worker whatever it does, with every descendant, and says that it was us."""
    pid = bench.start("w0", then)
    pids = bench.facts("w0")["pids"]
    bench.processes.kill("w0")
    assert bench.exit() == ("w0", pid, -9, "ended by maggy")
    wait_until(lambda: not any(map(alive, pids)), 2.0)
    bench.processes.kill("w0")
    bench.processes.kill("never heard of")


def test_a_name_is_free_after_its_exit(bench: Bench) -> None:
    """A dead worker can be replaced under its own name, a living one cannot."""
    bench.start("w0", 1)
    bench.exit()
    bench.start("w0", "wait")
    with pytest.raises(TransitionError, match="running already"):
        bench.start("w0", "wait")


def test_close_leaves_nothing(bench: Bench) -> None:
    """After ``close`` there is no worker, child, pool, supervisor or zombie; nothing can start."""
    for worker in ("w0", "w1", "w2"):
        bench.start(worker, "wait")
    pids = [pid for worker in ("w0", "w1", "w2") for pid in bench.facts(worker)["pids"]]
    leaders = pids[::5]
    guard = bench.processes._supervisor.pid
    threads = threading.active_count()
    bench.processes.close()
    assert bench.exits.qsize() == 3
    assert not any(map(exists, [*leaders, guard]))
    wait_until(lambda: not any(map(alive, pids)), 2.0)
    assert threading.active_count() <= threads - 4
    bench.processes.close()
    with pytest.raises(TransitionError, match="closed"):
        bench.start("w3", "wait")


def test_closing_while_workers_end(bench: Bench) -> None:
    """``close`` waits for exits that are being reported, so none is reported later."""
    for number in range(4):
        bench.start(f"w{number}", 0)
    bench.processes.close()
    assert bench.exits.qsize() == 4


def test_close_may_come_from_an_exit(folder: Path, fd: int) -> None:
    """Whoever hears of an exit may close everything from there."""
    closed = threading.Event()

    def close(*_: object) -> None:
        made.close()
        closed.set()

    made = WorkerProcesses(close, command=["/bin/true"])
    made.start("w0", bootstrap={}, env={})
    assert closed.wait(30)


def test_a_worker_that_dies_at_once(bench: Bench) -> None:
    """A worker that never reads its bootstrap is an exit like any other, not an error."""
    exits: queue.SimpleQueue[tuple[object, ...]] = queue.SimpleQueue()
    made = WorkerProcesses(lambda *a: exits.put(a), command=["/bin/false"])
    for number in range(10):
        made.start(f"w{number}", bootstrap={"x": "y" * 50_000}, env={})
    said = {exits.get(timeout=30)[2:] for _ in range(10)}
    assert said == {(1, "exited with status 1")}
    made.close()


def test_a_worker_that_cannot_start(bench: Bench) -> None:
    """A command that does not exist is an OSError that names it, and nothing is left."""
    made = WorkerProcesses(lambda *_: None, command=["/no/such/python"])
    with pytest.raises(OSError, match=r"/no/such/python.*could not be started.*No such file"):
        made.start("w0", bootstrap={}, env={})
    made.close()


def test_no_thread_left_for_a_worker(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can watch over a worker, there is no worker."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(OSError, match="no thread for worker 'w0'"):
            bench.start("w0", "wait")
    bench.start("w0", 0)
    assert bench.exit()[2] == 0


@pytest.mark.parametrize("then", ["wait", "gil"])
def test_a_killed_driver_leaves_nothing(folder: Path, fd: int, then: str) -> None:
    """Kill the driver with -9: within two seconds workers, their children and pools are gone."""
    command = [sys.executable, str(folder / "driver.py"), str(folder), then, str(fd)]
    with subprocess.Popen(command, pass_fds=[fd]) as driver:
        reports = [folder / "w0", folder / "w1", folder / "supervisor"]
        wait_until(lambda: all(report.exists() for report in reports))
        pids = [pid for r in reports[:2] for pid in json.loads(r.read_text())["pids"]]
        assert all(map(alive, pids))
        driver.kill()
    wait_until(lambda: not any(map(alive, pids)), 2.0)
    guard = int(reports[2].read_text())
    wait_until(lambda: not alive(guard), 2.0)


def test_the_workers_survive_their_supervisor(folder: Path, fd: int) -> None:
    """The supervisor killed, then the driver: its successor leaves nothing either."""
    command = [sys.executable, str(folder / "driver.py"), str(folder), "wait", str(fd)]
    with subprocess.Popen(command, pass_fds=[fd], stderr=subprocess.PIPE) as driver:
        reports = [folder / "w0", folder / "w1", folder / "supervisor"]
        wait_until(lambda: all(report.exists() for report in reports))
        pids = [pid for r in reports[:2] for pid in json.loads(r.read_text())["pids"]]
        os.kill(int(reports[2].read_text()), signal.SIGKILL)
        assert driver.stderr is not None
        with driver.stderr as stderr:
            assert b"another took over" in stderr.readline()
            assert all(map(alive, pids))
            driver.kill()
    wait_until(lambda: not any(map(alive, pids)), 2.0)


def test_the_real_worker_imports_this_maggy(folder: Path) -> None:
    """From any folder, even one with a namesake, a worker is started with the driver's maggy."""
    (folder / "maggy").mkdir()
    (folder / "maggy" / "__init__.py").write_text("raise SystemExit(77)")
    code = """
        import sys
        from maggy.worker.processes import WorkerProcesses, python_executable
        import os, queue, maggy
        exits = queue.SimpleQueue()
        test = "import maggy, sys; sys.exit(maggy.__file__ != %r)" % maggy.__file__
        command = [python_executable(), "-P", "-c", test]
        processes = WorkerProcesses(lambda *a: exits.put(a), command=command)
        os.chdir(sys.argv[1])
        processes.start("w0", bootstrap={}, env={})
        assert exits.get()[2] == 0
        processes.close()
    """
    source = str(Path(maggy.__file__).parent.parent)
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(folder)],
        env={**os.environ, "PYTHONPATH": ""},
        cwd=source,
        check=True,
    )


def test_path_of_maggy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A checkout is put on PYTHONPATH, before the user's; an installed maggy is not."""
    root = str(Path(maggy.__file__).parent.parent)
    monkeypatch.setattr(site, "getsitepackages", list)
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", "/mine")
    assert processes._import_path() == {"PYTHONPATH": f"{root}{os.pathsep}/mine"}
    monkeypatch.delenv("PYTHONPATH")
    assert processes._import_path() == {"PYTHONPATH": root}
    monkeypatch.setattr(site, "getsitepackages", lambda: [root])
    assert processes._import_path() == {}


@pytest.mark.parametrize(
    ("returncode", "wanted"),
    [
        (0, "exited with status 0"),
        (-11, "killed by signal 11 (SIGSEGV), a crash in native code"),
        (-15, "killed by signal 15 (SIGTERM)"),
        (-40, "killed by signal 40"),
    ],
)
def test_descriptions(returncode: int, wanted: str) -> None:
    """A return code becomes a clause that a user understands."""
    assert processes._describe(returncode) == wanted


def test_the_interpreter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An odd ``sys.executable`` is replaced by the installation's Python, or refused."""
    assert python_executable() == sys.executable
    for odd in ("", None, "/bin/true", "/gone/python3"):
        monkeypatch.setattr(sys, "executable", odd)
        found = python_executable()
        assert Path(found).parent == Path(sys.prefix, "bin")
        assert Path(found).name.startswith("python3")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    with pytest.raises(ConfigError, match=r"/gone/python3.*Set `sys\.executable`.*inline"):
        python_executable()


def test_threads_per_worker() -> None:
    """Workers share the cores, at least one thread each, and the user's settings stand."""
    shared = thread_env(8, 3, {})
    assert set(shared.values()) == {"2"}
    assert {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"} < shared.keys()
    assert set(thread_env(2, 16, {}).values()) == {"1"}
    own = thread_env(8, 2, {"MKL_NUM_THREADS": "7"})
    assert "MKL_NUM_THREADS" not in own
    assert own["OMP_NUM_THREADS"] == "4"
    assert thread_env(8, 2, {"OMP_NUM_THREADS": "7"}) == {}


@pytest.mark.parametrize(
    ("own", "files", "wanted"),
    [
        ("", {}, 8),
        ("0::/pod", {"pod/cpu.max": "150000 100000"}, 2),
        ("0::/pod", {"pod/cpu.max": "max 100000", "cpu.max": "300000 100000"}, 3),
        ("0::/pod", {"pod/cpu.max": "1000 100000"}, 1),
        ("0::/hidden", {"cpu.max": "400000 100000"}, 4),
        (
            "2:cpu,cpuacct:/job",
            {
                "cpu,cpuacct/job/cpu.cfs_quota_us": "200000",
                "cpu,cpuacct/job/cpu.cfs_period_us": "100000",
            },
            2,
        ),
        ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
    ],
    ids=["none", "v2", "parent", "tiny", "hidden", "v1", "v1-unlimited"],
)
def test_usable_cores(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own: str, files: dict[str, str], wanted: int
) -> None:
    """The affinity and every quota above us bound the cores; there is always one."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(own)
    for name, text in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert usable_cores(root=tmp_path) == wanted


def test_usable_cores_here() -> None:
    """On this machine there is at least one core and no more than there are."""
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


def test_a_worker_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the variable that every worker has; a search inside a trial looks at it."""
    monkeypatch.delenv(INSIDE_A_WORKER, raising=False)
    assert not inside_a_worker()
    monkeypatch.setenv(INSIDE_A_WORKER, "1")
    assert inside_a_worker()
