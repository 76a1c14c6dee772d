"""Unit tests of ``maggy.views.exports``."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from typing import TYPE_CHECKING, Any

import pytest

from maggy.core.summary import Summary
from maggy.events import (
    ExperimentStarted,
    MetricReported,
    Suggested,
    TrialFinished,
    TrialStarted,
)
from maggy.testing.stores import story
from maggy.views.exports import (
    Table,
    metrics_table,
    trials_table,
    write_csv,
    write_json,
    write_parquet,
)
from maggy.views.result import Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maggy.events import Event
    from maggy.trial import Value


def fold(events: Sequence[Event]) -> Summary:
    """The summary of some events."""
    summary = Summary()
    for event in events:
        summary.apply(event)
    return summary


def read_csv(table: Table) -> list[dict[str, str]]:
    """What a reader of the CSV sees."""
    text = io.StringIO()
    write_csv(table, text)
    return list(csv.DictReader(io.StringIO(text.getvalue())))


def read_json(table: Table) -> Any:
    """What a reader of the JSON sees; NaN is refused."""
    text = io.StringIO()
    write_json(table, text)

    def refuse(word: str) -> None:
        pytest.fail(f"{word} is no JSON")

    return json.loads(text.getvalue(), parse_constant=refuse)


def test_the_columns_of_trials() -> None:
    """Fixed ones first, then hyperparameters and what was returned beside the metric."""
    table = trials_table(Result(fold(story())))
    assert table.columns == [
        *("id", "status", "value", "budget", "runs", "duration", "worker"),
        *("stop_reason", "error", "hp_lr", "hp_units", "hp_shape", "info_epochs", "info_note"),
    ]
    assert table.column("info_epochs") == [2, None, None, None, None]
    assert table.column("hp_units") == [32, 64, 8, 16, 4]


def test_the_columns_of_metrics() -> None:
    """A row for each report that counts, in order, with what was reported beside it."""
    table = metrics_table(fold(story()))
    assert table.columns == ["trial", "step", "value", "other_loss"]
    rows = [tuple(row.get(name) for name in table.columns) for row in table.rows]
    assert rows == [
        (0, 0, 0.5, None),
        (0, 1, 0.6, 1.25),
        (2, 0, 0.25, None),
        (2, 1, 0.125, None),
        (3, 0, 0.75, None),
    ]


def test_an_empty_run_has_a_header() -> None:
    """In CSV; in JSON it is an empty list."""
    for table in (trials_table(Result(Summary())), metrics_table(Summary())):
        text = io.StringIO()
        write_csv(table, text)
        assert text.getvalue() == ",".join(table.columns) + "\n"
        assert read_json(table) == []


def test_csv_keeps_every_text() -> None:
    """Commas, quotes, newlines; lists are JSON, nothing is empty, NaN is told."""
    rows: list[dict[str, Any]] = [
        {"a": 'x, "y"\nz', "b": (1, ("two", None)), "c": None, "d": math.nan, "e": True},
        {"a": "ü", "f": {"k": [1.5]}},
    ]
    assert read_csv(Table(["a"], rows)) == [
        {"a": 'x, "y"\nz', "b": '[1, ["two", null]]', "c": "", "d": "nan", "e": "True", "f": ""},
        {"a": "ü", "b": "", "c": "", "d": "", "e": "", "f": '{"k": [1.5]}'},
    ]


def test_json_has_every_column_and_no_nan() -> None:
    """Values keep their kinds; what JSON has no number for is null."""
    rows: list[dict[str, Any]] = [
        {"a": (1, math.inf), "b": True},
        {"c": {"k": -math.inf}, "d": 0.5},
    ]
    assert read_json(Table(["a"], rows)) == [
        {"a": [1, None], "b": True, "c": None, "d": None},
        {"a": None, "b": None, "c": {"k": None}, "d": 0.5},
    ]


def mixed() -> Result:
    """A run whose hyperparameters are of all kinds, and some of them of several."""
    choices: list[tuple[Value, Value, Value]] = [
        (1, True, (1, 2)),
        ("a", False, None),
        (0.5, 1, 3),
    ]
    events: list[Event] = [ExperimentStarted(at=0.0, config={"name": "mixed"})]
    for number, (several, flags, tuples) in enumerate(choices):
        hparams = {"several": several, "flags": flags, "tuples": tuples, "number": number / 2}
        run: dict[str, Any] = {"at": 1.0, "trial": number, "attempt": 0}
        events.append(Suggested(at=0.0, trial=number, hparams=hparams))
        events.append(TrialStarted(**run, worker="w"))
        events.append(MetricReported(**run, step=0, value=1.0))
        events.append(TrialFinished(**run, value=1.0))
    return Result(fold(events))


def test_parquet_takes_every_run() -> None:
    """Numbers stay numbers; a column of several types is JSON text, and nothing is null."""
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    file = io.BytesIO()
    write_parquet(trials_table(mixed()), file)
    frame = pandas.read_parquet(io.BytesIO(file.getvalue()))
    assert list(frame["hp_number"]) == [0.0, 0.5, 1.0]
    assert list(frame["hp_several"]) == ["1", '"a"', "0.5"]
    assert list(frame["hp_flags"]) == ["true", "false", "1"]
    assert frame["hp_tuples"][0] == "[1, 2]"
    assert frame["hp_tuples"].isna()[1]
    for table in (trials_table(Result(fold(story()))), metrics_table(Summary())):
        write_parquet(table, io.BytesIO())


@pytest.mark.parametrize("missing", ["pandas", "pyarrow"])
def test_parquet_names_what_is_missing(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And how to get it, and what needs nothing."""
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ModuleNotFoundError, match=rf"{missing} is not installed.*or export CSV"):
        write_parquet(trials_table(mixed()), io.BytesIO())
