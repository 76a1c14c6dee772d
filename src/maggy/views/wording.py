"""How numbers, times and configurations are written for people.

Whatever comes from users is made printable here: no control character reaches a terminal.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maggy.trial import Hparams, Value

__all__ = [
    "clock",
    "configuration",
    "count",
    "literal",
    "number",
    "one_line",
    "printable",
    "seconds",
    "shorten",
]


def number(value: float | None) -> str:
    """A metric or a hyperparameter: five significant digits, whole numbers whole."""
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.5g}"


def count(number: int, noun: str) -> str:
    """``1 trial``, ``2 trials``, ``12,000 trials``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def seconds(duration: float) -> str:
    """A duration such as ``0.42 s``, ``12.3 s``, ``4 min 05 s``, ``2 h 10 min``, ``3 d 4 h``."""
    if duration < 9.995:
        return f"{duration:.2f} s"
    if duration < 59.95:
        return f"{duration:.1f} s"
    whole = round(duration)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(duration / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(duration / 3600)
    return f"{hours // 24} d {hours % 24} h"


def roughly(duration: float) -> str:
    """An estimate such as ``12 s`` or ``4 min 05 s``."""
    return f"{min(59, max(1, round(duration)))} s" if duration < 59.95 else seconds(duration)


def clock(at: float) -> str:
    """A moment of the run such as ``0:07`` or ``1:02:03``."""
    minutes, second = divmod(int(at), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def one_line(text: str) -> str:
    """The text on one line, with every unprintable character shown as its escape."""
    line = " ".join(text.split())
    if line.isprintable():
        return line
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)


def printable(text: str) -> str:
    """Several lines, such as a traceback, with every unprintable character shown as its escape."""
    lines = text.expandtabs().splitlines()
    return "\n".join(
        "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)
        for line in lines
    )


def shorten(text: str, width: int) -> str:
    """The text, cut to ``width`` characters with an ellipsis."""
    return text if len(text) <= width else f"{text[: max(0, width - 1)]}…"


def wrapped(text: str, width: int) -> list[str]:
    """The text on lines of ``width`` characters, broken at blanks where there are any."""
    lines = textwrap.wrap(text, max(width, 20), break_on_hyphens=False, break_long_words=False)
    return lines or [""]


def configuration(hparams: Hparams, gap: str = "  ") -> str:
    """A configuration such as ``lr=0.0012  units=64``."""
    return gap.join(f"{one_line(name)}={literal(value)}" for name, value in hparams.items())


def literal(value: Value) -> str:
    """A hyperparameter's value: four significant digits, at most 40 characters."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str):
        line = one_line(value)
        return shorten(line if line and " " not in line else repr(line), 40)
    return shorten(one_line(str(value)), 40)
