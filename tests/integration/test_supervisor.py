"""The supervisor process kills what it was told about, as soon as the driver is gone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from maggy.worker import supervisor
from maggy.worker.supervision import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.integration

LEADER_WITH_CHILDREN = """
import subprocess, sys, time
inside = subprocess.Popen(["sleep", "1000"])
moved = subprocess.Popen(["sleep", "1000"], start_new_session=True)
print(inside.pid, moved.pid, flush=True)
time.sleep(1000)
"""


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Return as soon as the condition holds; fail when it does not within so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.005)


class Group:
    """A process group with a child inside, and one that moved to a session of its own."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", LEADER_WITH_CHILDREN],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        with self.process.stdout as stdout:
            children = [int(pid) for pid in stdout.readline().split()]
        self.pid = self.process.pid
        self.pids = [self.pid, *children]

    def gone(self) -> bool:
        return not any(map(alive, self.pids))


@pytest.fixture
def group() -> Iterator[Group]:
    made = Group()
    yield made
    for pid in made.pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    made.process.wait()


@pytest.fixture
def watcher() -> Iterator[subprocess.Popen[bytes]]:
    """A supervisor process whose driver is this test."""
    command = [sys.executable, "-S", "-P", supervisor.__file__, str(os.getpid())]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, bufsize=0, start_new_session=True
    ) as process:
        yield process
        process.kill()


def tell(process: subprocess.Popen[bytes], text: str) -> None:
    assert process.stdin is not None
    process.stdin.write(text.encode())


def hang_up(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()


def ignores_signals(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process has come so far as to ignore SIGTERM."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn"))
    return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)


def test_end_of_file_kills_the_tree(watcher: subprocess.Popen[bytes], group: Group) -> None:
    """At end of file the group dies, and so does the child that left it."""
    tell(watcher, f"+{group.pid}\n")
    hang_up(watcher)
    wait_until(group.gone, 2.0)
    assert watcher.wait(2.0) == 0


def test_lines_may_arrive_in_pieces(watcher: subprocess.Popen[bytes], group: Group) -> None:
    """A line that is cut in two by the pipe is understood all the same."""
    text = f"+{group.pid}\n"
    tell(watcher, text[:2])
    wait_until(lambda: ignores_signals(watcher))
    tell(watcher, text[2:])
    hang_up(watcher)
    wait_until(group.gone, 2.0)


def test_what_was_taken_back_lives(watcher: subprocess.Popen[bytes], group: Group) -> None:
    """A group that the driver took back is left alone."""
    tell(watcher, f"+{group.pid}\n-{group.pid}\n-424242\n")
    hang_up(watcher)
    assert watcher.wait(2.0) == 0
    assert all(map(alive, group.pids))


def test_quit_kills_nothing(watcher: subprocess.Popen[bytes], group: Group) -> None:
    """A driver that ends in good order has done the killing itself."""
    tell(watcher, f"+{group.pid}\nquit\n")
    assert watcher.wait(2.0) == 0
    assert all(map(alive, group.pids))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_signals_do_not_end_it(
    watcher: subprocess.Popen[bytes], group: Group, number: signal.Signals
) -> None:
    """No signal that ends a terminal's processes ends the supervisor before its work."""
    tell(watcher, f"+{group.pid}\n")
    wait_until(lambda: ignores_signals(watcher))
    watcher.send_signal(number)
    hang_up(watcher)
    wait_until(group.gone, 2.0)
    assert watcher.wait(2.0) == 0


def test_an_inherited_pipe_does_not_hide_the_death_of_the_driver(group: Group) -> None:
    """The driver's death is seen although another process holds the other end of the pipe."""
    read, write = os.pipe()
    code = f"""
import os, subprocess, sys
command = [sys.executable, "-S", "-P", {supervisor.__file__!r}, str(os.getpid())]
subprocess.Popen(command, stdin={read})
os.write({write}, b"+{group.pid}\\n")
os.kill(os.getpid(), 9)
"""
    try:
        subprocess.run([sys.executable, "-c", code], pass_fds=[read, write], check=False)
        wait_until(group.gone, 2.0)
    finally:
        os.close(read)
        os.close(write)


def test_a_reused_process_id_is_spared(group: Group) -> None:
    """A leader that started after it was registered is somebody else, and lives."""
    read, write = os.pipe()
    os.write(write, f"+{group.pid}\n".encode())
    os.close(write)
    code = f"""
import signal, sys
from maggy.worker import supervisor
times = iter(["long ago", "today"])
supervisor._start_time = lambda pid: next(times)
supervisor.main(int(sys.argv[1]), {read})
"""
    command = [sys.executable, "-c", code, str(os.getpid())]
    subprocess.run(command, pass_fds=[read], check=True)
    os.close(read)
    assert all(map(alive, group.pids))


def test_descendants_are_killed_without_their_ancestor(group: Group) -> None:
    """Those in its group and those that left it; the process itself lives."""
    supervisor.kill_descendants(group.pid)
    wait_until(lambda: not any(map(alive, group.pids[1:])))
    assert alive(group.pid)
    supervisor.kill_descendants(group.pid)


def test_killing_what_is_gone_is_nothing(group: Group) -> None:
    """Groups that do not exist are passed over, the others die with their trees."""
    supervisor.kill_groups([group.pid, 4_000_000])
    wait_until(group.gone, 2.0)
    supervisor.kill_groups([])


def test_the_driver_replaces_a_dead_supervisor(
    group: Group, caplog: pytest.LogCaptureFixture
) -> None:
    """A killed supervisor is started again and told everything, and the last one leaves."""
    handle = Supervisor(sys.executable)
    handle.add(group.pid)
    first = handle.pid
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: "another took over" in caplog.text)
    second = handle.pid
    assert second != first
    handle.add(4_000_000)
    handle.remove(4_000_000)
    assert alive(second)
    handle._process.stdin.close()  # type: ignore[union-attr]  # as if the driver were gone
    wait_until(group.gone, 2.0)
    handle.close()
    handle.close()
    assert not Path(f"/proc/{first}").exists()
    assert not Path(f"/proc/{second}").exists()


def test_a_supervisor_that_cannot_live_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    """A supervisor that dies at once is not started for ever; the log says what that means."""
    handle = Supervisor("/bin/false")
    wait_until(lambda: "died 11 times" in caplog.text)
    assert "workers may be left over" in caplog.text
    handle.add(4_000_000)
    handle.close()


def test_a_stopped_supervisor_does_not_hold_up_the_driver() -> None:
    """``close`` ends a supervisor that does not react."""
    handle = Supervisor(sys.executable, grace=0.05)
    pid = handle.pid
    os.kill(pid, signal.SIGSTOP)
    handle.close()
    assert not Path(f"/proc/{pid}").exists()


def test_starts_without_the_rest_of_maggy() -> None:
    """The supervisor needs the standard library alone, so that it starts fast."""
    code = f"""
import runpy, sys
sys.argv[1:] = ["0"]
runpy.run_path({supervisor.__file__!r}, run_name="__main__")
assert not [name for name in sys.modules if name.startswith("maggy")]
"""
    subprocess.run([sys.executable, "-S", "-P", "-c", code], check=True)
