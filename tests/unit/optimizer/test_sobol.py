"""The Sobol sequence: scipy's points without scipy's statistics."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.stats import qmc

from maggy.optimizer.sobol import Sobol

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("dimensions", [1, 2, 3, 17, 200])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_points_are_those_of_scipy(dimensions: int, seed: int) -> None:
    """Bit for bit, however many are drawn at a time, from a generator at any state."""
    ours, theirs = np.random.default_rng(seed), np.random.default_rng(seed)
    for rng in (ours, theirs):
        rng.random(5)
    sequence = Sobol(dimensions, ours)
    engine = qmc.Sobol(dimensions, scramble=True, seed=theirs)
    for count in (4, 0, 1, 3, 64, 100):
        assert np.array_equal(sequence.random(count), engine.random(count))
    assert ours.random() == theirs.random()


def test_it_is_a_net() -> None:
    """Of the first 2^k points one lies in every interval of length 2^-k of each dimension."""
    points = Sobol(9, np.random.default_rng(3)).random(256)
    cells = np.floor(points * 256).astype(int)
    assert all(sorted(column) == list(range(256)) for column in cells.T.tolist())


def test_without_the_table_scipy_draws_the_same(tmp_path: Path) -> None:
    """A scipy that keeps its numbers elsewhere costs time and changes nothing."""
    drawn = Sobol(3, np.random.default_rng(1), table=tmp_path / "nothing.npz").random(8)
    assert np.array_equal(drawn, Sobol(3, np.random.default_rng(1)).random(8))


def test_scipys_statistics_are_not_loaded() -> None:
    """They take longer to import than a search to start, here and in the Gaussian process."""
    code = (
        "import sys, numpy; from maggy.optimizer.sobol import Sobol; "
        "Sobol(4, numpy.random.default_rng(0)).random(8); import maggy.optimizer._gp.strategy; "
        "sys.exit('scipy.stats' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == 0
