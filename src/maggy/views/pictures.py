"""Small pictures in SVG: one learning curve, and what a search has found so far.

They take their colours from the page around them, so they fit light and dark themes, and they hold
nothing of a user's text.
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Dot", "Frame", "bundle", "history", "sparkline", "thin"]

_T = TypeVar("_T")

_POINTS = 48
"""Points that a curve is drawn with at most."""

_DOTS = 240
"""Trials that a history shows at most."""

_CURVES = 60
"""Learning curves in one picture."""

_OUTLIERS = 0.05
"""The share of values at either end that need not be in the picture."""


class Dot(NamedTuple):
    """One ended trial in a history.

    Attributes:
        x: How many trials had ended, this one included.
        value: Its value.
        completed: False: it was stopped early.
    """

    x: int
    value: float
    completed: bool


class Frame(NamedTuple):
    """What a picture shows: steps ``left`` to ``right``, values ``low`` to ``high``."""

    left: float
    right: float
    low: float
    high: float

    @classmethod
    def around(
        cls, steps: Iterable[float], values: Sequence[float], keep: Iterable[float]
    ) -> Frame:
        """A frame for these points: without the outermost values, but with those of ``keep``."""
        steps, ordered = list(steps), sorted(value for value in values if isfinite(value))
        cut = int(len(ordered) * _OUTLIERS)
        inner = [*ordered[cut : len(ordered) - cut], *(value for value in keep if isfinite(value))]
        if not steps or not inner:
            return cls(0.0, 1.0, 0.0, 1.0)
        return cls(min(steps), max(steps), min(inner), max(inner))


def sparkline(
    steps: Sequence[int], values: Sequence[float], status: str, frame: Frame, width: int = 110
) -> str:
    """A learning curve, ``width`` by 24 pixels, with a mark where the trial ended.

    The mark is a dot where it completed, a bar where it was stopped, a cross where it failed.
    Without a finite value the picture is ``""``.
    """
    points = [(s, v) for s, v in zip(steps, values, strict=True) if isfinite(v)]
    if not points:
        return ""
    canvas = _Canvas(frame, width, 24)
    shown = thin(points, _POINTS)
    line = canvas.line(shown)
    x, y = canvas.place(*points[-1])
    mark = _MARKS.get(status, _MARKS["completed"]).format(x=x, y=y, up=y - 4, down=y + 4)
    return (
        f'<svg class="maggy-{status}" width="{width}" height="24" viewBox="0 0 {width} 24" '
        f'role="img" aria-label="learning curve">'
        f'<path d="{line}" fill="none" stroke="currentColor" stroke-width="1.4"/>{mark}</svg>'
    )


_CROSS = "M{x} {y}m-3 -3l6 6m0 -6l-6 6"
_MARKS = {
    "completed": '<circle cx="{x}" cy="{y}" r="2.4" fill="currentColor"/>',
    "stopped": '<path d="M{x} {up}V{down}" stroke="currentColor" stroke-width="2.4"/>',
    "failed": f'<path d="{_CROSS}" fill="none" stroke="currentColor" stroke-width="1.6"/>',
}


def history(dots: Sequence[Dot], best: Sequence[tuple[int, float]], total: int) -> str:
    """The values of all ended trials in their order, and the best so far as a line.

    Args:
        dots: The trials; of many only some are drawn.
        best: Number of ended trials and best value, whenever that changed.
        total: The number of trials at the right end.
    """
    finite = [dot for dot in dots if isfinite(dot.value)]
    if len(finite) < 2:
        return ""
    values, last = [dot.value for dot in finite], dots[-1].x
    frame = Frame.around([1, max(total, last)], values, [value for _, value in best])
    canvas, shown = _Canvas(frame, *_PANEL, left=_LABELS), thin(finite, _DOTS)
    stopped = canvas.dots((dot.x, dot.value) for dot in shown if not dot.completed)
    completed = canvas.dots((dot.x, dot.value) for dot in shown if dot.completed)
    line = canvas.stairs(thin(best, _DOTS), last)
    return _panel(
        "values of the ended trials, and the best so far",
        frame,
        _path("stopped", stopped, 3, 0.75),
        _path("completed", completed, 4, 0.6),
        _path("completed", line, 1.6),
    )


def bundle(curves: Sequence[tuple[str, Sequence[int], Sequence[float]]], best: int | None) -> str:
    """Learning curves over each other, with a mark where one was stopped.

    Args:
        curves: Status, steps and values of each; of many only some are drawn.
        best: The position of the one that stands out, or None.
    """
    drawn = [
        (status, *finite) for status, steps, values in curves if (finite := _finite(steps, values))
    ]
    if sum(len(steps) > 1 for _, steps, _ in drawn) < 2:
        return ""
    frame = Frame.around(
        [step for _, steps, _ in drawn for step in (steps[0], steps[-1])],
        [value for _, _, values in drawn for value in thin(values, _POINTS)],
        [values[-1] for _, _, values in drawn],
    )
    canvas = _Canvas(frame, *_PANEL, left=_LABELS)
    paths = [_curve(canvas, *curve) for curve in thin(drawn, _CURVES)]
    if best is not None and (shown := _finite(*curves[best][1:])):
        paths.append(
            _path("completed", canvas.line(thin(list(zip(*shown, strict=True)), 99)), 2.2)
        )
    return _panel("learning curves", frame, *paths)


def _curve(canvas: _Canvas, status: str, steps: Sequence[int], values: Sequence[float]) -> str:
    line = canvas.line(thin(list(zip(steps, values, strict=True)), _POINTS // 2))
    if status != "stopped":
        return _path(status, line, 1, 0.4)
    return _path(status, line, 1, 0.55) + _path(status, canvas.dots([(steps[-1], values[-1])]), 4)


def _finite(
    steps: Sequence[int], values: Sequence[float]
) -> tuple[Sequence[int], Sequence[float]] | None:
    """The points with finite values, or None if there are none."""
    points = [(s, v) for s, v in zip(steps, values, strict=True) if isfinite(v)]
    return ([s for s, _ in points], [v for _, v in points]) if points else None


_PANEL = (460, 96)
_LABELS = 56
"""Pixels for the numbers at the left of a panel."""


def _panel(label: str, frame: Frame, *paths: str) -> str:
    """A picture with the lowest and the highest value at its left."""
    width, height = _PANEL
    numbers = "".join(
        f'<text x="{_LABELS - 6}" y="{y}" font-size="10" text-anchor="end" fill="currentColor" '
        f'opacity=".7">{value:.3g}</text>'
        for y, value in ((10, frame.high), (height - 3, frame.low))
    )
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">'
        f"{numbers}{''.join(paths)}</svg>"
    )


def _path(status: str, line: str, size: float, opacity: float = 1.0) -> str:
    """A line in the colour of a status; ``""`` for an empty one."""
    if not line:
        return ""
    return (
        f'<path class="maggy-{status}" d="{line}" fill="none" stroke="currentColor" '
        f'stroke-width="{size:g}" stroke-linecap="round" opacity="{opacity:g}"/>'
    )


def thin(points: Sequence[_T], limit: int) -> Sequence[_T]:
    """At most ``limit`` of the points, evenly chosen, the first and the last among them."""
    if len(points) <= limit:
        return points
    return [points[i * (len(points) - 1) // (limit - 1)] for i in range(limit)]


class _Canvas:
    """Turns points of a frame into SVG coordinates, with a margin for marks."""

    _MARGIN = 4

    def __init__(self, frame: Frame, width: int, height: int, left: int = _MARGIN) -> None:
        self._frame = frame
        self._left = left
        self._width = width - left - self._MARGIN
        self._height = height - 2 * self._MARGIN

    def place(self, step: float, value: float) -> tuple[float, float]:
        """Where a point is; values out of the frame lie on its edge."""
        left, right, low, high = self._frame
        x = (step - left) / (right - left) if right > left else 0.5
        y = (min(max(value, low), high) - low) / (high - low) if high > low else 0.5
        return (
            round(self._left + x * self._width, 1),
            round(self._MARGIN + (1 - y) * self._height, 1),
        )

    def line(self, points: Iterable[tuple[float, float]]) -> str:
        """A path from point to point."""
        return "M" + "L".join(f"{x:g} {y:g}" for x, y in (self.place(*point) for point in points))

    def dots(self, points: Iterable[tuple[float, float]]) -> str:
        """A path that is a dot at each point, given round ends."""
        return "".join(f"M{x:g} {y:g}h0" for x, y in (self.place(*point) for point in points))

    def stairs(self, points: Iterable[tuple[float, float]], end: float) -> str:
        """A path that keeps each value until the next point, the last one to ``end``."""
        path = ""
        for point in points:
            x, y = self.place(*point)
            path += f"H{x:g}V{y:g}" if path else f"M{x:g} {y:g}"
        return f"{path}H{self.place(end, 0.0)[0]:g}" if path else ""
