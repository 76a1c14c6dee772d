"""The house: rules that no tool checks, the Makefile, and what sets up an environment."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "src").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(path: Path) -> list[Function]:
    """Every function of a module, methods and inner functions included."""
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, Function)]


def body_length(function: Function) -> int:
    """Lines from the first statement after the docstring to the last."""
    assert function.end_lineno is not None
    statements = function.body[1:] if ast.get_docstring(function) else function.body
    return function.end_lineno - statements[0].lineno + 1 if statements else 0


def test_modules_are_short() -> None:
    """No module has more than 500 lines."""
    assert not [path for path in MODULES if len(path.read_text().splitlines()) > 500]


def test_functions_are_short() -> None:
    """No function has more than 60 lines beside its docstring."""
    long = [
        (path.name, f.name) for path in MODULES for f in functions(path) if body_length(f) > 60
    ]
    assert not long


def test_tests_say_what_must_hold() -> None:
    """Every test has a docstring."""
    mute = [
        f"{path.name}::{function.name}"
        for path in TESTS
        for function in functions(path)
        if function.name.startswith("test_") and not ast.get_docstring(function)
    ]
    assert not mute


def test_test_files_have_names_of_their_own() -> None:
    """No two test files share a name."""
    names = [path.name for path in TESTS]
    assert len(set(names)) == len(names)


def test_metadata() -> None:
    """The project needs Python 3.11, is Apache-licensed, and nothing caps what it depends on."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11"
    assert project["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()[:200]
    assert not [wanted for wanted in project["dependencies"] if "<" in wanted or "==" in wanted]


def test_make_explains_itself() -> None:
    """`make` alone lists every target with a sentence, and starts nothing."""
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("demo", "test", "check", "bench", "clean"):
        assert f"make {target} " in done.stdout


def fake_checkout(folder: Path, **interpreters: str) -> dict[str, str]:
    """A checkout with .ci/venv only, and an environment whose PATH holds these interpreters."""
    (folder / ".ci").mkdir()
    (folder / ".ci" / "venv").write_bytes((ROOT / ".ci" / "venv").read_bytes())
    (folder / "bin").mkdir()
    for command, code in interpreters.items():
        path = folder / "bin" / command
        path.write_text(f"#!/bin/sh\n{code}\n")
        path.chmod(0o755)
    return {"PATH": f"{folder / 'bin'}:/usr/bin:/bin", "PYTHON": " ".join(interpreters)}


def set_up(folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run .ci/venv in a fake checkout."""
    command = ["sh", str(folder / ".ci" / "venv"), "demo"]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_set_up_without_python(tmp_path: Path) -> None:
    """Without a Python that is new enough, setting up says what it wants and makes nothing."""
    env = fake_checkout(tmp_path, python_old="exit 1", python_broken="exit 127")
    done = set_up(tmp_path, env)
    assert done.returncode == 1
    assert "Python 3.11 or later" in done.stderr
    assert "python_old python_broken" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_set_up_without_venv(tmp_path: Path) -> None:
    """A Python that cannot make environments, as Debian's, leads to the package to install."""
    code = f'case "$2" in *ensurepip*) exit 1;; esac\nexec {sys.executable} "$@"'
    done = set_up(tmp_path, fake_checkout(tmp_path, python_bare=code))
    assert done.returncode == 1
    assert f"apt install python{sys.version_info[0]}.{sys.version_info[1]}-venv" in done.stderr
    assert not (tmp_path / ".venv").exists()


CONFTEST_CASE = """
import pytest


@pytest.mark.needs("sh")
def test_there():
    pass


@pytest.mark.needs("sh", "no-such-command")
def test_missing():
    pass
"""


@pytest.mark.parametrize(("require_all", "outcome"), [("0", "1 skipped"), ("1", "1 error")])
def test_needs_skips_here_and_fails_in_ci(tmp_path: Path, require_all: str, outcome: str) -> None:
    """A test whose command is missing is skipped with its reason, and fails where all must run."""
    (tmp_path / "conftest.py").write_bytes((ROOT / "tests" / "conftest.py").read_bytes())
    (tmp_path / "test_case.py").write_text(CONFTEST_CASE)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = needs(*commands): x\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "MAGGY_REQUIRE_ALL": require_all},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 passed" in done.stdout
    assert outcome in done.stdout
    assert "needs no-such-command" in done.stdout
