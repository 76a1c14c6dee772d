"""One run with real worker processes, and what can go wrong around them."""

from __future__ import annotations

import errno
import os
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from maggy import Searchspace, experiment
from maggy.core.machine import ExperimentMachine
from maggy.engines import direct
from maggy.engines import session as module
from maggy.engines.direct import DirectStaff
from maggy.engines.job import Job
from maggy.engines.server import Server
from maggy.engines.session import Session
from maggy.errors import RunError
from maggy.events import ExperimentFinished, ExperimentStarted, TrialFinished, WorkerLost
from maggy.store.sqlite import SqliteLog
from maggy.trial import Exhausted, Suggestion, TrialStatus
from maggy.wire.messages import Setup
from maggy.worker.injection import Plan
from maggy.worker.payload import dump_payload
from maggy.worker.processes import WorkerProcesses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from maggy.contracts import SearchContext
    from maggy.events import Event
    from maggy.trial import Json, Trial

pytestmark = pytest.mark.integration


class Counting:
    """Suggests x = 0, 1, 2, ..., and may promote the best one once."""

    suggests_inline = True

    def __init__(self, trials: int, *, promote: bool = False) -> None:
        self.trials = trials
        self.promote = promote
        self.told: list[Trial] = []

    def start(self, context: SearchContext) -> None:
        """Nothing to prepare."""

    def ask(self, number: int, pending: Sequence[Trial], rng: object) -> Suggestion | Exhausted:
        if number < self.trials:
            return Suggestion(hparams={"x": float(number)}, budget=2 if self.promote else None)
        if self.promote:
            self.promote = False
            return Suggestion(hparams=self.told[0].hparams, budget=4, continues=self.told[0].id)
        return Exhausted(reason="that is all")

    def tell(self, trial: Trial) -> None:
        self.told.append(trial)


class Office:
    """A staff of real processes, of which the first ones can be made to go wrong.

    Args:
        left: Told who is gone.
        refuse: So many hires fail.
        wrong: So many workers, after those, run ``code`` instead of a worker.
        code: A Python program.
    """

    def __init__(
        self,
        left: Callable[[str, str], None],
        *,
        refuse: float = 0,
        wrong: float = 0,
        code: str = "raise SystemExit(3)",
    ) -> None:
        self.refuse = refuse
        self.wrong = wrong
        self.hired: list[str] = []
        self.fired: list[str] = []
        self.closed = threading.Event()
        self.late = left
        command = [sys.executable, "-c", textwrap.dedent(code)]

        def on_exit(worker: str, pid: int, code: int, how: str) -> None:
            left(worker, how)

        self._real = WorkerProcesses(on_exit)
        self._wrong = WorkerProcesses(on_exit, command=command)

    def hire(self, worker: str, address: tuple[str, int], key: bytes) -> None:
        self.hired.append(worker)
        if self.refuse > 0:
            self.refuse -= 1
            raise OSError(errno.EAGAIN, "no more processes")
        processes = self._wrong if self.wrong > 0 else self._real
        self.wrong -= 1
        host, port = address
        told: dict[str, Json] = {"host": host, "port": port, "key": key.hex(), "worker": worker}
        processes.start(worker, bootstrap=told, env={})

    def fire(self, worker: str) -> None:
        self.fired.append(worker)
        self._real.kill(worker)
        self._wrong.kill(worker)

    def last_words(self, worker: str) -> str:
        return f"the last words of {worker}"

    def close(self) -> None:
        self._real.close()
        self._wrong.close()
        self.closed.set()


class FailingLog:
    """A log whose disk is full from the so-many-th trial's end on."""

    def __init__(self, after: int) -> None:
        self.events: list[Event] = []
        self._left = after

    def append(self, event: Event) -> None:
        self.events.append(event)
        self._left -= isinstance(event, TrialFinished)

    def commit(self) -> None:
        if self._left <= 0:
            msg = "the log cannot be written: database or disk is full."
            raise RunError(msg)

    def read(self, start: int = 0) -> Iterator[Event]:
        return iter(self.events[start:])


