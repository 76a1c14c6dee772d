"""One trial in a process of its own, all of whose words come back."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from maggy.engines import query_task
from maggy.engines.query_task import LOG, MESSAGE, Errand, answer, run_one
from maggy.wire.messages import (
    Failed,
    Finished,
    Report,
    Run,
    Setup,
    SetupFailed,
    decode_from_worker,
    encode,
)
from maggy.worker.injection import plan
from maggy.worker.payload import dump_payload

if TYPE_CHECKING:
    from collections.abc import Callable

    from maggy.worker.reporter import Reporter

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def no_spark(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task with two cores."""
    monkeypatch.setattr(query_task, "given", lambda: (2, []))


def errand(train_fn: Callable[..., Any], folder: Path) -> Errand:
    """What the task is given for a trial with x = 0.5."""
    calling = plan(train_fn, hyperparameters=("x",))
    setup = Setup(
        sys_path=sys.path,
        cwd=str(folder),
        log_dir="/nowhere/on/this/machine",
        hb_interval=1.0,
        plan=calling.to_json(),
    )
    run = Run(trial=4, attempt=1, hparams={"x": 0.5}, budget=None, seed=1)
    return Errand(encode(setup), dump_payload(train_fn), None, encode(run), None)


def test_reports_outcome_and_output_come_back(tmp_path: Path) -> None:
    """In order; and the trial computes with the cores of the task."""

    def train(x: float, reporter: Reporter) -> float:
        sys.stdout.write("training\n")
        reporter.broadcast(x, step=1)
        return x + int(os.environ["OMP_NUM_THREADS"])

    (log, *said) = answer(*errand(train, tmp_path))
    assert log[0] == LOG
    assert b"training\n" in log[1]
    assert {kind for kind, _ in said} == {MESSAGE}
    report, finished = (decode_from_worker(content) for _, content in said)
    assert isinstance(report, Report)
    assert [value for _, value, _ in report.points] == [0.5]
    assert isinstance(finished, Finished)
    assert (finished.trial, finished.attempt, finished.value) == (4, 1, 2.5)


def test_an_exception_is_an_outcome(tmp_path: Path) -> None:
    """It comes back whole."""

    def train(x: float) -> float:
        return x / 0

    *_, last = run_one(errand(train, tmp_path))
    failed = decode_from_worker(last[1])
    assert isinstance(failed, Failed)
    assert failed.error.type == "ZeroDivisionError"


def test_a_function_that_cannot_be_loaded_is_an_outcome_too(tmp_path: Path) -> None:
    """Without it the query would never end."""
    broken = errand(lambda x: x, tmp_path)._replace(payload=b"no pickle")
    *_, last = run_one(broken)
    assert isinstance(decode_from_worker(last[1]), SetupFailed)


def test_a_process_that_dies_is_an_error_that_says_how(tmp_path: Path) -> None:
    """With the signal, so that the trial is run again elsewhere."""

    def train(x: float) -> float:
        os.kill(os.getpid(), signal.SIGKILL)
        return x

    with pytest.raises(ChildProcessError, match=r"trial 4 killed by signal 9"):
        run_one(errand(train, tmp_path))


def test_nothing_is_left_of_a_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither files nor the processes that it has started."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    pids = tmp_path / "pid"

    def train(x: float) -> float:
        import subprocess

        child = subprocess.Popen(["sleep", "60"])
        pids.write_text(str(child.pid))
        return x

    run_one(errand(train, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["pid"]
    process = Path("/proc", pids.read_text(), "stat")
    assert not process.exists() or process.read_text().rpartition(")")[2].split()[0] == "Z"
