"""The loop: log before acting, one commit for what came together, answers in order."""

from __future__ import annotations

from typing import Any

import pytest

from maggy.commands import Assign, Kill, Suggest, Tell
from maggy.core.machine import ExperimentMachine
from maggy.engines.advisor import InlineAdvisor, ThreadedAdvisor
from maggy.engines.loop import Loop
from maggy.engines.seeds import Draws, draw_seed, trial_seed
from maggy.events import (
    CancelRequested,
    ExperimentFinished,
    MetricReported,
    OptimizerFailed,
    SearchExhausted,
    Suggested,
    Tick,
    TrialFinished,
    TrialStarted,
    TrialStopped,
    WaitSuggested,
    WorkerJoined,
    WorkerLost,
)
from maggy.searchspace import Double, Searchspace
from maggy.trial import Exhausted, Suggestion, Trial, TrialStatus, Wait

SPACE = Searchspace(x=Double(0.0, 1.0))


class Diary:
    """Log, crew and optimizer in one, writing down who was called in which order."""

    def __init__(self, *answers: Any) -> None:
        self.entries: list[Any] = []
        self.answers = list(answers)
        self.now = 0.0

    def append(self, event: Any) -> None:
        self.entries.append(type(event).__name__)

    def commit(self) -> None:
        self.entries.append("commit")

    def read(self, start: int = 0) -> Any:
        raise NotImplementedError

    def assign(self, command: Any) -> None:
        self.entries.append(("assign", command.trial))

    def stop(self, command: Any) -> None:
        self.entries.append(("stop", command.trial))

    def kill(self, worker: str) -> None:
        self.entries.append(("kill", worker))

    def shutdown(self, worker: str) -> None:
        self.entries.append(("shutdown", worker))

    def start(self, context: Any) -> None:
        """Nothing to do."""

    def ask(self, number: int, pending: Any, rng: Any) -> Any:
        self.entries.append(("ask", number, [trial.id for trial in pending]))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def tell(self, trial: Trial) -> None:
        self.entries.append(("tell", trial.id, trial.status.value))

    def clock(self) -> float:
        return self.now

    def loop(self, num_trials: int = 2, **options: Any) -> Loop:
        machine = ExperimentMachine(direction="min", num_trials=num_trials, **options)
        made = Loop(machine=machine, log=self, crew=self, clock=self.clock, watch=lambda _: None)
        made.advise(InlineAdvisor(self, SPACE, 5, self.clock))
        return made

    def since(self) -> list[Any]:
        entries, self.entries = self.entries, []
        return entries


def suggestion(x: float) -> Suggestion:
    return Suggestion(hparams={"x": x})


def test_what_is_decided_is_logged_and_committed_before_it_is_done() -> None:
    """A worker never hears of something that the log would not know after a crash."""
    diary = Diary(suggestion(0.1), suggestion(0.2))
    loop = diary.loop()
    loop.dispatch(WorkerJoined(at=0.0, worker="a"))
    assert diary.since() == ["WorkerJoined", ("ask", 0, []), "Suggested", "TrialStarted"]
    loop.flush()
    assert diary.since() == ["commit", ("assign", 0)]
    loop.dispatch(TrialFinished(at=1.0, trial=0, attempt=0, value=1.0))
    loop.flush()
    assert diary.since() == [
        "TrialFinished",
        ("tell", 0, "completed"),
        ("ask", 1, []),
        "Suggested",
        "TrialStarted",
        "commit",
        ("assign", 1),
    ]
    loop.dispatch(TrialFinished(at=2.0, trial=1, attempt=0, value=1.0))
    loop.flush()
    assert diary.since() == [
        "TrialFinished",
        ("tell", 1, "completed"),
        "ExperimentFinished",
        "commit",
        ("shutdown", "a"),
    ]


def test_events_that_came_together_share_a_commit() -> None:
    """Two workers that join in one turn of the loop cost one commit."""
    diary = Diary(suggestion(0.1), suggestion(0.2))
    loop = diary.loop()
    loop.dispatch(WorkerJoined(at=0.0, worker="a"))
    loop.dispatch(WorkerJoined(at=0.0, worker="b"))
    loop.flush()
    assert diary.entries.count("commit") == 1
    assert diary.entries[-2:] == [("assign", 0), ("assign", 1)]


