"""The installed command, from a shell: every documented example, pipes, signals, live runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from maggy.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.integration

PAGE = Path(__file__).parents[2] / "docs" / "command-line.md"
FENCE = re.compile(r"^```(\w*)$\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name not in ("CI", "COLUMNS")},
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
}
SLOW = """
import time
from maggy import OptimizationConfig, Searchspace, experiment
def train(x, reporter):
    print("hello from", x, flush=True)
    for step in range(100_000):
        time.sleep(0.02)
        reporter.broadcast(x, step=step)
experiment.lagom(train, OptimizationConfig(
    num_trials=4, num_workers=2, optimizer="randomsearch",
    searchspace=Searchspace(x=("DOUBLE", [0, 1])), name="slow"))
"""


def blocks(language: str) -> list[str]:
    """The page's code blocks in this language."""
    return [fence[2] for fence in FENCE.finditer(PAGE.read_text()) if fence[1] == language]


def shell(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script in bash, as strictly as it goes."""
    return subprocess.run(
        ["bash", "--norc", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the page's script was run, as the page says."""
    folder = tmp_path_factory.mktemp("page")
    (script,) = blocks("python")
    (folder / "train.py").write_text(script)
    done = shell(blocks("sh")[0], folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.needs("bash")
def test_documented_runs_replace_what_they_say(ran: Path) -> None:
    """Three runs: one as it is, one short, one elsewhere."""
    (short, whole) = sorted(
        (json.loads(line) for line in _results(ran / "maggy-runs")), key=lambda r: r["num_trials"]
    )
    assert (whole["num_trials"], whole["config"]["seed"]) == (20, 1)
    assert (short["num_trials"], short["config"]["engine"]) == (3, "inline")
    (elsewhere,) = (json.loads(line) for line in _results(ran / "elsewhere"))
    assert (elsewhere["num_trials"], elsewhere["config"]["seed"]) == (10, 7)
    assert elsewhere["config"]["num_workers"] == 1


def _results(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("*/*/")):
        done = shell(f"maggy show {path} --json", folder)
        assert done.returncode == 0, done.stderr
        yield done.stdout


@pytest.mark.needs("bash")
@pytest.mark.parametrize("place", range(1, len(blocks("sh"))))
def test_documented_commands_work(ran: Path, place: int) -> None:
    """Every line of every other block, in bash, with an error at the first that fails."""
    script = blocks("sh")[place].replace("| head", "| (head; cat > /dev/null) | head")
    done = shell(script, ran)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr


def test_every_command_is_documented() -> None:
    """With its place in the table, and in an example that was executed above."""
    text, examples = PAGE.read_text(), "\n".join(blocks("sh"))
    for name in main.commands:
        assert re.search(rf"^\| `maggy {name}[ `]", text, re.MULTILINE), name
        assert name == "demo" or re.search(rf"maggy {name}\b", examples), name


def test_every_option_is_documented() -> None:
    """The page names each option, in the text or in an example; help is everywhere."""
    text = PAGE.read_text()
    for command in main.commands.values():
        for param in command.params:
            flags = [flag for flag in param.opts if flag.startswith("--")]
            assert not flags or any(flag in text for flag in (*flags, *param.opts)), flags


@pytest.mark.needs("bash")
@pytest.mark.parametrize(
    "command", ["show digits --all", "export digits --metrics", "ls", "watch digits", "--help"]
)
def test_pipes_that_close_early_are_no_error(ran: Path, command: str) -> None:
    """Whoever reads only the first line gets it, and nothing is complained about."""
    done = shell(f"set +o pipefail; maggy {command} | head -n 1", ran)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A run of another process that goes on; its trials print a line."""
    (tmp_path / "slow.py").write_text(SLOW)
    with start(tmp_path, "run", "--quiet", "slow.py") as process:
        wait(lambda: bool(list(tmp_path.glob("maggy-runs/slow/*/trials/*.log"))))
        yield process
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the command."""
    return subprocess.Popen(
        [sys.executable, "-m", "maggy", *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait(condition: Callable[[], bool]) -> None:
    """Wait until this holds."""
    ends = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < ends, "it never came"
        time.sleep(0.02)


def test_watch_follows_a_live_run_to_its_end(slow: subprocess.Popen[str], tmp_path: Path) -> None:
    """Ctrl-C in the watching process leaves the run alone; one that stays sees its end."""
    with start(tmp_path, "watch", "slow") as leaving, start(tmp_path, "watch", "slow") as staying:
        assert leaving.stdout is not None
        assert leaving.stdout.readline().startswith("slow: randomsearch, 4 trials")
        leaving.send_signal(signal.SIGINT)
        out, errors = leaving.communicate(timeout=30)
        assert leaving.returncode == 130
        assert "slow still running after" in out
        assert errors == "No longer watching; the run goes on.\n"
        assert slow.poll() is None
        assert staying.stdout is not None
        assert staying.stdout.readline().startswith("slow: randomsearch, 4 trials")
        slow.send_signal(signal.SIGINT)
        out, errors = staying.communicate(timeout=30)
    assert staying.returncode == 3
    assert "slow interrupted after" in out
    assert errors == ""
    assert slow.wait(timeout=30) == 130


def test_watch_sees_that_a_run_was_killed(slow: subprocess.Popen[str], tmp_path: Path) -> None:
    """A driver that is gone without a word ends the watching, too."""
    with start(tmp_path, "watch", "slow", "--json") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["outcome"] == "running"
        slow.kill()
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 3
    assert json.loads(out.splitlines()[-1])["outcome"] == "killed"


def test_logs_follow_a_trial_that_runs(slow: subprocess.Popen[str], tmp_path: Path) -> None:
    """Its words come while it runs, and the command ends with the run."""
    with start(tmp_path, "logs", "slow", "0", "--follow") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("hello from ")
        assert process.poll() is None
        slow.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_an_interrupted_script_says_how_to_load_its_run(tmp_path: Path) -> None:
    """In one sentence, without a traceback, and no worker is left."""
    (tmp_path / "slow.py").write_text(SLOW)
    with start(tmp_path, "run", "slow.py") as process:
        wait(lambda: bool(list(tmp_path.glob("maggy-runs/slow/*/trials/*.log"))))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "The run was interrupted. Load what it reached: experiment.load(" in errors
    assert "Traceback" not in errors


@pytest.mark.needs("tmux")
@pytest.mark.parametrize("width", [80, 200])
def test_a_real_terminal_shows_the_block(tmp_path: Path, width: int) -> None:
    """Redrawn in place while the run goes on, replaced by the summary at the end."""
    (script,) = blocks("python")
    slower = script.replace("    for epoch", "    import time; time.sleep(0.1)\n    for epoch")
    (tmp_path / "train.py").write_text(slower)
    tmux = [shutil.which("tmux") or "", "-L", f"maggy-{os.getpid()}-{width}", "-f", "/dev/null"]

    def call(*arguments: str) -> str:
        return subprocess.run(
            [*tmux, *arguments], env=ENVIRONMENT, capture_output=True, text=True, check=True
        ).stdout

    command = f"{sys.executable} -m maggy run train.py; sleep 60"
    size = ("-x", str(width), "-y", "30")
    call("new-session", "-d", "-c", str(tmp_path), *size, command)
    try:
        wait(lambda: " of 20" in call("capture-pane", "-p"))
        block = call("capture-pane", "-p").splitlines()
        assert block[0].startswith("digits  randomsearch, 20 trials, maximising metric")
        assert block[2].startswith("   best  ")
        wait(lambda: "   load  experiment.load(" in call("capture-pane", "-p"))
        rows = call("capture-pane", "-p").splitlines()
        assert rows[0].startswith("digits completed after")
        assert not any("━" in row for row in rows)
        assert max(len(row.rstrip()) for row in rows) <= width
    finally:
        call("kill-server")
