"""Property: the machine, the summary and the SQL views tell the same story of any run."""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING, Any, assert_never

from hypothesis import given, settings
from hypothesis import strategies as st

from maggy.commands import (
    Assign,
    Finish,
    GiveUp,
    Interrupt,
    Kill,
    Note,
    Shutdown,
    StopTrial,
    Suggest,
    Tell,
)
from maggy.contracts import Decision
from maggy.core.machine import ExperimentMachine
from maggy.core.summary import Summary
from maggy.events import (
    CancelRequested,
    ExperimentFinished,
    ExperimentStarted,
    MetricReported,
    SearchExhausted,
    StopDecided,
    Suggested,
    Tick,
    TrialFailed,
    TrialFinished,
    TrialStarted,
    TrialStopped,
    WorkerJoined,
    WorkerLost,
)
from maggy.store.sqlite import SqliteLog
from maggy.trial import TrialError, TrialStatus, resource_at
from maggy.views.result import Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maggy.commands import Command
    from maggy.events import Event
    from maggy.trial import Trial

SIZE = 8


class Gambler:
    """Stops trials by chance."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def finished(self, trial: Trial) -> None:
        """Learn nothing."""

    def decide(self, trial: Trial) -> Decision:
        """Stop one in eight."""
        stop = self._rng.random() < 0.125
        return Decision(stop=stop, reason="bad luck" if stop else "", threshold=0.5)


class Rungs:
    """A trial with reports up to its budget is complete."""

    def finished(self, trial: Trial) -> None:
        """Learn nothing."""

    def decide(self, trial: Trial) -> Decision:
        """Compare what its steps say with its budget."""
        full = trial.budget is not None and resource_at(trial.steps) >= trial.budget
        return Decision(stop=full, complete=full, reason="it is full" if full else "")


class World:
    """Workers that report, finish, fail, obey and die by chance, around a real machine."""

    def __init__(self, seed: int, *, promotes: bool, stops: bool = False) -> None:
        self.rng = random.Random(seed)
        self.promotes = promotes
        self.stops = stops
        self.machine = ExperimentMachine(
            direction="max",
            num_trials=SIZE,
            policy=Gambler(self.rng),
            es_min=0,
            rungs=Rungs() if stops else None,
            promotes=promotes,
            prefetch=1,
            max_lost=1,
        )
        self.log: list[Event] = []
        self.at = 0.0
        self.names = 0
        self.running: dict[str, tuple[int, int, int]] = {}
        self.told: set[str] = set()

    def run(self) -> None:
        """Play until the machine has finished."""
        config: dict[str, Any] = {"direction": "max", "num_trials": SIZE, "version": "2"}
        if self.stops:
            config["fidelity"] = "stopping"
        self.hear(ExperimentStarted(at=0.0, config=config))
        for _ in range(2):
            self.join()
        for _ in range(400):
            if self.machine.finish is not None:
                return
            self.at += self.rng.random()
            self.step()
        self.cancel()
        assert self.machine.finish is not None, "a cancelled run ends"

    def step(self) -> None:
        """Let one thing happen."""
        if self.rng.random() < 0.004:
            self.cancel()
        elif not self.running or self.rng.random() < 0.02:
            self.join()
        else:
            self.play(self.rng.choice(sorted(self.running)))

    def cancel(self) -> None:
        """The user interrupts, and the grace is over at once."""
        self.hear(CancelRequested(at=self.at, grace=0.0))
        self.at += 1.0
        self.hear(Tick(at=self.at))

    def join(self) -> None:
        """A new worker comes; one in four leaves after its first trial."""
        self.names += 1
        once = self.rng.random() < 0.25
        self.hear(WorkerJoined(at=self.at, worker=f"w{self.names}", once=once))

    def play(self, worker: str) -> None:
        """A worker takes its next step."""
        trial, attempt, step = self.running[worker]
        luck = self.rng.random()
        about: dict[str, Any] = {"at": self.at, "trial": trial, "attempt": attempt}
        if luck < 0.06:
            self.lose(worker)
            if self.rng.random() < 0.5:  # a message that was under way when the worker died
                self.hear(TrialFinished(**about, value=9.0))
        elif worker in self.told and luck < 0.4:
            self.leave(worker, TrialStopped(**about))
        elif worker in self.told and luck < 0.6:  # it ended before the order to stop arrived
            self.leave(worker, TrialFinished(**about, value=2.0))
        elif luck < 0.12:
            self.leave(worker, TrialFailed(**about, error=TrialError(type="E", message=str(step))))
        elif luck < 0.3:
            self.leave(worker, TrialFinished(**about, value=self.rng.choice([0.25, 0.5, 0.75])))
        else:
            self.running[worker] = (trial, attempt, step + 1)
            self.hear(MetricReported(**about, step=step, value=self.rng.random()))

    def leave(self, worker: str, event: Event) -> None:
        """A worker's trial ends."""
        del self.running[worker]
        self.told.discard(worker)
        self.hear(event)

    def lose(self, worker: str) -> None:
        """A worker dies."""
        del self.running[worker]
        self.told.discard(worker)
        self.hear(WorkerLost(at=self.at, worker=worker, reason="gone"))

    def hear(self, event: Event) -> None:
        """Log an event, and carry out what the machine wants."""
        inbox = deque([event])
        while inbox:
            event = inbox.popleft()
            self.log.append(event)
            for command in self.machine.handle(event):
                inbox.extend(self.perform(command))

    def perform(self, command: Command) -> Sequence[Event]:  # noqa: C901 - one case each
        """Do it; what is to be heard next."""
        match command:
            case Assign():
                run: dict[str, Any] = {"trial": command.trial, "attempt": command.attempt}
                self.log.append(TrialStarted(at=self.at, worker=command.worker, **run))
                first = self.rng.choice([0, 0, 2])  # some go on from a checkpoint
                self.running[command.worker] = (command.trial, command.attempt, first)
            case StopTrial():
                run = {"trial": command.trial, "attempt": command.attempt}
                run |= {"threshold": command.threshold, "final": command.final}
                self.log.append(StopDecided(at=self.at, reason=command.reason, **run))
                self.told.add(command.worker)
            case Interrupt():
                self.told.add(command.worker)
            case Suggest():
                return [self.suggest(command.number)]
            case GiveUp():
                run = {"trial": command.trial, "attempt": command.attempt}
                return [TrialFailed(at=self.at, error=command.error, **run)]
            case Kill():
                del self.running[command.worker]
                return [WorkerLost(at=self.at, worker=command.worker, reason="killed")]
            case Finish():
                self.log.append(ExperimentFinished(at=self.at, outcome=command.outcome))
            case Tell() | Note() | Shutdown():
                pass
            case _:
                assert_never(command)
        return []

    def suggest(self, number: int) -> Event:
        """The next configuration, or a promotion of a completed one."""
        done = [t for t in self.machine.trials if t.status is TrialStatus.COMPLETED]
        if self.promotes and done and (number >= SIZE or self.rng.random() < 0.3):
            trial = self.rng.choice(done)
            if (trial.budget or 0) < 9:
                budget = 3 * (trial.budget or 1)
                return Suggested(at=self.at, trial=trial.id, hparams=trial.hparams, budget=budget)
        if number >= SIZE:
            return SearchExhausted(at=self.at, reason="enough")
        first = 1 if self.promotes else 5 if self.stops else None
        return Suggested(at=self.at, trial=number, hparams={"x": number}, budget=first)


