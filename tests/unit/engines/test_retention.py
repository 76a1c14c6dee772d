"""Checkpoints are kept while somebody may need them, and no longer."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest

from maggy.commands import Tell
from maggy.core.machine import ExperimentMachine
from maggy.engines.job import Job
from maggy.engines.retention import Retention
from maggy.events import (
    CancelRequested,
    CheckpointSaved,
    ExperimentStarted,
    SearchExhausted,
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
from maggy.trial import CheckpointName, TrialError
from maggy.worker.checkpoints import Checkpoints
from maggy.worker.injection import Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from maggy.events import Event
    from maggy.trial import Trial


class Advisor:
    """An advisor that is told and says nothing."""

    def __init__(self) -> None:
        self.told: list[int] = []
        self.closed = False

    def suggest(self, number: int, pending: object) -> None:
        """Nothing now."""

    def tell(self, trial: Trial) -> None:
        self.told.append(trial.id)

    def close(self) -> None:
        self.closed = True


class Run:
    """A run without workers, whose events are made by the test; values are to be large."""

    def __init__(self, folder: Path, *, promotes: bool = False, optimizer: Any = None) -> None:
        self.folder = folder / "checkpoints"
        self.log = SqliteLog.in_memory()
        self.machine = ExperimentMachine(direction="max", num_trials=None, promotes=promotes)
        started = ExperimentStarted(at=0.0, config={"direction": "max"})
        chosen: Any = optimizer or object()
        job: Any = Job(
            machine=self.machine,
            log=self.log,
            started=started,
            optimizer=chosen,
            space=None,  # type: ignore[arg-type]
            seed=0,
            plan=Plan(names=()),
            optimization_key="metric",
            hb_interval=1.0,
            num_workers=1,
            trial_logs=folder,
            checkpoints=self.folder,
        )
        self.retention = Retention(job)
        self.advisor = Advisor()
        self._heard = self.retention.listen(self.advisor)
        self._attempts: dict[int, int] = {}
        self.hear(started)
        self.hear(WorkerJoined(at=0.0, worker="w"))

    def hear(self, event: Event) -> None:
        """What an engine does with an event."""
        self.retention.watch(event)
        for command in self.machine.handle(event):
            if isinstance(command, Tell):
                self._heard.tell(self.machine.trials[command.trial])
        self.retention.settle()

    def begin(
        self, trial: int, budget: int | None = None, *, step: int | None = 1
    ) -> dict[str, Any]:
        """Suggest a trial, which saves a checkpoint at ``step``; names its attempt."""
        self.hear(Suggested(at=0.0, trial=trial, hparams={}, budget=budget))
        attempt = self.machine.trials[trial].attempt
        self.hear(TrialStarted(at=0.0, trial=trial, attempt=attempt, worker="w"))
        if step is not None:
            self.save(trial, attempt, step)
        return {"at": 0.0, "trial": trial, "attempt": attempt}

    def save(self, trial: int, attempt: int, step: int = 1) -> None:
        """Save, and let the driver hear of it."""
        size = Checkpoints(self.folder, trial, attempt).save(b"abc", step)
        self.hear(CheckpointSaved(at=0.0, trial=trial, attempt=attempt, step=step, size=size))

    def finish(self, trial: int, value: float, budget: int | None = None) -> None:
        """A whole trial, checkpoint included."""
        self.hear(TrialFinished(**self.begin(trial, budget), value=value))

    def kept(self) -> list[int]:
        """Whose checkpoints are there."""
        if not self.folder.is_dir():
            return []
        names = [entry.name for entry in self.folder.iterdir()]
        return sorted(int(name) for name in names if name.isdecimal())

    def wait(self, *kept: int) -> None:
        """Until only these are kept."""
        deadline = time.monotonic() + 10
        while self.kept() != list(kept):
            assert time.monotonic() < deadline, self.kept()
            time.sleep(0.002)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Makes a run, and ends what is left of it."""
    runs: list[Run] = []

    def make(**options: Any) -> Run:
        runs.append(Run(tmp_path, **options))
        return runs[-1]

    yield make
    for run in runs:
        run.retention.close()
        run.log.close()


def test_of_completed_trials_the_best_is_kept(make: Callable[..., Run]) -> None:
    """As soon as a better one completes, or a worse one; the earlier wins a tie."""
    run = make()
    run.finish(0, 0.5)
    run.wait(0)
    run.finish(1, 0.4)
    run.wait(0)
    run.finish(2, 0.9)
    run.wait(2)
    run.finish(3, 0.9)
    run.wait(2)
    assert run.advisor.told == [0, 1, 2, 3]


def test_the_best_may_have_saved_nothing(make: Callable[..., Run]) -> None:
    """Then nothing of a worse one is kept in its place."""
    run = make()
    run.hear(TrialFinished(**run.begin(0, step=None), value=0.9))
    run.finish(1, 0.5)
    run.wait()
    assert run.folder.is_dir()


