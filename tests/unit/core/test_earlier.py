"""An earlier run is mapped by name, keeps what it is, and survives the log."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from maggy.core.earlier import adapt, from_json, to_json
from maggy.core.summary import Summary, TrialRecord
from maggy.searchspace import Categorical, Discrete, Double, Integer, Searchspace
from maggy.trial import Trial, TrialStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maggy.core.earlier import Adapted

DONE, STOPPED, FAILED = TrialStatus.COMPLETED, TrialStatus.STOPPED, TrialStatus.FAILED


def record(number: int, hparams: dict[str, Any], value: float | None, **rest: Any) -> TrialRecord:
    """A trial of an earlier run that completed, unless the rest says otherwise."""
    options = {"status": DONE, "runs": 1, **rest}
    return TrialRecord(id=number, hparams=hparams, value=value, **options)


def adapted(
    records: Sequence[TrialRecord], space: Searchspace, *, direction: str = "min", most: int = 256
) -> Adapted:
    """These records in terms of this space."""
    summary = Summary()
    summary.trials = {item.id: item for item in records}
    return adapt(summary, "old/run", space, direction, most)


def values(space: Searchspace, *given: Any) -> list[Any]:
    """What becomes of these earlier values of ``x``; None where the trial is left out."""
    found = []
    for item in given:
        trials = adapted([record(0, {"x": item}, 1.0)], space).run.trials
        found.append(trials[0].hparams["x"] if trials else None)
    return found


def test_a_value_of_the_new_range_is_kept() -> None:
    """Inside is kept, outside leaves the trial out: clipping would move its loss."""
    space = Searchspace(x=Double(0.0, 1.0))
    assert values(space, 0.0, 0.3, 1.0, 1.1, -0.1, "a", True) == [0.0, 0.3, 1.0, *[None] * 4]


def test_numbers_change_their_kind() -> None:
    """Whole and real numbers stand for each other, rounded to the nearest."""
    assert values(Searchspace(x=Integer(1, 8)), 3, 3.4, 7.6, 8.2) == [3, 3, 8, None]
    (found,) = values(Searchspace(x=Double(1.0, 8.0)), 3)
    assert (type(found), found) == (float, 3.0)


def test_a_value_off_the_steps_moves_to_the_nearest() -> None:
    """A step says that what lies between two of its values need not be told apart."""
    assert values(Searchspace(x=Double(0.1, 0.95, step=0.1)), 0.31, 0.94) == [0.3, 0.9]
    assert values(Searchspace(x=Integer(8, 61, step=8)), 13, 61, 7) == [16, 56, None]


def test_choices_are_matched_by_type_and_value() -> None:
    """A choice that is not offered leaves the trial out; in a list of numbers 2 stands for 2.0."""
    assert values(Searchspace(x=Categorical([1, True, "a"])), True, "a", "b", 1.0) == [
        True, "a", None, None,
    ]  # fmt: skip
    assert values(Searchspace(x=Discrete([1.0, 2.0, 4.0])), 2, 3, 4.0, True) == [
        2.0, None, 4.0, None,
    ]  # fmt: skip


def test_a_new_hyperparameter_gets_its_default() -> None:
    """What the earlier run did not have is what it is by default."""
    space = Searchspace(x=Double(0.0, 1.0), momentum=Double(0.0, 1.0, default=0.9))
    found = adapted([record(0, {"x": 0.5}, 1.0)], space)
    assert found.run.trials[0].hparams == {"x": 0.5, "momentum": 0.9}
    assert found.new == {"momentum": True}


def test_a_new_hyperparameter_without_a_default_is_spread_evenly() -> None:
    """So its mean over the trials is the middle, and it is unrelated to the trials' order."""
    space = Searchspace(
        x=Double(0.0, 1.0), new=Double(0.0, 1.0), kind=Categorical(["a", "b", "c"])
    )
    records = [record(number, {"x": 0.5}, 1.0) for number in range(60)]
    found = adapted(records, space)
    fresh = [float(trial.hparams["new"]) for trial in found.run.trials]  # type: ignore[arg-type]
    assert found.new == {"new": False, "kind": False}
    assert math.fsum(fresh) / 60 == pytest.approx(0.5, abs=0.05)
    assert max(b - a for a, b in pairwise(sorted(fresh))) < 0.1
    kinds = [trial.hparams["kind"] for trial in found.run.trials]
    assert {kind: kinds.count(kind) for kind in "abc"} == pytest.approx(
        dict.fromkeys("abc", 20), abs=3
    )


def test_conditions_of_the_new_space_hold() -> None:
    """A hyperparameter that is not active here is dropped, one that is gets a value."""
    space = Searchspace(
        optimizer=Categorical(["sgd", "adam"]),
        momentum=Double(0.0, 1.0, default=0.9, when={"optimizer": "sgd"}),
    )
    records = [
        record(0, {"optimizer": "adam", "momentum": 0.3, "gone": 1}, 1.0),
        record(1, {"optimizer": "sgd"}, 1.0),
    ]
    first, second = adapted(records, space).run.trials
    assert first.hparams == {"optimizer": "adam"}
    assert second.hparams == {"optimizer": "sgd", "momentum": 0.9}


