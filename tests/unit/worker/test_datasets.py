"""Data sets reach the workers through one file, without private copies and without leaks."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
from collections import namedtuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from maggy.errors import ConfigError, UnpicklableError
from maggy.worker import cgroups, storage
from maggy.worker.datasets import DataFile

if TYPE_CHECKING:
    from collections.abc import Iterator

MB = 1_000_000
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def published() -> Iterator[Any]:
    """``DataFile.publish``, closed at the end."""
    files: list[DataFile] = []

    def publish(**objects: object) -> DataFile:
        files.append(DataFile.publish(objects))
        return files[-1]

    yield publish
    for file in files:
        file.close()


def place(file: DataFile) -> str:
    """Where the file lies, as the kernel says."""
    return str(Path(f"/proc/self/fd/{file.fd}").readlink())


def arrays() -> dict[str, np.ndarray[Any, Any]]:
    grid = np.arange(400_000.0).reshape(500, 800)
    return {
        "C order": grid,
        "Fortran order": np.asfortranarray(grid),
        "strided": grid[::2, ::3],
        "small": np.arange(5),
        "empty": np.zeros((0, 7)),
        "scalar": np.array(2.5),
        "dates": np.arange("2020-01-01", "2070-01-01", dtype="datetime64[D]"),
        "records": np.zeros(20_000, dtype=[("a", "f8"), ("b", "i4")]),
        "objects": np.array([{"x": 1}, None], dtype=object),
    }


@pytest.mark.parametrize("kind", arrays())
def test_arrays_arrive_equal_and_writable(published: Any, kind: str) -> None:
    """An array of any layout and type arrives with its values, and user code may write into it."""
    sent = arrays()[kind]
    got: Any = published(train_set=sent).load()["train_set"]
    np.testing.assert_array_equal(got, sent)
    assert got.dtype == sent.dtype
    assert got.flags.writeable


def test_a_read_only_array_stays_read_only(published: Any) -> None:
    """What the user protected from writing stays protected."""
    sent = np.arange(100_000)
    sent.flags.writeable = False
    got: Any = published(train_set=sent).load()["train_set"]
    assert not got.flags.writeable


def test_buffers_are_aligned(published: Any) -> None:
    """Every large array starts at a multiple of 64 bytes, as vector instructions like it."""
    file = published(a=np.ones(100_003, dtype=np.int8), b=[np.ones(70_001, dtype=np.int8)] * 2)
    loaded: Any = file.load()
    for array in (loaded["a"], *loaded["b"]):
        assert array.ctypes.data % 64 == 0


def test_frames_and_other_objects(published: Any) -> None:
    """Frames of pandas and any picklable objects arrive, each under its own name."""
    frame = pd.DataFrame({"x": np.arange(50_000.0), "y": ["a", "b"] * 25_000})
    file = published(train_set=frame, test_set={"rows": [1, "two", None]})
    loaded: Any = file.load()
    pd.testing.assert_frame_equal(loaded["train_set"], frame)
    assert loaded["test_set"] == {"rows": [1, "two", None]}
    loaded["train_set"].loc[0, "x"] = -1.0
    again: Any = file.load(["train_set"])
    assert again.keys() == {"train_set"}
    pd.testing.assert_frame_equal(again["train_set"], frame)
    assert file.load(["model"]) == {}


def test_nothing_leaks_into_the_next_trial(published: Any) -> None:
    """What one trial writes is not seen by the next, in arrays and in Python objects alike."""
    file = published(train_set=(np.zeros(100_000), ["clean"]))
    first: Any = file.load()["train_set"]
    first[0][:] = 7
    first[1].append("dirt")
    second: Any = file.load()["train_set"]
    assert second[0].sum() == 0
    assert second[1] == ["clean"]
    assert first[0].sum() == 700_000


def test_loaded_arrays_outlive_the_file() -> None:
    """Closing the file, even twice, does not take the arrays away."""
    file = DataFile.publish({"train_set": np.ones(100_000)})
    loaded: Any = file.load()["train_set"]
    file.close()
    file.close()
    assert loaded.sum() == 100_000


def test_no_data_sets(published: Any) -> None:
    """Publishing nothing is allowed and loads nothing."""
    assert published().load() == {}


def test_a_foreign_descriptor_is_refused(tmp_path: Path) -> None:
    """A descriptor of another file is not taken for data sets."""
    for content in (b"", b"something else that is long enough"):
        (tmp_path / "other").write_bytes(content)
        with (
            (tmp_path / "other").open("rb") as other,
            pytest.raises(ValueError, match="no file of"),
        ):
            DataFile.open(other.fileno())


def test_what_cannot_be_pickled_is_named() -> None:
    """The message names the data set and the part of it, and no descriptor stays open."""
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(UnpicklableError, match=r"`train_set\['x'\]\[1\]` \(a `_thread\.lock`\)"):
        DataFile.publish({"train_set": {"x": [np.ones(100_000), threading.Lock()]}})
    assert set(Path("/proc/self/fd").iterdir()) == before


WORKER = """
    import json, sys
    import numpy as np
    from maggy.worker.datasets import DataFile

    def private_mb():
        # Private_Dirty also counts pages of the file that only one process happens to map now.
        with open("/proc/self/smaps_rollup") as file:
            return sum(int(line.split()[1]) for line in file if line.startswith("Anonymous")) / 1e3

    file = DataFile.open(int(sys.argv[1]))
    before = private_mb()
    totals = []
    for trial in range(3):
        data = file.load()["train_set"]
        totals.append(float(data.sum()))
        extra = private_mb() - before
        data[:10] = -1e9
    print(json.dumps({"totals": totals, "extra": extra}))
