"""Unit tests of ``maggy.cli.asking``."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from maggy import OptimizationConfig
from maggy.cli.asking import simulate, whatif
from maggy.engines.simulator import simulate as simulated
from maggy.engines.workload import InOrder
from maggy.store.folder import create_run
from maggy.store.sqlite import SqliteLog
from maggy.testing.curves import load_task

if TYPE_CHECKING:
    from pathlib import Path

    from click import Command

TASK = load_task("digits-mlp")


@pytest.fixture(autouse=True)
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of 40 recorded trainings on two workers, where runs go by default."""
    monkeypatch.chdir(tmp_path)
    config = OptimizationConfig(
        searchspace=TASK.searchspace, num_trials=40, es_policy="none", name="digits", seed=0
    )
    done = simulated(config, InOrder(TASK.scaled(10.0)[:40]), workers=2)
    folder = create_run("maggy-runs", "digits", now=datetime(2026, 1, 31, tzinfo=UTC))
    with SqliteLog.create(folder.database) as log:
        for event in done.events:
            log.append(event)


def call(command: Command, *arguments: str) -> str:
    """What a command writes."""
    done = CliRunner().invoke(command, ["digits", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_whatif_tells_savings_and_losses() -> None:
    """In sentences, in JSON, and stop by stop."""
    text = call(whatif, "--es-policy", "curve")
    assert "It would have stopped" in text
    assert "of the workers' time" in text
    told: dict[str, Any] = json.loads(call(whatif, "--es-policy", "curve", "--json"))
    assert f"It would have stopped {len(told['stopped'])} trials" in text
    listed = call(whatif, "--es-policy", "curve", "--all").splitlines()
    assert len(listed) == len(text.splitlines()) + len(told["stopped"])
    assert "its curve leaves it a chance of" in listed[-1]


def test_whatif_takes_the_options_of_the_config() -> None:
    """With a high ``es_min`` nothing is stopped; ``none`` saves nothing."""
    for arguments in (("--es-min", "40"), ("--es-policy", "none")):
        assert "stopped 0 trials" in call(whatif, *arguments)


def test_simulate_repeats_a_run_on_more_workers() -> None:
    """The same trials, faster; the numbers also in JSON."""
    two, eight = (json.loads(call(simulate, "--workers", count, "--json")) for count in ("2", "8"))
    assert eight["duration"] < two["duration"] / 2
    assert eight["best_val"] == two["best_val"]
    assert eight["num_trials"] == 40
    assert two["utilisation"] > eight["utilisation"]
    text = call(simulate, "--workers", "8")
    assert text.startswith("40 trials on 8 workers take ")
    assert "busy" in text


def test_simulate_takes_another_search() -> None:
    """Another optimizer, number of trials, policy and seed."""
    arguments = ["--workers", "4", "--optimizer", "randomsearch", "--trials", "60"]
    arguments += ["--es-policy", "median", "--es-min", "5", "--json"]
    outcome = json.loads(call(simulate, *arguments))
    assert outcome["num_trials"] == 60
    assert outcome["early_stopped"] > 0
    assert outcome == json.loads(call(simulate, *arguments))
    assert outcome != json.loads(call(simulate, *arguments, "--seed", "1"))