class Harness:
    """One session, its parts within reach."""

    def __init__(
        self,
        folder: Path,
        function: Callable[..., object],
        *names: str,
        trials: int = 3,
        workers: int = 1,
        promote: bool = False,
        log: Any = None,
        optimizer: Any = None,
        **office: Any,
    ) -> None:
        self.folder = folder
        self.log = log or SqliteLog.in_memory()
        self.machine = ExperimentMachine(
            direction="max", num_trials=trials, promotes=promote, first=3
        )
        self.office: Office
        self.news: list[Event] = []
        checkpoints = folder / "checkpoints"
        job = Job(
            machine=self.machine,
            log=self.log,
            started=ExperimentStarted(at=0.0, config={"direction": "max"}),
            optimizer=optimizer or Counting(trials, promote=promote),
            space=Searchspace(x=("DOUBLE", [0.0, 100.0])),
            seed=1,
            plan=Plan(names=names),
            optimization_key="metric",
            hb_interval=1.0,
            num_workers=workers,
            trial_logs=folder / "trials",
            checkpoints=checkpoints,
        )
        setup = Setup(
            sys_path=sys.path,
            cwd=str(folder),
            log_dir=str(folder / "trials"),
            hb_interval=1.0,
            plan=job.plan.to_json(),
            checkpoint_dir=str(checkpoints),
        )

        def open_office(left: Callable[[str, str], None]) -> Office:
            self.office = Office(left, **office)
            return self.office

        self.open_office: Callable[[Callable[[str, str], None]], Office] = open_office
        payload = dump_payload(function)
        self.session = Session(
            job,
            lambda owner: DirectStaff(owner, setup, payload, lambda left: self.open_office(left)),  # noqa: PLW0108 - as it is by then,
        )

    def run(self, feed: Callable[[Sequence[Event]], None] | None = None) -> None:
        """To the end; then nobody is left."""
        try:
            self.session.run(feed or self.news.extend)
        finally:
            assert not hasattr(self, "office") or self.office.closed.is_set()

    def values(self) -> list[float | None]:
        """What the completed trials came to."""
        return [
            None if t.loss is None else -t.loss
            for t in self.machine.trials
            if t.status is TrialStatus.COMPLETED
        ]

    @property
    def outcome(self) -> str:
        """How the run ended."""
        assert self.machine.finish is not None
        return self.machine.finish.outcome

    def close(self) -> None:
        """Nothing is left."""
        if isinstance(self.log, SqliteLog):
            self.log.close()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Harness]]:
    """Makes sessions, and closes their logs."""
    made: list[Harness] = []

    def make(function: Callable[..., object], *names: str, **options: Any) -> Harness:
        made.append(Harness(tmp_path, function, *names, **options))
        return made[-1]

    yield make
    for harness in made:
        harness.close()


def identity(x: float) -> float:
    """The plainest training function."""
    return x


def endless(reporter: Any) -> None:
    """Never returns, and never listens."""
    import time

    reporter.broadcast(0.0)
    while True:
        time.sleep(600)


def patient(reporter: Any) -> None:
    """Trains until it is told to stop."""
    while True:
        reporter.broadcast(0.5)


def started(harness: Harness, trials: int = 1) -> None:
    """Wait until so many trials have reported."""
    deadline = time.monotonic() + 20
    while sum(bool(t.steps) for t in harness.machine.trials) < trials:
        assert time.monotonic() < deadline, "no trial has started"
        time.sleep(0.002)


def when(condition: Callable[[], object], call: Callable[[], None]) -> threading.Thread:
    """Call this from another thread as soon as the condition holds."""

    def wait() -> None:
        deadline = time.monotonic() + 20
        while not condition():
            if time.monotonic() > deadline:
                return
            time.sleep(0.002)
        call()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


# Ctrl-C


def test_a_cancel_before_the_start_ends_the_run_at_once(make: Callable[..., Harness]) -> None:
    """A Ctrl-C between the handler's installation and the driver's start waits for nobody."""
    harness = make(identity, "x")
    harness.session.cancel()
    harness.run()
    assert harness.outcome == "interrupted"
    events = list(harness.log.read())
    assert isinstance(events[0], ExperimentStarted)
    assert isinstance(events[-1], ExperimentFinished)
    assert len(harness.office.hired) <= 1


