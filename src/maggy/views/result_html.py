"""A result in a notebook: the best, a table of the trials with their curves, and the failures.

Its size is bounded, whatever the run: of many trials the best are shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from maggy.views.closing import from_here
from maggy.views.html import chips, details, facts, outcome_tone, page, pictures, text
from maggy.views.pictures import Dot, Frame, bundle, history, sparkline, thin
from maggy.views.tables import best_trials
from maggy.views.wording import configuration, count, literal, number, seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maggy.views.result import Result, TrialResult

__all__ = ["result_html"]

_TRIALS = 20
_CURVES = 60
_COLUMNS = 10
"""So many hyperparameters have a column of their own; more are written into one."""

_ERRORS = 5
"""How many different errors are told, and how many trials of each are named."""


def result_html(result: Result) -> str:
    """The result as one piece of HTML, without scripts or downloads."""
    shown = best_trials(result, _TRIALS)
    return page(
        [
            _head(result),
            pictures(
                [
                    ("each trial, and the best so far", _history(result)),
                    ("learning curves", _curves(result)),
                ]
            ),
            facts(_facts(result)),
            _table(shown),
            _how_to_see_all(result, len(shown)),
            *_failures(result),
        ]
    )


def _head(result: Result) -> str:
    return (
        f'<div class="maggy-head"><b>{text(result.name, 100)}</b>'
        f'<span class="maggy-{outcome_tone(result.outcome)}">{text(result.outcome)}</span>'
        f'<span class="maggy-faint">{text(result.reason, 300)}</span>'
        f'<span class="maggy-end">{seconds(result["duration"])}</span></div>'
    )


def _facts(result: Result) -> list[tuple[str, str]]:
    rows = []
    if result["best_id"] is None:
        rows.append(("best", "none: no trial completed or reported"))
    else:
        value = f'<span class="maggy-best">{number(result["best_val"])}</span>'
        words = f"{value} &nbsp;trial {result['best_id']} &nbsp;{chips(result['best_hp'])}"
        others = f"worst {number(result['worst_val'])}, average {number(result['avg'])}"
        rows += [("best", words), ("", f'<span class="maggy-faint">{others}</span>')]
    counts = [count(result["num_trials"], "trial")]
    counts += [f"{result['early_stopped']:,} stopped early"] if result["early_stopped"] else []
    counts += [f"{result['failed']:,} failed"] if result["failed"] else []
    rows.append(("trials", ", ".join(counts)))
    if result.utilisation is not None:
        rows.append(("workers", f"busy {result.utilisation:.1%} of the time"))
    if result.time_saved is not None:
        saved = seconds(result.time_saved)
        rows.append(("saved", f"about {saved} of worker time by stopping early"))
    if result.path is not None:
        rows.append(("run", f"<code>{text(str(from_here(result.path)))}</code>"))
    return rows


def _history(result: Result) -> str:
    """The trials in their order; the line is the best of those that count."""
    counting = [
        t.budget for t in result.trials if t.status == "completed" and t.budget is not None
    ]
    highest = max(counting, default=None)
    maximise = result.config.get("direction", "max") == "max"
    dots, best = [], list[tuple[int, float]]()
    for place, trial in enumerate(result.trials, start=1):
        if trial.value is None:
            continue
        completed = trial.status == "completed"
        dots.append(Dot(place, trial.value, completed))
        counts = completed and (highest is None or trial.budget == highest)
        if counts and (not best or (trial.value > best[-1][1]) is maximise):
            best.append((place, trial.value))
    return history(dots, best, len(result.trials))


def _curves(result: Result) -> str:
    """Some of the learning curves, and the best one."""
    chosen = list(thin([trial for trial in result.trials if trial.curve.steps], _CURVES))
    best = [
        trial for trial in result.trials if trial.id == result["best_id"] and trial.curve.steps
    ]
    chosen += best
    return bundle(
        [(trial.status, *trial.curve) for trial in chosen], len(chosen) - 1 if best else None
    )


def _table(trials: Sequence[TrialResult]) -> str:
    """A row for each trial: status, value, curve, budget, time and hyperparameters."""
    if not trials:
        return ""
    names = list(dict.fromkeys(name for trial in trials for name in trial.hparams))
    own = names if len(names) <= _COLUMNS else []
    budgets = any(trial.budget is not None for trial in trials)
    head = ["trial", "status", "value", "curve", *(["budget"] if budgets else []), "time"]
    cells = "".join(f"<th>{name}</th>" for name in head)
    cells += "".join(f"<th>{text(name, 40)}</th>" for name in own or ["hyperparameters"])
    frame = _frame(trials)
    rows = "".join(_row(trial, own, frame, budgets=budgets) for trial in trials)
    return (
        f'<div class="maggy-scroll"><table class="maggy-trials"><thead><tr>{cells}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _row(trial: TrialResult, own: Sequence[str], frame: Frame, *, budgets: bool) -> str:
    status = trial.status
    curve = sparkline(trial.curve.steps, trial.curve.values, status, frame)
    why = f' title="{text(_why(trial), 300)}"' if _why(trial) else ""
    cells = [
        f'<td class="maggy-right">{trial.id}</td>',
        f'<td class="maggy-{status}"{why}>{status}</td>',
        f'<td class="maggy-right">{number(trial.value)}</td><td>{curve}</td>',
        f'<td class="maggy-right">{number(trial.budget)}</td>' if budgets else "",
        f'<td class="maggy-right">{seconds(trial.duration)}</td>',
    ]
    if own:
        values = (literal(trial.hparams[n]) if n in trial.hparams else "" for n in own)
        cells += [f"<td>{text(value)}</td>" for value in values]
    else:
        cells.append(f"<td>{text(configuration(trial.hparams), 300)}</td>")
    return f"<tr>{''.join(cells)}</tr>"


def _why(trial: TrialResult) -> str:
    return trial.stop_reason or ("" if trial.error is None else str(trial.error))


def _frame(trials: Sequence[TrialResult]) -> Frame:
    """One frame for all curves, so that they can be compared."""
    curves = [trial.curve for trial in trials if trial.curve.steps]
    steps = [step for curve in curves for step in (curve.steps[0], curve.steps[-1])]
    values = [value for curve in curves for value in curve.values]
    return Frame.around(steps, values, [curve.values[-1] for curve in curves])


def _how_to_see_all(result: Result, shown: int) -> str:
    total = len(result.trials)
    if total <= shown:
        return ""
    return (
        f'<div class="maggy-faint">The best {shown} of {total:,} trials; all of them: '
        f"<code>result.trials</code>, <code>result.to_pandas()</code></div>"
    )


def _failures(result: Result) -> list[str]:
    """Each kind of error once, with its traceback folded away."""
    kinds: dict[str, list[TrialResult]] = {}
    for trial in result.trials:
        if trial.error is not None:
            kinds.setdefault(str(trial.error), []).append(trial)
    parts = [_failure(error, trials) for error, trials in list(kinds.items())[:_ERRORS]]
    hidden = len(kinds) - _ERRORS
    return [*parts, f"<div>and {count(hidden, 'other error')}</div>"] if hidden > 0 else parts


def _failure(error: str, trials: Sequence[TrialResult]) -> str:
    named = ", ".join(str(trial.id) for trial in trials[:_ERRORS])
    more = f" and {len(trials) - _ERRORS:,} more" if len(trials) > _ERRORS else ""
    first = trials[0].error
    assert first is not None, "only failed trials come here"
    story = first.traceback.strip("\n") or error
    story += f"\n\nIts last output:\n{first.output}" if first.output else ""
    noun = "trial" if len(trials) == 1 else "trials"
    return details(f"{noun} {named}{more} failed: {error}", story)
