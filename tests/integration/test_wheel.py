"""What is installed is what was written: the wheel, in an empty environment, runs a search."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from maggy.testing.curves import TASKS

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
SEARCH = """
import pathlib, sys
import maggy
from maggy import OptimizationConfig, Searchspace, experiment

assert pathlib.Path(sys.prefix) in pathlib.Path(maggy.__file__).parents, maggy.__file__

def train(hparams, reporter):
    for step in range(3):
        reporter.broadcast(hparams["x"] * step, step=step)
    return hparams["x"]

space = Searchspace(x=("DOUBLE", [0, 1]))
config = OptimizationConfig(num_trials=6, num_workers=2, searchspace=space, name="wheel", seed=3)
result = experiment.lagom(train_fn=train, config=config)
assert result["num_trials"] == 6 and 0 < result["best_val"] <= 1
print("best", result["best_val"])
"""


def run(*command: str | Path, cwd: Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run a command that knows nothing of this checkout or its environment."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        command, cwd=cwd, env=clean, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (built,) = folder.glob("maggy-*.whl")
    return built


@pytest.mark.integration
def test_wheel_holds_the_package_alone(wheel: Path) -> None:
    """Every module, the recorded curves, the marker of its types, the licence; nothing else."""
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    source = ROOT / "src"
    modules = {path.relative_to(source).as_posix() for path in source.rglob("*.py")}
    curves = {f"maggy/testing/{task}.json" for task in TASKS}
    assert names == modules | curves | {"maggy/py.typed"}
    licences = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("LICENSE")]
    assert licences


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_wheel_in_an_empty_environment(
    wheel: Path, tmp_path: Path, without: Callable[[str], None]
) -> None:
    """In an empty environment the wheel and what it declares are enough for a search."""
    run(sys.executable, "-m", "venv", "empty", cwd=tmp_path)
    python = tmp_path / "empty" / "bin" / "python"
    pip = (python, "-m", "pip", "--quiet", "--disable-pip-version-check")
    reachable = subprocess.run(
        [*pip, "download", "--no-deps", "--dest", "reach", "cloudpickle"],
        cwd=tmp_path,
        capture_output=True,
        timeout=120,
        check=False,
    )
    if reachable.returncode:
        without("needs a package index that pip can reach")
    run(*pip, "install", wheel, cwd=tmp_path)
    (tmp_path / "search.py").write_text(SEARCH)
    assert "best" in run(python, "search.py", cwd=tmp_path).stdout
    assert "maggy" in run(tmp_path / "empty" / "bin" / "maggy", "--help", cwd=tmp_path).stdout
    shown = run(tmp_path / "empty" / "bin" / "maggy", "ls", cwd=tmp_path).stdout
    assert "wheel" in shown