def test_a_cancel_while_workers_start_does_not_wait_for_them(
    make: Callable[..., Harness],
) -> None:
    """They have nothing to bring to an end, so they are killed."""
    code = "import time; time.sleep(600)"
    harness = make(identity, "x", workers=3, wrong=3, code=code)
    began = time.monotonic()

    def feed(news: Sequence[Event]) -> None:
        if len(harness.office.hired) == 3 and not harness.machine.ending:
            harness.session.cancel()

    harness.run(feed)
    assert harness.outcome == "interrupted"
    assert time.monotonic() - began < module._QUIT_GRACE


def test_no_worker_is_replaced_while_the_run_ends(make: Callable[..., Harness]) -> None:
    """Trials that do not listen are killed after the grace, and nobody takes their place."""
    harness = make(endless, "reporter", workers=2)
    thread = when(lambda: sum(bool(t.steps) for t in harness.machine.trials) == 2,
                  harness.session.cancel)  # fmt: skip
    harness.run()
    thread.join()
    assert harness.outcome == "interrupted"
    assert sorted(harness.office.fired) == sorted(harness.office.hired) == ["w0", "w1"]


def test_a_second_cancel_kills_at_once(make: Callable[..., Harness]) -> None:
    """Without the second of grace."""
    harness = make(endless, "reporter")
    ended: list[float] = []

    def twice() -> None:
        harness.session.cancel()
        harness.session.cancel()
        ended.append(time.monotonic())

    thread = when(lambda: any(t.steps for t in harness.machine.trials), twice)
    harness.run()
    thread.join()
    assert harness.outcome == "interrupted"
    assert time.monotonic() - ended[0] < module._CANCEL_GRACE


def test_an_optimizer_that_hangs_does_not_keep_a_cancelled_run(
    make: Callable[..., Harness],
) -> None:
    """Its thread is left behind; the run ends at the first Ctrl-C."""
    entered, release = threading.Event(), threading.Event()

    class Hangs(Counting):
        suggests_inline = False

        def ask(self, number: int, pending: Any, rng: object) -> Suggestion | Exhausted:
            if number:
                entered.set()
                release.wait(60)
            return super().ask(number, pending, rng)

    harness = make(identity, "x", optimizer=Hangs(3))
    thread = when(entered.is_set, harness.session.cancel)
    began = time.monotonic()
    harness.run()
    release.set()
    thread.join()
    assert harness.outcome == "interrupted"
    assert time.monotonic() - began < 30


