"""The last words about a run: what was found, what it took, where it is, what went wrong."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from maggy.store.folder import RunFolder
from maggy.trial import TrialStatus
from maggy.views.forecast import time_saved
from maggy.views.wording import configuration, count, number, one_line, printable, seconds

if TYPE_CHECKING:
    from maggy.core.summary import Summary, TrialRecord

__all__ = ["closing", "failure"]


def closing(
    summary: Summary, path: Path | None, *, unfinished: str = "not finished"
) -> list[tuple[str, str]]:
    """Pairs of a label and a text, in the order in which they are shown.

    Args:
        summary: The run.
        path: Its folder, or None.
        unfinished: What to call it if its end is not in the log.
    """
    lines = [("", _outcome(summary, unfinished))]
    standing = summary.standing
    if standing.best is not None:
        trial, value = standing.best
        hparams = configuration(summary.trials[trial].hparams)
        lines.append(("best", f"{number(value)}  trial {trial}  {hparams}"))
    elif summary.started:
        lines.append(("best", "none: no trial completed or reported"))
    lines.append(("trials", _counts(summary)))
    if summary.crew.workers:
        lines.append(("workers", _crew(summary)))
    if (saved := time_saved(summary)) is not None:
        lines.append(("saved", f"about {seconds(saved)} of worker time by stopping early"))
    if path is not None:
        shown = str(_from_here(path))
        lines.append(("run", shown))
        lines.append(("load", f"experiment.load({shown!r})"))
        lines.append(("show", f"maggy show {shlex.quote(shown)}"))
    return lines


def _outcome(summary: Summary, unfinished: str) -> str:
    finished = summary.finished
    how = finished.outcome if finished is not None else unfinished
    reason = f": {one_line(finished.reason)}" if finished is not None and finished.reason else ""
    return f"{one_line(summary.name)} {how} after {seconds(summary.now)}{reason}"


def _counts(summary: Summary) -> str:
    names = {
        "running": summary.running,
        "completed": summary.counts[TrialStatus.COMPLETED],
        "stopped early": summary.counts[TrialStatus.STOPPED],
        "failed": summary.counts[TrialStatus.FAILED],
    }
    if summary.finished is not None:
        names["unfinished"] = names.pop("running") + sum(
            1
            for trial in summary.trials.values()
            if trial.runs and trial.status is TrialStatus.PENDING
        )
    shown = [f"{number:,} {name}" for name, number in names.items() if number]
    return ", ".join(shown) or "none ended"


def _crew(summary: Summary) -> str:
    crew = summary.crew
    number = summary.config.get("num_workers", len(crew.workers))
    busy = "" if crew.utilisation is None else f", busy {crew.utilisation:.1%} of the time"
    return f"{number}{busy}{f', {len(crew.lost):,} lost' if crew.lost else ''}"


def failure(summary: Summary, path: Path | None) -> str:
    """The first failed trial's error, whole, or ``""``.

    Nothing either if nothing but failures came of the run: then it is raised, whole, as the run's
    own error.
    """
    failed = [t for t in summary.trials.values() if t.status is TrialStatus.FAILED]
    hopeless = summary.finished is not None and summary.finished.outcome == "failed"
    if not failed or (hopeless and len(failed) == summary.ended):
        return ""
    first = min(failed, key=lambda trial: trial.id)
    title = f"{count(len(failed), 'trial')} failed; the first, trial {first.id}:"
    return "\n".join([title, *_story(first, path)])


def _story(trial: TrialRecord, path: Path | None) -> list[str]:
    assert trial.error is not None, "a failed trial has an error"
    text = printable(trial.error.traceback.strip("\n") or str(trial.error))
    lines = [f"  {line}" for line in text.splitlines()]
    if path is not None:
        lines.append(f"  Its output: {_from_here(RunFolder(path).log_path(trial.id))}")
    return lines


def _from_here(path: Path) -> Path:
    """The path as a user would type it here."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
