"""A virtual environment for each tool that is measured, and what is in it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "Footprint", "Package", "Trouble", "footprint", "install", "run"]

ROOT = Path(__file__).parents[1]
_INSTALL_LIMIT = 900
"""Seconds."""


class Trouble(Exception):
    """A tool could not be installed or used; the message is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """What one tool consists of.

    Attributes:
        name: As people say it.
        distribution: As it is called in the package index.
        extra: The extra that is needed for a search, or ``""``.
        module: As Python imports it.
        source: Where it is installed from, if not from the package index.
    """

    name: str
    distribution: str
    module: str
    extra: str = ""
    source: Path | None = None

    @property
    def folder(self) -> Path:
        """Its virtual environment."""
        return ROOT / "bench" / ".venvs" / self.distribution

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What installing a tool leaves, pip and the interpreter not counted.

    Attributes:
        version: Of the tool.
        packages: The tool and all that it needs.
        size: MB (10^6 bytes) of their files, byte code included.
        bytecode: MB of byte code, which pip compiles while it installs.
    """

    version: str
    packages: int
    size: float
    bytecode: float


def run(*words: str | Path, limit: float, cwd: Path = ROOT, **variables: str) -> str:
    """Run a command that knows nothing of this environment; returns what it printed.

    Raises:
        Trouble: It failed or took longer than ``limit`` seconds; its processes are gone.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    started = subprocess.Popen(
        list(map(str, words)),
        cwd=cwd,
        env={**kept, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        printed, _ = started.communicate(timeout=limit)
    except subprocess.TimeoutExpired as error:
        os.killpg(started.pid, signal.SIGKILL)
        started.communicate()
        msg = f"took longer than {limit:.0f} s"
        raise Trouble(msg) from error
    if started.returncode:
        lines = [line.strip() for line in printed.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")]
        raise Trouble((errors or lines or ["it said nothing"])[-1][:200])
    return printed


def install(package: Package) -> None:
    """Make its environment; one that is there is kept, unless its source may have changed.

    Raises:
        Trouble: The reason.
    """
    ready = package.folder / "ready"
    if ready.exists() and package.source is None:
        return
    shutil.rmtree(package.folder, ignore_errors=True)
    sys.stderr.write(f"  installing {package.name}\n")
    run(sys.executable, "-m", "venv", "--without-pip", package.folder, limit=_INSTALL_LIMIT)
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    extra = f"[{package.extra}]" if package.extra else ""
    requirement = str(package.source or package.distribution) + extra
    run(*pip, "--python", package.python, "install", requirement, limit=_INSTALL_LIMIT)
    ready.touch()


def footprint(package: Package) -> Footprint:
    """Look at an environment that holds a tool and nothing else."""
    code = f"from importlib.metadata import version; print(version({package.distribution!r}))"
    version = run(package.python, "-c", code, limit=60).strip()
    (site,) = package.folder.glob("lib/python*/site-packages")
    sizes = {path: path.lstat().st_size for path in site.rglob("*") if path.is_file()}
    return Footprint(
        version=version,
        packages=len(list(site.glob("*.dist-info"))),
        size=sum(sizes.values()) / 1e6,
        bytecode=sum(size for path, size in sizes.items() if path.suffix == ".pyc") / 1e6,
    )