def test_a_cancel_does_not_wait_for_workers_that_leave_slowly(
    make: Callable[..., Harness], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All trials have ended, and an exit handler of user code hangs."""
    monkeypatch.setattr(module, "_QUIT_GRACE", 60.0)

    def lingering(x: float) -> float:
        import atexit
        import time

        atexit.register(time.sleep, 600)
        return x

    harness = make(lingering, "x", trials=1)
    thread = when(lambda: harness.machine.finish is not None, harness.session.cancel)
    began = time.monotonic()
    harness.run()
    thread.join()
    assert harness.outcome == "completed"
    assert time.monotonic() - began < 30


def test_what_comes_after_the_end_is_nothing(make: Callable[..., Harness]) -> None:
    """A Ctrl-C, or a word of the staff, when the driver's loop is closed."""
    harness = make(identity, "x")
    harness.run()
    before = list(harness.log.read())
    harness.session.cancel()
    harness.office.late("w0", "exited with status 0")
    assert list(harness.log.read()) == before
    assert harness.values() == [0.0, 1.0, 2.0]


# Workers that do not come, or go


def test_a_worker_that_cannot_be_started_is_tried_again(make: Callable[..., Harness]) -> None:
    """Memory or processes may be short for a moment only."""
    harness = make(identity, "x", refuse=2)
    harness.run()
    assert (harness.outcome, harness.office.hired) == ("completed", ["w0", "w1", "w2"])


def test_when_no_worker_can_be_started_the_run_ends_and_says_why(
    make: Callable[..., Harness],
) -> None:
    """As a failed run, which has a result, and not as an exception from its middle."""
    harness = make(identity, "x", workers=2, refuse=float("inf"))
    harness.run()
    assert harness.outcome == "failed"
    assert harness.machine.failure is not None
    text = str(harness.machine.failure.error)
    assert "3 workers died before they were ready: it could not be started: " in text
    assert "no more processes" in text


@pytest.mark.parametrize("dead", [1, 2])
def test_early_deaths_are_replaced(make: Callable[..., Harness], dead: int) -> None:
    """With growing pauses; the run goes on as if nothing had been."""
    harness = make(identity, "x", wrong=dead)
    harness.run()
    assert (harness.outcome, len(harness.office.hired)) == ("completed", dead + 1)
    assert not [e for e in harness.news if isinstance(e, WorkerLost)]


def test_three_early_deaths_in_a_row_end_the_run(make: Callable[..., Harness]) -> None:
    """With what the last one said."""
    harness = make(identity, "x", wrong=3)
    harness.run()
    assert harness.outcome == "failed"
    assert harness.machine.failure is not None
    error = harness.machine.failure.error
    assert "3 workers died before they were ready: exited with status 3" in error.message
    assert error.output == "the last words of w2"


def test_early_deaths_do_not_end_a_run_that_has_workers(
    make: Callable[..., Harness], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One worker is enough to go on; the others are tried again and again."""
    monkeypatch.setattr(module, "_BACK_OFF", 0.001)
    monkeypatch.setattr(module, "_LONGEST_BACK_OFF", 0.01)

    class Unlucky(Office):
        """Only the first worker lives."""

        def hire(self, worker: str, address: tuple[str, int], key: bytes) -> None:
            self.wrong = int(worker != "w0")
            super().hire(worker, address, key)

    def slow(x: float) -> float:
        import time

        time.sleep(0.2)
        return x

    harness = make(slow, "x", workers=2, trials=8)
    office: list[Office] = []

    def staff(left: Callable[[str, str], None]) -> Office:
        office.append(Unlucky(left))
        harness.office = office[0]
        return office[0]

    harness.open_office = staff
    harness.run()
    assert harness.outcome == "completed"
    assert len(office[0].hired) > 4
    assert len(harness.values()) == 8


HANGS_UP = """
    import json, sys, time
    from maggy.wire.channel import connect
    from maggy.wire.handshake import introduce

    told = json.loads(sys.stdin.readline())
    channel = connect(told["host"], told["port"], bytes.fromhex(told["key"]),
                      introduce(told["worker"]))
    channel.receive()
    channel.close()
    time.sleep(600)
"""


class LoadedTwice:
    """A training function that the second worker, and no other, fails to load."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, x: float) -> float:
        return x

    def __reduce__(self) -> Any:
        def load(folder: str) -> Any:
            import tempfile
            import time
            from pathlib import Path

            number = len(list(Path(folder).iterdir()))
            tempfile.mkstemp(dir=folder)
            if number == 1:
                msg = "there is no numpy on this machine"
                raise ImportError(msg)

            def train(x: float) -> float:
                deadline = time.monotonic() + 30
                while len(list(Path(folder).iterdir())) < 3 and time.monotonic() < deadline:
                    time.sleep(0.01)
                return x

            return train

        return load, (self.folder,)


def test_a_worker_that_cannot_be_set_up_does_not_end_a_run_that_works(
    make: Callable[..., Harness], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Another worker is ready, so it is not the function; what was wrong is logged."""
    notes = tmp_path / "notes"
    notes.mkdir()
    harness = make(LoadedTwice(str(notes)), "x", workers=2)
    real = harness.open_office

    def open_office(left: Callable[[str, str], None]) -> Office:
        office = real(left)
        hire = office.hire

        def one_by_one(worker: str, address: tuple[str, int], key: bytes) -> None:
            if worker != "w0" and not harness.session._anyone_ready():
                raise OSError(errno.EAGAIN, "not yet")
            hire(worker, address, key)

        office.hire = one_by_one  # type: ignore[method-assign]
        return office

    harness.open_office = open_office
    harness.run()
    assert harness.outcome == "completed"
    assert sorted(value for value in harness.values() if value is not None) == [0.0, 1.0, 2.0]
    assert "there is no numpy on this machine" in caplog.text


def test_a_process_without_a_connection_is_seen_off(
    make: Callable[..., Harness], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose connection ended but whose process stays is ended and replaced."""
    monkeypatch.setattr(direct, "_LAST_WORDS", 0.05)
    harness = make(identity, "x", wrong=1, code=HANGS_UP)
    harness.run()
    assert harness.outcome == "completed"
    assert (harness.office.fired, harness.office.hired) == (["w0"], ["w0", "w1"])


COMES_TWICE = """
    import json, sys
    from maggy.wire.channel import connect
    from maggy.wire.handshake import introduce
    from maggy.wire.messages import Ready

    told = json.loads(sys.stdin.readline())
    reach = told["host"], told["port"], bytes.fromhex(told["key"]), introduce(told["worker"])
    first = connect(*reach)
    first.receive()
    first.send(Ready())
    assert type(first.receive()[0]).__name__ == "Run"
    second = connect(*reach)
    assert type(second.receive()[0]).__name__ == "Refused"
    sys.exit(7)
"""


def test_a_worker_that_was_ready_does_not_come_again(make: Callable[..., Harness]) -> None:
    """A second connection under a name in use is refused; the first is lost, and replaced."""
    harness = make(identity, "x", wrong=1, code=COMES_TWICE)
    harness.run()
    assert harness.outcome == "completed"
    lost = [event for event in harness.news if isinstance(event, WorkerLost)]
    assert [event.reason for event in lost] == ["exited with status 7"]


def test_a_connection_that_outlives_its_worker_is_hung_up(
    make: Callable[..., Harness], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A child that user code has forked off may hold the socket of a worker that is dead."""
    monkeypatch.setattr(direct, "_LAST_WORDS", 0.05)

    def forks(x: float) -> float:
        import os
        import signal
        import time
        from pathlib import Path

        heir = Path("heir")
        if heir.exists():
            return x
        child = os.fork()
        if not child:
            os.setsid()
            if os.fork():
                os._exit(0)
            Path("heir.tmp").write_text(str(os.getpid()))
            Path("heir.tmp").rename(heir)
            time.sleep(60)
            os._exit(0)
        while not heir.exists():
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGKILL)
        return x

    harness = make(forks, "x", trials=1)
    try:
        harness.run()
        assert harness.values() == [0.0]
        assert len([event for event in harness.news if isinstance(event, WorkerLost)]) == 1
    finally:
        os.kill(int((tmp_path / "heir").read_text()), 9)


def test_the_last_words_of_a_dying_worker_count(make: Callable[..., Harness]) -> None:
    """A report sent right before the process died is in the log, before its loss."""

    def dies(reporter: Any, x: float) -> float:
        import os
        import time
        from pathlib import Path

        marker = Path(f"died-{x}")
        if not marker.exists():
            marker.touch()
            for step in range(50):
                reporter.broadcast(x, step=step)
            time.sleep(0.05)  # the sending thread has what it takes to send
            os._exit(1)
        return x

    harness = make(dies, "reporter", "x", trials=2)
    harness.run()
    assert harness.values() == [0.0, 1.0]
    for trial in harness.machine.trials:
        assert (len(trial.steps), trial.lost) == (50, 1)


# What breaks in the driver


def test_an_error_while_the_news_are_shown_leaves_no_worker(make: Callable[..., Harness]) -> None:
    """It comes out of ``run`` as it is."""

    def broken(news: Sequence[Event]) -> None:
        if news:
            msg = "the display is broken"
            raise ZeroDivisionError(msg)

    with pytest.raises(ZeroDivisionError, match="the display is broken"):
        make(patient, "reporter").run(broken)


def test_an_error_of_the_machine_ends_the_run(
    make: Callable[..., Harness], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raised in a callback of the server, it is raised by ``run`` once, and nothing follows."""
    harness = make(identity, "x")
    handle = harness.machine.handle

    def breaking(event: Event) -> Any:
        if isinstance(event, TrialFinished):
            msg = "no such move"
            raise ArithmeticError(msg)  # noqa: TRY004 - any error
        return handle(event)

    monkeypatch.setattr(harness.machine, "handle", breaking)
    with pytest.raises(ArithmeticError, match="no such move"):
        harness.run()
    assert harness.machine.finish is None


def test_nothing_is_done_that_the_log_does_not_hold(make: Callable[..., Harness]) -> None:
    """When the log fails in mid-run no further trial is begun, and its error is the run's."""
    log = FailingLog(after=2)

    def counted(x: float) -> float:
        from pathlib import Path

        Path(f"ran-{x}").touch()
        return x

    harness = make(counted, "x", trials=50, log=log)
    with pytest.raises(RunError, match="disk is full"):
        harness.run()
    assert sorted(path.name for path in harness.folder.glob("ran-*")) == ["ran-0.0", "ran-1.0"]


def test_the_first_error_is_raised_and_the_next_one_logged(
    make: Callable[..., Harness],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What fails while the run is cleared up neither hides the cause nor gets lost."""
    close = Office.close

    def failing(office: Office) -> None:
        close(office)
        raise OSError(errno.EIO, "no such luck")

    monkeypatch.setattr(Office, "close", failing)
    harness = make(identity, "x", log=FailingLog(after=1))
    with pytest.raises(RunError, match="database or disk is full"):
        harness.run()
    assert "came another one" in caplog.text
    assert "no such luck" in caplog.text


def test_a_server_that_cannot_listen_leaves_nothing(
    make: Callable[..., Harness], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its error is raised, and the staff is dismissed."""

    async def refuse(*_: object, **__: object) -> tuple[str, int]:
        raise OSError(errno.EADDRNOTAVAIL, "no loopback here")

    monkeypatch.setattr(Server, "start", refuse)
    with pytest.raises(OSError, match="no loopback here"):
        make(identity, "x").run()


def test_without_a_thread_nothing_is_left(
    make: Callable[..., Harness], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that may have no more threads gets that error, and no staff stays behind."""
    start = threading.Thread.start

    def refuse(self: threading.Thread) -> None:
        if self.name == "maggy-driver":
            msg = "can't start new thread"
            raise RuntimeError(msg)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        make(identity, "x").run()


DISK_FULL = """
import resource, signal, sys
from maggy import OptimizationConfig, Searchspace, experiment

def train(x, reporter):
    for step in range(1000):
        reporter.broadcast(x, step=step)
    return x

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))
space = Searchspace(x=("DOUBLE", [0.0, 1.0]))
config = OptimizationConfig(num_trials=1000, searchspace=space, folder="runs", quiet=True,
                            num_workers=2, optimizer="randomsearch", es_policy="none")
try:
    experiment.lagom(train, config)
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_full_disk_ends_the_run_and_keeps_what_was_committed(tmp_path: Path) -> None:
    """The log's own error, no worker left, and a log that can be opened."""
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", DISK_FULL],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith("RunError"), done.stdout + done.stderr
    (database,) = tmp_path.glob("runs/*/*/run.sqlite")
    result = experiment.load(database)
    assert result.outcome == "killed"
    assert result["num_trials"] > 0


# Checkpoints


def test_a_promoted_trial_goes_on_from_its_checkpoint(make: Callable[..., Harness]) -> None:
    """The same trial, its next attempt, a larger budget: one mechanism for all."""

    def trains(x: float, budget: int, reporter: Any) -> float:
        found = reporter.restore()
        first = 0 if found is None else found.step + 1
        for epoch in range(first, budget):
            reporter.broadcast(x + epoch)
            reporter.save(b"%d" % epoch, epoch)
        return float(first)

    harness = make(trains, "x", "budget", "reporter", trials=1, promote=True)
    harness.run()
    (trial,) = harness.machine.trials
    assert harness.values() == [2.0]
    assert (trial.attempt, trial.steps) == (1, [0, 1, 2, 3])
    (content,) = harness.folder.glob("checkpoints/000000/*/data")
    assert content.read_bytes() == b"3"
