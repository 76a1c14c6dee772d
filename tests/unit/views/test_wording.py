"""Unit tests of ``maggy.views.wording``."""

from __future__ import annotations

import pytest

from maggy.views.wording import (
    clock,
    configuration,
    count,
    number,
    one_line,
    printable,
    roughly,
    seconds,
    shorten,
    wrapped,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (3, "3"), (0.972222, "0.97222"), (1e-7, "1e-07"), (0.0, "0"), (1e9, "1e+09")],
)
def test_numbers(value: float | None, text: str) -> None:
    """Five significant digits; whole numbers are whole; nothing is a dash."""
    assert number(value) == text


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (0.0, "0.00 s"),
        (9.994, "9.99 s"),
        (9.996, "10.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (125.0, "2 min 05 s"),
        (3599.4, "59 min 59 s"),
        (3600.0, "1 h 00 min"),
        (86_399.0, "1 d 0 h"),
        (100_000.0, "1 d 4 h"),
    ],
)
def test_durations(duration: float, text: str) -> None:
    """Two units at most, and never sixty of anything."""
    assert seconds(duration) == text


def test_estimates_are_coarse() -> None:
    """Whole seconds, at least one, then as any duration."""
    assert [roughly(x) for x in (0.0, 12.4, 59.6)] == ["1 s", "12 s", "59 s"]
    assert roughly(300.0) == "5 min 00 s"


def test_clock_and_counts() -> None:
    """Moments are minutes and seconds; one trial is not trials."""
    assert [clock(x) for x in (0.0, 67.9, 3723.0)] == ["0:00", "1:07", "1:02:03"]
    assert [count(n, "trial") for n in (0, 1, 2, 12_000)] == [
        *("0 trials", "1 trial", "2 trials", "12,000 trials")
    ]


def test_nothing_unprintable_passes() -> None:
    """Escape sequences, line breaks and control characters are shown, not obeyed."""
    evil = "red\x1b[31m \n\t bell\x07 ünï\u202e"
    assert one_line(evil) == r"red\x1b[31m bell\x07 ünï\u202e"
    assert printable("a\x1b[2J\n\tb\x00") == "a\\x1b[2J\n        b\\x00"


def test_long_text_is_cut() -> None:
    """The ellipsis counts."""
    assert [shorten("abcdef", n) for n in (6, 4, 1, 0)] == ["abcdef", "abc…", "…", "…"]


def test_configurations() -> None:
    """Names and short values; text with blanks is quoted; markup is plain text."""
    text = configuration(
        {
            "lr": 0.000123456,
            "n": 3,
            "on": True,
            "no": None,
            "s": "a b",
            "m": "[red]",
            "t": (1, "x"),
        }
    )
    assert text == "lr=0.0001235  n=3  on=True  no=None  s='a b'  m=[red]  t=(1, 'x')"
    assert len(configuration({"x": "y" * 500})) == 42
    assert configuration({"x": ""}) == "x=''"


def test_wrapping_breaks_at_blanks() -> None:
    """Words stay whole, a path longer than the line too, and nothing gives one empty line."""
    text = "lr=0.1  units=64  name=a-b-c"
    assert wrapped(text, 20) == ["lr=0.1  units=64", "name=a-b-c"]
    assert wrapped("/a/very/long/path/without/blanks", 20) == ["/a/very/long/path/without/blanks"]
    assert wrapped("", 20) == [""]
