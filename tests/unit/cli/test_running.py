"""Unit tests of ``maggy.cli.running``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from maggy import cli, experiment
from maggy.store.folder import find_runs

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory; the folder where runs go by default."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "maggy-runs"


def maggy(*arguments: object) -> Result:
    """Call the command line."""
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


SEARCH = """
import sys
from maggy import OptimizationConfig, Searchspace, experiment
from maggy.experiment import ask_tell, lagom
space = Searchspace(x=("DOUBLE", [0, 1]))
config = OptimizationConfig(num_trials=4, searchspace=space, name="s", engine="inline")
"""


@pytest.fixture
def script(here: Path) -> Callable[[str], Path]:
    """A function that writes a script."""

    def script(code: str) -> Path:
        path = Path("script.py")
        path.write_text(code)
        return path

    return script


def test_a_script_runs_as_python_would_run_it(script: Callable[[str], Path]) -> None:
    """As ``__main__``, with its own arguments and folder, options for the script included."""
    before = list(sys.argv), list(sys.path)
    path = script("import sys; print(__name__, __file__, sys.argv, sys.path[0])")
    done = maggy("run", path, "--epochs", 3, "-h", "--quiet")
    argv = ["script.py", "--epochs", "3", "-h", "--quiet"]
    assert done.stdout == f"__main__ script.py {argv} {Path.cwd()}\n"
    assert (done.exit_code, done.stderr) == (0, "")
    assert before == (sys.argv, sys.path)


def test_the_exit_code_is_the_scripts(script: Callable[[str], Path]) -> None:
    """Whatever it is."""
    assert maggy("run", script("raise SystemExit(7)")).exit_code == 7


def test_an_exception_shows_the_scripts_frames_only(
    script: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """As Python shows it; how maggy ran the script is left out."""
    done = maggy("run", script("def f():\n    1 / 0\nf()\n"))
    assert done.exit_code == 1
    shown = done.stderr + capsys.readouterr().err
    assert "ZeroDivisionError" in shown
    assert 'File "script.py", line 2, in f' in shown
    assert "runpy" not in shown
    assert "running.py" not in shown


def test_a_script_that_is_no_python(
    script: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistake in its syntax is shown with its line."""
    done = maggy("run", script("x = = 1\n"))
    assert done.exit_code == 1
    shown = done.stderr + capsys.readouterr().err
    assert "SyntaxError" in shown
    assert "runpy" not in shown


def test_an_error_of_maggy_is_told_in_its_own_words(script: Callable[[str], Path]) -> None:
    """With the line of the script, without a traceback."""
    done = maggy("run", script(SEARCH + "OptimizationConfig(num_trials=0, searchspace=space)\n"))
    assert done.exit_code == 1
    assert done.stderr == (
        "Error: `num_trials` must be a whole number >= 1, but got 0.\n  (in script.py, line 7)\n"
    )


def test_ctrl_c_has_its_exit_code(script: Callable[[str], Path]) -> None:
    """An interrupted search says how to load it."""
    assert maggy("run", script("raise KeyboardInterrupt")).exit_code == 130
    code = "from maggy import ExperimentInterrupted\nraise ExperimentInterrupted('load it')"
    done = maggy("run", script(code))
    assert (done.exit_code, done.stderr) == (130, "load it\n")


def test_options_replace_those_of_every_config(
    script: Callable[[str], Path], tmp_path: Path
) -> None:
    """For ``lagom`` and ``ask_tell``, however they were imported; the rest stays."""
    code = f"""{SEARCH}
for run in (experiment.lagom, lagom):
    result = run(lambda x: x, config)
    print(result["num_trials"], result.config["seed"], result.config["name"])
for start in (experiment.ask_tell, ask_tell):
    search, asked = start(config), 0
    while not search.done:
        search.tell(search.ask(), 1.0)
        asked += 1
    print(asked)
"""
    options = ("--trials", 2, "--seed", 7, "--quiet", "--folder", tmp_path / "else")
    done = maggy("run", *options, script(code))
    assert done.output.splitlines() == ["2 7 s", "2 7 s", "2", "2"]
    assert len(find_runs(tmp_path / "else")) == 2
    assert "adjusted" not in experiment.lagom.__name__


def test_without_options_nothing_is_replaced(script: Callable[[str], Path]) -> None:
    """The script sees maggy as it is."""
    code = f"{SEARCH}print(experiment.lagom.__module__, experiment.lagom.__qualname__)"
    assert maggy("run", script(code)).stdout == "maggy.experiment lagom\n"


def test_options_are_checked_like_those_of_a_config(script: Callable[[str], Path]) -> None:
    """A wrong value is told in the config's words, where the search starts."""
    done = maggy("run", "--workers", 0, script(f"{SEARCH}lagom(lambda x: x, config)\n"))
    assert done.exit_code == 1
    assert "`num_workers` must be a whole number >= 1, but got 0" in done.stderr
    done = maggy("run", "--trials", 2, script(f"{SEARCH}lagom(lambda x: x, 'no config')\n"))
    assert "must be an OptimizationConfig, but got str" in done.stderr
    assert maggy("run", "--engine", "magic", "script.py").exit_code == 2


def test_what_cannot_be_run() -> None:
    """No such file, and a notebook, are mistakes in the command."""
    assert maggy("run", "nothing.py").exit_code == 2
    assert maggy("run").exit_code == 2
    Path("n.ipynb").write_text("{}")
    done = maggy("run", "n.ipynb")
    assert done.exit_code == 2
    assert "n.ipynb is a notebook" in done.stderr


@pytest.mark.parametrize("status", [0, 1])
def test_demo_runs_the_demo(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo is imported only now, and its exit status is the command's."""

    class Demo:
        @staticmethod
        def main() -> int:
            return status

    monkeypatch.setitem(sys.modules, "maggy.demo", Demo)
    assert maggy("demo").exit_code == status
