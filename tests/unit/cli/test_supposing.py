"""Unit tests of ``maggy.cli.supposing``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from maggy import OptimizationConfig, Searchspace, cli, experiment

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

    from maggy import Reporter


def train(x: float, reporter: Reporter) -> None:
    for step in range(10):
        reporter.broadcast(x * (1 - 0.5**step), step=step)


@pytest.fixture(autouse=True, name="run")
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run of 20 trials in which nothing was stopped."""
    monkeypatch.chdir(tmp_path)
    result = experiment.lagom(
        train,
        OptimizationConfig(
            num_trials=20,
            searchspace=Searchspace(x=("DOUBLE", [0.0, 1.0])),
            es_policy="none",
            engine="inline",
            optimizer="randomsearch",
            name="past",
            seed=1,
            quiet=True,
        ),
    )
    assert result.path is not None
    return result.path


def maggy(*arguments: object) -> Result:
    """Call the command line."""
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def test_what_a_rule_would_have_saved() -> None:
    """For people sentences, for programs JSON with the same numbers."""
    told = maggy("whatif", "past", "--es-policy", "median", "--es-min", 5)
    assert told.exit_code == 0, told.output
    assert "It would have stopped" in told.output
    assert "Lost: nothing" in told.output
    facts = json.loads(maggy("whatif", "past", "--es-policy", "median", "--json").output)
    assert facts["reports"] == 200
    assert 0 < facts["reports_saved"] < 200
    assert facts["regret"] == 0
    assert facts["stopped"][0]["reason"]


def test_another_number_of_workers() -> None:
    """The same trials, sooner; the best value stays."""
    one, four = (
        json.loads(maggy("simulate", "past", "--workers", workers, "--json").output)
        for workers in (1, 4)
    )
    assert one["num_trials"] == four["num_trials"] == 20
    assert four["seconds"] < one["seconds"]
    assert one["best_val"] == four["best_val"]
    told = maggy("simulate", "past", "--workers", 4)
    assert told.output.startswith("4 workers: ")
    assert "Best: " in told.output


def test_another_search() -> None:
    """Any optimizer by name, with another rule and number of trials."""
    told = maggy(
        *("simulate", "past", "--workers", 2, "--optimizer", "randomsearch", "--trials", 8),
        *("--es-policy", "median", "--es-min", 3, "--json"),
    )
    assert told.exit_code == 0, told.output
    assert json.loads(told.output)["num_trials"] == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("whatif", "past", "--es-policy", "medain"), "Did you mean 'median'"),
        (("simulate", "past", "--workers", 2, "--optimizer", "tpee"), "Did you mean 'tpe'"),
        (("whatif", "nothing", "--es-policy", "none"), "there is no run 'nothing'"),
    ],
)
def test_mistakes_are_named(arguments: tuple[object, ...], message: str) -> None:
    """One line, exit code 1."""
    told = maggy(*arguments)
    assert told.exit_code == 1
    assert message in told.output
