"""A search starts from earlier runs: what it reads, says, writes down and refuses."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from maggy import OptimizationConfig, Searchspace, experiment
from maggy.core.earlier import from_json
from maggy.engines.earlier import read_earlier
from maggy.engines.simulator import simulate
from maggy.engines.workload import Synthetic
from maggy.errors import ConfigError
from maggy.optimizer import TPE, Asha, GridSearch, RandomSearch
from maggy.searchspace import Double, Integer
from maggy.trial import TrialStatus

if TYPE_CHECKING:
    from pathlib import Path

    from maggy.views.result import Result

SPACE = Searchspace(x=Double(0.0, 1.0), n=Integer(1, 4))


def loss(x: float, n: int) -> float:
    """The least at 0.3 and 2."""
    return (x - 0.3) ** 2 + 0.1 * abs(n - 2)


def config(folder: Path, **options: Any) -> OptimizationConfig:
    """Of a small search in this process."""
    defaults = {
        "num_trials": 8,
        "optimizer": "randomsearch",
        "searchspace": SPACE,
        "direction": "min",
        "seed": 3,
        "engine": "inline",
        "es_policy": "none",
        "folder": folder,
        "quiet": True,
    }
    return OptimizationConfig(**{**defaults, **options})


@pytest.fixture
def old(tmp_path: Path) -> Result:
    """An earlier run of random search."""
    return experiment.lagom(loss, config(tmp_path, num_trials=12, name="old"))


def notes(result: Result) -> str:
    """What the run says of itself."""
    said = result.config["notes"]
    assert isinstance(said, list)
    return "\n".join(said)


@pytest.mark.parametrize("optimizer", ["gp", "tpe"])
def test_the_best_of_the_earlier_run_is_tried_first(
    old: Result, tmp_path: Path, optimizer: str
) -> None:
    """And the note says how many trials were taken from where."""
    warm = config(tmp_path, optimizer=optimizer, warm_start=[old.path], name="new")
    result = experiment.lagom(loss, warm)
    assert result.trials[0].hparams == old["best_hp"]
    assert old.path is not None
    assert f"Warm start from old/{old.path.name}: 12 of 12 trials." in notes(result)


@pytest.mark.parametrize("optimizer", ["gp", "tpe", "auto"])
def test_by_hand_it_is_the_same(old: Result, tmp_path: Path, optimizer: str) -> None:
    """Ask and tell is told what ``lagom`` is, begins as it does, and says the same.

    Later trials differ with or without a warm start: ``lagom`` asks ahead.
    """
    warm = config(tmp_path, optimizer=optimizer, warm_start=old)
    search = experiment.ask_tell(warm)
    asked = []
    while (trial := search.ask()) is not None:
        asked.append(dict(trial.hparams))
        search.tell(trial, loss(**trial.hparams))  # type: ignore[arg-type]
    result = experiment.lagom(loss, warm)
    assert asked[:3] == [dict(trial.hparams) for trial in result.trials[:3]]
    assert search.result.config["notes"] == result.config["notes"]
    assert search.result.config["earlier"] == result.config["earlier"]


def test_the_log_needs_no_earlier_folder(old: Result, tmp_path: Path) -> None:
    """All evidence is in the new run's log, as the search was told it."""
    warm = config(tmp_path, optimizer="tpe", warm_start=[old])
    told = read_earlier(warm).runs
    result = experiment.lagom(loss, warm)
    assert old.path is not None
    shutil.rmtree(old.path)
    assert result.path is not None
    loaded = experiment.load(result.path)
    assert from_json(loaded.config["earlier"], "min") == told
    assert loaded.config["warm_start"] == [str(old.path)]


def test_runs_are_named_in_every_way(old: Result, tmp_path: Path) -> None:
    """A path, its text, a result, the name of the experiment, one or several; each counts once."""
    assert old.path is not None
    for given in (old.path, str(old.path), old, "old", [old], (old, "old", str(old.path))):
        assert config(tmp_path, warm_start=given).warm_start == (old.path,)
    assert config(tmp_path).warm_start == ()


def test_what_names_no_run_is_refused(tmp_path: Path) -> None:
    """With what was given and what to do."""
    with pytest.raises(
        ConfigError, match="`warm_start` must name runs that exist, but there is no"
    ):
        config(tmp_path, warm_start=["nowhere"])
    with pytest.raises(ConfigError, match=r"but got int\. Write warm_start="):
        config(tmp_path, warm_start=[3])
    search = experiment.ask_tell(config(tmp_path))
    with pytest.raises(ConfigError, match="This result has no folder"):
        config(tmp_path, warm_start=search.result)


def test_the_other_direction_is_refused(old: Result, tmp_path: Path) -> None:
    """Before anything is started: the best there would count as the worst here."""
    warm = config(tmp_path, warm_start=old, direction="max", name="refused")
    with pytest.raises(
        ConfigError, match="searched with direction='min' and this search has 'max'"
    ):
        experiment.lagom(loss, warm)
    with pytest.raises(ConfigError, match="same direction"):
        experiment.ask_tell(warm)
    assert not (tmp_path / "refused").exists()


