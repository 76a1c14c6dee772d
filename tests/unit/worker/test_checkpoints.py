"""What is saved is restored, whole, newest first, or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maggy.errors import CheckpointError, EarlyStopException
from maggy.trial import CheckpointName
from maggy.worker.checkpoints import Checkpoint, Checkpoints

if TYPE_CHECKING:
    from collections.abc import Callable


def no_warning(text: str) -> None:
    """Fail: nothing is damaged in this test."""
    pytest.fail(text)


def restored(saved: Checkpoints) -> Checkpoint:
    """What is there, which must be undamaged."""
    found = saved.restore(no_warning)
    assert found is not None
    return found


def names(folder: Path) -> list[str]:
    """What is in the folder of trial 3."""
    return sorted(entry.name for entry in (folder / "000003").iterdir())


def first(folder: Path) -> Checkpoints:
    """Attempt 0 of trial 3."""
    return Checkpoints(folder, 3, 0)


@given(st.builds(CheckpointName, *[st.integers(0, 10**18 - 1)] * 4, st.integers(0, 2**32 - 1)))
def test_a_name_tells_everything(name: CheckpointName) -> None:
    """A checkpoint's name is read back as it was written."""
    assert CheckpointName.parse(str(name)) == name


@pytest.mark.parametrize(
    "text", ["", "draft-0000-000001", "0000-000001-3-4-0000000g", "0-1-2-3-00000000", "1" * 5000]
)
def test_other_names_are_none(text: str) -> None:
    """What is not a checkpoint's name is never taken for one."""
    assert CheckpointName.parse(text) is None


@pytest.mark.parametrize("data", [b"", b"weights", bytes(3 << 20)])
def test_bytes_come_back(tmp_path: Path, data: bytes) -> None:
    """Any bytes, with their step and their size."""
    assert first(tmp_path).save(data, 7) == len(data)
    found = restored(first(tmp_path))
    assert (found.bytes, found.step) == (data, 7)
    assert found.path.read_bytes() == data


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_what_is_like_bytes_is_bytes(tmp_path: Path, kind: Callable[[bytes], Any]) -> None:
    """Buffers are saved by their content."""
    assert first(tmp_path).save(kind(b"abc"), 0) == 3
    assert restored(first(tmp_path)).bytes == b"abc"


def test_a_file_keeps_its_name_and_is_a_copy(tmp_path: Path) -> None:
    """Loaders look at the suffix; the original may change or go."""
    model = tmp_path / "model.keras"
    model.write_bytes(b"v1")
    saved = first(tmp_path / "runs")
    assert saved.save(model, 1) == 2
    model.write_bytes(b"v2")
    found = restored(saved)
    assert (found.path.name, found.bytes, found.step) == ("model.keras", b"v1", 1)


def test_a_folder_is_copied_as_a_whole(tmp_path: Path) -> None:
    """Nested files, empty folders, odd names and what links lead to, but not the links."""
    source = tmp_path / "model"
    (source / "shards" / "a").mkdir(parents=True)
    (source / "empty").mkdir()
    (source / "shards" / "a" / "1.bin").write_bytes(b"11")
    (source / "index.json").write_text("{}")
    (tmp_path / "outside").write_bytes(b"far away")
    (source / "link").symlink_to(tmp_path / "outside")
    odd = os.fsdecode(b"odd-\xff")
    (source / odd).write_bytes(b"?")
    assert first(tmp_path / "runs").save(source, 4) == 2 + 2 + 8 + 1
    (tmp_path / "outside").unlink()
    found = restored(first(tmp_path / "runs"))
    inside = {path.relative_to(found.path).as_posix() for path in found.path.rglob("*")}
    assert found.path.name == "model"
    assert inside == {"shards", "shards/a", "shards/a/1.bin", "empty", "index.json", "link", odd}
    assert (found.path / "link").read_bytes() == b"far away"
    assert not (found.path / "link").is_symlink()
    with pytest.raises(CheckpointError, match="is a folder"):
        assert found.bytes


def test_blocks_are_shared_where_the_file_system_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system is asked to clone a file; what it cloned is not copied again."""

    def clone(target: int, request: int, source: int) -> int:
        assert request == 0x40049409
        return os.write(target, os.read(source, 100))

    monkeypatch.setattr(fcntl, "ioctl", clone)
    model = tmp_path / "model.pt"
    model.write_bytes(b"weights")
    first(tmp_path / "runs").save(model, 0)
    assert restored(first(tmp_path / "runs")).bytes == b"weights"


def test_only_the_newest_is_kept(tmp_path: Path) -> None:
    """Each save replaces the one before; the trial's folder holds nothing else."""
    saved = first(tmp_path)
    for step in range(3):
        saved.save(b"%d" % step, step)
        (name,) = names(tmp_path)
        assert name.startswith(f"0000-{step + 1:06d}-{step}-1-")
    found = restored(saved)
    saved.save(b"next", 3)
    with pytest.raises(CheckpointError, match="Read it before the next `save`"):
        assert found.bytes


