"""Importance of hyperparameters, bounds that bind, and the best value so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest

from maggy.searchspace import Categorical, Discrete, Double, Integer, Searchspace
from maggy.views.importance import best_so_far, importances, tight_bounds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from maggy.trial import Value


@dataclass(frozen=True)
class Run:
    """A trial that ended."""

    id: int
    hparams: Mapping[str, Value]
    value: float | None
    status: str = "completed"


def runs(
    space: Searchspace, count: int, value: Callable[[dict[str, Value]], float], seed: int = 0
) -> list[Run]:
    """Random trials of a function."""
    rng = np.random.default_rng(seed)
    drawn = [space.sample(rng) for _ in range(count)]
    return [Run(number, hparams, value(hparams)) for number, hparams in enumerate(drawn)]


SPACE = Searchspace(
    strong=Double(0.0, 1.0),
    weak=Double(1e-4, 1.0, log=True),
    kind=Categorical(["a", "b", "c"]),
    idle=Integer(1, 30),
    fixed=Integer(3, 3),
)


def quality(hparams: dict[str, Value]) -> float:
    """Mostly ``strong``, somewhat ``kind``, hardly ``weak``."""
    weak = float(np.log10(float(hparams["weak"])))  # type: ignore[arg-type]
    strong = float(hparams["strong"])  # type: ignore[arg-type]
    return -10 * (strong - 0.3) ** 2 - 0.02 * (weak + 2) ** 2 - 0.6 * (hparams["kind"] == "b")


@pytest.mark.parametrize("seed", range(3))
def test_what_matters_comes_first(seed: int) -> None:
    """Shares sum to one, follow what the function does, and lie in their intervals."""
    found = importances(runs(SPACE, 300, quality, seed), SPACE, "max")
    shares = {item.name: item.share for item in found}
    assert list(shares)[:2] == ["strong", "kind"]
    assert set(shares) == {"strong", "weak", "kind", "idle"}
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["idle"] < 0.05
    assert all(0 <= item.low <= item.high <= 1 for item in found)
    assert all(item.low <= item.share <= item.high for item in found)
    assert str(found[0]).startswith("strong ")


def test_more_trials_narrow_the_interval() -> None:
    """The interval of what matters most shrinks with the number of trials."""
    widths = [
        (lambda item: item.high - item.low)(importances(runs(SPACE, n, quality), SPACE, "max")[0])
        for n in (40, 1000)
    ]
    assert widths[1] < widths[0] / 2


def test_both_directions_agree() -> None:
    """Maximising a value and minimising its negative gives the same."""
    up = runs(SPACE, 80, quality)
    down = runs(SPACE, 80, lambda hparams: -quality(hparams))
    assert importances(up, SPACE, "max") == importances(down, SPACE, "min")


def test_nothing_matters() -> None:
    """Pure noise has no clear leader, and equal values are survived."""
    rng = np.random.default_rng(0)
    noise = importances(runs(SPACE, 200, lambda _: float(rng.random())), SPACE, "max")
    assert all(item.low < 0.3 for item in noise)
    equal = importances(runs(SPACE, 50, lambda _: 1.0), SPACE, "max")
    assert len(equal) == 4
    assert all(np.isfinite([item.share, item.low, item.high]).all() for item in equal)


def test_too_few_trials() -> None:
    """Under ten trials with a value nothing is said, nor of a space where nothing varies."""
    failed = Run(9, SPACE.sample(np.random.default_rng(1)), None, "failed")
    few = [*runs(SPACE, 9, quality), failed]
    assert importances(few, SPACE, "max") == ()
    assert tight_bounds(few, SPACE, "max") == ()
    fixed = Searchspace(x=Integer(1, 1))
    assert importances([Run(i, {"x": 1}, 1.0 * i) for i in range(20)], fixed, "max") == ()


def test_stopped_trials_count_as_worse_and_failed_ones_not_at_all() -> None:
    """Stopping all trials with a high ``strong`` makes it matter, though their values are best."""
    space = Searchspace(strong=Double(0.0, 1.0), idle=Double(0.0, 1.0))
    plain = runs(space, 200, lambda _: 1.0)
    stopped = [
        Run(run.id, run.hparams, 9.0, "stopped") if float(run.hparams["strong"]) > 0.5 else run  # type: ignore[arg-type]
        for run in plain
    ]
    assert importances(stopped, space, "max")[0].name == "strong"
    failed = [Run(1000 + run.id, run.hparams, 9.0, "failed") for run in plain]
    assert importances([*stopped, *failed], space, "max") == importances(stopped, space, "max")


def test_conditional_hyperparameters() -> None:
    """A hyperparameter of the good branch matters more than one of the bad branch."""
    space = Searchspace(
        kind=Categorical(["good", "bad"]),
        x=Double(0.0, 1.0, when={"kind": "good"}),
        y=Double(0.0, 1.0, when={"kind": "bad"}),
    )

    def value(hparams: dict[str, Value]) -> float:
        return float(hparams.get("x", -1.0)) + 0.1 * float(hparams.get("y", 0.0))  # type: ignore[arg-type]

    shares = {item.name: item.share for item in importances(runs(space, 300, value), space, "max")}
    assert shares["x"] > 3 * shares["y"]
    assert shares["kind"] > shares["y"]


BOUNDS = Searchspace(
    high=Double(1e-5, 1e-1, log=True),
    low=Integer(2, 9),
    step=Discrete([0.5, 1, 2, 4]),
    words=Discrete(["s", "m", "l", "xl"]),
    inner=Double(0.0, 1.0),
    two=Integer(1, 2),
)


def test_tight_bounds() -> None:
    """An end is named where the best trials crowd, with its value; inner optima are not."""

    def value(hparams: dict[str, Value]) -> float:
        code = dict(zip(BOUNDS, BOUNDS.encode(hparams), strict=True))
        inner = -4 * (code["inner"] - 0.5) ** 2
        return 4 * code["high"] - 4 * code["low"] + 2 * code["step"] + inner + 2 * code["two"]

    rng = np.random.default_rng(0)
    focused = []
    for number in range(100):
        at = 0.03 * float(rng.random())
        point = [1 - at, at, 1 - at, at, float(rng.normal(0.5, 0.1)), 1 - at]
        hparams = BOUNDS.decode(np.clip(point, 0, 1).tolist())
        focused.append(Run(1000 + number, hparams, value(hparams)))
    trials = [*runs(BOUNDS, 100, value), *focused]
    found = {item.name: item for item in tight_bounds(trials, BOUNDS, "max")}
    assert {name: item.end for name, item in found.items()} == {
        "high": "high",
        "low": "low",
        "step": "high",
    }
    assert found["low"].bound == 2
    assert found["low"].near <= found["low"].best == 20
    assert "at the lower end of low (2): lower it?" in str(found["low"])
    assert "at the upper end of high (0.1): raise it?" in str(found["high"])
    assert not tight_bounds(runs(SPACE, 300, quality), SPACE, "max")


def test_an_end_at_zero_is_taken_for_a_natural_one() -> None:
    """Nobody can lower a dropout of 0, nor raise the logarithm of 1; other ends are named."""
    space = Searchspace(dropout=Double(0.0, 0.5), exponent=Double(-4.0, 0.0))
    trials = [Run(i, {"dropout": i / 80, "exponent": -i / 10}, float(-i)) for i in range(41)]
    assert tight_bounds(trials, space, "max") == ()
    ends = {item.name: item.end for item in tight_bounds(trials, space, "min")}
    assert ends == {"dropout": "high", "exponent": "low"}


def test_best_so_far() -> None:
    """The curve follows the ids, never gets worse, and knows completed trials only."""
    space = Searchspace(x=Double(0.0, 1.0))
    trials = [
        Run(3, {"x": 0.1}, 5.0),
        Run(0, {"x": 0.2}, 2.0),
        Run(1, {"x": 0.3}, 9.0, "stopped"),
        Run(2, {"x": 0.4}, 1.0),
        Run(4, {"x": 0.5}, None, "failed"),
    ]
    assert len(space) == 1
    assert best_so_far(trials, "max") == ([0, 2, 3], [2.0, 2.0, 5.0])
    assert best_so_far(trials, "min") == ([0, 2, 3], [2.0, 1.0, 1.0])
    assert best_so_far([], "max") == ([], [])