def fold(events: Sequence[Event]) -> Summary:
    """The summary of some events."""
    summary = Summary()
    for event in events:
        summary.apply(event)
    return summary


def check_machine(machine: ExperimentMachine, summary: Summary) -> None:
    """Both know the same of every trial; losses are values with the other sign."""
    assert len(machine.trials) == len(summary.trials)
    for trial in machine.trials:
        record = summary.trials[trial.id]
        assert record.status is trial.status
        if record.running:
            assert (record.attempt, record.worker) == (trial.attempt, trial.worker)
        assert record.steps == trial.steps
        assert record.values == [-loss for loss in trial.losses]
        if trial.status in (TrialStatus.COMPLETED, TrialStatus.STOPPED):
            assert record.value == (None if trial.loss is None else -trial.loss)
        assert record.error == (trial.error if trial.status is TrialStatus.FAILED else None)
    counted = {s: sum(t.status is s for t in machine.trials) for s in TrialStatus}
    assert summary.counts == counted


def check_views(log: SqliteLog, result: Result) -> None:
    """The SQL views say what the result says."""
    rows = log._connection.execute(
        "SELECT id, status, value, budget, attempts, worker, duration, stop_reason, error "
        "FROM trials WHERE attempts > 0"
    ).fetchall()
    assert len(rows) == len(result.trials)
    for row, trial in zip(rows, result.trials, strict=True):
        stop_reason = trial.stop_reason if trial.status in ("stopped", "stopping") else ""
        assert row[:6] == (
            *(trial.id, trial.status, trial.value, trial.budget, trial.runs, trial.worker),
        )
        goes_on = trial.status in ("running", "stopping")  # the view knows runs that have ended
        assert (row[6] or 0.0) <= trial.duration + 1e-9
        assert goes_on or abs((row[6] or 0.0) - trial.duration) < 1e-9
        assert (row[7] or "") == stop_reason
        assert row[8] == (None if trial.error is None else str(trial.error))
    metrics = log._connection.execute("SELECT trial, step, value FROM metrics").fetchall()
    assert metrics == [
        (trial.id, step, value)
        for trial in result.trials
        for step, value in zip(*trial.curve, strict=True)
    ]


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from(["plain", "promotion", "stopping"]))
def test_log_machine_summary_and_views_agree(seed: int, kind: str) -> None:
    """At the end of any run they agree on each trial, and the outline on all but curves."""
    world = World(seed, promotes=kind == "promotion", stops=kind == "stopping")
    world.run()
    summary = fold(world.log)
    check_machine(world.machine, summary)
    with SqliteLog.in_memory() as log:
        for event in world.log:
            log.append(event)
        log.commit()
        result = Result(summary)
        check_views(log, result)
        outline = Result(fold(list(log.outline())))
    assert dict(outline) == dict(result)
    for short, whole in zip(outline.trials, result.trials, strict=True):
        assert (short.status, short.value, short.budget, short.duration) == (
            *(whole.status, whole.value, whole.budget, whole.duration),
        )


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.floats(0, 1), st.sampled_from(["plain", "stopping"]))
def test_log_views_of_unfinished_runs_agree(seed: int, share: float, kind: str) -> None:
    """A log cut off anywhere, as by a killed driver, reads the same through SQL."""
    world = World(seed, promotes=False, stops=kind == "stopping")
    world.run()
    events = world.log[: max(1, int(share * len(world.log)))]
    with SqliteLog.in_memory() as log:
        for event in events:
            log.append(event)
        log.commit()
        check_views(log, Result(fold(events)))


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.booleans())
def test_log_best_worst_and_average(seed: int, promotes: bool) -> None:
    """They are those of the completed trials, at the highest budget that one of them reached."""
    world = World(seed, promotes=promotes)
    world.run()
    result = Result(fold(world.log))
    ends: dict[int, list[tuple[int, float]]] = {}
    budgets: dict[int, int] = {}
    current: dict[int, int] = {}
    lost: set[tuple[int, int]] = set()
    holder: dict[str, tuple[int, int]] = {}
    for event in world.log:
        if isinstance(event, Suggested):
            budgets[event.trial] = int(event.budget or 0)
        elif isinstance(event, TrialStarted):
            current[event.trial] = event.attempt
            holder[event.worker] = (event.trial, event.attempt)
        elif isinstance(event, WorkerLost) and event.worker in holder:
            lost.add(holder[event.worker])
        elif isinstance(event, TrialFinished):
            late = current[event.trial] != event.attempt or (event.trial, event.attempt) in lost
            if not late:
                ends.setdefault(budgets[event.trial], []).append((event.trial, event.value))
    if not ends:
        return
    counted = ends[max(ends)]
    best = min(counted, key=lambda end: (-end[1], end[0]))
    worst = min(counted, key=lambda end: (end[1], end[0]))
    assert (result["best_id"], result["best_val"]) == best
    assert (result["worst_id"], result["worst_val"]) == worst
    assert abs(result["avg"] - sum(value for _, value in counted) / len(counted)) < 1e-12
