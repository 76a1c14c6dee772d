"""Unit tests of ``maggy.cli.completing`` and of what ``maggy.cli.options`` completes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from maggy import cli
from maggy.store.folder import create_run
from maggy.store.sqlite import SqliteLog
from maggy.testing.stores import story

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

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


def complete(words: str) -> list[str]:
    """What bash is offered after these words."""
    typed = words.split(" ")
    environment = {
        **os.environ,
        "_MAGGY_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(typed) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-m", "maggy"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return [line.partition(",")[2] for line in done.stdout.split("\n") if line]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(shell: str) -> None:
    """It calls maggy back, and needs no shell to be written."""
    done = maggy("completion", shell)
    assert done.exit_code == 0
    assert f"_MAGGY_COMPLETE={shell}_complete" in done.stdout
    assert maggy("completion", "csh").exit_code == 2


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_takes_the_script(tmp_path: Path) -> None:
    """Afterwards it has a completion for maggy."""
    script = tmp_path / "completion"
    script.write_text(maggy("completion", "bash").stdout)
    command = ["bash", "--norc", "-c", f"source {script}; complete -p maggy"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip().endswith(" maggy")


def test_commands_and_runs_are_completed() -> None:
    """Commands, then experiments and ids, the latest first; in another folder its own."""
    first, second = write(story()), write(story(), "other", later=5)
    assert complete("maggy wa") == ["watch"]
    assert complete("maggy show ") == ["other", "story", second.id, first.id]
    assert complete("maggy logs sto") == ["story"]
    assert complete("maggy compare story 2026") == [second.id, first.id]
    assert complete("maggy show --folder nowhere ") == []
