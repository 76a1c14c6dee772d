"""Folders for a while."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from maggy.worker.scratch import held, sweep, temporary_root

if TYPE_CHECKING:
    from pathlib import Path

HOLD = """
import sys
from pathlib import Path
from maggy.worker.scratch import held
with held("x", Path(sys.argv[1])) as folder:
    (folder / "file").touch()
    print(folder, flush=True)
    sys.stdin.read()
"""


def _holder(root: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.wait()
    process.stdout.close()


def test_the_last_holder_deletes(tmp_path: Path) -> None:
    """A folder that two hold goes with the second, and is private meanwhile."""
    with held("a", tmp_path) as first:
        assert first.stat().st_mode & 0o777 == 0o700
        with held("a", tmp_path) as second:
            assert first == second
            (first / "file").touch()
        assert (first / "file").exists()
    assert list(tmp_path.iterdir()) == []


def test_names_are_apart(tmp_path: Path) -> None:
    """Another name is another folder."""
    with held("a", tmp_path) as first, held("b", tmp_path) as second:
        assert first != second


def test_another_process_counts(tmp_path: Path) -> None:
    """What another process holds is not deleted, and not swept away."""
    process = _holder(tmp_path)
    with held("x", tmp_path) as folder:
        assert (folder / "file").exists()
    sweep(tmp_path)
    assert (folder / "file").exists()
    _end(process)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_holder_left_is_swept_away(tmp_path: Path) -> None:
    """The next one on the machine deletes it."""
    process = _holder(tmp_path)
    process.send_signal(signal.SIGKILL)
    _end(process)
    assert len(list(tmp_path.iterdir())) == 1
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_other_things_are_not_swept_away(tmp_path: Path) -> None:
    """A sweep touches only folders that have a lock."""
    (tmp_path / f"maggy-{os.getuid()}-other").mkdir()
    (tmp_path / f"maggy-{os.getuid()}-file").touch()
    sweep(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("kind", ["open", "link", "file"])
def test_a_folder_that_others_could_write_is_refused(tmp_path: Path, kind: str) -> None:
    """Nothing is put where somebody else may have prepared something."""
    folder = tmp_path / f"maggy-{os.getuid()}-a"
    if kind == "open":
        folder.mkdir()
        folder.chmod(0o777)
    elif kind == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        folder.touch(mode=0o600)
    with pytest.raises(OSError, match="maggy-"), held("a", tmp_path):
        pass


def test_the_root_is_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    """TMPDIR counts, as for everything temporary."""
    monkeypatch.setattr("tempfile.tempdir", "/some/where")
    assert str(temporary_root()) == "/some/where"
