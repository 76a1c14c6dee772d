"""Where runs live: ``<folder>/<slug of name>/<UTC time>-<4 hex>/``.

A run's folder holds ``run.sqlite``, the event log, ``trials/``, the output of each trial, and
``checkpoints/``, what trials saved for their next run.
"""

from __future__ import annotations

import re
import secrets
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from maggy.errors import RunError
from maggy.trial import CheckpointName, log_name

if TYPE_CHECKING:
    from datetime import datetime

__all__ = [
    "DEFAULT_FOLDER",
    "RunFolder",
    "SavedCheckpoint",
    "create_run",
    "find_runs",
    "open_run",
    "slug",
]

DEFAULT_FOLDER = Path("maggy-runs")
_DATABASE = "run.sqlite"
_ATTEMPTS = 1000
"""Names to try: far more than the runs that start in one second under one name."""


class SavedCheckpoint(NamedTuple):
    """What a trial saved last and nobody has deleted.

    Attributes:
        path: The file or folder that was saved.
        step: The step at which it was saved.
        size: Bytes.
    """

    path: Path
    step: int
    size: int


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one run, absolute."""

    path: Path

    @property
    def id(self) -> str:
        """The run's own name, such as ``20260131T235959Z-1f2e``."""
        return self.path.name

    @property
    def name(self) -> str:
        """The slug of the experiment's name."""
        return self.path.parent.name

    @property
    def database(self) -> Path:
        """The event log."""
        return self.path / _DATABASE

    @property
    def trials(self) -> Path:
        """The folder with the output of each trial."""
        return self.path / "trials"

    @property
    def checkpoints(self) -> Path:
        """The folder with the checkpoints of each trial; made when the first one is saved."""
        return self.path / "checkpoints"

    def saved(self) -> dict[int, SavedCheckpoint]:
        """The newest checkpoint of each trial that has any, by trial."""
        if not self.checkpoints.is_dir():
            return {}
        newest: dict[int, SavedCheckpoint] = {}
        for folder in self.checkpoints.iterdir():
            if folder.name.isdecimal() and (found := _newest(folder)) is not None:
                newest[int(folder.name)] = found
        return newest

    def log_path(self, trial: int) -> Path:
        """The file with the output of this trial."""
        return self.trials / log_name(trial)


def _newest(folder: Path) -> SavedCheckpoint | None:
    """The newest checkpoint in a trial's folder; None if there is none, or it is being deleted."""
    try:
        names = [CheckpointName.parse(entry.name) for entry in folder.iterdir()]
        name = max((name for name in names if name is not None), default=None)
        if name is None:
            return None
        (content,) = (folder / str(name)).iterdir()
    except (FileNotFoundError, ValueError):
        return None
    return SavedCheckpoint(content, name.step, name.size)


def slug(name: str) -> str:
    """The experiment's name as a safe folder name: ASCII letters, digits, ``_``, ``-``, ``.``."""
    return _slug(name) or "experiment"


def _slug(name: str) -> str:
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", ascii_name)[:64].strip("-.")


def create_run(folder: str | Path, name: str, *, now: datetime) -> RunFolder:
    """Make the folder of a new run, for its owner alone.

    Args:
        folder: Where runs live; made if it is not there.
        name: The experiment's name.
        now: The time, in UTC.

    Raises:
        RunError: The folder cannot be made.
    """
    parent = Path(folder).expanduser().resolve() / slug(name)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for _ in range(_ATTEMPTS):
            run = RunFolder(parent / f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}")
            try:
                run.path.mkdir(mode=0o700)
            except FileExistsError:
                continue
            run.trials.mkdir(mode=0o700)
            return run
    except OSError as error:
        msg = (
            f"the run's folder cannot be made in {parent}: {error.strerror}. "
            f"Choose another `folder`, one that you may write."
        )
        raise RunError(msg) from error
    msg = f"{parent} is full of runs of this second. Try again."
    raise RunError(msg)


def find_runs(folder: str | Path) -> list[RunFolder]:
    """The runs of a folder, or of one experiment's folder in it, oldest first."""
    root = Path(folder).expanduser().resolve()
    databases = [*root.glob(f"*/*/{_DATABASE}"), *root.glob(f"*/{_DATABASE}")]
    return sorted((RunFolder(path.parent) for path in databases), key=_age)


def open_run(run: str | Path, *, folder: str | Path = DEFAULT_FOLDER) -> RunFolder:
    """Find a run that exists.

    Args:
        run: The run's folder or its database; or the run's id, the four characters at its end,
            or the beginning of either; or the experiment's name (or its folder): its latest run.
        folder: Where ids and names are looked up.

    Raises:
        RunError: There is no such run, or there are several.
    """
    path = Path(run).expanduser()
    if path.is_file() or (path / _DATABASE).is_file():
        path = path.resolve()
        return RunFolder(path.parent if path.is_file() else path)
    if path.is_dir() and (inside := find_runs(path)):
        return inside[-1]
    return _look_up(str(run), Path(folder).expanduser().resolve())


def _look_up(wanted: str, folder: Path) -> RunFolder:
    runs = find_runs(folder)
    if not runs:
        msg = f"there is no run {wanted!r}: no path of that name, and no runs in {folder}."
        raise RunError(msg)
    named = [run for run in runs if run.name == wanted or run.name == _slug(wanted)]
    if named:
        return named[-1]
    matches = [run for run in runs if _matches(run, wanted)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        some = ", ".join(f"{run.name}/{run.id}" for run in matches[-5:])
        msg = f"{wanted!r} could be {len(matches)} runs: {some}. Give more of its characters."
        raise RunError(msg)
    some = ", ".join(f"{run.name}/{run.id}" for run in runs[-3:])
    msg = f"there is no run {wanted!r} in {folder}. The latest are: {some}."
    raise RunError(msg)


def _matches(run: RunFolder, wanted: str) -> bool:
    name, _, wanted_id = wanted.rpartition("/")
    if not wanted_id or (name and name != run.name):
        return False
    return run.id.startswith(wanted_id) or run.id.rpartition("-")[2].startswith(wanted_id)


def _age(run: RunFolder) -> tuple[str, int]:
    """Sorts by time; within one second by when the folder was made."""
    time, _, _ = run.id.rpartition("-")
    return time, run.trials.stat().st_ctime_ns if run.trials.exists() else 0