def test_nothing_saved_is_none(tmp_path: Path) -> None:
    """Neither a missing nor an empty folder is an error."""
    assert first(tmp_path).restore(no_warning) is None
    (tmp_path / "000003").mkdir()
    assert first(tmp_path).restore(no_warning) is None


def test_the_next_attempt_goes_on_and_the_former_is_out(tmp_path: Path) -> None:
    """An attempt whose worker was given up can no longer replace or delete anything."""
    zombie, heir = first(tmp_path), Checkpoints(tmp_path, 3, 1)
    zombie.save(b"old", 5)
    found = restored(heir)
    assert (found.bytes, found.step) == (b"old", 5)
    with pytest.raises(EarlyStopException, match="attempt 1 of trial 3 has taken over"):
        zombie.save(b"late", 6)
    assert found.bytes == b"old"
    heir.save(b"new", 6)
    assert restored(heir).bytes == b"new"
    assert len(names(tmp_path)) == 1
    assert zombie.restore(no_warning) is None


def test_a_zombie_that_saved_meanwhile_does_not_count(tmp_path: Path) -> None:
    """What an earlier attempt finishes after the take-over is older than what was taken over."""
    first(tmp_path).save(b"taken", 5)
    heir = Checkpoints(tmp_path, 3, 1)
    restored(heir)
    late = tmp_path / "000003" / str(CheckpointName(0, 2, 6, 4, 0))
    late.mkdir()
    (late / "data").write_bytes(b"late")
    assert restored(heir).bytes == b"taken"
    heir.save(b"next", 6)
    assert len(names(tmp_path)) == 1


def test_trials_do_not_meet(tmp_path: Path) -> None:
    """Each trial has its own."""
    first(tmp_path).save(b"three", 0)
    assert Checkpoints(tmp_path, 4, 0).restore(no_warning) is None


def test_a_process_that_starts_anew_counts_on(tmp_path: Path) -> None:
    """The same attempt in another process neither collides with nor falls behind the first."""
    for step in range(3):
        first(tmp_path).save(b"x", step)
    assert names(tmp_path)[0].startswith("0000-000003-2-")


def flip(path: Path) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        lambda path: path.write_bytes(b"weigh"),
        lambda path: path.unlink(),
        lambda path: path.rename(path.with_name("other")),
        lambda path: (path.parent / "second").touch(),
        lambda path: path.parent.rename(
            path.parent.with_name(path.parent.name.replace("-9-", "-8-"))
        ),
    ],
    ids=["bit", "cut", "gone", "renamed", "two", "step"],
)
def test_damage_is_seen(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    """Whatever is changed, nothing wrong is ever restored."""
    first(tmp_path).save(b"weights", 9)
    damage(restored(first(tmp_path)).path)
    heard: list[str] = []
    assert first(tmp_path).restore(heard.append) is None
    (text,) = heard
    assert "of trial 3 at step" in text
    assert "is damaged" in text or "cannot be read" in text


def test_a_damaged_one_falls_back_to_the_previous(tmp_path: Path) -> None:
    """When the previous one is still there, because a worker died between two steps of a save."""
    saved = first(tmp_path)
    saved.save(b"good", 1)
    (good,) = (tmp_path / "000003").iterdir()
    (spare,) = good.iterdir()
    kept = tmp_path / "kept"
    good.rename(kept)
    saved.save(b"bad", 2)
    flip(restored(saved).path)
    kept.rename(good)
    assert spare.exists()
    heard: list[str] = []
    found = saved.restore(heard.append)
    assert found is not None
    assert (found.bytes, found.step, len(heard)) == (b"good", 1, 1)


def full(*_: object) -> None:
    """The disk has no room."""
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_says_what_to_do_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Path, size, free bytes, advice; the former checkpoint stands and no draft is left."""
    saved = first(tmp_path)
    saved.save(b"former", 1)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(CheckpointError) as caught:
            saved.save(bytes(2_500_000), 2)
    text = str(caught.value)
    assert text.startswith("the checkpoint of trial 3 at step 2 (2.5 MB) could not be written to ")
    assert str(tmp_path / "000003") in text
    assert "No space left on device" in text
    assert "MB are free there. Free some space" in text
    assert (restored(saved).bytes, len(names(tmp_path))) == (b"former", 1)
    saved.save(b"again", 2)
    assert restored(saved).bytes == b"again"


def test_a_full_disk_while_a_folder_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size of the whole folder is told."""
    source = tmp_path / "model"
    source.mkdir()
    for name in ("a", "b"):
        (source / name).write_bytes(bytes(1_000_000))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"\(2.0 MB\) could not be written"):
        first(tmp_path / "runs").save(source, 0)
    assert names(tmp_path / "runs") == []


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    """Something else than a folder where the checkpoints should be is told by its path."""
    (tmp_path / "runs").write_text("a file")
    saved = first(tmp_path / "runs")
    with pytest.raises(CheckpointError, match="runs/000003: Not a directory"):
        saved.save(b"x", 0)
    with pytest.raises(CheckpointError, match="cannot be read: Not a directory"):
        saved.restore(no_warning)


