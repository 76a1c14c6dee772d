"""An earlier run in the terms of a new search: its trials mapped by name to the new space.

A trial is kept if every hyperparameter that the new space has gets a value of it:

* known by name: its value, a number moved to the nearest of the new range's steps.  A trial with a
  value outside the range, or with a choice that is not offered, is left out: to clip it would put
  its loss where it was not seen;
* new: the declared default, else a value that is spread evenly over the trials, so that on
  average the losses say nothing of it;
* no longer there: ignored.

Stoll et al. 2020 (arXiv 2010.13117) study searches whose spaces have changed in these ways.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from maggy.contracts import EarlierRun
from maggy.core.losses import Sense
from maggy.searchspace import Categorical, Discrete, Double, Integer
from maggy.searchspace.values import UNSET, value_from_json, value_to_json
from maggy.trial import Trial, TrialStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from maggy.core.summary import Summary, TrialRecord
    from maggy.searchspace import Hyperparameter, Searchspace
    from maggy.trial import Hparams, Json, Value

__all__ = ["Adapted", "adapt", "from_json", "to_json"]

UNFINISHED = "did not end"
THINNED = "are more than are kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapted:
    """An earlier run as a new search can use it.

    Attributes:
        run: What is used.
        trials: How many trials the run has in its log.
        left_out: How many of them are not used, by reason: a clause such as ``"did not end"``.
        new: The hyperparameters of the new space that the run did not have, and whether they have
            a default.
    """

    run: EarlierRun
    trials: int
    left_out: Mapping[str, int]
    new: Mapping[str, bool]


def adapt(summary: Summary, name: str, space: Searchspace, direction: str, most: int) -> Adapted:
    """What an earlier run says about this space.

    With budgets, trials that completed less than the largest one count as stopped there.

    Args:
        summary: The earlier run, folded; its direction must be the same.
        name: What to call it.
        space: The new one, with its constraints.
        direction: Of both.
        most: At most so many trials are kept: half of them the best, the others an even part of
            the rest.

    Raises:
        SearchspaceError: A constraint raised.
    """
    left_out: Counter[str] = Counter()
    full = _full_budget(summary)
    known: set[str] = set()
    kept: list[Trial] = []
    for number, record in sorted(summary.trials.items()):
        known |= record.hparams.keys()
        if not record.status.ended:
            left_out[UNFINISHED] += 1
            continue
        hparams, misfit = _mapped(space, record.hparams, number)
        misfit = misfit or space.objection(hparams)
        if misfit:
            left_out[misfit] += 1
        else:
            kept.append(_trial(record, hparams, Sense(direction), full))
    chosen = _chosen(kept, most)
    left_out[THINNED] += len(kept) - len(chosen)
    return Adapted(
        run=EarlierRun(name=name, trials=chosen),
        trials=len(summary.trials),
        left_out={reason: count for reason, count in left_out.items() if count},
        new={key: kind.default is not UNSET for key, kind in space.items() if key not in known}
        if known
        else {},
    )


def to_json(runs: Sequence[EarlierRun], direction: str) -> list[Json]:
    """For the log: all that a search needs of earlier runs, in the user's own values."""
    sense = Sense(direction)
    return [
        {"run": run.name, "trials": [_to_json(trial, sense) for trial in run.trials]}
        for run in runs
    ]


def from_json(described: Any, direction: str) -> list[EarlierRun]:
    """The inverse of ``to_json``; empty for a log without earlier runs."""
    sense = Sense(direction)
    return [
        EarlierRun(
            name=str(run["run"]), trials=[_from_json(trial, sense) for trial in run["trials"]]
        )
        for run in described or ()
    ]


def _full_budget(summary: Summary) -> float | None:
    """The largest budget that any trial completed; None without budgets."""
    reached = [
        record.reached
        for record in summary.trials.values()
        if record.status is TrialStatus.COMPLETED and record.reached is not None
    ]
    return max(reached, default=None)


def _mapped(space: Searchspace, old: Hparams, number: int) -> tuple[dict[str, Value], str]:
    """The configuration of this space, and why there is none (a clause; ``""``: there is)."""
    hparams: dict[str, Value] = {}
    for place, (name, kind) in enumerate(space.items()):
        if not space.dependencies.active(name, hparams):
            continue
        if name in old:
            value = _fitted(kind, old[name])
            if value is UNSET:
                return {}, f"have a {name!r} outside this space"
            hparams[name] = value  # type: ignore[assignment]  # it is set
        elif kind.default is not UNSET:
            hparams[name] = kind.default
        else:
            hparams[name] = kind.from_unit(_spread(number, place, len(space)))
    return hparams, ""


