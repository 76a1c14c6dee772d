"""From a config to the parts of a search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from maggy import OptimizationConfig, Searchspace
from maggy.commands import Suggest
from maggy.engines.machines import describe_optimizer, new_machine, search_context
from maggy.errors import SearchspaceError
from maggy.events import Suggested, TrialFailed, WorkerJoined
from maggy.optimizer import Asha, RandomSearch
from maggy.trial import TrialError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maggy.commands import Command

SPACE = Searchspace(x=("DOUBLE", [0.0, 1.0]))


class Described:
    """As much of an optimizer as a machine is made from."""

    def __init__(self, **attributes: bool) -> None:
        self.__dict__.update(attributes)


def config(**options: Any) -> OptimizationConfig:
    given = {"searchspace": SPACE, "num_trials": 9, "optimizer": "randomsearch", **options}
    return OptimizationConfig(**given)


@pytest.mark.parametrize(
    ("attributes", "workers", "ahead"),
    [
        ({"suggests_inline": True}, 1, False),
        ({"suggests_inline": True, "learns": False}, 1, True),
        ({"suggests_inline": False, "learns": True}, 1, True),
        ({}, 1, True),
        ({"suggests_inline": True, "learns": False}, None, False),
        ({}, None, False),
    ],
)
def test_a_suggestion_is_held_ready_unless_a_later_one_is_better(
    attributes: dict[str, bool], workers: int | None, ahead: bool
) -> None:
    """Only an optimizer that answers at once and learns is asked late, and so are users."""
    optimizer: Any = Described(**attributes)
    machine = new_machine(config(), optimizer, workers)
    machine.handle(WorkerJoined(at=0.0, worker="a"))
    commands = machine.handle(Suggested(at=0.0, trial=0, hparams={"x": 0.5}))
    assert (Suggest(number=1, ahead=True) in commands) == ahead


@pytest.mark.parametrize(("workers", "held"), [(1, 1), (7, 1), (8, 2), (16, 4), (1000, 4)])
def test_more_suggestions_are_held_ready_for_more_workers(workers: int, held: int) -> None:
    """Workers that become free in quick succession find one each, few enough to stay fresh."""
    optimizer: Any = Described()
    machine = new_machine(config(num_trials=2000), optimizer, workers)
    machine.handle(WorkerJoined(at=0.0, worker="a"))
    machine.handle(Suggested(at=0.0, trial=0, hparams={"x": 0.5}))
    asked = 0
    commands: Sequence[Command] = [Suggest(number=1, ahead=True)]
    while any(isinstance(command, Suggest) for command in commands):
        asked += 1
        commands = machine.handle(Suggested(at=0.0, trial=asked, hparams={"x": 0.5 + asked / 99}))
    assert asked == held


@pytest.mark.parametrize(
    ("workers", "options", "least"),
    [
        (1, {}, 3),
        (5, {}, 5),
        (1, {"num_trials": 2}, 2),
        (None, {}, None),
        (5, {"engine": "manual"}, 3),
        (5, {"engine": "manual", "num_workers": 5}, 5),
    ],
)
def test_the_run_ends_when_its_first_trials_fail_alike(
    workers: int | None, options: dict[str, Any], least: int | None
) -> None:
    """Three, or one for each worker if their number is known; users decide for themselves."""
    num_trials = options.get("num_trials", 9)
    machine = new_machine(config(**options), RandomSearch(), workers)
    machine.handle(WorkerJoined(at=0.0, worker="a"))
    error = TrialError(type="ValueError", message="wrong")
    failed = 0
    while machine.failure is None and failed < num_trials:
        machine.handle(Suggested(at=0.0, trial=failed, hparams={"x": 0.5}))
        machine.handle(TrialFailed(at=0.0, trial=failed, attempt=0, error=error))
        failed += 1
    assert (failed if machine.failure else None) == least


def test_what_the_optimizer_gets_to_know() -> None:
    """The space with its constraints, and that trials can do anything when users run them."""
    wanted = config(constraints=["x <= 0.5"])
    context = search_context(wanted, 2, 7)
    assert context.searchspace is wanted.space
    assert (context.num_trials, context.num_workers, context.seed) == (9, 2, 7)
    assert context.takes_budget
    assert context.takes_reporter


def test_constraints_that_allow_next_to_nothing_are_refused() -> None:
    """Before anything is started."""
    with pytest.raises(SearchspaceError):
        search_context(config(constraints=["x >= 0.9999"]), 1, 0)


def test_the_log_is_told_how_budgets_are_used() -> None:
    """A multi-fidelity optimizer names its fidelity; every one says its notes."""
    asha = Asha()
    asha.start(search_context(config(), 1, 0))
    assert describe_optimizer(asha)["fidelity"] == asha.fidelity.value
    assert describe_optimizer(RandomSearch()) == {"notes": []}
