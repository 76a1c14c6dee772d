"""Whatever an optimizer answers or raises becomes one event, also beside the loop."""

from __future__ import annotations

import queue
import threading
from typing import Any

import pytest

from maggy.engines.advisor import InlineAdvisor, ThreadedAdvisor
from maggy.events import OptimizerFailed, Suggested
from maggy.searchspace import Double, Searchspace
from maggy.trial import Exhausted, Suggestion, Trial

SPACE = Searchspace(x=Double(0.0, 1.0))
TRIAL = Trial(id=0, hparams={"x": 0.5})


class Scripted:
    """An optimizer that does what it is given."""

    def __init__(self, answer: Any = None, told: Any = None) -> None:
        self.answer, self.told = answer, told

    def start(self, context: Any) -> None:
        """Nothing to do."""

    def ask(self, number: int, pending: Any, rng: Any) -> Any:
        return self.answer() if callable(self.answer) else self.answer

    def tell(self, trial: Trial) -> None:
        if self.told is not None:
            self.told()


def advisor(optimizer: Any) -> InlineAdvisor:
    return InlineAdvisor(optimizer, SPACE, 0, lambda: 1.0)


@pytest.mark.parametrize("budget", [0, -1, float("nan"), float("inf"), "3", True])
def test_a_budget_is_a_positive_number(budget: Any) -> None:
    """What no training function could be given ends the run, and is named."""
    event = advisor(Scripted(Suggestion(hparams={"x": 0.5}, budget=budget))).suggest(0, [])
    assert isinstance(event, OptimizerFailed)
    assert repr(budget) in event.error.message


@pytest.mark.parametrize("state", [object(), float("nan"), {1, 2}])
def test_a_state_is_json(state: Any) -> None:
    """What the log cannot hold is the optimizer's failure, not the log's."""
    event = advisor(Scripted(Suggestion(hparams={"x": 0.5}, state=state))).suggest(0, [])
    assert isinstance(event, OptimizerFailed)


def test_a_reason_is_text() -> None:
    """An end without a sentence is refused."""
    event = advisor(Scripted(Exhausted(reason=3))).suggest(0, [])  # type: ignore[arg-type]
    assert isinstance(event, OptimizerFailed)
    assert "Exhausted(reason=3)" in event.error.message


def test_a_continued_trial_keeps_its_number() -> None:
    """The event speaks of the trial that goes on, with its new budget."""
    suggestion = Suggestion(hparams={"x": 0.5}, budget=4, continues=2, state=[1])
    event = advisor(Scripted(suggestion)).suggest(5, [])
    assert event == Suggested(at=1.0, trial=2, hparams={"x": 0.5}, budget=4, state=[1])


@pytest.mark.parametrize("where", ["ask", "tell"])
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), ValueError("wrong")])
def test_nothing_an_optimizer_raises_leaves_the_run_waiting(
    where: str, error: BaseException
) -> None:
    """Beside the loop even an exit of the thread is delivered as the optimizer's failure."""

    def fail() -> None:
        raise error

    delivered: queue.SimpleQueue[Any] = queue.SimpleQueue()
    made = ThreadedAdvisor(advisor(Scripted(answer=fail, told=fail)), delivered.put)
    if where == "ask":
        made.suggest(0, [])
    else:
        made.tell(TRIAL)
    event = delivered.get(timeout=10)
    assert isinstance(event, OptimizerFailed)
    assert event.error.type == type(error).__name__
    made.close()


def test_an_optimizer_that_hangs_does_not_keep_the_advisor_open() -> None:
    """``close`` returns at once, and what comes later is delivered to nobody."""
    entered, release = threading.Event(), threading.Event()

    def hang() -> Suggestion:
        entered.set()
        release.wait(30)
        return Suggestion(hparams={"x": 0.5})

    delivered: queue.SimpleQueue[Any] = queue.SimpleQueue()
    made = ThreadedAdvisor(advisor(Scripted(answer=hang)), delivered.put)
    made.suggest(0, [])
    assert entered.wait(10)
    made.close()
    release.set()
    with pytest.raises(queue.Empty):
        delivered.get(timeout=0.2)


def test_what_the_optimizer_will_need_is_loaded_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once, when a worker has taken the first trial, and while the next answers come."""
    loaded: queue.SimpleQueue[str] = queue.SimpleQueue()
    release = threading.Event()

    def load(name: str) -> None:
        loaded.put(name)
        release.wait(30)

    monkeypatch.setattr("maggy.engines.advisor.importlib.import_module", load)
    delivered: queue.SimpleQueue[Any] = queue.SimpleQueue()
    inner = advisor(Scripted(Suggestion(hparams={"x": 0.5})))
    made = ThreadedAdvisor(inner, delivered.put, preload=("one", "two"))
    made.suggest(0, [])
    delivered.get(timeout=10)
    assert loaded.empty()
    for number in (1, 2, 3):
        made.suggest(number, [])
        assert isinstance(delivered.get(timeout=10), Suggested)
    assert loaded.get(timeout=10) == "one"
    release.set()
    assert loaded.get(timeout=10) == "two"
    made.close()
    assert loaded.empty()