def _fitted(kind: Hyperparameter, value: Value) -> object:
    """The value of this kind that the earlier value stands for, or UNSET: none does."""
    if kind.contains(value):
        return value
    number = type(value) is int or type(value) is float
    if not number or isinstance(kind, Categorical):
        return UNSET
    assert isinstance(value, int | float)
    if isinstance(kind, Discrete):
        same = (kind.value_at(index) for index in range(kind.cardinality))
        return next((x for x in same if type(x) in (int, float) and x == value), UNSET)
    if not kind.low <= value <= kind.high:
        return UNSET
    return _stepped(kind, value)


def _stepped(kind: Double | Integer, value: float) -> Value:
    """The nearest value of a range that holds this number."""
    if isinstance(kind, Double):
        return float(value) if kind.step is None else kind.from_unit(kind.to_unit(float(value)))
    steps = math.floor((value - kind.low) / (kind.step or 1) + 0.5)
    return kind.value_at(min(steps, kind.cardinality - 1))


def _spread(number: int, place: int, columns: int) -> float:
    """Where in ``[0, 1)`` trial ``number`` lies in this column.

    A Kronecker sequence whose steps are powers of the root of ``x^(d + 1) = x + 1``, the golden
    ratio for one column: any part of it fills the cube evenly.
    """
    root = 2.0
    for _ in range(40):
        root = (1.0 + root) ** (1.0 / (columns + 1))
    return (0.5 + (number + 1) * root ** -(place + 1)) % 1.0


def _trial(record: TrialRecord, hparams: Hparams, sense: Sense, full: float | None) -> Trial:
    """What the record says, in losses; of a curve only its last point."""
    status = record.status
    value = record.value if record.value is not None and math.isfinite(record.value) else None
    steps = record.steps[-1:] or [math.floor(record.reached or 0)]
    if status is TrialStatus.COMPLETED and value is None:
        status = TrialStatus.FAILED
    elif status is TrialStatus.COMPLETED and full is not None and record.reached != full:
        status = TrialStatus.STOPPED
    stopped = status is TrialStatus.STOPPED and value is not None
    loss = None if value is None or status is TrialStatus.FAILED else sense.flip(value)
    threshold = record.threshold if stopped else None
    return Trial(
        id=record.id,
        hparams=hparams,
        status=status,
        loss=loss,
        steps=steps if stopped else [],
        losses=[loss] if stopped and loss is not None else [],
        threshold=None if threshold is None else sense.flip(threshold),
    )


_ORDER = {TrialStatus.COMPLETED: 0, TrialStatus.STOPPED: 1, TrialStatus.FAILED: 2}


def _chosen(trials: Sequence[Trial], most: int) -> list[Trial]:
    """At most so many of them, in order of their ids."""
    if len(trials) <= most:
        return list(trials)
    ranked = sorted(
        trials,
        key=lambda t: (_ORDER[t.status], math.inf if t.loss is None else t.loss, t.id),
    )
    best = most // 2
    others = len(ranked) - best
    even = [best + index * others // (most - best) for index in range(most - best)]
    chosen = [*ranked[:best], *(ranked[index] for index in even)]
    return sorted(chosen, key=lambda trial: trial.id)


def _to_json(trial: Trial, sense: Sense) -> Json:
    described: dict[str, Json] = {
        "id": trial.id,
        "hparams": {name: value_to_json(value) for name, value in trial.hparams.items()},
        "status": trial.status.value,
    }
    if trial.loss is not None:
        described["value"] = sense.flip(trial.loss)
    if trial.steps:
        described["step"] = trial.steps[-1]
    if trial.threshold is not None:
        described["threshold"] = sense.flip(trial.threshold)
    return described


def _from_json(described: Any, sense: Sense) -> Trial:
    value, threshold = described.get("value"), described.get("threshold")
    loss = None if value is None else sense.flip(value)
    steps = [described["step"]] if "step" in described else []
    return Trial(
        id=described["id"],
        hparams={name: value_from_json(item) for name, item in described["hparams"].items()},
        status=TrialStatus(described["status"]),
        loss=loss,
        steps=steps,
        losses=[loss] if steps and loss is not None else [],
        threshold=None if threshold is None else sense.flip(threshold),
    )
