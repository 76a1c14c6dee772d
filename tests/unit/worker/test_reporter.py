"""The reporter that training functions talk to."""

from __future__ import annotations

import pickle
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from maggy.errors import CheckpointError, EarlyStopException, OutcomeError
from maggy.worker.checkpoints import Checkpoints
from maggy.worker.reporter import Refusal, Reporter

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Notebook:
    """A sink that writes everything down."""

    def __init__(self) -> None:
        self.points: list[tuple[int, float, Mapping[str, float] | None]] = []
        self.texts: list[str] = []
        self.checkpoints: list[tuple[int, int]] = []
        self.reason: str | None = None
        self.flushed = 0

    def report(self, step: int, value: float, others: Mapping[str, float] | None) -> None:
        self.points.append((step, value, others))

    def log(self, text: str) -> None:
        self.texts.append(text)

    def flush(self) -> None:
        self.flushed = len(self.points)

    def saved(self, step: int, size: int) -> None:
        self.checkpoints.append((step, size))

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


@pytest.fixture
def saving(sink: Notebook, tmp_path: Path) -> Reporter:
    """A reporter of attempt 1 that has a place for checkpoints."""
    return Reporter(sink, Checkpoints(tmp_path, 0, 1))


def test_a_save_is_told_and_restored(saving: Reporter, sink: Notebook) -> None:
    """Reports leave before; the sink hears step and size; the same run finds what it saved."""
    assert saving.restore() is None
    saving.broadcast(0.5, step=4)
    saving.save(b"abc", step=np.int64(4))
    assert sink.checkpoints == [(4, 3)]
    assert sink.flushed == 1
    found = saving.restore()
    assert found is not None
    assert (found.bytes, found.step) == (b"abc", 4)


def test_steps_go_on_behind_the_restored_one(
    saving: Reporter, sink: Notebook, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """Without a step; a step that is given counts as given, even below the restored one."""
    Checkpoints(tmp_path, 0, 0).save(b"abc", 7)
    saving.restore()
    saving.broadcast(0.5)
    assert sink.points == [(8, 0.5, None)]
    again = Reporter(sink, Checkpoints(tmp_path, 0, 2))
    again.restore()
    again.broadcast(0.25, step=7)
    again.restore()
    again.broadcast(0.125)
    assert sink.points[1:] == [(7, 0.25, None), (8, 0.125, None)]
    assert not recwarn


def test_a_told_stop_reaches_saves_too(saving: Reporter, sink: Notebook, tmp_path: Path) -> None:
    """save() and restore() raise like broadcast(), and nothing is written."""
    sink.reason = "hopeless"
    with pytest.raises(EarlyStopException, match="hopeless"):
        saving.save(b"abc", 0)
    assert saving.stopped
    with pytest.raises(EarlyStopException, match="hopeless"):
        saving.restore()
    assert not list(tmp_path.iterdir())


def test_a_later_attempt_stops_this_one(saving: Reporter, sink: Notebook, tmp_path: Path) -> None:
    """An attempt that was given up leaves when it saves, as one that was told to stop."""
    Checkpoints(tmp_path, 0, 2).save(b"new", 1)
    with pytest.raises(EarlyStopException, match="attempt 2 of trial 0 has taken over"):
        saving.save(b"old", 0)
    assert saving.stopped
    assert sink.checkpoints == []


@pytest.mark.parametrize("step", [-1, 1.5, "3", None, True])
def test_a_save_needs_a_step(saving: Reporter, sink: Notebook, step: object) -> None:
    """A step that is none is refused, and can be caught."""
    with pytest.raises(OutcomeError, match=r"`step` of save\(\) is .*, but a step must be"):
        saving.save(b"abc", step)
    assert sink.checkpoints == []


def test_without_a_place_nothing_is_saved(reporter: Reporter) -> None:
    """An engine that keeps nothing says so; there is nothing to restore."""
    assert reporter.restore() is None
    with pytest.raises(CheckpointError, match="no place for checkpoints"):
        reporter.save(b"abc", 0)


def test_damage_is_one_warning_at_the_users_line(saving: Reporter, tmp_path: Path) -> None:
    """However many are damaged; the warning points at the line that called restore()."""
    for attempt in (0, 1):
        Checkpoints(tmp_path, 0, attempt).save(b"abc", attempt)
    for folder in (tmp_path / "000000").iterdir():
        (folder / "data").write_bytes(b"abd")
    with pytest.warns(UserWarning, match="is not used, because it is damaged") as caught:
        assert [saving.restore(), saving.restore()] == [None, None]
    (warning,) = caught
    assert warning.filename == __file__
