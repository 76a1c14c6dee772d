"""Unit tests of ``maggy.store.folder``."""

from __future__ import annotations

import re
import secrets
import stat
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from maggy.errors import RunError
from maggy.store import folder as module
from maggy.store.folder import (
    RunFolder,
    SavedCheckpoint,
    create_run,
    find_runs,
    open_run,
    slug,
)
from maggy.trial import CheckpointName

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC)


def make_run(folder: Path, name: str = "digits", later: int = 0) -> RunFolder:
    """A run whose log is there, if empty."""
    run = create_run(folder, name, now=NOW + timedelta(seconds=later))
    run.database.touch()
    return run


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hp_tuning_test", "hp_tuning_test"),
        ("My best run!", "My-best-run"),
        ("../../etc/passwd", "etc-passwd"),
        ("süß & größer", "su-groer"),
        ("日本語", "experiment"),
        ("", "experiment"),
        ("..", "experiment"),
        ("x" * 300, "x" * 64),
    ],
)
def test_slugs_are_safe_folder_names(name: str, expected: str) -> None:
    """Whatever the name, its folder is one short, plain component."""
    assert slug(name) == expected


def test_a_run_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    """It is named by time, private, absolute, and holds a place for the trials' output."""
    run = create_run(tmp_path / "a" / "b", "My run", now=NOW)
    assert run.path.parent == tmp_path / "a" / "b" / "My-run"
    assert re.fullmatch(r"20260131T235959Z-[0-9a-f]{4}", run.id)
    assert run.name == "My-run"
    assert run.trials.is_dir()
    assert run.log_path(7) == run.trials / "000007.log"
    assert run.database == run.path / "run.sqlite"
    assert not run.database.exists()
    for path in (run.path, run.trials):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_runs_of_one_second_do_not_collide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is taken already is not used again."""
    names = iter(["aaaa", "aaaa", "aaaa", "bbbb"])
    monkeypatch.setattr(secrets, "token_hex", lambda _: next(names))
    assert create_run(tmp_path, "x", now=NOW).id.endswith("aaaa")
    assert create_run(tmp_path, "x", now=NOW).id.endswith("bbbb")


def test_a_second_can_be_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When no name is left the error says so, rather than trying for ever."""
    monkeypatch.setattr(secrets, "token_hex", lambda _: "aaaa")
    create_run(tmp_path, "x", now=NOW)
    with pytest.raises(RunError, match="Try again"):
        create_run(tmp_path, "x", now=NOW)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A file in the way is an error that names the option to change."""
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="Choose another `folder`"):
        create_run(tmp_path / "file", "x", now=NOW)


def test_runs_are_found_oldest_first(tmp_path: Path) -> None:
    """All experiments' runs of a folder, or those of one; folders without a log do not count."""
    late = make_run(tmp_path, "a", later=5)
    early = make_run(tmp_path, "b")
    create_run(tmp_path, "b", now=NOW)
    assert find_runs(tmp_path) == [early, late]
    assert find_runs(tmp_path / "a") == [late]
    assert find_runs(tmp_path / "nothing") == []


def test_runs_of_one_second_stay_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a second the one made later is later, whatever its random name."""
    names = iter(["ffff", "0000", "8888"])
    monkeypatch.setattr(secrets, "token_hex", lambda _: next(names))
    made = []
    for _ in range(3):
        made.append(make_run(tmp_path))
        wait_for_the_clock_of(tmp_path)
    assert find_runs(tmp_path) == made


def wait_for_the_clock_of(folder: Path) -> None:
    """Go on when the file system's clock has moved."""
    probe = folder / "probe"
    probe.touch()
    start = probe.stat().st_ctime_ns
    while probe.stat().st_ctime_ns == start:
        probe.touch()


def test_a_run_is_found_by_many_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder, database, experiment's folder or name, id, end of the id, beginnings of both."""
    names = iter(["1a2b", "3c4d"])
    monkeypatch.setattr(secrets, "token_hex", lambda _: next(names))
    make_run(tmp_path, "other run", later=-9)
    run = make_run(tmp_path, "digits")
    ways: list[str | Path] = [run.path, run.database, run.path.parent, str(run.path)]
    ways += ["digits", run.id, run.id[:16], "3c4d", "3c", f"digits/{run.id}", "digits/3c"]
    for way in ways:
        assert open_run(way, folder=tmp_path) == run, way
    assert open_run("other run", folder=tmp_path).name == "other-run"


def test_a_name_means_its_latest_run(tmp_path: Path) -> None:
    """Of several runs of an experiment, its name opens the newest."""
    make_run(tmp_path, "x")
    latest = make_run(tmp_path, "x", later=60)
    make_run(tmp_path, "x", later=30)
    assert open_run("x", folder=tmp_path) == latest


def test_the_default_folder_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a folder, names are looked up where runs go by default."""
    monkeypatch.chdir(tmp_path)
    run = make_run(module.DEFAULT_FOLDER)
    assert open_run("digits") == run
    assert open_run(run.path.relative_to(tmp_path)) == run


def test_errors_teach(tmp_path: Path) -> None:
    """An unknown run names some that exist, an ambiguous one its candidates, none says where."""
    with pytest.raises(RunError, match=rf"no runs in {tmp_path}"):
        open_run("x", folder=tmp_path)
    runs = [make_run(tmp_path, "digits", later=i) for i in range(2)]
    for wanted in ("zzzz", "", "other/", "???", str(tmp_path / "gone")):
        with pytest.raises(RunError, match=rf"no run .*digits/{runs[1].id}"):
            open_run(wanted or "zz", folder=tmp_path)
    with pytest.raises(RunError, match=r"could be 2 runs: .*Give more of its characters"):
        open_run("2026", folder=tmp_path)


def checkpoint(run: RunFolder, trial: str, *name: int) -> Path:
    """A checkpoint with something in it."""
    folder = run.checkpoints / trial / str(CheckpointName(*name))
    folder.mkdir(parents=True)
    (folder / "model.pt").write_bytes(b"x" * name[3])
    return folder / "model.pt"


def test_the_newest_checkpoints_are_found(tmp_path: Path) -> None:
    """By attempt, then by number; what is no checkpoint is passed over."""
    run = make_run(tmp_path)
    assert run.saved() == {}
    checkpoint(run, "000000", 0, 12, 9, 1, 0)
    newest = checkpoint(run, "000000", 1, 2, 7, 3, 0)
    other = checkpoint(run, "1000000", 0, 1, 0, 2, 0)
    (run.checkpoints / "000000" / "draft-0001-000003").mkdir()
    (run.checkpoints / "deleting-1-000007").mkdir()
    (run.checkpoints / "000002").mkdir()
    (run.checkpoints / "000003" / str(CheckpointName(0, 1, 0, 0, 0))).mkdir(parents=True)
    assert run.saved() == {
        0: SavedCheckpoint(path=newest, step=7, size=3),
        1_000_000: SavedCheckpoint(path=other, step=0, size=2),
    }
