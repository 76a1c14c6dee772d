"""Kills the workers when the driver is gone, whatever ended it.

A process of its own, started by the driver as ``python -S -P supervisor.py DRIVER_PID`` and
independent of everything but the standard library, so that it starts in some 30 ms.  It reads
lines from its standard input::

    +PGID   this process group is a worker's
    -PGID   it is gone
    quit    the driver ends in good order

At end of file, or when its parent is no longer the driver (another process may have inherited the
other end of the pipe), it kills what is listed: the process groups, and the descendants of their
leaders that moved to groups of their own.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["kill_descendants", "kill_groups", "main", "signal_group"]

_POLL = 0.5
"""Seconds between two looks at the parent."""

_ROUNDS = 10
"""How often descendants are looked for: new ones can appear until all are stopped."""


def main(driver: int, stdin: int = 0) -> None:
    """Watch over the groups named on ``stdin`` until the driver is gone.

    Args:
        driver: The process id of the driver, our parent.
        stdin: The descriptor to read.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    groups: dict[int, str] = {}
    pending = b""
    while True:
        orphaned = os.getppid() != driver
        if not select.select([stdin], [], [], 0 if orphaned else _POLL)[0]:
            if orphaned:  # everything that the driver said was read
                break
            continue
        data = os.read(stdin, 65536)
        if not data:
            break
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            if line == b"quit":
                return
            _note(line.decode(), groups)
    kill_groups(pgid for pgid, since in groups.items() if _start_time(pgid) in {"", since})


def _note(line: str, groups: dict[int, str]) -> None:
    pgid = int(line[1:])
    if line.startswith("+"):
        groups[pgid] = _start_time(pgid)
    else:
        groups.pop(pgid, None)


def kill_groups(pgids: Iterable[int]) -> None:
    """SIGKILL these process groups and every descendant of their leaders, wherever it moved.

    All are stopped first, so that none can start another one meanwhile.
    """
    leaders = set(pgids)
    if not leaders:
        return
    for leader in leaders:
        signal_group(leader, signal.SIGSTOP)
    victims = _stopped_descendants(leaders)
    for leader in leaders:
        signal_group(leader, signal.SIGKILL)
    for pid in victims:
        _signal(pid, signal.SIGKILL)


def kill_descendants(pid: int) -> None:
    """SIGKILL every descendant of this process, wherever it moved, but not the process itself.

    They are stopped first, so that none of them can start another one meanwhile.
    """
    for victim in _stopped_descendants({pid}):
        _signal(victim, signal.SIGKILL)


def _stopped_descendants(leaders: set[int]) -> set[int]:
    """The descendants of these processes, all of them stopped."""
    victims: set[int] = set()
    for _ in range(_ROUNDS):
        found = _descendants(leaders) - victims
        if not found:
            break
        victims |= found
        for pid in found:
            _signal(pid, signal.SIGSTOP)
    return victims


def signal_group(pgid: int, number: signal.Signals) -> None:
    """Signal a process group, if there is one of this number."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # gone, or root's by now
        os.killpg(pgid, number)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _descendants(leaders: set[int]) -> set[int]:
    """The living descendants of these processes; empty where there is no ``/proc``."""
    children: dict[int, list[int]] = {}
    for pid, fields in _processes().items():
        children.setdefault(int(fields[1]), []).append(pid)
    found: set[int] = set()
    frontier = list(leaders)
    while frontier:
        new = [pid for pid in children.get(frontier.pop(), ()) if pid not in found]
        found.update(new)
        frontier += new
    return found - leaders


def _processes() -> Mapping[int, list[str]]:
    try:
        with os.scandir("/proc") as entries:
            pids = [int(entry.name) for entry in entries if entry.name.isdigit()]
    except FileNotFoundError:
        return {}
    stats = {pid: _stat(pid) for pid in pids}
    return {pid: fields for pid, fields in stats.items() if fields}


def _stat(pid: int) -> list[str]:
    """The fields of ``/proc/PID/stat`` from the state on; empty when the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes().decode(errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _start_time(pid: int) -> str:
    """When a process started, in clock ticks since boot; "" when it is gone or nobody knows."""
    fields = _stat(pid)
    return fields[19] if fields else ""


if __name__ == "__main__":
    main(int(sys.argv[1]))