def test_failed_and_stopped_trials_lose_theirs_at_once(make: Callable[..., Run]) -> None:
    """Nobody will continue them; an interrupted one keeps its own."""
    run = make()
    run.hear(TrialFailed(**run.begin(0), error=TrialError(type="E", message="")))
    run.wait()
    begun = run.begin(1)
    run.hear(TrialStopped(**begun))  # it left untold: it waits for another run
    assert run.kept() == [1]


def test_a_lost_worker_deletes_nothing(make: Callable[..., Run]) -> None:
    """The next attempt finds what was saved, and goes on from there."""
    run = make()
    run.begin(0, step=4)
    run.hear(WorkerLost(at=0.0, worker="w", reason="killed"))
    found = Checkpoints(run.folder, 0, 1).restore(pytest.fail)
    assert found is not None
    assert found.step == 4


def test_a_checkpoint_that_comes_late_goes_too(make: Callable[..., Run]) -> None:
    """The news of a save may arrive when the trial has long failed."""
    run = make()
    run.hear(TrialFailed(**run.begin(0), error=TrialError(type="E", message="")))
    run.wait()
    run.save(0, 0)
    run.wait()


def test_promotable_trials_keep_theirs(make: Callable[..., Run]) -> None:
    """Until the end of the run; then only the best at the highest budget remains."""
    run = make(promotes=True)
    for trial, value in enumerate((0.9, 0.5, 0.7)):
        run.finish(trial, value, 1)
    run.finish(2, 0.6, 2)
    assert run.kept() == [0, 1, 2]
    run.hear(SearchExhausted(at=1.0, reason="done"))
    assert run.machine.finish is not None
    run.retention.close()
    assert run.kept() == [2]


def test_an_optimizer_may_say_which_are_promotable(make: Callable[..., Run]) -> None:
    """Trials at the highest budget are not, so only the best of them is kept."""

    class TwoRungs:
        def promotable(self, trial: Trial) -> bool:
            return trial.budget == 1

    run = make(promotes=True, optimizer=TwoRungs())
    run.finish(0, 0.1, 1)
    run.finish(1, 0.2, 2)
    run.finish(2, 0.3, 2)
    run.wait(0, 2)


def test_a_promoted_trial_that_fails_loses_its_checkpoint(make: Callable[..., Run]) -> None:
    """Unless it is still the best of the completed ones."""
    run = make(promotes=True)
    run.finish(0, 0.9, 1)
    run.finish(1, 0.8, 1)
    for trial in (1, 0):
        begun = run.begin(trial, 2, step=None)
        run.hear(TrialFailed(**begun, error=TrialError(type="E", message="")))
    run.wait(0)


def test_an_interrupted_run_keeps_what_another_needs(make: Callable[..., Run]) -> None:
    """The unfinished, the promotable and the best; drafts and replaced ones go."""
    run = make(promotes=True)
    run.finish(0, 0.1, 1)
    run.finish(1, 0.2, 1)
    begun = run.begin(2, 1)
    folder = run.folder / "000002"
    (newest,) = folder.iterdir()
    (folder / "draft-0000-000002").mkdir()
    (folder / str(CheckpointName(0, 0, 0, 0, 0))).mkdir()
    (run.folder / "000009").mkdir()
    run.hear(CancelRequested(at=1.0, grace=0.0))
    run.hear(Tick(at=1.0))
    run.hear(TrialStopped(**begun))
    assert run.machine.finish is not None
    run.retention.close()
    assert run.kept() == [0, 1, 2]
    assert list(folder.iterdir()) == [newest]


def test_nothing_is_left_of_nothing(make: Callable[..., Run]) -> None:
    """A run whose trials saved nothing, or nothing worth keeping, has no folder for it."""
    run = make()
    run.begin(0)
    run.hear(TrialFailed(at=0.0, trial=0, attempt=0, error=TrialError(type="E", message="")))
    run.hear(SearchExhausted(at=1.0, reason="done"))
    run.retention.close()
    assert not run.folder.exists()
    run.retention.close()


def test_what_cannot_be_deleted_is_told(
    make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The run goes on, and the path is in the log of diagnosis."""

    def denied(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    run = make()
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", denied)
        run.hear(TrialFailed(**run.begin(0), error=TrialError(type="E", message="")))
        run.retention.close()
    assert "could not be deleted" in caplog.text
    assert "000000" in caplog.text


def test_the_advisor_is_only_overheard(make: Callable[..., Run]) -> None:
    """Questions, answers and the end pass through."""
    advisor = Advisor()
    heard = make().retention.listen(advisor)
    assert heard.suggest(0, []) is None
    heard.close()
    assert advisor.closed
