"""Regression trees and their main effects."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maggy.views.trees import Leaves, grown, main_effects


def predicted(leaves: Leaves, points: np.ndarray) -> np.ndarray:
    """What a tree says at points inside the boxes."""
    inside = (leaves.lower <= points[:, None]) & (points[:, None] < leaves.upper)
    return np.asarray(inside.all(axis=2) @ leaves.values)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 80), st.integers(1, 4), st.booleans())
def test_leaves_fill_the_cube(seed: int, count: int, columns: int, coarse: bool) -> None:
    """Boxes have a width, do not overlap, fill the cube, and predict means of the targets."""
    rng = np.random.default_rng(seed)
    points = rng.random((count, columns))
    if coarse:
        points = np.round(points * 3) / 3
    targets = rng.random(count)
    leaves = grown(points, targets, rng)
    sides = leaves.upper - leaves.lower
    assert (sides > 0).all()
    assert sides.prod(axis=1).sum() == pytest.approx(1.0)
    held = (leaves.lower <= 0.37) & (leaves.upper > 0.37)
    assert held.all(axis=1).sum() == 1
    assert targets.min() <= leaves.values.min() <= leaves.values.max() <= targets.max()


def test_a_step_is_found() -> None:
    """A function with one step has one split, and all effect is that column's."""
    rng = np.random.default_rng(0)
    points = rng.random((200, 1))
    leaves = grown(points, (points[:, 0] > 0.3).astype(float), rng)
    assert sorted(leaves.values) == [0.0, 1.0]
    assert leaves.upper.min() == pytest.approx(0.3, abs=0.02)
    assert main_effects(leaves)[0] == pytest.approx(0.21, abs=0.01)


def test_main_effects_equal_a_brute_force_average() -> None:
    """The effects are the variances of averages over a fine grid."""
    rng = np.random.default_rng(1)
    points = rng.random((300, 2))
    leaves = grown(points, points[:, 0] * 2 + points[:, 1] ** 2, rng)
    middles = (np.arange(200) + 0.5) / 200
    grid = np.stack(np.meshgrid(middles, middles, indexing="ij"), axis=2).reshape(-1, 2)
    table = predicted(leaves, grid).reshape(200, 200)
    expected = [table.mean(axis=1).var(), table.mean(axis=0).var()]
    assert main_effects(leaves) == pytest.approx(expected, rel=0.02)
    assert main_effects(leaves)[0] > 3 * main_effects(leaves)[1]


def test_nothing_to_learn() -> None:
    """Equal targets, equal points and neighbouring floats make one leaf without effect."""
    rng = np.random.default_rng(2)
    close = np.nextafter(np.full((40, 1), 0.5), 1.0) * (1 + 1e-16)
    for points, targets in (
        (rng.random((40, 2)), np.ones(40)),
        (np.full((40, 1), 1.0), rng.random(40)),
        (np.where(rng.random((40, 1)) > 0.5, 0.5, close), rng.random(40)),
    ):
        leaves = grown(points, targets, rng)
        assert len(leaves.values) == 1
        assert not main_effects(leaves).any()
