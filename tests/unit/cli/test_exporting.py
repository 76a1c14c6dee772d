"""Unit tests of ``maggy.cli.exporting``."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from maggy import cli
from maggy.store.folder import create_run
from maggy.store.sqlite import SqliteLog
from maggy.testing.stores import story

if TYPE_CHECKING:
    from collections.abc import Sequence

    from click.testing import Result

    from maggy.events import Event
    from maggy.store.folder import RunFolder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory; the folder where runs go by default."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "maggy-runs"


def maggy(*arguments: object) -> Result:
    """Call the command line."""
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def write(events: Sequence[Event], name: str = "story", later: int = 0) -> RunFolder:
    """A run with these events, where runs go by default."""
    began = datetime(2026, 1, 31, 12, 0, later, tzinfo=UTC)
    run = create_run("maggy-runs", name, now=began)
    with SqliteLog.create(run.database) as log:
        for event in events:
            log.append(event)
    return run


def test_trials_as_csv() -> None:
    """Without options: CSV to the standard output, nothing else there."""
    write(story())
    done = maggy("export", "story")
    assert done.exit_code == 0
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert [row["id"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert rows[0]["hp_lr"] == "0.1"
    assert done.stderr == ""


def test_metrics_as_json() -> None:
    """The learning curves, whole, though trials alone are read from the outline."""
    write(story())
    rows = json.loads(maggy("export", "story", "--metrics", "--format", "json").stdout)
    assert rows[1] == {"trial": 0, "step": 1, "value": 0.6, "other_loss": 1.25}
    assert len(rows) == 5


@pytest.mark.parametrize("name", ["trials.json", "trials.csv", "TRIALS.CSV", "trials.txt"])
def test_the_name_of_the_file_says_the_format(name: str) -> None:
    """Its ending, where that is a format; else CSV.  How much was written is told."""
    write(story())
    done = maggy("export", "story", "-o", name)
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == f"{name}: 5 rows\n"
    text = Path(name).read_text()
    assert text.startswith("[" if name == "trials.json" else "id,")


def test_an_ending_of_another_format() -> None:
    """No CSV is written into what another program takes for a workbook, unless asked for."""
    write(story())
    done = maggy("export", "story", "-o", "trials.xlsx")
    assert done.exit_code == 2
    assert ".xlsx is unknown: end FILE in .csv" in done.stderr
    assert not Path("trials.xlsx").exists()
    assert maggy("export", "story", "-o", "trials.dat", "--format", "csv").exit_code == 0


def test_parquet() -> None:
    """It can be read again, and is no text for a terminal."""
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    write(story())
    assert maggy("export", "story", "-o", "t.parquet").exit_code == 0
    assert list(pandas.read_parquet("t.parquet")["hp_units"]) == [32, 64, 8, 16, 4]
    done = maggy("export", "story", "--format", "parquet")
    assert done.exit_code == 2
    assert "-o trials.parquet" in done.stderr


def test_parquet_without_its_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install is said, and no file is left."""
    write(story())
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = maggy("export", "story", "-o", "t.parquet")
    assert done.exit_code == 1
    assert "pip install pandas pyarrow" in done.stderr
    assert not list(Path().glob("*parquet*"))


def test_a_file_appears_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was there stays if writing fails half way, and no piece is left."""
    write(story())
    old = Path("t.csv")
    old.write_text("old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("maggy.cli.exporting.write_csv", fail)
    done = maggy("export", "story", "-o", old)
    assert done.exit_code == 1
    assert "t.csv cannot be written: No space left on device" in done.stderr
    assert old.read_text() == "old"
    assert [path.name for path in Path().iterdir() if path.is_file()] == ["t.csv"]


def test_a_folder_that_is_not_there() -> None:
    """An error with its reason, no traceback."""
    write(story())
    done = maggy("export", "story", "-o", "nowhere/t.csv")
    assert done.exit_code == 1
    assert "No such file or directory" in done.stderr


def test_a_closed_pipe_ends_an_export_quietly() -> None:
    """``maggy export RUN | head``."""
    write(story())
    read, out = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "maggy", "export", "story"],
            stdout=out,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
    finally:
        os.close(out)
    assert (done.returncode, done.stderr) == (1, b"")
