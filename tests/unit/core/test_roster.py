"""The workers of a run: where each is, and what it may do next."""

from __future__ import annotations

import pytest

from maggy.commands import Assign
from maggy.core.roster import OpenTrials, Roster, Story
from maggy.core.transitions import WorkerStatus
from maggy.errors import TransitionError
from maggy.events import TrialFinished, WorkerJoined, WorkerLost
from maggy.trial import Trial

TRIAL = Trial(id=0, hparams={"x": 0.5})


def joined(worker: str, *, once: bool = False) -> WorkerJoined:
    return WorkerJoined(at=0.0, worker=worker, once=once)


def lost(worker: str) -> WorkerLost:
    return WorkerLost(at=1.0, worker=worker, reason="exited")


def assign(worker: str) -> Assign:
    return Assign(worker=worker, trial=0, attempt=0, hparams=TRIAL.hparams, budget=None)


FINISHED = TrialFinished(at=1.0, trial=0, attempt=0, value=0.5)


def roster(*workers: str) -> Roster:
    made = Roster(Story())
    for worker in workers:
        made.move(worker, joined(worker))
    return made


def test_who_has_waited_longest_is_next() -> None:
    """Workers are used in the order in which they became idle."""
    made = roster("a", "b")
    assert made.idle == "a"
    made.give(assign("a"), TRIAL)
    assert made.idle == "b"
    made.move("a", FINISHED)
    assert made.idle == "b"
    made.move("b", lost("b"))
    assert made.idle == "a"
    made.move("a", lost("a"))
    assert made.idle is None


def test_a_busy_worker_has_its_trial() -> None:
    """From the assignment to the end of the run, and no longer."""
    made = roster("a")
    made.give(assign("a"), TRIAL)
    assert made.running == {"a": TRIAL}
    assert made.statuses == {"a": WorkerStatus.BUSY}
    made.move("a", FINISHED)
    assert made.running == {}
    assert made.status("a") is WorkerStatus.IDLE


@pytest.mark.parametrize("busy", [False, True])
def test_who_is_gone_is_forgotten(busy: bool) -> None:
    """Ten thousand lost workers leave nothing behind, and a name may come again."""
    made = roster("a")
    if busy:
        made.give(assign("a"), TRIAL)
    made.move("a", lost("a"))
    assert not made.statuses
    assert not made.running
    assert made.status("a") is WorkerStatus.GONE
    made.move("a", joined("a"))
    assert made.idle == "a"


def test_who_serves_once_leaves_after_its_trial() -> None:
    """Without being lost; one that is lost before forgets that it was to serve once."""
    made = roster("a", "b")
    made.serve_once("a")
    made.serve_once("b")
    made.give(assign("a"), TRIAL)
    made.move("a", FINISHED)
    assert made.status("a") is WorkerStatus.GONE
    made.move("b", lost("b"))
    made.move("b", joined("b"))
    made.give(assign("b"), TRIAL)
    made.move("b", FINISHED)
    assert made.status("b") is WorkerStatus.IDLE


@pytest.mark.parametrize("cause", [joined("a"), FINISHED])
def test_a_move_that_is_not_listed_is_refused(cause: WorkerJoined | TrialFinished) -> None:
    """An idle worker neither joins nor ends a trial."""
    with pytest.raises(TransitionError, match="worker a, which is idle"):
        roster("a").move("a", cause)


def test_a_busy_worker_gets_no_second_trial() -> None:
    """Nor does one that is gone."""
    made = roster("a")
    made.give(assign("a"), TRIAL)
    with pytest.raises(TransitionError, match="worker a, which is busy"):
        made.give(assign("a"), TRIAL)
    with pytest.raises(TransitionError, match="worker z, which is gone"):
        made.give(assign("z"), TRIAL)


def test_a_refusal_tells_the_newest_events_of_its_subject() -> None:
    """Twenty at most, oldest first, and those of nobody else."""
    story = Story()
    for number in range(40):
        story.add(joined("a" if number % 2 else "b", once=number > 30))
    story.add(FINISHED)
    with pytest.raises(TransitionError) as caught:
        story.refuse("worker", "a", "idle", joined("a"))
    told = caught.value.story
    assert len(told) == 20
    assert all("'a'" in line for line in told)
    assert "once=True" in told[-1]
    assert "once=False" in told[0]


def test_open_trials_are_a_view() -> None:
    """Oldest first, by index, slice and from the end; what changes below it shows."""
    by_id = {number: Trial(id=number, hparams={}) for number in (3, 1, 2)}
    view = OpenTrials(by_id)
    assert [trial.id for trial in view] == [3, 1, 2]
    assert [trial.id for trial in reversed(view)] == [2, 1, 3]
    assert (view[0].id, view[-1].id, [trial.id for trial in view[1:]]) == (3, 2, [1, 2])
    assert by_id[1] in view
    del by_id[3]
    assert len(view) == 2
    assert view[0].id == 1
    with pytest.raises(IndexError):
        view[2]
