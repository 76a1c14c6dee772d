"""Checkpoints on their way to another machine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from maggy.errors import CheckpointError, EarlyStopException, WireError
from maggy.trial import CheckpointName
from maggy.worker.checkpoints import Checkpoints
from maggy.worker.drafts import Draft, Entry, list_entries, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Sequence

LIMIT = 1000
NAME = CheckpointName(attempt=0, number=1, step=3, size=5, crc=0)


def _saved(folder: Path, tmp_path: Path) -> tuple[CheckpointName, Path]:
    """A checkpoint of trial 7 with a folder, an empty folder and odd names in it."""
    model = tmp_path / "model"
    (model / "empty").mkdir(parents=True)
    (model / "weights").write_bytes(b"12345")
    (model / os.fsdecode(b"odd-\xff")).write_bytes(b"")
    checkpoints = Checkpoints(folder, 7, 0)
    checkpoints.save(model, 3)
    name = checkpoints.newest()
    assert name is not None
    return name, checkpoints.folder / str(name)


def _carry(name: CheckpointName, source: Path, folder: Path, trial: int = 7) -> Draft:
    """A draft into which everything of a checkpoint was written, byte by byte."""
    entries = unpack(pack(list_entries(source)), name, LIMIT)
    draft = Draft(folder, trial, name, entries)
    for number, entry in enumerate(entries):
        if entry.size > 0:
            for offset, byte in enumerate((source / entry.path).read_bytes()):
                draft.write(number, offset, bytes([byte]))
    return draft


def test_what_arrives_is_what_was_saved(tmp_path: Path) -> None:
    """A checkpoint that has travelled restores like the original, with all its entries."""
    name, source = _saved(tmp_path / "here", tmp_path)
    there = tmp_path / "there"
    _carry(name, source, there).finish()
    assert list_entries(there / "000007" / str(name)) == list_entries(source)
    warnings: list[str] = []
    found = Checkpoints(there, 7, 1).restore(warnings.append)
    assert found is not None
    assert (found.path / "weights").read_bytes() == b"12345"
    assert warnings == []


def test_before_it_is_finished_nothing_is_there(tmp_path: Path) -> None:
    """A draft is no checkpoint, and ``discard`` leaves nothing of it."""
    name, source = _saved(tmp_path / "here", tmp_path)
    draft = _carry(name, source, tmp_path / "there")
    assert Checkpoints(tmp_path / "there", 7, 0).newest() is None
    draft.discard()
    assert list((tmp_path / "there" / "000007").iterdir()) == []


def test_older_ones_go_when_it_is_taken_in(tmp_path: Path) -> None:
    """As after a save, one checkpoint is left; taking it in again changes nothing."""
    name, source = _saved(tmp_path / "here", tmp_path)
    there = tmp_path / "there"
    Checkpoints(there, 7, 0).save(b"older", 1)
    newer = name._replace(number=2)
    draft = _carry(newer, source, there)
    draft.finish()
    assert [entry.name for entry in (there / "000007").iterdir()] == [str(newer)]
    Checkpoints(there, 7, 0).adopt(tmp_path / "gone", newer)


def test_a_damaged_one_is_refused(tmp_path: Path) -> None:
    """What does not fit its checksum is never taken in."""
    name, source = _saved(tmp_path / "here", tmp_path)
    draft = _carry(name, source, tmp_path / "there")
    number = [entry.path for entry in list_entries(source)].index("model/weights")
    draft.write(number, 0, b"x")
    with pytest.raises(CheckpointError, match="damaged"):
        draft.finish()


def test_an_attempt_that_was_given_up_cannot_replace_a_later_one(tmp_path: Path) -> None:
    """The later attempt's checkpoint stands."""
    name, source = _saved(tmp_path / "here", tmp_path)
    there = tmp_path / "there"
    Checkpoints(there, 7, 1).save(b"later", 9)
    draft = _carry(name, source, there)
    with pytest.raises(EarlyStopException):
        draft.finish()
    newest = Checkpoints(there, 7, 1).newest()
    assert newest is not None
    assert newest.step == 9


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [["../w", 5]],
        [["/etc/w", 5]],
        [["a/../../w", 5]],
        [["a//w", 5]],
        [["a\0", 5]],
        [["\ud800", 5]],
        [["", 5]],
        [["a", -2]],
        [["a", 5.0]],
        [["a", "5"]],
        [[1, 5]],
        [["a", 5], ["b", 0]],
        [["a", 5], ["a/b", 0]],
        [["a", -1], ["b/c", 5]],
        [["a", -1], ["a/b", 5], ["a/b", 0]],
        [["a/b", 5]],
        [["a", 4]],
        [["a"]],
        {"a": 5},
    ],
)
def test_lists_that_could_do_harm_are_refused(entries: Sequence[object]) -> None:
    """Nothing leaves its folder, comes twice, lies in a file, or has another size than it says."""
    with pytest.raises(WireError):
        unpack(json.dumps(entries).encode(), NAME, LIMIT)


@pytest.mark.parametrize("data", [b"", b"[", b"\xff", b"3", b"[" * 100_000])
def test_lists_that_are_none_are_refused(data: bytes) -> None:
    """Nonsense is a ``WireError``."""
    with pytest.raises(WireError):
        unpack(data, NAME, LIMIT)


def test_more_than_the_limit_is_refused() -> None:
    """The size counts before anything is written."""
    with pytest.raises(WireError, match="at most 4"):
        unpack(pack([Entry("a", 5)]), NAME, 4)


@pytest.mark.parametrize(("number", "offset"), [(1, 0), (0, 1), (0, 10)])
def test_writes_stay_in_their_entry(tmp_path: Path, number: int, offset: int) -> None:
    """There is no place behind an entry's end, nor in an entry that is not in the list."""
    draft = Draft(tmp_path, 0, NAME, [Entry("a", 5)])
    with pytest.raises(WireError, match="no place"):
        draft.write(number, offset, b"12345")


def test_a_draft_that_was_left_is_replaced(tmp_path: Path) -> None:
    """An upload may begin anew."""
    Draft(tmp_path, 0, NAME, [Entry("a", 5)])
    Draft(tmp_path, 0, NAME, [Entry("b", 5)])
    assert [path.name for path in Path(tmp_path).glob("*/draft-*/*")] == ["b"]
