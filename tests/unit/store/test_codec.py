"""Unit tests of ``maggy.store.codec``."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, get_args

import pytest

from maggy import events as vocabulary
from maggy.errors import RunError
from maggy.events import (
    ExperimentStarted,
    LogWritten,
    MetricReported,
    StopDecided,
    Suggested,
    Tick,
    TrialFailed,
    TrialFinished,
)
from maggy.store.codec import checksum, decode, encode
from maggy.testing.stores import story
from maggy.trial import TrialError

if TYPE_CHECKING:
    from maggy.trial import Json, Value


def test_every_kind_survives() -> None:
    """Each event of the story decodes to an equal one."""
    for event in story():
        assert decode(encode(event)) == event


def test_the_story_and_the_codec_know_every_kind() -> None:
    """No event of the vocabulary is missing from the story, so none lacks a codec."""
    kinds = {kind.strip() for kind in str(vocabulary.Event).split("|")}
    assert {type(event).__name__ for event in story()} == kinds
    assert not get_args(vocabulary.Event), "the union is written as text"


def test_typed_columns_hold_what_is_queried() -> None:
    """Trial, attempt, step and value stand in columns, and a plain report needs no JSON."""
    row = encode(MetricReported(at=2, trial=7, attempt=1, step=3, value=1))
    assert row == (2.0, "MetricReported", 7, 1, 3, 1.0, None, None, None, None)
    assert isinstance(row[0], float)
    assert isinstance(row[5], float)


@pytest.mark.parametrize(
    ("value", "status"), [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf")]
)
def test_nan_is_a_status_and_never_a_number(value: float, status: str) -> None:
    """A number that is not finite leaves its column empty, and still comes back."""
    for event in (
        MetricReported(at=0.0, trial=0, attempt=0, step=0, value=value),
        TrialFinished(at=0.0, trial=0, attempt=0, value=value),
    ):
        row = encode(event)
        assert row[5] is None
        assert row[7] == status
        back = decode(row)
        assert isinstance(back, (MetricReported, TrialFinished))
        assert str(back.value) == str(value)


def test_bodies_are_json_even_with_infinity() -> None:
    """JSON that SQLite can read holds infinity as an object, and a name like ours is no trap."""
    hparams: dict[str, Value] = {"C": math.inf, "plain": 1.5, "$float": "nan"}
    row = encode(Suggested(at=0.0, trial=0, hparams=hparams))
    assert row[9] is not None
    json.loads(row[9], parse_constant=pytest.fail)
    back = decode(row)
    assert isinstance(back, Suggested)
    assert back.hparams == hparams


def test_nested_json_with_infinity_survives() -> None:
    """Lists and objects inside the kept information may hold any float."""
    info: dict[str, Json] = {"a": [1.0, -math.inf], "b": {"c": math.inf, "$float": {"d": None}}}
    event = TrialFinished(at=0.0, trial=0, attempt=0, value=1.0, info=info)
    assert decode(encode(event)) == event


def test_tuples_survive_in_hparams() -> None:
    """Choices that are tuples come back as tuples; a bool does not become a number."""
    hparams: dict[str, Value] = {"layers": (64, (32, 16)), "flag": True, "one": 1, "none": None}
    back = decode(encode(Suggested(at=0.0, trial=0, hparams=hparams)))
    assert isinstance(back, Suggested)
    assert back.hparams == hparams
    assert back.hparams["flag"] is True
    assert type(back.hparams["one"]) is int


def test_budgets_keep_their_type() -> None:
    """A whole budget stays whole, a fraction stays a fraction."""
    for budget in (3, 3.0, 0.5, None):
        back = decode(encode(Suggested(at=0.0, trial=0, hparams={}, budget=budget)))
        assert isinstance(back, Suggested)
        assert back.budget == budget
        assert type(back.budget) is type(budget)


def test_text_that_utf8_lacks_is_replaced() -> None:
    """Output with undecodable bytes, read as surrogates, can be logged all the same."""
    error = TrialError(type="E", message="bad \udcff byte", output="\udc80")
    back = decode(encode(TrialFailed(at=0.0, trial=0, attempt=0, error=error)))
    assert isinstance(back, TrialFailed)
    assert back.error.message == "bad ? byte"
    line = decode(encode(LogWritten(at=0.0, trial=0, attempt=0, text="a\x00\udcff")))
    assert isinstance(line, LogWritten)
    assert line.text == "a\x00?"


def test_negative_zero_loses_its_sign() -> None:
    """SQLite keeps no sign of zero, so the checksum must not see one."""
    row = encode(MetricReported(at=-0.0, trial=0, attempt=0, step=0, value=-0.0))
    assert math.copysign(1, row[0]) == 1
    assert row[5] is not None
    assert math.copysign(1, row[5]) == 1


def test_a_threshold_of_nan_is_no_threshold_of_none() -> None:
    """The threshold of a stop may be missing, zero or not finite, and stays what it is."""
    for threshold in (None, 0.0, math.inf):
        event = StopDecided(at=0.0, trial=0, attempt=0, reason="r", threshold=threshold)
        assert decode(encode(event)) == event


def test_what_json_cannot_say_is_refused() -> None:
    """An object in the config is an error that names the event, not a broken log."""
    with pytest.raises(RunError, match=r"ExperimentStarted cannot be written.*object"):
        encode(ExperimentStarted(at=0.0, config={"model": object()}))  # type: ignore[dict-item]


def test_unknown_kinds_name_both_versions() -> None:
    """A log of a newer maggy says which version wrote it and which one reads it."""
    row = (0.0, "TrialCloned", None, None, None, None, None, None, None, None)
    with pytest.raises(RunError, match=r"'TrialCloned'.*maggy 2\.\S+ does not.*maggy 9\.1"):
        decode(row, lambda: "9.1")


def test_the_checksum_covers_everything() -> None:
    """Any other number, text or position has another checksum; its value is fixed for ever."""
    row = encode(Tick(at=1.5))
    assert checksum(3, row) == 0x3BA876D1
    assert checksum(4, row) != checksum(3, row)
    assert checksum(3, encode(Tick(at=1.25))) != checksum(3, row)
    assert checksum(3, encode(LogWritten(at=1.5, trial=0, attempt=0, text="ü"))) > 0


def test_encoding_is_fast() -> None:
    """A finished trial costs far less than 50 microseconds, on the best of many tries."""
    event = TrialFinished(at=1.25, trial=17, attempt=0, value=0.5, info={"loss": 0.12, "n": 4})
    best = math.inf
    for _ in range(200):
        start = time.perf_counter()
        for _ in range(20):
            encode(event)
        best = min(best, (time.perf_counter() - start) / 20)
    assert best < 50e-6