def test_what_nobody_waits_for_is_asked_after_the_sending() -> None:
    """A prepared suggestion goes out first, and the next one is prepared while it runs."""
    diary = Diary(suggestion(0.1), suggestion(0.2), suggestion(0.3))
    loop = diary.loop(num_trials=3, prefetch=1)
    loop.dispatch(WorkerJoined(at=0.0, worker="a"))
    loop.flush()
    diary.since()
    loop.dispatch(TrialFinished(at=1.0, trial=0, attempt=0, value=1.0))
    loop.flush()
    assert diary.since() == [
        "TrialFinished",
        ("tell", 0, "completed"),
        "TrialStarted",
        "commit",
        ("assign", 1),
        ("ask", 2, [1]),
        "Suggested",
    ]


def test_nothing_is_asked_when_the_run_has_ended() -> None:
    """The optimizer is not bothered, and nothing is suggested behind the end in the log."""
    diary = Diary(suggestion(0.1), suggestion(0.2), suggestion(0.3))
    loop = diary.loop(num_trials=3, prefetch=1)
    loop.dispatch(WorkerJoined(at=0.0, worker="a"))
    loop.flush()
    loop.dispatch(TrialFinished(at=1.0, trial=0, attempt=0, value=1.0))
    loop.dispatch(CancelRequested(at=1.0))
    diary.since()
    loop.dispatch(TrialStopped(at=1.0, trial=1, attempt=0))
    loop.flush()
    assert diary.since() == [
        "TrialStopped",
        "ExperimentFinished",
        "commit",
        ("assign", 1),
        ("stop", 1),
        ("shutdown", "a"),
    ]


def test_as_many_are_prepared_as_the_machine_wants() -> None:
    """One flush fills the queue: the next worker that becomes free never waits for a question."""
    diary = Diary(*(suggestion(x / 10) for x in range(5)))
    loop = diary.loop(num_trials=9, prefetch=3)
    loop.dispatch(WorkerJoined(at=0.0, worker="a"))
    loop.flush()
    assert [entry for entry in diary.since() if entry[0] == "ask"] == [
        ("ask", 0, []),
        ("ask", 1, [0]),
        ("ask", 2, [0, 1]),
        ("ask", 3, [0, 1, 2]),
    ]
    loop.dispatch(TrialFinished(at=1.0, trial=0, attempt=0, value=1.0))
    loop.flush()
    assert diary.entries.count("commit") == 1
    assert diary.since()[-3:] == [("assign", 1), ("ask", 4, [1, 2, 3]), "Suggested"]


def test_a_trial_that_is_given_up_fails_in_the_log() -> None:
    """The engine answers ``GiveUp`` with the event that the log needs."""
    diary = Diary(suggestion(0.1))
    loop = diary.loop(num_trials=1, max_lost=0)
    loop.dispatch(WorkerJoined(at=0.0, worker="a"))
    loop.dispatch(WorkerLost(at=1.0, worker="a", reason="killed"))
    assert diary.since()[-4:] == [
        "WorkerLost",
        "TrialFailed",
        ("tell", 0, "failed"),
        "ExperimentFinished",
    ]


def test_a_tick_comes_when_the_machine_asked_for_it() -> None:
    """Not before, and after it the busy workers are killed."""
    diary = Diary(suggestion(0.1))
    loop = diary.loop()
    loop.dispatch(WorkerJoined(at=0.0, worker="a"))
    loop.dispatch(CancelRequested(at=0.0, grace=1.0))
    loop.flush()
    diary.since()
    loop.tick()
    assert diary.since() == []
    diary.now = 1.0
    loop.tick()
    loop.flush()
    assert diary.since() == ["Tick", "commit", ("kill", "a")]


