"""The worker's loop, against a driver that is played by the test."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import pytest

from maggy.errors import EarlyStopException, WireError
from maggy.wire.messages import (
    Failed,
    Finished,
    Heartbeat,
    Logged,
    Quit,
    Ready,
    Refused,
    Report,
    Run,
    Saved,
    Setup,
    SetupFailed,
    Stop,
    Stopped,
    encode,
)
from maggy.worker import client, supervisor
from maggy.worker.client import kill_group, serve
from maggy.worker.datasets import DataFile
from maggy.worker.injection import Plan
from maggy.worker.payload import dump_payload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from maggy.wire.messages import FromWorker, ToWorker


class Driver:
    """The driver's side of a connection; ``answer`` reacts to what the worker sends."""

    def __init__(self) -> None:
        self.sent: list[FromWorker] = []
        self.inbox: SimpleQueue[tuple[ToWorker, bytes | None] | Exception | None] = SimpleQueue()
        self.trials = 0
        self.answer: Callable[[FromWorker], None] = self.run_trials

    def send(self, *messages: FromWorker) -> None:
        for message in messages:
            encode(message)
            self.sent.append(message)
            self.answer(message)

    def receive(self) -> tuple[ToWorker, bytes | None] | None:
        message = self.inbox.get(timeout=20)
        if isinstance(message, Exception):
            raise message
        return message

    def say(self, message: ToWorker, blob: bytes | None = None) -> None:
        """Send something to the worker."""
        self.inbox.put((message, blob))

    def run_trials(self, message: FromWorker) -> None:
        """Hand out trials one by one, then ``Quit``."""
        if isinstance(message, Ready | Finished | Failed | Stopped):
            if self.trials:
                self.trials -= 1
                self.say(run_of(self.outcomes_seen()))
            else:
                self.say(Quit())

    def outcomes_seen(self) -> int:
        """How many trials have ended."""
        return len(self.outcomes())

    def outcomes(self) -> list[FromWorker]:
        """How the trials ended."""
        return [m for m in self.sent if isinstance(m, Finished | Failed | Stopped)]


def run_of(trial: int, attempt: int = 0) -> Run:
    """The order to run a trial."""
    return Run(trial=trial, attempt=attempt, hparams={"x": 0.5}, budget=None, seed=trial)


def never() -> None:
    """The driver must not be lost in this test."""
    pytest.fail("the driver was lost")


@pytest.fixture(autouse=True)
def _this_process_as_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a worker does to its process is undone after the test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Callable[..., Driver]]:
    """Runs a worker until it ends, and returns the driver that it worked for."""

    def work(
        function: Callable[..., object],
        *names: str,
        trials: int = 1,
        driver: Driver | None = None,
        data: DataFile | None = None,
        **options: Any,
    ) -> Driver:
        driver = driver or Driver()
        driver.trials = trials
        provided = tuple(name for name in names if name in ("train_set", "test_set"))
        setup: dict[str, Any] = {
            "sys_path": [],
            "cwd": str(tmp_path),
            "log_dir": str(tmp_path / "trials"),
            "hb_interval": 1000.0,
            "plan": Plan(names=names, provided=provided).to_json(),
        }
        driver.inbox.put((Setup(**(setup | options)), dump_payload(function)))
        serve(driver, data_fd=None if data is None else os.dup(data.fd), lost=never)
        driver.say(Quit())  # lets the reading thread go if the worker ended by itself
        return driver

    yield work
    for thread in threading.enumerate():
        if thread.name.startswith("maggy-"):
            thread.join(10)
            assert not thread.is_alive()


def test_trials_are_run_one_after_the_other(work: Callable[..., Driver]) -> None:
    """The worker says that it is ready, then answers each trial with its outcome."""
    driver = work(lambda hparams, seed: hparams["x"] + seed, "hparams", "seed", trials=3)
    assert driver.sent == [
        Ready(),
        *(Finished(trial=i, attempt=0, value=0.5 + i, info=None) for i in range(3)),
    ]


