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

_CLEAR = 0.05
"""A share is shown when even the low end of its interval is so large."""
_SHOWN = 3
_PATIENCE = 30
"""Statistics are worth a thirtieth of the time that the run took."""

__all__ = ["closing", "failure", "failure_story", "first_failure", "from_here", "ran_inline"]


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
    lines += _insights(summary)
    lines.append(("trials", _counts(summary)))
    if summary.crew.workers:
        lines.append(("workers", _crew(summary)))
    if (saved := time_saved(summary)) is not None:
        lines.append(("saved", f"about {seconds(saved)} of worker time by stopping early"))
    if path is not None:
        shown = str(from_here(path))
        lines.append(("run", shown))
        lines.append(("load", f"experiment.load({shown!r})"))
        lines.append(("show", f"maggy show {shlex.quote(shown)}"))
    return lines


def _insights(summary: Summary) -> list[tuple[str, str]]:
    """What matters, and which bounds look too tight, once a run has ended."""
    if summary.finished is None or "searchspace" not in summary.config:
        return []
    cost = 0.05 + 0.0003 * min(summary.ended, 1000)  # seconds, about
    if summary.now < _PATIENCE * cost:
        return []
    from maggy.views.result import Result  # looks at closing words itself

    result = Result(summary)
    shares = result.importances
    clear = [str(share) for share in shares if share.low >= _CLEAR][:_SHOWN]
    lines = [("matters", "  ".join(clear))] if clear and len(shares) > 1 else []
    return lines + [("bounds", str(bound)) for bound in result.tight_bounds[:_SHOWN]]


def _outcome(summary: Summary, unfinished: str) -> str:
    finished = summary.finished
    how = finished.outcome if finished is not None else unfinished
    reason = finished.reason if finished is not None and how != "interrupted" else ""
    why = f": {one_line(reason)}" if reason else ""
    return f"{one_line(summary.name)} {how} after {seconds(summary.now)}{why}"


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
    """How many workers were there, of those that were wanted, how busy they were, and losses."""
    crew = summary.crew
    came = len(crew.workers)
    wanted = summary.config.get("num_workers")
    number = min(came, wanted) if isinstance(wanted, int) else came
    busy = "" if crew.utilisation is None else f", busy {crew.utilisation:.1%} of the time"
    lost = f", {len(crew.lost):,} lost" if crew.lost else ""
    return f"{number:,}{busy}{lost}"


def failure(summary: Summary, path: Path | None) -> str:
    """The first failed trial with its error, whole, or ``""``.

    Nothing either if nothing but failures came of the run: then it is raised, whole, as the run's
    own error.
    """
    first = first_failure(summary)
    if first is None:
        return ""
    failed = count(summary.counts[TrialStatus.FAILED], "trial")
    title = f"{failed} failed; the first, trial {first.id}:"
    story = [configuration(first.hparams), *failure_story(first, path)]
    return "\n".join([title, *(f"  {line}" for line in story)])


def first_failure(summary: Summary) -> TrialRecord | None:
    """The first failed trial, or None where ``failure`` tells nothing."""
    failed = [t for t in summary.trials.values() if t.status is TrialStatus.FAILED]
    hopeless = summary.finished is not None and summary.finished.outcome == "failed"
    if not failed or (hopeless and len(failed) == summary.ended):
        return None
    return min(failed, key=lambda trial: trial.id)


def failure_story(trial: TrialRecord, path: Path | None) -> list[str]:
    """The lines of a failed trial's traceback, and where its output is."""
    assert trial.error is not None, "a failed trial has an error"
    lines = printable(trial.error.traceback.strip("\n") or str(trial.error)).splitlines()
    if path is not None and not ran_inline(trial):
        lines.append(f"Its output: {from_here(RunFolder(path).log_path(trial.id))}")
    return lines


def ran_inline(trial: TrialRecord) -> bool:
    """Whether the trial ran in the driver's process, so that what it printed is in no file."""
    return trial.worker == "inline"


def from_here(path: Path) -> Path:
    """The path as a user would type it here."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
