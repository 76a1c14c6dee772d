"""What a search returns: a dict to read and an object to explore, for any run, finished or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from maggy.core.summary import Summary
from maggy.searchspace import Searchspace
from maggy.searchspace.naming import did_you_mean
from maggy.store.folder import DEFAULT_FOLDER, RunFolder, open_run
from maggy.store.sqlite import SqliteLog, is_live
from maggy.trial import TrialStatus
from maggy.views.forecast import time_saved
from maggy.views.wording import configuration, count, number, one_line, seconds, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from maggy.core.summary import TrialRecord
    from maggy.events import Event
    from maggy.store.folder import SavedCheckpoint
    from maggy.trial import Hparams, Json, Resource, TrialError
    from maggy.views.importance import Importance, Progress, TightBound
    from maggy.views.recommendation import Recommendation

__all__ = ["Curve", "Result", "TrialResult", "load_outline", "load_result", "trial_columns"]

INTERRUPTED = "interrupted"
"""The status of a trial that was under way when its run ended."""


class Curve(NamedTuple):
    """A learning curve; ``plot(*trial.curve)`` draws it."""

    steps: list[int]
    values: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """One configuration and what became of it.

    Attributes:
        id: Counts from 0.
        hparams: The configuration.
        status: completed, stopped, failed, interrupted (under way when the run ended), or, while
            the run goes on, pending, running, stopping.
        value: The final value of its last completed run, the last one of a stopped trial, else
            None.
        curve: What it reported.
        budget: The total resource it has reached, at which ``value`` counts, or None.
        runs: How often it was given to a worker.
        duration: Seconds that its runs took together, the one that goes on so far.
        worker: Who ran it last.
        stop_reason: Why it was stopped, a sentence, or ``""``.
        error: Why it failed, or None.
        info: The other entries of the returned dict, or None.
        log_path: The file with its output, or None for a run without a folder.
        checkpoint: What it saved last: ``path``, ``step`` and ``size`` in bytes; None if it saved
            nothing or that was deleted.
    """

    id: int
    hparams: Hparams
    status: str
    value: float | None
    curve: Curve
    budget: Resource | None
    runs: int
    duration: float
    worker: str | None
    stop_reason: str
    error: TrialError | None
    info: Mapping[str, Json] | None
    log_path: Path | None
    checkpoint: SavedCheckpoint | None


class Result(dict[str, Any]):
    """The outcome of a search.

    As a dict: ``best_id``, ``best_val``, ``best_hp``, ``worst_id``, ``worst_val``, ``worst_hp``,
    ``avg`` (all of the same trials: the completed ones, with budgets those at the highest budget
    reached; stopped ones only if nothing completed; None if there is none), ``num_trials``
    (configurations started), ``early_stopped``, ``failed`` and ``duration`` (seconds).

    Args:
        summary: The run, folded.
        path: The run's folder, or None.
        unfinished: The outcome of a run whose end is not in the log: ``running`` or ``killed``.

    Attributes:
        trials: The started trials, by id.
        path: The run's folder, or None.
        name: The experiment's name.
        config: What the log says of the run: its options, space, seed and versions.
        outcome: completed, exhausted (nothing left to try), failed, interrupted, running, killed.
        reason: A sentence about the outcome, or ``""``.
        utilisation: The share of their time that the workers spent on trials, or None.
        time_saved: Seconds of worker time that early stopping saved, an estimate, or None.
    """

    def __init__(
        self, summary: Summary, path: Path | None = None, *, unfinished: str = "running"
    ) -> None:
        finished = summary.finished
        self.path = path
        self.name = summary.name
        self.config = dict(summary.config)
        self.outcome = finished.outcome if finished else unfinished
        self.reason = finished.reason if finished else ""
        folder = RunFolder(path) if path is not None else None
        saved = folder.saved() if folder is not None else {}
        over = self.outcome != "running"
        self.trials = [
            _trial(record, folder, saved.get(record.id), summary.now, over=over)
            for record in sorted(summary.trials.values(), key=lambda record: record.id)
            if record.runs
        ]
        self.utilisation = summary.crew.utilisation
        self.time_saved = time_saved(summary)
        standing = summary.standing
        best_id, best_val = standing.best or (None, None)
        worst_id, worst_val = standing.worst or (None, None)
        super().__init__(
            best_id=best_id,
            best_val=best_val,
            best_hp=None if best_id is None else dict(summary.trials[best_id].hparams),
            worst_id=worst_id,
            worst_val=worst_val,
            worst_hp=None if worst_id is None else dict(summary.trials[worst_id].hparams),
            avg=standing.average,
            num_trials=summary.started,
            early_stopped=summary.counts[TrialStatus.STOPPED],
            failed=summary.counts[TrialStatus.FAILED],
            duration=summary.now,
        )

    def __missing__(self, key: object) -> NoReturn:
        """Refuse a key that no result has, with the one that may have been meant."""
        msg = f"a result has no {key!r}. {did_you_mean(key, self)}"
        raise KeyError(msg)

    if not TYPE_CHECKING:  # where a misspelt attribute shall stay an error

        def __getattr__(self, name: str) -> NoReturn:
            """Refuse an attribute that no result has; what is an entry is told."""
            msg = f"a result has no attribute {name!r}"
            msg += f": write result[{name!r}]." if name in self else "."
            raise AttributeError(msg, name=name, obj=self)

    def __repr__(self) -> str:
        counts = [count(self["num_trials"], "trial")]
        counts += [f"{self['early_stopped']} stopped early"] if self["early_stopped"] else []
        counts += [f"{self['failed']} failed"] if self["failed"] else []
        lines = [
            f"Result of {one_line(self.name)}: {self.outcome} after {seconds(self['duration'])}, "
            f"{', '.join(counts)}"
        ]
        if self["best_id"] is not None:
            lines += [self._line("best"), self._line("worst"), f"  avg    {number(self['avg'])}"]
        if self.path is not None:
            lines.append(f"  run    {self.path}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """How notebooks show it."""
        from maggy.views.result_html import result_html  # looks at results itself

        return result_html(self)

    def _line(self, which: str) -> str:
        value = number(self[f"{which}_val"])
        hparams = shorten(configuration(self[f"{which}_hp"]), 200)
        return f"  {which:<6} {value:<9} trial {self[f'{which}_id']}   {hparams}"

    @property
    def recommended(self) -> Recommendation | None:
        """The evaluated configuration with the best *expected* value: not merely the luckiest.

        None if no trial completed.  Under multi-fidelity, as for the three below, trials at the
        highest budget that any completed are looked at.
        """
        from maggy.views.recommendation import recommend

        return recommend(self._comparable(), self._space(), self._direction())

    @property
    def importances(self) -> tuple[Importance, ...]:
        """What matters: each hyperparameter's share with an interval, the largest first."""
        from maggy.views.importance import importances

        return importances(self._comparable(), self._space(), self._direction())

    @property
    def tight_bounds(self) -> tuple[TightBound, ...]:
        """Ends of ranges at which the best trials crowd: worth widening."""
        from maggy.views.importance import tight_bounds

        return tight_bounds(self._comparable(), self._space(), self._direction())

    @property
    def best_so_far(self) -> Progress:
        """The best value of the completed trials up to each of them; ``plot(*progress)``."""
        from maggy.views.importance import best_so_far

        return best_so_far(self._comparable(), self._direction())

    def _comparable(self) -> list[TrialResult]:
        budgets = [t.budget for t in self.trials if t.budget is not None and t.value is not None]
        if not budgets:
            return self.trials
        top = max(budgets)
        return [trial for trial in self.trials if trial.budget == top]

    def _space(self) -> Searchspace:
        return Searchspace.from_json(self.config["searchspace"])

    def _direction(self) -> str:
        return str(self.config["direction"])

    def to_pandas(self) -> Any:
        """One row for each trial; hyperparameters are the columns ``hp_<name>``.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ModuleNotFoundError as error:
            msg = (
                "`Result.to_pandas` needs pandas, which is not installed. Install maggy with its "
                "extra `maggy[pandas]`, or pandas alone: pip install pandas"
            )
            raise ModuleNotFoundError(msg, name="pandas") from error
        return pd.DataFrame([trial_columns(trial) for trial in self.trials])


def load_result(run: str | Path, *, folder: str | Path = DEFAULT_FOLDER) -> Result:
    """The result of any run so far, finished, going on or killed.

    Args:
        run: The run's folder, its database, its id or the experiment's name; see ``open_run``.
        folder: Where ids and names are looked up.

    Raises:
        RunError: There is no such run, or its log is damaged.
    """
    place = open_run(run, folder=folder)
    with SqliteLog.open(place.database) as log:
        summary, unfinished = _fold(log.read(), place)
    return Result(summary, place.path, unfinished=unfinished)


def load_outline(place: RunFolder) -> tuple[Summary, str]:
    """A run without its learning curves, which is faster, and what it is if it is not finished.

    Raises:
        RunError: Its log is missing or damaged.
    """
    with SqliteLog.open(place.database) as log:
        return _fold(log.outline(), place)


def _fold(events: Iterable[Event], place: RunFolder) -> tuple[Summary, str]:
    live = is_live(place.database)  # before reading: a run that ends meanwhile still says so
    summary = Summary()
    for event in events:
        summary.apply(event)
    return summary, "running" if live else "killed"


def _trial(
    record: TrialRecord,
    folder: RunFolder | None,
    saved: SavedCheckpoint | None,
    now: float,
    *,
    over: bool,
) -> TrialResult:
    so_far = now - record.began if record.running and record.began is not None else 0.0
    return TrialResult(
        id=record.id,
        hparams=record.hparams,
        status=INTERRUPTED if over and not record.status.ended else record.status.value,
        value=record.value,
        curve=Curve(list(record.steps), list(record.values)),
        budget=record.reached,
        runs=record.runs,
        duration=record.duration + so_far,
        worker=record.worker,
        stop_reason=record.stop_reason,
        error=record.error,
        info=record.info,
        log_path=folder.log_path(record.id) if folder is not None else None,
        checkpoint=saved,
    )


def trial_columns(trial: TrialResult) -> dict[str, Any]:
    """A trial as one flat row; hyperparameters are ``hp_<name>``."""
    return {
        "id": trial.id,
        "status": trial.status,
        "value": trial.value,
        "budget": trial.budget,
        "runs": trial.runs,
        "duration": trial.duration,
        "worker": trial.worker,
        "stop_reason": trial.stop_reason,
        "error": None if trial.error is None else str(trial.error),
        **{f"hp_{name}": value for name, value in trial.hparams.items()},
    }
