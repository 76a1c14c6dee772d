"""Runs side by side: what each found, what it took, and who was ahead after equal effort."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from operator import methodcaller
from typing import TYPE_CHECKING, Any

from maggy.core.summary import Summary
from maggy.events import TrialFailed, TrialFinished, TrialStopped, WorkerLost
from maggy.store.sqlite import SqliteLog, is_live
from maggy.trial import TrialStatus
from maggy.views.forecast import time_saved
from maggy.views.news import headline
from maggy.views.tables import table
from maggy.views.wording import count, literal, number, one_line, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from maggy.store.folder import RunFolder

__all__ = ["Contestant", "comparison", "comparison_json", "doubts", "load_contestant"]

_ENDS = (TrialFinished, TrialStopped, TrialFailed, WorkerLost)
_SHARES = (0.125, 0.25, 0.5, 1.0)
"""Moments at which the runs are compared, as shares of the shortest one."""

_SAME = ("direction", "optimization_key")


@dataclass(frozen=True, slots=True)
class Contestant:
    """A run in a comparison.

    Attributes:
        id: Its name.
        summary: What it came to.
        unfinished: What it is if its end is not in the log.
        moments: When the best changed or a trial ended; seconds, ascending.
        ended: How many trials had ended by each of these moments.
        best: The best value by then, or None.
    """

    id: str
    summary: Summary
    unfinished: str
    moments: Sequence[float]
    ended: Sequence[int]
    best: Sequence[float | None]

    @property
    def outcome(self) -> str:
        """How it ended."""
        finished = self.summary.finished
        return self.unfinished if finished is None else finished.outcome

    def best_at(self, at: float) -> float | None:
        """The best value after so many seconds."""
        place = bisect_right(self.moments, at)
        return self.best[place - 1] if place else None

    def best_after(self, trials: int) -> float | None:
        """The best value when so many trials had ended."""
        place = bisect_right(self.ended, trials)
        return self.best[place - 1] if place else None


def load_contestant(place: RunFolder) -> Contestant:
    """Read a run for a comparison.

    Raises:
        RunError: Its log is missing or damaged.
    """
    live = is_live(place.database)
    summary = Summary()
    moments: list[float] = []
    ended: list[int] = []
    best: list[float | None] = []
    with SqliteLog.open(place.database) as log:
        for event in log.outline():
            summary.apply(event)
            if isinstance(event, _ENDS):
                standing = summary.standing.best
                moments.append(event.at)
                ended.append(max(summary.ended, ended[-1] if ended else 0))
                best.append(None if standing is None else standing[1])
    return Contestant(place.id, summary, "running" if live else "killed", moments, ended, best)


def doubts(runs: Sequence[Contestant]) -> str:
    """Why the values of these runs cannot be compared, a sentence, or ``""``."""
    aims = {tuple(run.summary.config.get(name) for name in _SAME): run for run in runs}
    if len(aims) < 2:
        return ""
    words = ", ".join(f"{run.id} is {_aim(run.summary)}" for run in aims.values())
    return f"These runs do not search for the same, so their values cannot be compared: {words}."


def comparison(runs: Sequence[Contestant], *, width: int | None) -> list[str]:
    """A table with a column for each run; ``*`` marks the best value of a row that has several.

    Args:
        runs: The runs.
        width: Columns to cut lines to, or None.
    """
    rows = [(label, [write(run) for run in runs]) for label, write in _PLAIN]
    rows.append(("best", _marked(runs, [_best(run) for run in runs])))
    names = dict.fromkeys(name for run in runs for name in _best_hparams(run))
    rows += [(f"  {one_line(name)}", [_hparam(run, name) for run in runs]) for name in names]
    for label, read in _checkpoints(runs):
        rows.append((f"best after {label}", _marked(runs, [read(run) for run in runs])))
    head = ("run", *(run.id for run in runs))
    return table(head, [(label, *cells) for label, cells in rows], right=set(), width=width)


def comparison_json(runs: Sequence[Contestant]) -> list[dict[str, Any]]:
    """The same for programs."""
    checkpoints = _checkpoints(runs)
    return [
        {
            "id": run.id,
            "name": run.summary.name,
            "outcome": run.outcome,
            "optimizer": run.summary.config.get("optimizer"),
            "num_trials": run.summary.started,
            "completed": run.summary.counts[TrialStatus.COMPLETED],
            "early_stopped": run.summary.counts[TrialStatus.STOPPED],
            "failed": run.summary.counts[TrialStatus.FAILED],
            "duration": run.summary.now,
            "utilisation": run.summary.crew.utilisation,
            "time_saved": time_saved(run.summary),
            "best_val": _best(run),
            "best_hp": _best_hparams(run),
            "best_after": {label: read(run) for label, read in checkpoints},
        }
        for run in runs
    ]


_PLAIN: tuple[tuple[str, Callable[[Contestant], str]], ...] = (
    ("experiment", lambda run: one_line(run.summary.name)),
    ("outcome", lambda run: run.outcome),
    ("search", lambda run: headline(run.summary)),
    ("trials", lambda run: f"{run.summary.started:,}"),
    ("  completed", lambda run: f"{run.summary.counts[TrialStatus.COMPLETED]:,}"),
    ("  stopped early", lambda run: f"{run.summary.counts[TrialStatus.STOPPED]:,}"),
    ("  failed", lambda run: f"{run.summary.counts[TrialStatus.FAILED]:,}"),
    ("duration", lambda run: seconds(run.summary.now)),
    ("workers", lambda run: str(run.summary.config.get("num_workers", "-"))),
    ("  busy", lambda run: _share(run.summary.crew.utilisation)),
    ("  time saved", lambda run: _time(time_saved(run.summary))),
)


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _time(duration: float | None) -> str:
    return "-" if duration is None else seconds(duration)


def _aim(summary: Summary) -> str:
    verb = "maximising" if summary.maximise else "minimising"
    return f"{verb} {one_line(str(summary.config.get('optimization_key', 'metric')))}"


def _best(run: Contestant) -> float | None:
    best = run.summary.standing.best
    return None if best is None else best[1]


def _best_hparams(run: Contestant) -> dict[str, Any]:
    best = run.summary.best
    return {} if best is None else dict(best.hparams)


def _hparam(run: Contestant, name: str) -> str:
    hparams = _best_hparams(run)
    return literal(hparams[name]) if name in hparams else "-"


def _marked(runs: Sequence[Contestant], values: Sequence[float | None]) -> list[str]:
    """The values of a row, the best of them with a star, if they can be compared."""
    known = [value for value in values if value is not None]
    top = (max if runs[0].summary.maximise else min)(known) if known else None
    starred = len(set(known)) > 1 and not doubts(runs)
    return [f"{number(v)}{' *' if starred and v is not None and v == top else ''}" for v in values]


def _checkpoints(
    runs: Sequence[Contestant],
) -> list[tuple[str, Callable[[Contestant], float | None]]]:
    """Equal times and equal numbers of trials, up to what every run has reached."""
    shortest = min(run.summary.now for run in runs)
    fewest = min(run.summary.ended for run in runs)
    found: list[tuple[str, Callable[[Contestant], float | None]]] = []
    for share in _SHARES if shortest > 0 else ():
        at = shortest * share
        found.append((seconds(at), methodcaller("best_at", at)))
    for trials in dict.fromkeys(round(fewest * share) for share in _SHARES):
        if trials:
            name = count(trials, "trial")
            found.append((name, methodcaller("best_after", trials)))
    return found
