"""Searches whose trials save and restore, on real workers and in this process."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from maggy import OptimizationConfig, Reporter, Searchspace, experiment
from maggy.engines import local
from maggy.errors import ConfigError, ExperimentFailed
from maggy.events import CheckpointSaved
from maggy.store.folder import find_runs
from maggy.store.sqlite import SqliteLog

pytestmark = pytest.mark.integration

ENGINES = ("local", "inline")


def config(folder: Path, **options: Any) -> OptimizationConfig:
    """A small, quiet, seeded search."""
    defaults: dict[str, Any] = {
        "num_trials": 4,
        "searchspace": Searchspace(x=("DOUBLE", [0.0, 1.0])),
        "seed": 3,
        "es_policy": "none",
        "folder": folder,
        "num_workers": 2,
        "optimizer": "randomsearch",
        "quiet": True,
    }
    return OptimizationConfig(**{**defaults, **options})


def saves(x: float, reporter: Reporter) -> float:
    """Saves after each of three epochs."""
    for epoch in range(3):
        reporter.broadcast(x, step=epoch)
        reporter.save(f"{x} {epoch}".encode(), epoch)
    return x


@pytest.mark.parametrize("engine", ENGINES)
def test_what_remains_is_the_best_trials_last(engine: str, tmp_path: Path) -> None:
    """Path, step and size are in the result and in the loaded run; each save is in the log."""
    result = experiment.lagom(saves, config(tmp_path, engine=engine))
    best = result.trials[result["best_id"]]
    assert best.checkpoint is not None
    content = f"{best.value} 2".encode()
    assert best.checkpoint.path.read_bytes() == content
    assert (best.checkpoint.step, best.checkpoint.size) == (2, len(content))
    assert [t.id for t in result.trials if t.checkpoint is not None] == [best.id]
    assert result.path is not None
    assert experiment.load(result.path).trials == result.trials
    with SqliteLog.open(result.path / "run.sqlite") as log:
        told = [event for event in log.read() if isinstance(event, CheckpointSaved)]
    assert sorted((event.trial, event.step) for event in told) == [
        (trial, step) for trial in range(4) for step in range(3)
    ]


def test_a_search_that_saves_nothing_has_no_folder_for_it(tmp_path: Path) -> None:
    """And its trials have no checkpoint."""
    result = experiment.lagom(lambda x: x, config(tmp_path, num_trials=2))
    assert result.path is not None
    assert not (result.path / "checkpoints").exists()
    assert {trial.checkpoint for trial in result.trials} == {None}


def test_a_trial_whose_worker_was_killed_goes_on_from_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same hyperparameters; its curve is whole and no epoch is trained twice."""

    def trains(x: float, reporter: Reporter) -> float:
        found = reporter.restore()
        begin, total = (0, 0.0) if found is None else (found.step + 1, float(found.bytes))
        for epoch in range(begin, 6):
            with Path(f"trained-{x}").open("a") as diary:
                diary.write(f"{epoch} ")
            total += x
            reporter.broadcast(total)
            reporter.save(str(total).encode(), epoch)
            if (begin, epoch) == (0, 1):
                os.kill(os.getpid(), signal.SIGKILL)
        return total

    monkeypatch.chdir(tmp_path)
    result = experiment.lagom(trains, config(tmp_path, num_trials=2))
    for trial in result.trials:
        assert (trial.status, trial.runs) == ("completed", 2)
        assert trial.curve.steps == list(range(6))
        assert Path(f"trained-{trial.hparams['x']}").read_text() == "0 1 2 3 4 5 "