def test_reports_and_texts_come_before_the_outcome(work: Callable[..., Driver]) -> None:
    """What was broadcast and logged is sent in order, and before the trial's end."""

    def function(reporter: Any) -> None:
        reporter.broadcast(0.25, loss=1)
        reporter.log("half way")
        reporter.broadcast(0.5)

    driver = work(function, "reporter")
    assert [m for m in driver.sent if not isinstance(m, Report)] == [
        Ready(),
        Logged(trial=0, attempt=0, text="half way"),
        Finished(trial=0, attempt=0, value=0.5, info=None),
    ]
    points = [point for m in driver.sent if isinstance(m, Report) for point in m.points]
    assert points == [(0, 0.25, {"loss": 1.0}), (1, 0.5, None)]


def test_a_failed_trial_brings_its_last_lines(work: Callable[..., Driver], tmp_path: Path) -> None:
    """A failure holds traceback and output, and the next trial runs as if nothing happened."""

    def function(seed: int) -> float:
        sys.stdout.write(f"before {seed}\n")
        if seed == 0:
            msg = "no gradient"
            raise ValueError(msg)
        return 1.0

    driver = work(function, "seed", trials=2)
    failed, finished = driver.outcomes()
    assert isinstance(failed, Failed)
    assert (failed.error.type, failed.error.output) == ("ValueError", "before 0")
    assert "in function" in failed.error.traceback
    assert "client.py" not in failed.error.traceback.replace("test_client.py", "")
    assert isinstance(finished, Finished)
    assert (tmp_path / "trials" / "000001.log").read_text() == "before 1\n"


def test_the_optimization_key_is_the_runs(work: Callable[..., Driver]) -> None:
    """The metric in a returned dict is found under the configured name."""
    driver = work(lambda: {"auc": 0.9, "n": 3}, optimization_key="auc")
    assert driver.outcomes() == [Finished(trial=0, attempt=0, value=0.9, info={"n": 3})]


def test_a_stop_reaches_exactly_its_attempt(work: Callable[..., Driver]) -> None:
    """Stops of other trials and attempts change nothing; the right one ends the trial."""

    class Stopping(Driver):
        def run_trials(self, message: FromWorker) -> None:
            if isinstance(message, Report) and message.points[0][0] == 0:
                self.say(Stop(trial=0, attempt=1, reason="another attempt"))
                self.say(Stop(trial=9, attempt=0, reason="another trial"))
                self.say(Stop(trial=0, attempt=0, reason="hopeless"))
            super().run_trials(message)

    def function(reporter: Any) -> float:
        import time

        import pytest

        from maggy.errors import EarlyStopException

        def go_on() -> None:
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                reporter.broadcast(0.5)

        with pytest.raises(EarlyStopException, match="hopeless"):
            go_on()
        reporter.broadcast(0.5)
        return 1.0

    driver = work(function, "reporter", driver=Stopping())
    assert driver.outcomes() == [Stopped(trial=0, attempt=0)]


def test_quit_stops_the_running_trial(work: Callable[..., Driver]) -> None:
    """A worker that is told to quit in the middle of a trial leaves it at its next broadcast."""

    class Quitting(Driver):
        def run_trials(self, message: FromWorker) -> None:
            if isinstance(message, Report):
                self.say(Quit())
            elif isinstance(message, Ready):
                super().run_trials(message)

    def function(reporter: Any) -> None:
        while True:
            reporter.broadcast(0.5)

    driver = work(function, "reporter", driver=Quitting())
    assert driver.outcomes() == [Stopped(trial=0, attempt=0)]