"""


@pytest.mark.parametrize("in_memory", [True, False], ids=["memory", "disk"])
def test_workers_share_one_copy(
    published: Any, monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    """Four processes read 50 MB with hardly any private memory, and see no trial's writes."""
    if not in_memory:
        monkeypatch.setattr(storage, "_free_memory", lambda: 0)
    data = np.arange(6_250_000.0)
    file = published(train_set=data)
    assert place(file).startswith("/memfd") == in_memory
    command = [sys.executable, "-c", textwrap.dedent(WORKER), str(file.fd)]
    workers = [
        subprocess.Popen(command, pass_fds=[file.fd], stdout=subprocess.PIPE) for _ in range(4)
    ]
    for worker in workers:
        answer, _ = worker.communicate()
        said = json.loads(answer)
        assert said["totals"] == [float(data.sum())] * 3
        assert said["extra"] < 5


def test_moves_to_disk_when_memory_is_short(
    published: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than half of the free memory is not taken: what was written so far moves to disk."""
    monkeypatch.setattr(storage, "_free_memory", lambda: 4 * MB)
    sent = {"rows": ["x" * 1000 + str(i) for i in range(3000)], "array": np.arange(500_000)}
    file = published(train_set=sent)
    assert not place(file).startswith("/memfd")
    assert "(deleted)" in place(file)
    got: Any = file.load()["train_set"]
    assert got["rows"] == sent["rows"]
    np.testing.assert_array_equal(got["array"], np.arange(500_000))


def test_too_little_room_is_said_before_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room in memory and on disk, the message has the needed and the free bytes."""
    monkeypatch.setattr(storage, "_free_memory", lambda: 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 7 * MB))
    with pytest.raises(ConfigError, match=r"need 16 MB, but only 7 MB are free in /.*TMPDIR"):
        DataFile.publish({"train_set": np.zeros(2_000_000)})


def test_a_disk_that_fills_up_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Running out of room while writing is the same clear error, not one about pickling."""

    def full(fd: int, data: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    for value in (np.zeros(2_000_000), "x" * 2_000_000):
        with pytest.raises(ConfigError, match=r"The data sets need \d+ MB, but only"):
            DataFile.publish({"train_set": value})


def test_a_broken_disk_is_told_from_a_full_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another failure of the file system is passed on with its own text."""

    def broken(fd: int, data: Any) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "write", broken)
    with pytest.raises(ConfigError, match=r"could not be written for the workers.*Input/output"):
        DataFile.publish({"train_set": [1]})


def test_no_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without memory and without a writable folder, the file system's own words are passed on."""
    monkeypatch.setattr(storage, "_free_memory", lambda: 0)
    monkeypatch.setattr("tempfile.tempdir", "/no/such/folder")
    monkeypatch.setenv("TMPDIR", "/no/such/folder")
    with pytest.raises(ConfigError, match=r"could not be written.*/no/such/folder"):
        DataFile.publish({"train_set": [1]})


def test_the_users_folder_is_respected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With TMPDIR set, the file is there; without, in the folder with most room."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(storage, "_free_memory", lambda: 0)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    file = DataFile.publish({"train_set": [1]})
    assert place(file).startswith(str(tmp_path))
    file.close()
    monkeypatch.delenv("TMPDIR")
    room = {tmp_path: 1, Path("/var/tmp"): 2}
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(0, 0, room[folder] * 1000 * MB))
    assert storage._roomiest() == Path("/var/tmp")


def test_free_memory_respects_the_control_group(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A container's limit bounds what counts as free, whichever version states it."""
    plenty = storage._free_memory()
    assert plenty > MB
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("2000\n")
    monkeypatch.setattr(storage, "own_groups", lambda controller: [tmp_path])
    assert storage._free_memory() == 3000
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.limit_in_bytes").write_text("100")
    (tmp_path / "memory.usage_in_bytes").write_text("200")
    assert storage._free_memory() == 0


def test_control_groups_of_both_versions(tmp_path: Path) -> None:
    """The own group and its ancestors are found, and what a container hides is skipped."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("4:memory:/job/7\n1:cpu,cpuacct:/\n0::/user/me\n")
    mount = tmp_path / "sys/fs/cgroup"
    for folder in ("memory/job", "cpu,cpuacct", "user/me"):
        (mount / folder).mkdir(parents=True)
    version2 = [mount / "user/me", mount / "user", mount]
    assert cgroups.own_groups("memory", root=tmp_path) == [
        mount / "memory/job", mount / "memory", *version2,
    ]  # fmt: skip
    assert cgroups.own_groups("cpu", root=tmp_path) == [mount / "cpu,cpuacct", *version2]
    assert cgroups.own_groups("cpu", root=tmp_path / "nowhere") == []
    assert cgroups.read_number(mount / "cpu.max") is None


def test_a_file_that_nobody_has_any_more_takes_no_room() -> None:
    """A run that never began, since its folder could not be made, leaves no data in memory."""
    file = DataFile.publish({"train_set": np.zeros(MB)})
    fd = file.fd
    os.fstat(fd)
    del file
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
