"""Every trial draws from generators seeded with its own seed."""

from __future__ import annotations

import random
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

from maggy.worker.seeding import seed_everything

if TYPE_CHECKING:
    import pytest


def test_the_same_seed_draws_the_same_numbers() -> None:
    """``random`` and NumPy's global generator repeat after the same seed, and only then."""

    def draw(seed: int) -> tuple[float, float]:
        seed_everything(seed)
        return random.random(), float(np.random.random_sample())  # noqa: NPY002

    assert draw(5) == draw(5)
    assert draw(5) != draw(6)
    assert draw(2**31 - 1) == draw(2**31 - 1)


def test_torch_is_seeded_where_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """An imported torch gets the seed; one that is half imported is left alone."""
    seeds: list[int] = []
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(manual_seed=seeds.append))
    seed_everything(9)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace())
    seed_everything(10)
    assert seeds == [9]


def test_nothing_is_imported_for_it() -> None:
    """Seeding loads neither NumPy nor torch."""
    code = (
        "import sys; from maggy.worker.seeding import seed_everything; seed_everything(1); "
        "sys.exit(bool({'numpy', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