def test_a_source_that_cannot_be_read(tmp_path: Path) -> None:
    """The message names what is missing, and advises to write it first."""
    with pytest.raises(CheckpointError, match=r"read from .*absent: .* Write what is to be saved"):
        first(tmp_path / "runs").save(tmp_path / "absent", 0)
    (tmp_path / "pipes").mkdir()
    os.mkfifo(tmp_path / "pipes" / "fifo")
    with pytest.raises(CheckpointError, match="pipes/fifo: it is neither a file nor a folder"):
        first(tmp_path / "runs").save(tmp_path / "pipes", 0)
    assert names(tmp_path / "runs") == []


def test_links_in_a_circle_and_folders_that_hold_the_run(tmp_path: Path) -> None:
    """Neither is copied for ever."""
    (tmp_path / "round").mkdir()
    (tmp_path / "round" / "again").symlink_to(tmp_path / "round")
    with pytest.raises(CheckpointError, match="links lead round in a circle"):
        first(tmp_path / "runs").save(tmp_path / "round", 0)
    with pytest.raises(CheckpointError, match="it holds the run's own checkpoints"):
        first(tmp_path / "runs").save(tmp_path, 0)


@pytest.mark.parametrize("data", ["model.pt", 3, None, [b"x"]])
def test_only_bytes_and_paths_are_saved(tmp_path: Path, data: Any) -> None:
    """Anything else is refused with what to do."""
    with pytest.raises(TypeError, match="must be bytes or a pathlib"):
        first(tmp_path).save(data, 0)
    assert not (tmp_path / "000003").exists()


def test_a_child_process_cannot_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Since it could not tell the driver."""
    saved = first(tmp_path)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(CheckpointError, match="called in a child process"):
        saved.save(b"x", 0)


def test_an_interrupted_save_leaves_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A KeyboardInterrupt in the middle of a save, as the inline engine raises it."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        first(tmp_path).save(b"x", 0)
    assert names(tmp_path) == []


def test_drafts_of_dead_attempts_are_cleared(tmp_path: Path) -> None:
    """What a killed worker left half written goes with the next attempt's first save."""
    draft = tmp_path / "000003" / "draft-0000-000001"
    draft.mkdir(parents=True)
    (draft / "data").write_bytes(b"half")
    heir = Checkpoints(tmp_path, 3, 1)
    assert heir.restore(no_warning) is None
    heir.save(b"x", 0)
    assert draft.name not in names(tmp_path)


def test_many_threads_may_save(tmp_path: Path) -> None:
    """One of the saved ones survives, whole."""
    saved = first(tmp_path)
    threads = [threading.Thread(target=saved.save, args=(b"%d" % i * 1000, i)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = restored(saved)
    assert found.bytes == b"%d" % found.step * 1000
    assert len(names(tmp_path)) == 1


def test_a_checkpoint_that_cannot_be_taken_over_is_used_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that can only be read still restores."""
    first(tmp_path).save(b"x", 1)

    def read_only(self: Path, target: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "rename", read_only)
    assert restored(Checkpoints(tmp_path, 3, 1)).bytes == b"x"


def test_what_cannot_be_deleted_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An old checkpoint that stays is told to the log, and the new one counts."""
    saved = first(tmp_path)
    saved.save(b"old", 1)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", full)
        saved.save(b"new", 2)
    assert "could not be deleted" in caplog.text
    assert restored(saved).bytes == b"new"
    saved.save(b"newest", 3)
    assert len(names(tmp_path)) == 1


def test_a_checkpoint_that_travels_is_limited(tmp_path: Path) -> None:
    """Of bytes and of folders the limit counts; what was saved before stands."""
    saved = Checkpoints(tmp_path, 3, 0, limit=5)
    saved.save(b"12345", 0)
    model = tmp_path / "model"
    model.mkdir()
    for name in ("a", "b"):
        (model / name).write_bytes(b"123")
    for data in (b"123456", model):
        with pytest.raises(CheckpointError, match="Set `checkpoint_dir`"):
            saved.save(data, 1)
    assert restored(saved).bytes == b"12345"


def test_a_checkpoint_that_travels_has_not_too_many_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each entry costs a round trip."""
    monkeypatch.setattr("maggy.worker.checkpoints.CHECKPOINT_ENTRIES", 2)
    model = tmp_path / "model"
    model.mkdir()
    (model / "a").touch()
    saved = Checkpoints(tmp_path, 3, 0, limit=5)
    saved.save(model, 0)
    (model / "b").touch()
    with pytest.raises(CheckpointError, match="in 3 entries"):
        saved.save(model, 1)
    Checkpoints(tmp_path, 3, 0).save(model, 2)


def test_the_newest_is_known_by_name(tmp_path: Path) -> None:
    """Whoever saved it; None before the first."""
    saved = Checkpoints(tmp_path, 3, 0)
    assert saved.newest() is None
    saved.save(b"1", 4)
    newest = Checkpoints(tmp_path, 3, 1).newest()
    assert newest is not None
    assert (newest.attempt, newest.step, newest.size) == (0, 4, 1)