def test_nothing_leaks_from_trial_to_trial(work: Callable[..., Driver], tmp_path: Path) -> None:
    """Seeds, environment, folder, data and warning filters are each trial's own."""
    data = DataFile.publish({"train_set": [0]})

    def function(train_set: list[int], seed: int) -> float:
        import random

        assert train_set == [0]
        assert "MAGGY_LEAK" not in os.environ
        assert Path.cwd() == tmp_path
        expected = random.Random(seed).random()
        train_set.append(1)
        os.environ["MAGGY_LEAK"] = "1"
        os.chdir("/")
        warnings.filterwarnings("ignore", message=f"{seed}")
        assert random.random() == expected
        return float(len(warnings.filters))

    driver = work(function, "train_set", "seed", trials=3, data=data)
    data.close()
    filters = [m.value if isinstance(m, Finished) else m for m in driver.outcomes()]
    assert filters == [filters[0]] * 3
    assert isinstance(filters[0], float)


def test_a_thread_left_behind_is_not_heard(
    work: Callable[..., Driver], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user's thread that goes on broadcasting gets an early stop and reaches nobody."""
    left: list[BaseException] = []
    over = threading.Event()
    heard = threading.Event()

    def linger(reporter: Any) -> None:
        over.wait(10)
        try:
            reporter.broadcast(0.9)
        except EarlyStopException as stop:
            left.append(stop)
        heard.set()

    class Watching(Driver):
        def run_trials(self, message: FromWorker) -> None:
            if isinstance(message, Finished):
                over.set()
                assert heard.wait(10)
            super().run_trials(message)

    def function(reporter: Any) -> float:
        threading.Thread(target=linger, args=(reporter,)).start()
        return 0.5

    monkeypatch.setattr(client, "load_payload", lambda *_: ByReference(function))
    driver = work(int, "reporter", driver=Watching())
    assert not [m for m in driver.sent if isinstance(m, Report)]
    assert str(left[0]) == "this trial is over"


class ByReference:
    """A payload that was never pickled, so that the function shares the test's objects."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.train_fn = function

    def provided(self, names: object = None) -> dict[str, object]:
        """Nothing."""
        return {}

    def publish(self, namespace: dict[str, Any]) -> None:
        """Publish nothing."""


def test_a_function_that_cannot_be_loaded_is_reported(work: Callable[..., Driver]) -> None:
    """The driver hears why, with a traceback, and the worker ends."""

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (exec, ("raise ImportError('no module named gadget')",))

    driver = Driver()
    bomb = Bomb()
    work(lambda: bomb, driver=driver)
    (failed,) = driver.sent
    assert isinstance(failed, SetupFailed)
    assert (failed.error.type, failed.error.message) == ("ImportError", "no module named gadget")
    assert "worker/client.py" not in failed.error.traceback


def test_a_silent_trial_is_bridged_by_heartbeats(
    work: Callable[..., Driver], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a trial runs and says nothing the driver hears that the worker lives."""
    beats = threading.Semaphore(0)

    class Counting(Driver):
        def run_trials(self, message: FromWorker) -> None:
            if isinstance(message, Heartbeat):
                beats.release()
            super().run_trials(message)

    def function() -> float:
        return float(all(beats.acquire(timeout=10) for _ in range(3)))

    monkeypatch.setattr(client, "load_payload", lambda *_: ByReference(function))
    driver = work(int, driver=Counting(), hb_interval=0.01)
    assert driver.outcomes() == [Finished(trial=0, attempt=0, value=1.0, info=None)]


@pytest.mark.parametrize(
    "end",
    [None, WireError("nonsense"), (Refused(reason="too late"), None)],
    ids=["gone", "nonsense", "refused-late"],
)
def test_a_lost_driver_ends_the_worker_at_once(
    end: tuple[ToWorker, None] | Exception | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the connection ends, or cannot be understood, ``lost`` is called."""
    losses: list[str] = []
    queue: SimpleQueue[None] = SimpleQueue()
    monkeypatch.setattr(client, "SimpleQueue", lambda: queue)
    driver = Driver()
    driver.answer = lambda _: driver.inbox.put(end)

    def lose() -> None:
        losses.append(threading.current_thread().name)
        queue.put(None)  # so that the main thread, which the real one kills, ends as well

    setup = Setup(
        sys_path=[],
        cwd=str(tmp_path),
        log_dir=str(tmp_path),
        hb_interval=1000.0,
        plan=Plan(names=()).to_json(),
    )
    driver.inbox.put((setup, dump_payload(lambda: 1.0)))
    serve(driver, lost=lose)
    assert losses == ["maggy-reader"]


def test_a_driver_that_is_gone_is_noticed_when_an_outcome_is_sent(
    work: Callable[..., Driver], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A send that fails on the main thread ends the worker too."""
    losses: list[str] = []

    class Gone(Driver):
        def send(self, *messages: FromWorker) -> None:
            raise BrokenPipeError

    monkeypatch.setitem(globals(), "never", lambda: losses.append(threading.current_thread().name))
    work(lambda: 1.0, driver=Gone())
    assert losses == ["MainThread"]


@pytest.mark.parametrize(
    ("first", "says"),
    [
        (None, "gone before"),
        ((Refused(reason="another Python."), None), "refused this worker: another Python."),
        ((Quit(), None), "must begin with `Setup`, but sent `Quit`"),
    ],
    ids=["gone", "refused", "quit"],
)
def test_a_worker_that_is_not_set_up_says_why(
    first: tuple[ToWorker, None] | None, says: str
) -> None:
    """Without ``Setup`` there is nothing to do but to say what came instead."""
    driver = Driver()
    driver.inbox.put(first)
    with pytest.raises(WireError, match=says):
        serve(driver, lost=never)


def test_an_outcome_that_cannot_be_sent_fails_its_trial(
    work: Callable[..., Driver], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker lives on, and the trial says what was wrong."""

    class Narrow(Driver):
        def send(self, *messages: FromWorker) -> None:
            if any(isinstance(m, Finished) and m.trial == 0 for m in messages):
                msg = "a message may have at most 16 bytes, but Finished has 17."
                raise ValueError(msg)
            super().send(*messages)

    driver = work(lambda hparams: hparams["x"], "hparams", trials=2, driver=Narrow())
    failed, finished = driver.outcomes()
    assert isinstance(failed, Failed)
    assert (failed.trial, failed.attempt, failed.error.type) == (0, 0, "OutcomeError")
    assert "at most 16 bytes, but Finished has 17. Return the metric" in failed.error.message
    assert finished == Finished(trial=1, attempt=0, value=0.5, info=None)


def test_checkpoints_are_kept_where_the_driver_says(
    work: Callable[..., Driver], tmp_path: Path
) -> None:
    """A second attempt finds what the first one saved, and the driver hears of the save."""

    def function(reporter: Any) -> float:
        found = reporter.restore()
        if found is None:
            reporter.save(b"half", step=3)
            return 0.0
        return float(found.step)

    class Again(Driver):
        def outcomes_seen(self) -> int:
            return 0

        def say(self, message: ToWorker, blob: bytes | None = None) -> None:
            if isinstance(message, Run):
                message = run_of(0, attempt=len(self.outcomes()))
            super().say(message, blob)

    folder = str(tmp_path / "kept")
    driver = work(function, "reporter", trials=2, driver=Again(), checkpoint_dir=folder)
    assert [m for m in driver.sent if isinstance(m, Saved)] == [
        Saved(trial=0, attempt=0, step=3, size=4)
    ]
    values = [m.value for m in driver.outcomes() if isinstance(m, Finished)]
    assert values == [0.0, 3.0]


def test_only_the_leader_of_a_group_kills_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker started by hand must not take the shell's other processes with it."""
    kills: list[tuple[int, int]] = []
    orphaned: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: kills.append((pid, number)))
    monkeypatch.setattr(supervisor, "kill_descendants", orphaned.append)
    monkeypatch.setattr(os, "getpgrp", os.getpid)
    kill_group()
    monkeypatch.setattr(os, "getpgrp", lambda: 1)
    kill_group()
    assert kills == [(0, signal.SIGKILL), (os.getpid(), signal.SIGKILL)]
    assert orphaned == [os.getpid()] * 2