def test_a_kill_in_the_middle_of_a_save_damages_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a random moment of saving 1 MB again and again: what is restored is whole."""

    def saves_on(x: float, reporter: Reporter) -> float:
        found = reporter.restore()
        if found is not None:
            assert found.bytes == bytes([found.step % 256]) * (1 << 20)
        Path(f"{x}-{os.getpid()}").touch()
        if len(list(Path().glob(f"{x}-*"))) > 2:
            return float(found is not None)
        begin = 0 if found is None else found.step + 1
        reporter.save(bytes([begin % 256]) * (1 << 20), begin)
        delay = random.SystemRandom().uniform(0.005, 0.06)
        threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
        for step in range(begin + 1, begin + 100_000):
            reporter.save(bytes([step % 256]) * (1 << 20), step)
        return -1.0

    monkeypatch.chdir(tmp_path)
    result = experiment.lagom(saves_on, config(tmp_path, num_trials=4))
    assert [(t.value, t.runs) for t in result.trials] == [(1.0, 3)] * 4


@pytest.mark.parametrize("engine", ENGINES)
def test_a_checkpoint_that_cannot_be_written_is_the_users_to_catch(
    engine: str, tmp_path: Path
) -> None:
    """Caught, the trial goes on; uncaught, it fails with path, size and what to do."""

    def careful(x: float, reporter: Reporter) -> float:
        from maggy.errors import CheckpointError

        try:
            reporter.save(Path("nowhere") / "model.pt", 0)
        except CheckpointError:
            return x
        return -1.0

    def careless(x: float, reporter: Reporter) -> float:
        reporter.save(Path("nowhere") / "model.pt", 0)
        return x

    result = experiment.lagom(careful, config(tmp_path, engine=engine))
    assert [trial.value for trial in result.trials] == [t.hparams["x"] for t in result.trials]
    with pytest.raises(ExperimentFailed, match=r"CheckpointError: .*nowhere/model.pt: No such"):
        experiment.lagom(careless, config(tmp_path, engine=engine))


def test_a_full_disk_in_a_worker_is_an_error_with_advice(tmp_path: Path) -> None:
    """The limit of file sizes stands in for the disk: the system refuses in mid-write."""

    def large(x: float, reporter: Reporter) -> float:
        import resource

        from maggy.errors import CheckpointError

        reporter.save(b"small", 0)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            reporter.save(bytes(1_000_000), 1)
        except CheckpointError as error:
            reporter.log(str(error))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        found = reporter.restore()
        assert found is not None
        assert found.bytes == b"small"
        reporter.save(bytes(1_000_000), 2)
        return x

    result = experiment.lagom(large, config(tmp_path, num_trials=1))
    (trial,) = result.trials
    assert trial.error is None
    assert trial.checkpoint is not None
    assert trial.checkpoint.size == 1_000_000


INTERRUPTED = """
import time
from maggy import OptimizationConfig, Searchspace, experiment

def train(x, reporter):
    reporter.save(b"first", 0)
    reporter.broadcast(x, step=0)
    open("saved", "w").close()
    while True:
        time.sleep(0.01)
        reporter.broadcast(x)

space = Searchspace(x=("DOUBLE", [0.0, 1.0]))
config = OptimizationConfig(num_trials=2, searchspace=space, folder="runs", quiet=True,
                            optimizer="randomsearch", num_workers=1, engine={engine!r})
try:
    experiment.lagom(train, config)
except KeyboardInterrupt as error:
    print([(t.status, t.checkpoint.path.read_bytes()) for t in error.result.trials])
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_an_interrupted_trial_keeps_its_checkpoint(engine: str, tmp_path: Path) -> None:
    """Ctrl-C: whoever resumes the run will need it."""
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED.format(engine=engine)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 30
        while not (tmp_path / "saved").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=30)[0]
    assert output == "[('interrupted', b'first')]\n"


def test_a_killed_driver_leaves_the_checkpoints(tmp_path: Path) -> None:
    """After kill -9 the unfinished trial's checkpoint is there and whole."""
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED.format(engine="local")], cwd=tmp_path
    ) as process:
        deadline = time.monotonic() + 30
        while not (tmp_path / "saved").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
    (place,) = find_runs(tmp_path / "runs")
    (trial,) = experiment.load(place.path).trials
    assert trial.checkpoint is not None
    assert trial.checkpoint.path.read_bytes() == b"first"


def test_saving_a_megabyte_is_fast(tmp_path: Path) -> None:
    """At most 15 ms more than to write and force to disk a plain file, on the best of many."""
    from maggy.worker.checkpoints import Checkpoints

    saved, data = Checkpoints(tmp_path, 0, 0), os.urandom(1 << 20)
    ours, plain = [], []
    for step in range(20):
        began = time.perf_counter()
        saved.save(data, step)
        ours.append(time.perf_counter() - began)
        began = time.perf_counter()
        with (tmp_path / "plain").open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        plain.append(time.perf_counter() - began)
    assert min(ours) < min(plain) + 0.015


# Many workers


@pytest.fixture
def _few_files() -> Any:
    """A soft limit of 700 open files; the hard one is left alone."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (700, hard))
    yield
    with contextlib.suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("_few_files")
def test_many_workers_may_open_more_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """The soft limit is raised as far as needed, and never lowered."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    local._allow_files(900)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (900, hard)
    local._allow_files(100)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (900, hard)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, 1000))
    with pytest.raises(ConfigError, match=r"needs about 1001 open files, but .* 1000 at most"):
        local._allow_files(1001)
