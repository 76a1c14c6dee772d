"""The reporter that training functions talk to."""

from __future__ import annotations

import pickle
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from maggy.errors import EarlyStopException, OutcomeError
from maggy.worker.reporter import Refusal, Reporter

if TYPE_CHECKING:
    from collections.abc import Mapping


class Notebook:
    """A sink that writes everything down."""

    def __init__(self) -> None:
        self.points: list[tuple[int, float, Mapping[str, float] | None]] = []
        self.texts: list[str] = []
        self.reason: str | None = None

    def report(self, step: int, value: float, others: Mapping[str, float] | None) -> None:
        self.points.append((step, value, others))

    def log(self, text: str) -> None:
        self.texts.append(text)

    def stop_reason(self) -> str | None:
        return self.reason


@pytest.fixture
def sink() -> Notebook:
    """An empty notebook."""
    return Notebook()


@pytest.fixture
def reporter(sink: Notebook) -> Reporter:
    """A reporter that writes into the notebook."""
    return Reporter(sink)


def test_steps_count_by_themselves(reporter: Reporter, sink: Notebook) -> None:
    """Without a step they count from 0, and go on behind the last given one."""
    reporter.broadcast(0.1)
    reporter.broadcast(metric=np.float32(0.5))
    reporter.broadcast(0.3, step=np.int64(10))
    reporter.broadcast(0.4)
    assert sink.points == [(0, 0.1, None), (1, 0.5, None), (10, 0.3, None), (11, 0.4, None)]
    assert reporter.last == 0.4


def test_a_repeated_or_earlier_step_is_dropped_with_one_warning(
    reporter: Reporter, sink: Notebook
) -> None:
    """Only the first of such steps warns, at the user's line; none of them is recorded."""
    reporter.broadcast(0.1, 5)
    with pytest.warns(UserWarning, match=r"broadcast\(step=5\).*must be 6 or more") as caught:
        reporter.broadcast(0.2, 5)
    reporter.broadcast(0.3, 2)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert sink.points == [(5, 0.1, None)]
    assert reporter.last == 0.1


def test_other_numbers_are_recorded_and_the_rest_dropped_with_one_warning(
    reporter: Reporter, sink: Notebook
) -> None:
    """``others`` keeps what is a finite number; the first thing that is none warns."""
    with pytest.warns(
        UserWarning, match=r"broadcast\(name=...\) is not recorded: it is 'x'"
    ) as got:
        reporter.broadcast(0.1, loss=np.float64(2), name="x", bad=float("nan"))
    assert len(got) == 1
    assert got[0].filename == __file__
    assert sink.points == [(0, 0.1, {"loss": 2.0})]


def test_others_are_bounded(reporter: Reporter, sink: Notebook) -> None:
    """A report holds at most a thousand further numbers."""
    with pytest.warns(UserWarning, match="at most 1000"):
        reporter.broadcast(0.1, **{f"x{i}": i for i in range(1500)})
    assert len(sink.points[0][2] or ()) == 1000


@pytest.mark.parametrize(
    ("metric", "step", "says"),
    [
        (float("nan"), 3, "`metric` at step 3 of broadcast\\(\\) is nan"),
        (np.inf, None, "`metric` at step 0 of broadcast\\(\\) is inf"),
        ("0.9", 1, "'0.9' \\(a str\\)"),
        (0.9, 1.5, "`step` of broadcast\\(\\) is 1.5 \\(a float\\)"),
        (0.9, -1, "`step` of broadcast\\(\\) is -1"),
    ],
)
def test_nonsense_is_refused_past_except_exception(
    reporter: Reporter, sink: Notebook, metric: object, step: object, says: str
) -> None:
    """What is no metric fails the trial although users catch every ``Exception``; for good."""

    def broadcast_carelessly(*args: object) -> None:
        try:
            reporter.broadcast(*args)
        except Exception:  # noqa: BLE001 - users do that
            pytest.fail("the refusal was caught")

    with pytest.raises(Refusal, match=says):
        broadcast_carelessly(metric, step)
    assert reporter.refusal is not None
    assert isinstance(reporter.refusal.error, OutcomeError)
    with pytest.raises(Refusal, match=says):
        broadcast_carelessly(1.0)
    assert sink.points == []


def test_a_stop_is_raised_at_each_further_call(reporter: Reporter, sink: Notebook) -> None:
    """After a stop every broadcast and log raises, with the reason, and records nothing."""
    reporter.broadcast(0.1)
    assert reporter.stopped is False
    sink.reason = "best 0.1 < median 0.5 at step 0"
    for _ in range(2):
        with pytest.raises(EarlyStopException, match=r"median 0\.5"):
            reporter.broadcast(0.2)
    with pytest.raises(EarlyStopException):
        reporter.log("still here")
    assert bool(reporter.stopped)
    assert len(sink.points) == 1
    assert sink.texts == []


def test_texts_are_logged_whatever_they_are(reporter: Reporter, sink: Notebook) -> None:
    """Objects become texts, long texts are cut, lone surrogates are escaped."""
    reporter.log("hello")
    reporter.log(3)
    reporter.log("x" * 10**6)
    reporter.log("\udc80")
    assert sink.texts[:2] == ["hello", "3"]
    assert len(sink.texts[2]) == 100_000
    assert sink.texts[3] == "\\udc80"


def test_many_threads_may_broadcast(reporter: Reporter, sink: Notebook) -> None:
    """Steps stay whole and ascending when threads broadcast at the same time."""

    def work() -> None:
        for _ in range(200):
            reporter.broadcast(1.0)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [step for step, _, _ in sink.points] == list(range(800))


def test_it_refuses_to_be_pickled(reporter: Reporter) -> None:
    """A reporter cannot leave its process, and says what to do instead."""
    with pytest.raises(TypeError, match="cannot be sent to another process"):
        pickle.dumps(reporter)


def test_a_user_may_name_a_number_anything(reporter: Reporter, sink: Notebook) -> None:
    """Names that are no attributes of ours are free for further numbers."""
    entries: dict[str, Any] = {"loss": 1, "value": 2, "trial": 3}
    reporter.broadcast(1.0, **entries)
    assert sink.points[0][2] == {"loss": 1.0, "value": 2.0, "trial": 3.0}
