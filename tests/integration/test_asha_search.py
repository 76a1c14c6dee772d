"""Whole searches with ASHA and Hyperband: by promotion, by stopping, and with neither."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from maggy import OptimizationConfig, Searchspace, experiment
from maggy.errors import ConfigError
from maggy.events import MetricReported, Suggested
from maggy.optimizer import Asha, GridSearch, Hyperband
from maggy.store.sqlite import SqliteLog

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


pytestmark = pytest.mark.integration

ENGINES = pytest.mark.parametrize("engine", ["inline", "local"])


def config(folder: Path, **options: Any) -> OptimizationConfig:
    defaults: dict[str, Any] = {
        "num_trials": 4,
        "optimizer": "asha",
        "searchspace": Searchspace(x=("DOUBLE", [0.0, 1.0])),
        "folder": folder,
        "num_workers": 2,
        "quiet": True,
        "seed": 5,
    }
    return OptimizationConfig(**{**defaults, **options})


def search(train_fn: Callable[..., Any], config: OptimizationConfig) -> Any:
    """The result of a search."""
    return experiment.lagom(train_fn=train_fn, config=config)


def events(result: Any, kind: type[Any]) -> list[Any]:
    """What the log of a search holds of this kind."""
    with SqliteLog.open(result.path / "run.sqlite") as log:
        return [event for event in log.read() if isinstance(event, kind)]


def trains(x: float, budget: int) -> float:
    return x + budget


def reports(x: float, reporter: Any) -> float:
    for epoch in range(100):
        time.sleep(0.005)  # the training: a stop has time to arrive
        reporter.broadcast(x * (epoch + 1), step=epoch)
    return -1.0


def takes_neither(hparams: dict[str, float]) -> float:
    return hparams["x"]


# Promotion


@ENGINES
@pytest.mark.parametrize("direction", ["max", "min"])
def test_promotion_with_the_documented_default(
    tmp_path: Path, engine: str, direction: str
) -> None:
    """4 configurations at 1, 2 at 2, 1 at 4; each trial is one row, with all its runs."""
    result = search(trains, config(tmp_path, engine=engine, direction=direction))
    assert (result.outcome, result["num_trials"], result["failed"]) == ("completed", 4, 0)
    assert sorted(trial.budget or 0 for trial in result.trials) == [1, 1, 2, 4]
    assert all("budget" not in trial.hparams for trial in result.trials)
    for trial in result.trials:
        assert trial.budget is not None
        assert trial.runs == {1: 1, 2: 2, 4: 3}[trial.budget]
        assert trial.value == trial.hparams["x"] + trial.budget
    (top,) = [trial for trial in result.trials if trial.budget == 4]
    assert result["best_id"] == result["worst_id"] == top.id
    assert result["best_val"] == result["avg"] == top.value
    loaded = experiment.load(result.path)
    assert dict(loaded) == dict(result)
    assert loaded.trials == result.trials


def test_promotions_are_in_the_log(tmp_path: Path) -> None:
    """Every run of every trial, with its budget: enough to build the rungs anew."""
    result = search(trains, config(tmp_path, num_trials=9, optimizer=Asha(3, 1, 10)))
    suggested = events(result, Suggested)
    assert Counter(event.budget for event in suggested) == {1: 9, 3: 3, 9: 1, 10: 1}
    assert len({event.trial for event in suggested}) == 9
    rows = {trial.id: trial.budget for trial in result.trials}
    last = {event.trial: event.budget for event in suggested}
    assert rows == last


def test_a_worker_lost_in_a_promoted_run_costs_that_run_only(tmp_path: Path) -> None:
    """The trial runs again with the larger budget, and what it came to before is not lost."""
    marker = str(tmp_path / "died")

    def dies_once(x: float, budget: int) -> float:
        if budget == 4 and not os.path.exists(marker):  # noqa: PTH110 - in a worker
            with open(marker, "w"):  # noqa: PTH123
                os.kill(os.getpid(), signal.SIGKILL)
        return x * budget

    result = search(dies_once, config(tmp_path, engine="local"))
    assert (result.outcome, result["failed"]) == ("completed", 0)
    (top,) = [trial for trial in result.trials if trial.budget == 4]
    assert (top.status, top.runs) == ("completed", 4)
    assert result["best_val"] == top.value == top.hparams["x"] * 4


@ENGINES
def test_a_promoted_run_that_fails_leaves_what_was_reached(tmp_path: Path, engine: str) -> None:
    """The best is that of the highest budget with a value; the failed trial keeps its own."""

    def too_large(x: float, budget: int) -> float:
        if budget > 2:
            msg = "out of memory"
            raise MemoryError(msg)
        return x * budget

    result = search(too_large, config(tmp_path, engine=engine))
    assert (result.outcome, result["failed"]) == ("completed", 1)
    (failed,) = [trial for trial in result.trials if trial.status == "failed"]
    assert (failed.budget, failed.value) == (2, failed.hparams["x"] * 2)
    at_two = [trial.value or 0.0 for trial in result.trials if trial.budget == 2]
    assert result["best_val"] == max(at_two)
    assert len(at_two) == 2


def test_a_promoted_trial_goes_on_with_its_curve(tmp_path: Path) -> None:
    """One that reports trains from the start again: each step once, as far as the last budget."""

    def learns(x: float, budget: int, reporter: Any) -> float:
        for epoch in range(budget):
            reporter.broadcast(x * epoch, step=epoch)
        return x * budget

    result = search(learns, config(tmp_path, engine="inline"))
    for trial in result.trials:
        assert trial.budget is not None
        assert trial.curve.steps == list(range(trial.budget))


@ENGINES
def test_a_promoted_trial_goes_on_from_its_checkpoint(tmp_path: Path, engine: str) -> None:
    """Each epoch is trained once, whatever the number of runs."""

    def resumes(x: float, budget: int, reporter: Any) -> float:
        saved = reporter.restore()
        begin = 0 if saved is None else saved.step
        for epoch in range(begin, budget):
            reporter.broadcast(x * (epoch + 1), step=epoch)
        reporter.save(b"weights", step=budget)
        return x * budget

    result = search(resumes, config(tmp_path, engine=engine))
    assert sorted(trial.budget for trial in result.trials) == [1, 1, 2, 4]
    for trial in result.trials:
        assert trial.curve.steps == list(range(trial.budget))
    assert len(events(result, MetricReported)) == 4 + 2 + 2


def test_a_search_by_hand_hands_out_budgets() -> None:
    """``trial.budget`` says how far to train; the search ends when nothing can be promoted."""
    by_hand = experiment.ask_tell(
        OptimizationConfig(
            num_trials=4, optimizer="asha", searchspace=Searchspace(x=("DOUBLE", [0.0, 1.0]))
        )
    )
    budgets = []
    while (trial := by_hand.ask()) is not None:
        budgets.append(trial.budget)
        by_hand.tell(trial, trial.hparams["x"])  # type: ignore[arg-type]
    assert by_hand.done
    assert Counter(budgets) == {1: 4, 2: 2, 4: 1}


# Stopping


@ENGINES
def test_stopping_with_reports_alone(tmp_path: Path, engine: str) -> None:
    """The best goes on to exactly the maximum and is complete there; others stop at a rung."""
    options = {"engine": engine, "num_trials": 12, "optimizer": Asha(2, 1, 8)}
    result = search(reports, config(tmp_path, **options))
    assert (result.outcome, result["num_trials"], result["failed"]) == ("completed", 12, 0)
    completed = [trial for trial in result.trials if trial.status == "completed"]
    stopped = [trial for trial in result.trials if trial.status == "stopped"]
    assert completed
    assert stopped
    assert result["early_stopped"] == len(stopped)
    for trial in completed:
        assert (trial.budget, trial.stop_reason) == (8, "")
        assert trial.value == pytest.approx(trial.hparams["x"] * 8)
    for trial in stopped:
        assert trial.budget is not None
        assert "not among the best" in trial.stop_reason
    assert result["best_val"] == max(trial.value or 0.0 for trial in completed)
    assert max(trial.hparams["x"] for trial in result.trials) == result["best_hp"]["x"]
    assert dict(experiment.load(result.path)) == dict(result)


@ENGINES
def test_es_parameters_and_a_policy_beside_asha(tmp_path: Path, engine: str) -> None:
    """They are accepted, judge beside the rungs, and do not delay them."""
    options: dict[str, Any] = {"es_interval": 1, "es_min": 5, "engine": engine, "num_trials": 8}
    plain = search(reports, config(tmp_path, **options))
    assert plain["early_stopped"] > 0
    both = search(reports, config(tmp_path, es_policy="median", **options))
    assert both["early_stopped"] > 0
    assert both["num_trials"] == 8


def test_a_function_that_ends_before_the_maximum_counts_where_it_ended(tmp_path: Path) -> None:
    """Some return after 3 reports, some after 6: the best is among those that got farthest."""

    def uneven(x: float, reporter: Any) -> float:
        length = 6 if x < 0.5 else 3
        for _ in range(length):
            reporter.broadcast(x)
        return x

    options = {"engine": "inline", "num_trials": 8, "optimizer": Asha(8, 1, 64)}
    result = search(uneven, config(tmp_path, direction="min", **options))
    completed = {trial.id: trial.budget for trial in result.trials if trial.status == "completed"}
    assert set(completed.values()) <= {3, 6}
    assert completed[result["best_id"]] == max(completed.values(), key=lambda b: b or 0)


def test_a_mode_can_be_forced(tmp_path: Path) -> None:
    """A function that takes both is stopped if one says so, and told the largest budget."""

    def takes_both(x: float, budget: int, reporter: Any) -> float:
        for epoch in range(budget):
            reporter.broadcast(x, step=epoch)
        return x

    forced = Asha(2, 1, 4, mode="stopping")
    result = search(takes_both, config(tmp_path, engine="inline", optimizer=forced))
    assert {trial.runs for trial in result.trials} == {1}
    with pytest.raises(ConfigError, match="takes `budget`"):
        search(reports, config(tmp_path, optimizer=Asha(mode="promotion")))


# Neither


@ENGINES
def test_a_function_that_takes_neither_runs_once_per_configuration(
    tmp_path: Path, engine: str
) -> None:
    """As if at the maximum, with one warning that names both ways."""
    with pytest.warns(UserWarning, match="neither `budget` nor `reporter`") as caught:
        result = search(takes_neither, config(tmp_path, engine=engine))
    assert len(caught) == 1
    assert {(trial.budget, trial.runs) for trial in result.trials} == {(4, 1)}
    assert result["best_val"] == max(trial.value or 0.0 for trial in result.trials)


def test_the_documented_example_runs_verbatim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the es_* parameters, and a function that takes nothing, as it is abbreviated there."""
    monkeypatch.chdir(tmp_path)

    def training_function() -> float:
        return 0.5

    sp = Searchspace(
        kernel=("INTEGER", [2, 8]), pool=("INTEGER", [2, 8]), dropout=("DOUBLE", [0.01, 0.99])
    )
    config = OptimizationConfig(
        num_trials=4,
        optimizer="asha",
        searchspace=sp,
        direction="max",
        es_interval=1,
        es_min=5,
        name="hp_tuning_test",
    )
    with pytest.warns(UserWarning, match="takes no parameters.*neither `budget` nor") as caught:
        result = experiment.lagom(train_fn=training_function, config=config)
    assert len(caught) == 1
    assert (result["num_trials"], result["best_val"]) == (4, 0.5)


