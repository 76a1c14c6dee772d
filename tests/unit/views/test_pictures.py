"""Unit tests of ``maggy.views.pictures``."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from maggy.views.pictures import Dot, Frame, bundle, history, sparkline, thin

FRAME = Frame(0.0, 9.0, 0.0, 1.0)


def coordinates(picture: str) -> list[tuple[float, float]]:
    """Every point at which a path of the picture begins or bends."""
    ElementTree.fromstring(picture)  # it is well-formed
    numbers = r"([-\d.]+) ([-\d.]+)"
    return [(float(x), float(y)) for x, y in re.findall(rf"[ML]{numbers}", picture)]


def test_a_curve_rises_to_the_right() -> None:
    """Steps go right, larger values up; the frame's corners are the picture's, with a margin."""
    points = coordinates(sparkline(range(10), [i / 9 for i in range(10)], "completed", FRAME))
    assert points[0] == (4.0, 20.0)
    assert points[9] == (106.0, 4.0)
    assert points == sorted(points, key=lambda point: (point[0], -point[1]))


@pytest.mark.parametrize(
    ("status", "mark"), [("completed", "<circle"), ("stopped", "V"), ("failed", "l6 6")]
)
def test_the_end_of_a_curve_is_marked(status: str, mark: str) -> None:
    """Each way to end has a mark and a colour of its own; any other status has the first."""
    picture = sparkline([0, 1], [0.1, 0.2], status, FRAME)
    assert mark in picture
    assert f'class="maggy-{status}"' in picture
    assert "<circle" in sparkline([0], [0.1], "running", FRAME)


def test_curves_without_finite_values_have_no_picture() -> None:
    """NaN and infinity are left out, and nothing at all is no picture."""
    assert sparkline([], [], "failed", FRAME) == ""
    assert sparkline([0, 1], [math.nan, math.inf], "failed", FRAME) == ""
    assert len(coordinates(sparkline([0, 1, 2], [0.1, math.nan, 0.2], "stopped", FRAME))) == 3


def test_long_curves_are_thinned() -> None:
    """A hundred thousand points take no more room than fifty; both ends are kept."""
    steps = range(100_000)
    picture = sparkline(steps, [s / 1e5 for s in steps], "stopped", Frame(0, 99_999, 0, 1))
    assert len(picture) < 1000
    assert thin([1, 2, 3], 3) == [1, 2, 3]
    assert list(thin(range(1000), 5)) == [0, 249, 499, 749, 999]


def test_values_outside_the_frame_lie_on_its_edge() -> None:
    """An outlier does not leave the picture."""
    for x, y in coordinates(sparkline([0, 9], [-5.0, 50.0], "stopped", FRAME)):
        assert 0 <= x <= 110
        assert 0 <= y <= 24


def test_a_frame_leaves_outliers_out_but_keeps_what_matters() -> None:
    """One huge loss at the start flattens nothing; the named values are always inside."""
    values = [*range(99), 1e9]
    assert Frame.around([3, 7], values, [])[:2] == (3, 7)
    assert Frame.around([3, 7], values, []).high < 100
    assert Frame.around([3, 7], values, [1e9, math.nan]).high == 1e9
    assert Frame.around([], [], []) == (0.0, 1.0, 0.0, 1.0)
    assert Frame.around([1], [math.nan], []) == (0.0, 1.0, 0.0, 1.0)


def test_a_constant_curve_is_in_the_middle() -> None:
    """A frame without extent divides by nothing."""
    frame = Frame.around([2], [0.5], [])
    assert coordinates(sparkline([2], [0.5], "stopped", frame))[0] == (55.0, 12.0)


def test_history_shows_trials_and_the_best() -> None:
    """Completed and stopped trials in their colours, a staircase, and the extreme values."""
    dots = [Dot(1, 0.2, True), Dot(2, 0.1, False), Dot(3, 0.7, True)]
    picture = history(dots, [(1, 0.2), (3, 0.7)], 10)
    ElementTree.fromstring(picture)
    assert picture.count('class="maggy-completed"') == 2
    assert picture.count('class="maggy-stopped"') == 1
    assert re.search(r"M[\d. ]+H[\d.]+V[\d.]+H[\d.]+", picture)
    assert re.findall(r">([\d.]+)</text>", picture) == ["0.7", "0.1"]


def test_history_of_nothing() -> None:
    """One trial is no history, and one without a number is none; a best is not needed."""
    assert history([], [], 10) == ""
    assert history([Dot(1, 0.2, True), Dot(2, math.nan, True)], [(1, 0.2)], 10) == ""
    assert "<path" in history([Dot(1, 0.2, False), Dot(2, 0.3, False)], [], 10)


def test_pictures_of_many_trials_stay_small() -> None:
    """Ten thousand trials, improving all the time, with long curves."""
    dots = [Dot(i, i / 1e4, i % 2 == 0) for i in range(1, 10_001)]
    assert len(history(dots, [(dot.x, dot.value) for dot in dots], 10_000)) < 10_000
    curves = [("stopped", range(1000), [i / 1000 for i in range(1000)])] * 500
    assert len(bundle(curves, 3)) < 40_000


def test_bundle_draws_the_best_last() -> None:
    """Every curve, a mark where one was stopped, and the best one over all of them."""
    curves = [
        ("completed", [0, 1, 2], [0.1, 0.2, 0.3]),
        ("stopped", [0, 1], [0.05, 0.1]),
        ("failed", [0], [math.nan]),
    ]
    picture = bundle(curves, 0)
    ElementTree.fromstring(picture)
    widths = re.findall(r'stroke-width="([\d.]+)"', picture)
    assert widths == ["1", "1", "4", "2.2"]
    assert bundle(curves, None).count("<path") == 3


def test_a_bundle_needs_curves() -> None:
    """Single points make none, whatever is the best."""
    assert bundle([("completed", [0], [0.1])] * 9, 0) == ""
    assert bundle([], None) == ""
