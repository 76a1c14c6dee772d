"""The trust region: how large it is after which trials, and what it contains."""

from __future__ import annotations

import numpy as np
import pytest

from maggy.optimizer._gp.region import period, side, surround


def falling(count: int) -> list[float]:
    """Targets that improve every time."""
    return [-float(number) for number in range(count)]


@pytest.mark.parametrize(
    ("dimensions", "expected"), [(1, 2), (2, 2), (3, 2), (4, 3), (5, 4), (10, 4), (50, 4)]
)
def test_period(dimensions: int, expected: int) -> None:
    """Half of the suggestions are global in few dimensions, a quarter in many."""
    assert period(dimensions) == expected


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ([], 1.6),
        (falling(2), 1.6),
        (falling(3), 1.6),
        (falling(30), 1.6),
        ([0.0] + [1.0] * 3, 1.6),
        ([0.0] + [1.0] * 4, 0.8),
        ([0.0] + [1.0] * 8, 0.4),
        ([0.0] + [1.0] * 4 + [-1.0, -2.0, -3.0], 1.6),
        ([0.0] + [-1e-4] * 4, 0.8),
        ([0.0, 1.0, 1.0, 1.0, -1.0, 1.0, 1.0, 1.0], 1.6),
    ],
)
def test_side(targets: list[float], expected: float) -> None:
    """Three successes in a row double it, four failures halve it, tiny gains are failures."""
    assert side(np.array(targets), 2) == pytest.approx(expected)


def test_patience_grows_with_the_dimensions() -> None:
    """In 20 dimensions it takes ten failures in a row."""
    assert side(np.array([0.0] + [1.0] * 9), 20) == 1.6
    assert side(np.array([0.0] + [1.0] * 10), 20) == 0.8


def test_a_tiny_region_begins_anew() -> None:
    """Where nothing improves any more, the region is large again, for ever."""
    sides = [side(np.array([0.0] + [1.0] * count), 2) for count in range(100)]
    assert min(sides) >= 2.0**-7
    assert sides.count(1.6) > 6


def test_surround() -> None:
    """The box is around the centre, cut by the space."""
    box = surround(np.array([0.5, 0.9]), 0.4, np.array([0.5, 0.5]))
    assert box.low == pytest.approx([0.3, 0.7])
    assert box.high == pytest.approx([0.7, 1.0])


def test_the_box_is_longer_where_the_function_varies_less() -> None:
    """Sides are proportional to length-scales, with the given geometric mean."""
    box = surround(np.array([0.5, 0.5]), 0.2, np.array([0.1, 0.4]))
    sides = box.high - box.low
    assert sides[1] / sides[0] == pytest.approx(4.0)
    assert np.sqrt(sides[0] * sides[1]) == pytest.approx(0.2)
