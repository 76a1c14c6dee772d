"""A run's trials or learning curves as one flat table: CSV, JSON or Parquet."""

from __future__ import annotations

import csv
import json
from math import isfinite
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from maggy.views.result import trial_columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from maggy.core.summary import Summary
    from maggy.views.result import Result

__all__ = ["Table", "metrics_table", "trials_table", "write_csv", "write_json", "write_parquet"]


class Table:
    """Rows with named columns; a row leaves out what it has nothing for.

    Attributes:
        columns: The names, in order.
        rows: By name.
    """

    def __init__(self, first: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
        self.rows = rows
        self.columns = list(dict.fromkeys([*first, *(name for row in rows for name in row)]))

    def column(self, name: str) -> list[Any]:
        """The values of one column, None where a row has none."""
        return [row.get(name) for row in self.rows]


def trials_table(result: Result) -> Table:
    """A row for each started trial.

    Hyperparameters are ``hp_<name>``; what was returned beside the metric is ``info_<name>``.

    >>> from maggy.core.summary import Summary
    >>> from maggy.views.result import Result
    >>> trials_table(Result(Summary())).columns[:3]
    ['id', 'status', 'value']
    """
    rows = [
        {**trial_columns(trial), **{f"info_{key}": v for key, v in (trial.info or {}).items()}}
        for trial in result.trials
    ]
    return Table(
        ["id", "status", "value", "budget", "runs", "duration", "worker", "stop_reason", "error"],
        rows,
    )


def metrics_table(summary: Summary) -> Table:
    """A row for each report; what was reported beside the metric is ``other_<name>``."""
    rows = [
        {
            "trial": trial.id,
            "step": step,
            "value": value,
            **{f"other_{key}": v for key, v in (trial.others or {}).get(step, {}).items()},
        }
        for trial in sorted(summary.trials.values(), key=lambda trial: trial.id)
        for step, value in zip(trial.steps, trial.values, strict=True)
    ]
    return Table(["trial", "step", "value"], rows)


def write_csv(table: Table, file: TextIO) -> None:
    """Write with a header; nothing is empty, lists and dicts are JSON."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(table.columns)
    columns = table.columns
    writer.writerows([_cell(row.get(name)) for name in columns] for row in table.rows)


def write_json(table: Table, file: TextIO) -> None:
    """Write a list with one object a line; every object has all columns, NaN is null."""
    columns = table.columns
    lines = (
        json.dumps({name: _jsonable(row.get(name)) for name in columns}) for row in table.rows
    )
    body = ",\n".join(lines)
    file.write(f"[\n{body}\n]\n" if body else "[]\n")


def write_parquet(table: Table, file: BinaryIO) -> None:
    """Write with pandas and pyarrow; a column of mixed types becomes JSON text.

    Raises:
        ModuleNotFoundError: One of them is not installed.
    """
    try:
        import pandas as pd
        import pyarrow as pa  # noqa: F401 - what pandas will use
    except ModuleNotFoundError as error:
        msg = (
            f"Parquet needs pandas and pyarrow, but {error.name} is not installed. Install both: "
            f"pip install pandas pyarrow; or export CSV or JSON."
        )
        raise ModuleNotFoundError(msg, name=error.name) from error
    frame = pd.DataFrame({name: _uniform(table.column(name)) for name in table.columns})
    frame.to_parquet(file, engine="pyarrow", index=False)


def _cell(value: Any) -> Any:
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(_jsonable(value))
    return value


def _jsonable(value: Any) -> Any:
    """The same without numbers that JSON has no words for."""
    if isinstance(value, float) and not isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    return value


def _uniform(values: list[Any]) -> list[Any]:
    """The values if they are all numbers, all texts or all booleans; else as JSON."""
    kinds = _kinds(values)
    if kinds <= {int, float}:
        return values
    if len(kinds) == 1 and kinds <= {str, bool}:
        return values
    return [None if value is None else json.dumps(_jsonable(value)) for value in values]


def _kinds(values: Iterable[Any]) -> set[type]:
    return {type(value) for value in values if value is not None}
