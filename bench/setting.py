"""What every benchmark prints and needs: where it ran, tables, and fresh interpreters."""

from __future__ import annotations

import argparse
import json
import os
import platform
import pty
import statistics
import subprocess
import sys
import tempfile
import threading
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "arguments",
    "describe",
    "in_a_terminal",
    "load",
    "machine",
    "markdown",
    "spread",
    "table",
]


def arguments(doc: str | None) -> argparse.Namespace:
    """The command line: ``--quick`` for a look instead of a measurement."""
    parser = argparse.ArgumentParser(description=(doc or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="fewer trials and repeats")
    parser.add_argument("--child", nargs=2, metavar=("JOB", "FILE"), help=argparse.SUPPRESS)
    return parser.parse_args()


def describe(title: str) -> None:
    """Print what is measured, the machine, its load, and the versions."""
    versions = ", ".join(_version(package) for package in ("maggy", "numpy", "optuna"))
    print(f"# {title}\n")
    print(f"{machine()}, {versions}, load {load()}")
    print(flush=True)


def machine() -> str:
    """The processor, its usable cores, the system and the Python."""
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{_processor()}, {len(_usable())} usable cores, {system}"


def load() -> str:
    """How many processes wanted to run during the last minute, 5 and 15 minutes."""
    return "/".join(f"{load:.1f}" for load in os.getloadavg())


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, the first column to the left and the others to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    for row in (header, *rows):
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join(cells))
    print(flush=True)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same as a table of a page."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def spread(values: Sequence[float], digits: int = 0) -> str:
    """The median, and the smallest and largest of the repeats if they differ."""
    numbers = (statistics.median(values), min(values), max(values))
    middle, low, high = (f"{number:,.{digits}f}" for number in numbers)
    return middle if low == high else f"{middle} ({low} to {high})"


def in_a_terminal(script: str, job: str, folder: Path) -> dict[str, Any]:
    """Run ``script --child job FILE`` in a fresh interpreter on a terminal of its own.

    Returns:
        The JSON that it left in FILE.
    """
    answer = Path(tempfile.mkstemp(suffix=".json", dir=folder)[1])
    ours, theirs = pty.openpty()
    drain = threading.Thread(target=_drain, args=(ours,), daemon=True)
    drain.start()
    command = [sys.executable, str(Path(script).resolve()), "--child", job, str(answer)]
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"}
    done = subprocess.run(
        command, cwd=folder, env=env, stdout=theirs, stderr=subprocess.PIPE, check=False
    )
    os.close(theirs)
    drain.join()
    if done.returncode:
        sys.exit(f"{job} failed:\n{done.stderr.decode()[-3000:]}")
    measured: dict[str, Any] = json.loads(answer.read_text())
    return measured


def _drain(terminal: int) -> None:
    """Read what is shown, as a terminal does, until nobody holds the other end."""
    with open(terminal, "rb", buffering=0) as shown:
        try:
            while shown.read(65536):
                pass
        except OSError:  # how Linux says that the other end is closed
            return


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"no {package}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _usable() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))
