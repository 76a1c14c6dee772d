"""The examples run as they are, on the engine that needs nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.integration


def test_the_same_function_runs_on_this_machine(tmp_path: Path) -> None:
    """It says what it found; the other engines have tests of their own."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / "one_function_any_scale.py", "local"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "with {" in done.stdout
    assert (tmp_path / "maggy-runs" / "digits-on-local").is_dir()
