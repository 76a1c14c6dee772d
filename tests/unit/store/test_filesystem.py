"""Unit tests of ``maggy.store.filesystem``."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from maggy.errors import RunError
from maggy.store import filesystem
from maggy.store.filesystem import WriterLock, is_network, is_written

MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sdb1 /home/local xfs rw 0 0
//server/share /mnt/my\\040share cifs rw 0 0
scratch /scratch lustre rw 0 0
s3 /mnt/s3 fuse.s3fs rw 0 0
/dev/sdc1 /mnt/usb fuseblk rw 0 0
host /mnt/host 9p rw 0 0
broken
""".splitlines()


@pytest.mark.parametrize(
    ("path", "network"),
    [
        ("/tmp/runs", False),
        ("/home/me/runs", True),
        ("/home", True),
        ("/homeless/runs", False),
        ("/home/local/runs", False),
        ("/mnt/my share/runs", True),
        ("/scratch/me", True),
        ("/mnt/s3/bucket", True),
        ("/mnt/usb/runs", False),
        ("/mnt/host/x", True),
    ],
)
def test_the_innermost_mount_decides(path: str, network: bool) -> None:
    """A path is judged by the file system that it is on, whatever is mounted around it."""
    assert is_network(Path(path), MOUNTS) is network


def test_a_later_mount_hides_an_earlier_one() -> None:
    """Of two mounts at one place the last counts."""
    mounts = ["a /data nfs rw 0 0", "b /data ext4 rw 0 0"]
    assert not is_network(Path("/data/x"), mounts)
    assert is_network(Path("/data/x"), mounts[::-1])


def test_without_a_list_of_mounts_all_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a system without /proc nothing is known, so nothing is slowed down."""
    monkeypatch.setattr(filesystem, "_MOUNTS", Path("/does/not/exist"))
    assert not is_network(Path("/home/me"))


def test_the_real_list_can_be_read(tmp_path: Path) -> None:
    """This machine's own list of mounts is understood."""
    assert is_network(tmp_path) in {True, False}


def test_a_lock_is_exclusive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is held no other can be had; then it can."""
    monkeypatch.setattr(filesystem, "_PATIENCE", 0.0)
    path = tmp_path / "run.lock"
    assert not is_written(path)
    lock = WriterLock(path)
    assert is_written(path)
    with pytest.raises(RunError, match=rf"process {os.getpid()} on .*Wait until it has ended"):
        WriterLock(path)
    lock.release()
    assert not is_written(path)
    WriterLock(path).release()


def test_looking_does_not_keep_a_writer_out(tmp_path: Path) -> None:
    """A would-be writer waits for the moment that ``is_written`` takes."""
    path = tmp_path / "run.lock"
    path.touch()
    looking = os.open(path, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from maggy.store import filesystem;"
            "filesystem._PATIENCE = 60.0; filesystem.WriterLock(Path(sys.argv[1]))",
            str(path),
        ]
    )
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(timeout=0.3)
    finally:
        os.close(looking)
    assert child.wait(timeout=60) == 0


def test_a_dead_process_holds_no_lock(tmp_path: Path) -> None:
    """However the writer died, the next one gets the lock."""
    path = tmp_path / "run.lock"
    code = (
        "import os, sys; from pathlib import Path; from maggy.store.filesystem import WriterLock;"
        "lock = WriterLock(Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False, timeout=60)
    assert done.returncode == -9
    assert not is_written(path)
    WriterLock(path).release()


def test_a_lock_needs_a_folder(tmp_path: Path) -> None:
    """A lock that cannot be made is an error that says why."""
    with pytest.raises(RunError, match="cannot be made: No such file"):
        WriterLock(tmp_path / "gone" / "run.lock")


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where locks do not work, the error tells what to change, and nobody counts as a writer."""

    def refuse(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    path = tmp_path / "run.lock"
    path.touch()
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(RunError, match=r"has no locks \(Function not implemented\).*folder"):
        WriterLock(path)
    assert not is_written(path)
