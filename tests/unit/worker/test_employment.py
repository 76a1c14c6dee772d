"""What a worker on another machine is told instead of what the driver said."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from maggy.wire.messages import Setup
from maggy.worker.carrier import Carrier
from maggy.worker.employment import settled

if TYPE_CHECKING:
    from maggy.worker.transfers import Transfers


def _setup(**changes: Any) -> Setup:
    told: dict[str, Any] = {
        "sys_path": [],
        "cwd": "/no/such/folder",
        "log_dir": "/no/such/log",
        "hb_interval": 1.0,
        "plan": {},
    }
    return Setup(**{**told, **changes})


def _settled(setup: Setup, folder: Path) -> Setup:
    carrier = Carrier(cast("Transfers", None), folder, setup.checkpoint_limit)
    return settled(setup, folder, carrier)


def test_imports_come_from_here_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process's entries lead; of the driver's those follow that exist here, once each."""
    here, theirs = tmp_path / "here", tmp_path / "theirs"
    (theirs / "relative").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(here), "", str(tmp_path)])
    told = _setup(sys_path=["", str(tmp_path), "relative", "/no/such/entry"], cwd=str(theirs))
    assert _settled(told, tmp_path).sys_path == [
        str(here), str(Path.cwd()), str(tmp_path), str(theirs), str(theirs / "relative"),
    ]  # fmt: skip


def test_the_working_directory_is_the_drivers_where_it_exists(tmp_path: Path) -> None:
    """Elsewhere it is a folder of the agent's own."""
    assert _settled(_setup(cwd=str(tmp_path)), Path("/scratch")).cwd == str(tmp_path)
    assert _settled(_setup(), Path("/scratch")).cwd == "/scratch/work"


def test_a_directory_that_cannot_be_entered_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It might as well not exist."""
    monkeypatch.setattr(os, "access", lambda path, mode: path != str(tmp_path))
    assert _settled(_setup(cwd=str(tmp_path)), Path("/scratch")).cwd == "/scratch/work"


def test_files_that_travel_stay_with_the_agent(tmp_path: Path) -> None:
    """Output always does, checkpoints where they are limited."""
    told = _settled(_setup(checkpoint_dir="/run/checkpoints", checkpoint_limit=9), tmp_path)
    assert told.log_dir == str(tmp_path / "trials")
    assert told.checkpoint_dir == str(tmp_path / "checkpoints")
    assert told.checkpoint_limit == 9


def test_shared_checkpoints_are_reached_as_they_are(tmp_path: Path) -> None:
    """A folder that all machines share must be here, and nothing is made in its place."""
    shared = tmp_path / "shared"
    shared.mkdir()
    assert _settled(_setup(checkpoint_dir=str(shared)), tmp_path).checkpoint_dir == str(shared)
    with pytest.raises(NotADirectoryError, match="Mount it"):
        _settled(_setup(checkpoint_dir=str(tmp_path / "gone")), tmp_path)
    assert not (tmp_path / "gone").exists()


def test_without_checkpoints_there_is_no_folder(tmp_path: Path) -> None:
    """Nothing can be saved then."""
    assert _settled(_setup(checkpoint_limit=9), tmp_path).checkpoint_dir is None