def test_every_answer_of_an_optimizer_becomes_one_event() -> None:
    """Suggestions, promotions, waits, ends and errors."""
    promotion = Suggestion(hparams={"x": 0.5}, budget=3, continues=7, state={"rung": 1})
    diary = Diary(suggestion(0.5), promotion, Wait(), Exhausted("Done."), KeyError("k"))
    advisor = InlineAdvisor(diary, SPACE, 5, diary.clock)
    answers = [advisor.suggest(4, []) for _ in range(5)]
    assert answers[0] == Suggested(at=0.0, trial=4, hparams={"x": 0.5})
    assert answers[1] == Suggested(
        at=0.0, trial=7, hparams={"x": 0.5}, budget=3, state={"rung": 1}
    )
    assert answers[2] == WaitSuggested(at=0.0)
    assert answers[3] == SearchExhausted(at=0.0, reason="Done.")
    assert isinstance(answers[4], OptimizerFailed)
    assert "KeyError" in answers[4].error.traceback


def test_an_optimizer_beside_the_loop_sees_frozen_trials_in_order() -> None:
    """Its own thread, its own copies, one question after the other, nothing after the end."""
    import queue

    diary = Diary(suggestion(0.5), suggestion(0.6))
    delivered: queue.SimpleQueue[Any] = queue.SimpleQueue()
    advisor = ThreadedAdvisor(InlineAdvisor(diary, SPACE, 5, diary.clock), delivered.put)
    trial = Trial(id=3, hparams={"x": 0.1}, losses=[1.0], steps=[0])
    advisor.tell(trial)
    trial.losses.append(2.0)
    advisor.suggest(4, [trial])
    assert delivered.get(timeout=10).trial == 4
    assert diary.since() == [("tell", 3, "pending"), ("ask", 4, [3])]
    advisor.close()
    advisor.suggest(5, [])
    with pytest.raises(queue.Empty):
        delivered.get(timeout=0.2)


def test_seeds_depend_on_the_run_and_the_number_alone() -> None:
    """Equal pairs give equal draws, different ones different draws, all in their range."""
    streams = [Draws(0), Draws(1)]
    draws = {(s, n): streams[s].generator(n).random() for s in (0, 1) for n in range(50)}
    assert len(set(draws.values())) == 100
    assert draws[1, 7] == Draws(1).generator(7).random()
    assert draws[0, 3] == streams[0].generator(3).random()
    seeds = {trial_seed(s, n) for s in (0, 1) for n in range(500)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert 0 <= draw_seed() < 2**31


def test_the_vocabulary_is_closed() -> None:
    """Commands and events are frozen records with slots: nothing can be added in passing."""
    samples: list[Any] = [
        Assign(worker="a", trial=0, attempt=0, hparams={}, budget=None),
        Kill(worker="a"),
        Suggest(number=1),
        Tell(trial=0),
        Tick(at=0.0),
        TrialStarted(at=0.0, trial=0, attempt=0, worker="a"),
        ExperimentFinished(at=0.0, outcome="completed"),
    ]
    for sample in samples:
        with pytest.raises((AttributeError, TypeError)):
            sample.something = 1


def test_what_another_worker_says_of_a_trial_is_not_logged() -> None:
    """It changes nothing, so the log alone leads a new machine to the same state."""
    diary = Diary(suggestion(0.1), suggestion(0.2), suggestion(0.3))
    logged: list[Any] = []
    machine = ExperimentMachine(direction="min", num_trials=3)
    loop = Loop(machine=machine, log=diary, crew=diary, clock=diary.clock, watch=logged.append)
    loop.advise(InlineAdvisor(diary, SPACE, 5, diary.clock))
    for worker in ("a", "b"):
        loop.dispatch(WorkerJoined(at=0.0, worker=worker), worker)
    said = MetricReported(at=1.0, trial=0, attempt=0, step=0, value=0.5)
    end = TrialFinished(at=2.0, trial=0, attempt=0, value=0.5)
    before = len(logged)
    for event in (said, end):
        loop.dispatch(event, "b")
        loop.dispatch(event, "z")
    assert len(logged) == before
    assert machine.trials[0].losses == []
    loop.dispatch(said, "a")
    loop.dispatch(end, "a")
    assert machine.trials[0].status is TrialStatus.COMPLETED
    again = ExperimentMachine(direction="min", num_trials=3)
    for event in logged:
        again.handle(event)
    assert list(again.trials) == list(machine.trials)
    assert again.workers == machine.workers
