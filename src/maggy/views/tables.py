"""Runs and trials as plain tables, and a result as JSON: what ``maggy ls`` and ``show`` write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from maggy.views.wording import configuration, count, number, one_line, seconds, shorten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from maggy.views.result import Result, TrialResult

__all__ = ["best_trials", "result_json", "run_table", "table", "trial_tables"]

_TRIALS = 20
_SENTENCES = 5
_NAME = 10
_BESIDE_NAMES = 67
"""Columns of a run's line that its name leaves to the others."""


def run_table(rows: Sequence[Mapping[str, Any]], *, width: int | None) -> list[str]:
    """One line for each run.

    Args:
        rows: With ``id``, ``name``, ``outcome``, and, unless damaged, ``num_trials``,
            ``best_val``, ``duration``.
        width: Columns to cut lines to, or None; long names give way first.
    """
    names = [one_line(row["name"]) for row in rows]
    if width is not None:
        names = [shorten(name, max(_NAME, width - _BESIDE_NAMES)) for name in names]
    cells = [
        (
            row["id"],
            name,
            row["outcome"],
            f"{row['num_trials']:,}" if "num_trials" in row else "",
            number(row["best_val"]) if "best_val" in row else "",
            seconds(row["duration"]) if "duration" in row else one_line(row.get("error", "")),
        )
        for row, name in zip(rows, names, strict=True)
    ]
    head = ("id", "experiment", "outcome", "trials", "best", "duration")
    return table(head, cells, right={3, 4}, width=width)


def trial_tables(result: Result, *, every: bool, width: int | None) -> list[str]:
    """The trials of a run, its failures and its stops.

    Args:
        result: The run.
        every: List all trials by id, not the best ones alone.
        width: Columns to cut lines to, or None.
    """
    chosen = result.trials if every else best_trials(result)
    lines = _trial_table(chosen, width)
    if len(chosen) < len(result.trials):
        lines[:0] = [
            "",
            f"The best {len(chosen)} of {len(result.trials):,} trials; --all lists all:",
        ]
    failed = [(t.id, str(t.error)) for t in result.trials if t.error is not None]
    lines += _sentences("failed", failed, width)
    stopped = [(t.id, t.stop_reason) for t in result.trials if t.status == "stopped"]
    return lines + _sentences("stopped early", stopped, width)


def result_json(result: Result) -> dict[str, Any]:
    """A run for programs; learning curves are in the view ``metrics`` of its database."""
    return {
        "id": None if result.path is None else result.path.name,
        "name": result.name,
        "path": None if result.path is None else str(result.path),
        "outcome": result.outcome,
        "reason": result.reason,
        **result,
        "utilisation": result.utilisation,
        "time_saved": result.time_saved,
        "config": result.config,
        "trials": [_trial_json(trial) for trial in result.trials],
    }


def _trial_json(trial: TrialResult) -> dict[str, Any]:
    names = ("id", "status", "value", "budget", "runs", "duration", "worker", "stop_reason")
    return {
        **{name: getattr(trial, name) for name in names},
        "error": None if trial.error is None else str(trial.error),
        "hparams": trial.hparams,
    }


def best_trials(result: Result, most: int = _TRIALS) -> list[TrialResult]:
    """The best trials, the best first; those without a value last."""
    sign = -1.0 if result.config.get("direction", "max") == "max" else 1.0
    ranked = sorted(
        result.trials,
        key=lambda t: (t.status != "completed", t.value is None, sign * (t.value or 0.0), t.id),
    )
    return ranked[:most]


def _trial_table(trials: Sequence[TrialResult], width: int | None) -> list[str]:
    budgets = any(trial.budget is not None for trial in trials)
    head = ("trial", "status", "value", *(["budget"] if budgets else []), "time", "hparams")
    cells = [
        (
            str(trial.id),
            trial.status,
            number(trial.value),
            *([number(trial.budget)] if budgets else []),
            seconds(trial.duration),
            configuration(trial.hparams),
        )
        for trial in trials
    ]
    right = {0, 2, 3, 4} if budgets else {0, 2, 3}
    return ["", *table(head, cells, right=right, width=width)] if trials else []


def _sentences(what: str, told: Sequence[tuple[int, str]], width: int | None) -> list[str]:
    """Equal sentences once, with the first trial of each."""
    first: dict[str, int] = {}
    times: dict[str, int] = {}
    for trial, text in told:
        first.setdefault(text, trial)
        times[text] = times.get(text, 0) + 1
    lines = ["", f"{count(len(told), 'trial')} {what}"] if told else []
    for text, trial in list(first.items())[:_SENTENCES]:
        often = f" (and {times[text] - 1:,} more)" if times[text] > 1 else ""
        lines.append(_cut(f"  trial {trial}{often}: {one_line(text)}", width))
    hidden = len(first) - _SENTENCES
    return [*lines, f"  and {hidden:,} other reasons: see --json"] if hidden > 0 else lines


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, right: set[int], width: int | None
) -> list[str]:
    """Lines of aligned columns.

    Args:
        head: What stands over the columns.
        rows: The cells.
        right: The columns that are flush right.
        width: Columns to cut lines to, or None.
    """
    sizes = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = []
    for row in (head, *rows):
        cells = [
            cell.rjust(size) if i in right else cell.ljust(size)
            for i, (cell, size) in enumerate(zip(row, sizes, strict=True))
        ]
        lines.append(_cut("  ".join(cells).rstrip(), width))
    return lines


def _cut(line: str, width: int | None) -> str:
    return line if width is None else shorten(line, width)