def test_what_was_left_out_is_said(old: Result, tmp_path: Path) -> None:
    """Another range, a new hyperparameter, another metric."""
    space = Searchspace(x=Double(0.0, 0.5), n=Integer(1, 4), z=Double(0.0, 1.0, default=0.5))
    warm = config(tmp_path, searchspace=space, warm_start=old, optimization_key="error")
    told = read_earlier(warm)
    inside = sum(trial.hparams["x"] <= 0.5 for trial in old.trials)  # type: ignore[operator]
    assert [len(run.trials) for run in told.runs] == [inside]
    (note,) = told.notes
    assert f"{inside} of 12 trials (left out: {12 - inside} have a 'x' outside this space" in note
    assert "'z' is new, with its default" in note
    assert "its metric is 'metric', not 'error'" in note


def test_a_run_of_which_nothing_fits_is_said_and_forgotten(old: Result, tmp_path: Path) -> None:
    """The search runs as if there had been no earlier one."""
    space = Searchspace(x=Double(5.0, 6.0), n=Integer(1, 4))
    warm = config(tmp_path, searchspace=space, warm_start=old, optimizer="tpe")
    result = experiment.lagom(loss, warm)
    cold = experiment.lagom(loss, config(tmp_path, searchspace=space, optimizer="tpe"))
    assert "0 of 12 trials" in notes(result)
    assert "earlier" not in result.config
    assert [t.hparams for t in result.trials] == [t.hparams for t in cold.trials]


@pytest.mark.parametrize(
    "optimizer", [RandomSearch(), GridSearch(), Asha(2, 1, 4)], ids=["random", "grid", "asha"]
)
def test_who_does_not_learn_says_so(old: Result, tmp_path: Path, optimizer: Any) -> None:
    """The search is the same as without, and one note tells why."""
    warm = config(tmp_path, optimizer=optimizer, warm_start=old, engine=None)
    search = experiment.ask_tell(warm)
    cold = experiment.ask_tell(config(tmp_path, optimizer=optimizer, engine=None))
    assert "does not learn, so the warm start changes nothing" in notes(search.result)
    for _ in range(3):
        one, other = search.ask(), cold.ask()
        assert one is not None
        assert other is not None
        assert one.hparams == other.hparams


@pytest.mark.parametrize(
    ("optimizer", "name"),
    [
        ("randomsearch", "'randomsearch'"),
        ("gridsearch", "'gridsearch'"),
        ("asha", "RandomSearch("),
    ],
)
def test_who_does_not_learn_is_called_as_the_user_does(
    old: Result, tmp_path: Path, optimizer: str, name: str
) -> None:
    """By the word in the config; where only its sampler does not learn, that is told."""
    warm = config(tmp_path, optimizer=optimizer, warm_start=old, engine=None)
    told = next(line for line in notes(experiment.ask_tell(warm).result).splitlines()
                if "does not learn" in line)  # fmt: skip
    assert told.startswith(name)


def test_a_sampler_that_learns_is_told(old: Result, tmp_path: Path) -> None:
    """ASHA hands the earlier run on."""
    warm = config(tmp_path, optimizer=Asha(2, 1, 4, sampler=TPE()), warm_start=old)
    search = experiment.ask_tell(warm)
    trial = search.ask()
    assert trial is not None
    assert trial.hparams == old["best_hp"]
    assert "does not learn" not in notes(search.result)


def test_the_simulator_starts_warm_too(old: Result, tmp_path: Path) -> None:
    """In virtual time the best of the earlier run comes first as well."""
    warm = config(tmp_path, optimizer="tpe", warm_start=old)
    simulated = simulate(warm, Synthetic(steps=2), workers=2)
    assert simulated.summary.trials[0].hparams == old["best_hp"]


def test_initial_points_come_before_it(old: Result, tmp_path: Path) -> None:
    """What the user asks for outright goes first."""
    point = {"x": 0.9, "n": 4}
    warm = config(tmp_path, optimizer="gp", warm_start=old, initial=[point])
    result = experiment.lagom(loss, warm)
    assert [t.hparams for t in result.trials[:2]] == [point, old["best_hp"]]


def test_failed_and_stopped_trials_are_taken_as_what_they_are(tmp_path: Path) -> None:
    """From the log of a run by hand on disk: a failed one, and one that a policy stopped."""

    def training(x: float, reporter: Any) -> float:
        if x > 0.8:
            msg = "out of memory"
            raise RuntimeError(msg)
        for step in range(1, 6):
            reporter.broadcast(metric=x, step=step)
        return x

    space = Searchspace(x=Double(0.0, 1.0))
    policy = {"es_policy": "median", "es_min": 2, "num_trials": 20}
    result = experiment.lagom(
        training, config(tmp_path, searchspace=space, name="mixed", **policy)
    )
    assert result["failed"]
    assert result["early_stopped"]
    (run,) = read_earlier(config(tmp_path, searchspace=space, warm_start=result)).runs
    by_id = {trial.id: trial for trial in run.trials}
    for trial in result.trials:
        assert by_id[trial.id].status is TrialStatus(trial.status)
        assert by_id[trial.id].loss == trial.value
    stopped = next(t for t in run.trials if t.status is TrialStatus.STOPPED)
    assert len(stopped.steps) == len(stopped.losses) == 1
    assert stopped.threshold is not None


def test_many_runs_share_the_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many trials there were, so many are written into the log, and the note counts."""
    monkeypatch.setattr("maggy.engines.earlier._MOST_TOGETHER", 16)
    runs = [
        experiment.lagom(loss, config(tmp_path, num_trials=12, seed=seed, name=f"run {seed}"))
        for seed in range(2)
    ]
    told = read_earlier(config(tmp_path, warm_start=runs))
    assert [len(run.trials) for run in told.runs] == [8, 8]
    assert told.notes[0].count("8 of 12 trials (left out: 4 are more than are kept)") == 2
