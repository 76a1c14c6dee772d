"""What users' objects become at the border."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maggy.errors import OutcomeError
from maggy.worker.values import as_info, as_metric, as_step, clean, shown


class Broken:
    """An object that cannot be shown."""

    def __repr__(self) -> str:
        msg = "no"
        raise RuntimeError(msg)


@pytest.mark.parametrize(
    ("given_value", "number"),
    [
        (0.5, 0.5),
        (3, 3.0),
        (True, 1.0),
        (np.float32(0.5), 0.5),
        (np.int64(7), 7.0),
        (np.array(0.25), 0.25),
        (Decimal("1.5"), 1.5),
        (Fraction(1, 4), 0.25),
    ],
)
def test_everything_that_float_takes_is_a_metric(given_value: object, number: float) -> None:
    """Python and NumPy numbers, bools and 0-d arrays are metrics, as plain floats."""
    metric = as_metric(given_value)
    assert metric == number
    assert type(metric) is float


@pytest.mark.parametrize(
    ("given_value", "says"),
    [
        ("0.9", r"'0\.9' \(a str\)"),
        (b"0.9", r"a bytes"),
        (memoryview(b"1"), r"a memoryview"),
        (None, r"None \(a NoneType\)"),
        ([0.9], r"a list"),
        (1 + 2j, r"a complex"),
        (np.complex128(1), r"a complex128"),
        (np.array("0.9"), r"a ndarray"),
        (np.array([0.9]), r"shape \(1,\).*\.item\(\)"),
        (np.array([1.0, 2.0]), r"shape \(2,\)"),
        (Decimal("sNaN"), r"float\(\) says"),
        (math.nan, r"^nan, but a metric must be finite"),
        (np.float64("-inf"), r"^-inf"),
        (10**400, r"^inf"),
        (Broken(), r"<Broken instance"),
    ],
)
def test_what_is_no_metric_is_refused_by_name(given_value: object, says: str) -> None:
    """Texts, arrays, complex and non-finite numbers are refused, and the message shows them."""
    with pytest.raises(OutcomeError, match=says):
        as_metric(given_value)


def test_an_error_of_a_users_own_float_passes_through() -> None:
    """Whatever a user's ``__float__`` raises reaches the trial's traceback."""

    class Lost:
        def __float__(self) -> float:
            msg = "device lost"
            raise RuntimeError(msg)

    with pytest.raises(RuntimeError, match="device lost"):
        as_metric(Lost())


@pytest.mark.parametrize(
    ("given_value", "step"), [(0, 0), (np.int32(4), 4), (2**63 - 1, 2**63 - 1)]
)
def test_whole_numbers_are_steps(given_value: object, step: int) -> None:
    """Whole numbers of any integer type are steps, as plain ints."""
    assert as_step(given_value) == step
    assert type(as_step(given_value)) is int


@pytest.mark.parametrize("given_value", [1.0, "1", None, True, -1, 2**63, np.float64(3)])
def test_what_is_no_step_is_refused(given_value: object) -> None:
    """Floats, texts, bools, negative and enormous numbers are no steps."""
    with pytest.raises(OutcomeError, match="but a step must be"):
        as_step(given_value)


def test_information_becomes_json() -> None:
    """Plain values stay, NumPy scalars become Python's, everything else becomes its repr."""
    info = as_info(
        {
            "none": None,
            "flag": True,
            "np": np.float32(0.5),
            "npi": np.int64(3),
            "npb": np.bool_(True),
            "nested": {"a": [1, (2, 3)], 5: "x"},
            "nan": math.nan,
            "set": {1},
            "array": np.array([1, 2]),
            "huge": 10**50,
            "broken": Broken(),
        }
    )
    assert info["nested"] == {"a": [1, [2, 3]], "5": "x"}
    assert (info["none"], info["flag"], info["np"], info["npi"], info["npb"]) == (
        None,
        True,
        0.5,
        3,
        True,
    )
    assert (info["nan"], info["set"], info["array"]) == ("nan", "{1}", "array([1, 2])")
    assert info["huge"] == str(10**50)
    assert "Broken instance" in str(info["broken"])
    json.dumps(info, allow_nan=False)


def test_information_is_bounded() -> None:
    """Neither long texts nor many entries nor endless nesting make a message too long."""
    endless: list[Any] = []
    endless.append(endless)
    big: dict[str, object] = {f"text{i}": "x" * 150_000 for i in range(50)}
    info = as_info(
        big | {"endless": endless, "long": list(range(10**6))} | dict.fromkeys(range(2000))
    )
    assert len(info) == 1000
    assert len(json.dumps(info)) < 500_000
    assert info["text0"] == "x" * 150_000
    assert "characters cut" in str(info["text1"])


@given(st.recursive(st.none() | st.floats() | st.integers() | st.text(), st.lists))
def test_any_information_can_be_sent(value: object) -> None:
    """Whatever plain values a dict holds, its information is JSON that UTF-8 can carry."""
    json.dumps(as_info({"x": value}), allow_nan=False, ensure_ascii=False).encode()


@given(st.text(), st.integers(50, 300))
def test_a_cleaned_text_is_short_and_encodable(text: str, limit: int) -> None:
    """A short text stays as it is; a long one keeps both ends and its limit."""
    short = clean(text, 10**6)
    assert short == text.encode("utf-8", "backslashreplace").decode()
    assert len(clean(text * 100, limit)) <= limit or "\\" in clean(text * 100, limit)


def test_lone_surrogates_and_long_reprs_are_shown() -> None:
    """What UTF-8 cannot hold is escaped, and a large container is not walked through."""
    assert clean("\udc80", 10) == "\\udc80"
    assert len(shown(list(range(10**6)))) <= 200
    assert clean("a" * 500 + "z" * 500, 100).startswith("a")
    assert clean("a" * 500 + "z" * 500, 100).endswith("z")