def test_what_is_left_out_is_counted_by_reason() -> None:
    """Out of the space, forbidden by a constraint, and not ended."""
    space = Searchspace(x=Double(0.0, 1.0), y=Double(0.0, 1.0)).with_constraints(["x < y"])
    records = [
        record(0, {"x": 0.2, "y": 0.5}, 1.0),
        record(1, {"x": 0.6, "y": 0.5}, 1.0),
        record(2, {"x": 2.0, "y": 0.5}, 1.0),
        record(3, {"x": 3.0, "y": 0.5}, 1.0),
        record(4, {"x": 0.1, "y": 0.5}, None, status=TrialStatus.RUNNING),
    ]
    found = adapted(records, space)
    assert [trial.id for trial in found.run.trials] == [0]
    assert found.trials == 5
    assert sorted(found.left_out.values()) == [1, 1, 2]
    assert found.left_out["have a 'x' outside this space"] == 2
    assert found.left_out["did not end"] == 1


def test_trials_are_used_as_what_they_are() -> None:
    """Completed ones by their loss, stopped ones with their last point, failed ones as failed."""
    space = Searchspace(x=Double(0.0, 1.0))
    records = [
        record(0, {"x": 0.1}, 0.7, steps=[1, 2], values=[0.1, 0.7]),
        record(1, {"x": 0.2}, 0.4, status=STOPPED, steps=[1, 2], values=[0.5, 0.4], threshold=0.6),
        record(2, {"x": 0.3}, None, status=FAILED),
        record(3, {"x": 0.4}, None, status=STOPPED),
    ]
    done, stopped, failed, early = adapted(records, space, direction="max").run.trials
    assert (done.status, done.loss, done.steps) == (DONE, -0.7, [])
    assert (stopped.status, stopped.loss, stopped.threshold) == (STOPPED, -0.4, -0.6)
    assert (stopped.steps, stopped.losses) == ([2], [-0.4])
    assert (failed.status, failed.loss, failed.losses) == (FAILED, None, [])
    assert (early.status, early.loss, early.steps) == (STOPPED, None, [])


def test_only_the_largest_budget_counts_as_completed() -> None:
    """What completed less of it counts as stopped there."""
    space = Searchspace(x=Double(0.0, 1.0))
    records = [record(0, {"x": 0.1}, 0.1, reached=1), record(1, {"x": 0.2}, 0.5, reached=9)]
    low, high = adapted(records, space).run.trials
    assert (low.status, low.steps, low.losses) == (STOPPED, [1], [0.1])
    assert (high.status, high.loss) == (DONE, 0.5)


def test_of_many_trials_the_best_and_an_even_part_are_kept() -> None:
    """Of 10,000 trials the best 128 are there, and of the others every so many-th."""
    space = Searchspace(x=Double(0.0, 1.0))
    records = [record(n, {"x": n / 10_000}, float((n * 7919) % 10_000)) for n in range(10_000)]
    found = adapted(records, space)
    losses = sorted(trial.loss for trial in found.run.trials if trial.loss is not None)
    assert len(losses) == 256
    assert losses[:128] == [float(n) for n in range(128)]
    assert max(b - a for a, b in pairwise(losses)) <= 78
    assert [trial.id for trial in found.run.trials] == sorted(t.id for t in found.run.trials)
    assert sum(found.left_out.values()) == 10_000 - 256


@pytest.mark.parametrize("direction", ["min", "max"])
def test_the_log_gives_it_back(direction: str) -> None:
    """Through JSON and back nothing is lost, and what is written are the user's own values."""
    space = Searchspace(x=Categorical([(3, "same"), None, True]), y=Integer(1, 3))
    records = [
        record(0, {"x": (3, "same"), "y": 1}, 0.7),
        record(
            4, {"x": None, "y": 2}, 0.4, status=STOPPED, steps=[5], values=[0.4], threshold=0.6
        ),
        record(5, {"x": True, "y": 3}, None, status=FAILED),
        record(6, {"x": True, "y": 3}, None, status=STOPPED),
    ]
    run = adapted(records, space, direction=direction).run
    described = json.loads(json.dumps(to_json([run], direction)))
    assert from_json(described, direction) == [run]
    assert described[0]["trials"][0]["value"] == 0.7
    assert from_json(None, direction) == []


def test_an_empty_run_says_nothing() -> None:
    """Not even what is new."""
    found = adapted([], Searchspace(x=Double(0.0, 1.0)))
    assert (list(found.run.trials), found.trials, dict(found.left_out), dict(found.new)) == (
        [], 0, {}, {},
    )  # fmt: skip


def test_a_completed_trial_without_a_finite_value_has_failed() -> None:
    """As it would have in the new search."""
    (trial,) = adapted(
        [record(0, {"x": 0.1}, math.inf)], Searchspace(x=Double(0.0, 1.0))
    ).run.trials
    assert trial == Trial(id=0, hparams={"x": 0.1}, status=FAILED)