# Brackets and samplers


def test_hyperband_by_its_name(tmp_path: Path) -> None:
    """Trials start at every rung, and the search ends."""
    result = search(trains, config(tmp_path, optimizer="hyperband", num_trials=10))
    assert result.outcome == "completed"
    first: dict[int, int] = {}
    for event in events(result, Suggested):
        first.setdefault(event.trial, event.budget)
    assert Counter(first.values()) == {1: 4, 2: 3, 4: 3}


def test_any_optimizer_samples(tmp_path: Path) -> None:
    """A grid of three points: three configurations, though more are asked for."""
    options = {
        "searchspace": Searchspace(x=("DISCRETE", [0.1, 0.2, 0.3])),
        "optimizer": Hyperband(2, 1, 2, sampler=GridSearch()),
        "num_trials": 9,
    }
    result = search(trains, config(tmp_path, **options))
    assert (result.outcome, result["num_trials"]) == ("exhausted", 3)
    assert "grid is complete" in result.reason


def test_a_budget_is_no_hyperparameter(tmp_path: Path) -> None:
    """The name is refused in a space, and without rungs nobody provides it."""
    with pytest.raises(ConfigError, match="budget"):
        Searchspace(budget=("INTEGER", [1, 3]))
    with pytest.raises(ConfigError, match="multi-fidelity optimizer"):
        search(trains, config(tmp_path, optimizer="randomsearch"))


def test_stopping_judges_reports_in_the_order_of_the_log(tmp_path: Path) -> None:
    """A trial that leads at the first rung when it gets there goes on, by what the log says."""
    options = {"num_trials": 10, "optimizer": Asha(3, 1, 9), "engine": "local"}
    result = search(reports, config(tmp_path, **options))
    best = float("-inf")
    for point in events(result, MetricReported):
        if point.step == 0 and point.value > best:
            best = point.value
            trial = result.trials[point.trial]
            assert trial.status == "completed" or (trial.budget or 0) > 1
