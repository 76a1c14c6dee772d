"""`trial_timeout` and `time_limit` on every engine: in virtual time, in this process, for real."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from maggy import ExperimentFailed, OptimizationConfig, Searchspace, experiment
from maggy.engines.simulator import Simulated, simulate
from maggy.engines.workload import Recording
from maggy.trial import TrialStatus
from maggy.views.result import Result

if TYPE_CHECKING:
    from pathlib import Path

    from maggy.worker.reporter import Reporter

SPACE = Searchspace(n=("INTEGER", [0, 3]))
STEP = 0.02


def config(**options: Any) -> OptimizationConfig:
    defaults = {
        "optimizer": "gridsearch",
        "searchspace": SPACE,
        "es_policy": "none",
        "quiet": True,
        "seed": 1,
        "num_workers": 2,
    }
    return OptimizationConfig(**{**defaults, **options})


# In virtual time


class Epochs:
    """Trial ``n`` reports ``n`` once a minute, for ``length * (n + 1)`` minutes."""

    def __init__(self, length: int) -> None:
        self.length = length

    def run(self, trial: int, hparams: Any, budget: Any) -> Recording:
        n = hparams["n"]
        length = self.length * (n + 1)
        return Recording(
            hparams=hparams,
            steps=range(length),
            values=[float(n)] * length,
            seconds=[60.0] * length,
        )


class Silent:
    """Trial ``n`` reports nothing and takes ``n`` hours, at least one minute."""

    def run(self, trial: int, hparams: Any, budget: Any) -> Recording:
        closing = max(60.0, 3600.0 * hparams["n"])
        return Recording(
            hparams=hparams, steps=(), values=(), seconds=(), result=1.0, closing=closing
        )


def told(run: Simulated) -> dict[Any, Any]:
    return {t.hparams["n"]: t for t in Result(run.summary).trials}


def test_late_trials_leave_at_their_next_report_and_fail() -> None:
    """The others complete; each late one says how far it came; nothing is run twice."""
    run = simulate(config(trial_timeout=1000.0), Epochs(10), workers=2)
    trials = told(run)
    assert [trials[n].status for n in range(4)] == ["completed", "failed", "failed", "failed"]
    for n in (1, 2, 3):
        assert trials[n].error.type == "Timeout"
        assert f"1000 s; its last report was {n} at step 15" in trials[n].error.message
        assert trials[n].runs == 1
        assert trials[n].duration == 1020.0
    assert run.summary.crew.lost == []


def test_trials_that_never_report_are_ended_and_their_workers_replaced() -> None:
    """Killed after their grace of 30 s; the run goes on with as many workers as before."""
    run = simulate(config(trial_timeout=1000.0), Silent(), workers=2)
    trials = told(run)
    assert [trials[n].status for n in range(4)] == ["completed", "failed", "failed", "failed"]
    assert {trials[n].duration for n in (1, 2, 3)} == {1030.0}
    assert len(run.summary.crew.lost) == 3
    assert {trials[n].runs for n in range(4)} == {1}


def test_the_time_limit_stops_what_runs_and_starts_nothing() -> None:
    """What runs keeps its last value, and the run has completed, with a sentence."""
    run = simulate(config(time_limit=930.0), Epochs(10), workers=2)
    trials = told(run)
    reason = "The time limit of 930 s was reached."
    assert sorted(t.status for t in trials.values()) == ["completed", "stopped", "stopped"]
    for trial in trials.values():
        assert trial.value == trial.hparams["n"]
        assert trial.stop_reason == (reason if trial.status == "stopped" else "")
    assert run.seconds == 960.0  # the next report, when the order to stop is heard
    assert run.summary.finished is not None
    assert (run.summary.finished.outcome, run.summary.finished.reason) == ("completed", reason)


@pytest.mark.parametrize("optimizer", ["randomsearch", "asha", "hyperband", "gp", "tpe", "auto"])
def test_every_optimizer_bears_trials_that_were_stopped_without_a_report(optimizer: str) -> None:
    """They have no value, and are told like the others; so do the policies."""
    for policy in ("median", "none"):
        options = {"optimizer": optimizer, "num_trials": 9, "es_policy": policy}
        run = simulate(config(**options, time_limit=600.0), Silent(), workers=3)
        assert run.summary.finished is not None
        assert run.summary.finished.outcome == "completed"
        stopped = [t for t in run.summary.trials.values() if t.status is TrialStatus.STOPPED]
        assert stopped
        assert all(trial.value is None for trial in stopped)


def test_limits_that_are_not_reached_change_nothing() -> None:
    """The same events, to the byte."""
    plain = simulate(config(), Epochs(10), workers=2)
    bounded = simulate(config(trial_timeout=1e6, time_limit=1e6), Epochs(10), workers=2)
    assert plain.events[1:] == bounded.events[1:]


# In this process


def busy(n: int, reporter: Reporter) -> int:
    """Reports often; 0 and 1 are done soon, the others never."""
    step = 0
    while step < 3 or n > 1:
        reporter.broadcast(n, step=step)
        time.sleep(STEP)  # the training
        step += 1
    return n


def test_inline_a_late_trial_leaves_at_its_next_broadcast(tmp_path: Path) -> None:
    """The same error as elsewhere; the search goes on."""
    options = {"engine": "inline", "folder": tmp_path, "trial_timeout": 0.5}
    result = experiment.lagom(busy, config(**options))
    ends = {t.hparams["n"]: (t.status, t.error and t.error.type) for t in result.trials}
    assert ends == {
        0: ("completed", None),
        1: ("completed", None),
        2: ("failed", "Timeout"),
        3: ("failed", "Timeout"),
    }


def test_inline_the_time_limit_ends_the_search(tmp_path: Path) -> None:
    """At the next broadcast, with the last value."""
    options = {"engine": "inline", "folder": tmp_path, "time_limit": 0.5}
    result = experiment.lagom(busy, config(**options))
    assert [t.status for t in result.trials] == ["completed", "completed", "stopped"]
    assert result.trials[-1].value == result.trials[-1].hparams["n"]
    assert result.outcome == "completed"
    assert result.reason == "The time limit of 0.5 s was reached."


def test_inline_a_trial_that_reports_nothing_ends_by_itself(tmp_path: Path) -> None:
    """Nothing can end it here; its result counts, and nothing follows when time is up."""

    def silent(n: int) -> int:
        time.sleep(0.3)
        return n

    options = {"engine": "inline", "folder": tmp_path, "trial_timeout": 0.1, "time_limit": 0.2}
    result = experiment.lagom(silent, config(**options))
    assert [(t.status, t.value) for t in result.trials] == [("completed", 0.0)]


def test_by_hand_limits_are_told_by_report_and_ask() -> None:
    """A late trial is told to stop, and fails; after the time limit there is nothing to ask."""
    search = experiment.ask_tell(config(trial_timeout=0.05, time_limit=1.0))
    trial = search.ask()
    assert trial is not None
    deadline = time.monotonic() + 10
    step = 0
    while not search.report(trial, step, 0.5):
        assert time.monotonic() < deadline
        step += 1
    assert "trial_timeout" in trial.stop_reason
    search.tell(trial)
    (record,) = search.result.trials
    assert (record.status, record.error and record.error.type) == ("failed", "Timeout")
    while (trial := search.ask()) is not None:
        assert time.monotonic() < deadline
        search.tell(trial, 1.0)
    assert search.done


# For real


@pytest.mark.integration
def test_late_trials_leave_or_lose_their_worker(tmp_path: Path) -> None:
    """One that reports leaves; one that is stuck is killed, once, and its worker replaced."""

    def train(n: int, reporter: Reporter) -> int:
        if n == 3:
            reporter.broadcast(0.125, step=4)
            time.sleep(100)
        return busy(n, reporter)

    result = experiment.lagom(train, config(folder=tmp_path, trial_timeout=1.0))
    trials = {t.hparams["n"]: t for t in result.trials}
    assert [trials[n].status for n in range(4)] == ["completed", "completed", "failed", "failed"]
    left, killed = trials[2].error, trials[3].error
    assert left is not None
    assert killed is not None
    assert left.type == killed.type == "Timeout"
    assert "1 s; its last report was 2 at step" in left.message
    assert left.message.endswith(".")
    assert "0.125 at step 4. It did not leave" in killed.message
    assert {trial.runs for trial in result.trials} == {1}
    assert result["duration"] < 60


@pytest.mark.integration
def test_the_time_limit_ends_a_real_search(tmp_path: Path) -> None:
    """Soon after the limit, with what was reached, and all workers gone."""
    result = experiment.lagom(busy, config(folder=tmp_path, time_limit=4.0))
    assert [t.status for t in result.trials] == ["completed"] * 2 + ["stopped"] * 2
    assert [t.value for t in result.trials] == [t.hparams["n"] for t in result.trials]
    assert result.outcome == "completed"
    assert 4.0 <= result["duration"] < 10.0


@pytest.mark.integration
def test_when_all_first_trials_are_late_the_search_says_so(tmp_path: Path) -> None:
    """It is one mistake, such as a limit that is too short, and not 100 failures."""

    def endless(x: float, reporter: Reporter) -> None:
        while True:
            reporter.broadcast(x)
            time.sleep(STEP)

    space = Searchspace(x=("DOUBLE", [0.0, 1.0]))
    options = {"optimizer": "randomsearch", "searchspace": space, "num_trials": 100}
    with pytest.raises(ExperimentFailed, match=r"first 3 trials failed.*Timeout.*trial_timeout"):
        experiment.lagom(endless, config(**options, folder=tmp_path, trial_timeout=0.3))
