"""How well the optimizers search: regret on a few functions, beside random search and Optuna.

Every optimizer gets the same number of trials on the same functions, with the same seeds, and is
asked and told directly.  Regret is the true loss of the configuration that looked best, minus the
minimum; where trials are noisy, what looked best need not be.  "x random" is regret as a multiple
of random search's, the geometric mean over seeds, regret under 1e-6 counting as that; the last
column is the geometric mean over the functions.  The functions are small; ``docs/benchmarks.md``
says how the searches do on tables and test functions of others.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from setting import arguments, describe, table

from maggy.contracts import SearchContext
from maggy.optimizer.auto import choose
from maggy.optimizer.registry import resolve
from maggy.searchspace import Categorical, Double, Integer, Searchspace
from maggy.trial import Suggestion, Trial, TrialStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TRIALS, SEEDS = 60, 10
QUICK = 30, 2
FLOOR = 1e-6


@dataclass(frozen=True, slots=True)
class Function:
    """Something to minimise.

    Attributes:
        space: Its arguments.
        loss: Without noise.
        minimum: The least loss.
        noise: Standard deviation of what is added to what the optimizer sees.
    """

    space: Searchspace
    loss: Callable[[Mapping[str, Any]], float]
    minimum: float
    noise: float = 0.0


def box(dimensions: int, low: float, high: float) -> Searchspace:
    """Continuous arguments ``x0``, ``x1``, ..."""
    return Searchspace(**{f"x{number}": Double(low, high) for number in range(dimensions)})


def vector(hparams: Mapping[str, Any]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The arguments in their order."""
    return np.array([float(value) for value in hparams.values()])


def branin(hparams: Mapping[str, Any]) -> float:
    """Branin's function, with three minima, in [0, 1]^2."""
    x, y = 15 * float(hparams["x0"]) - 5, 15 * float(hparams["x1"])
    curve = y - 5.1 * x**2 / (4 * math.pi**2) + 5 * x / math.pi - 6
    return curve**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


STEEPNESS = np.array(
    [
        [10, 3, 17, 3.5, 1.7, 8],
        [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8],
        [17, 8, 0.05, 10, 0.1, 14],
    ]
)
CENTRES = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def hartmann(hparams: Mapping[str, Any]) -> float:
    """Hartmann's function of six arguments."""
    far = (STEEPNESS * (vector(hparams) - CENTRES) ** 2).sum(axis=1)
    return -float(np.array([1.0, 1.2, 3.0, 3.2]) @ np.exp(-far))


def valley(hparams: Mapping[str, Any]) -> float:
    """Rosenbrock's function, its minimum off the centre."""
    x = vector(hparams) + 0.3
    return float((100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())


def ripples(hparams: Mapping[str, Any]) -> float:
    """Rastrigin's function, shifted, with many local minima."""
    x = vector(hparams) - 0.7
    return float((x**2 - 3 * np.cos(2 * math.pi * x) + 3).sum())


MIXED = Searchspace(
    lr=Double(1e-5, 1.0, log=True),
    dropout=Double(0.0, 0.9),
    layers=Integer(1, 8),
    units=Integer(8, 512, log=True),
    optimizer=Categorical(["sgd", "adam", "rms"]),
    momentum=Double(0.0, 1.0, when={"optimizer": "sgd"}),
)


def network(hparams: Mapping[str, Any]) -> float:
    """Like the loss of a network: the best learning rate depends on optimizer and depth."""
    rate, offset = {"sgd": (-1.2, 0.0), "adam": (-3.0, 0.02), "rms": (-3.4, 0.05)}[
        hparams["optimizer"]
    ]
    gap = math.log10(hparams["lr"]) - rate + 0.08 * (hparams["layers"] - 4)
    loss = offset + 1 - 1 / (1 + 0.35 * gap**2) + 0.6 * (hparams["dropout"] - 0.2) ** 2
    loss += 0.02 * (math.log2(hparams["units"]) - 7) ** 2 + 0.02 * abs(hparams["layers"] - 4)
    return float(loss + 0.4 * (hparams.get("momentum", 0.9) - 0.9) ** 2)


ALGORITHMS = Searchspace(
    model=Categorical(["svm", "forest", "net", "boost"]),
    c=Double(1e-3, 1e3, log=True, when={"model": "svm"}),
    gamma=Double(1e-4, 10, log=True, when={"model": "svm"}),
    trees=Integer(10, 500, log=True, when={"model": "forest"}),
    depth=Integer(1, 20, when={"model": ["forest", "boost"]}),
    lr=Double(1e-5, 1, log=True, when={"model": ["net", "boost"]}),
    units=Integer(8, 512, log=True, when={"model": "net"}),
    scaling=Categorical(["none", "standard", "range"]),
)


def algorithms(hparams: Mapping[str, Any]) -> float:
    """Like the choice of an algorithm, each with hyperparameters of its own; boosting wins."""
    h = {"c": 1.0, "gamma": 1.0, "trees": 10, "depth": 1, "lr": 1.0, "units": 8} | dict(hparams)
    loss = {
        "svm": 0.08 + 0.05 * abs(math.log10(h["c"]) - 1) + 0.04 * abs(math.log10(h["gamma"]) + 2),
        "forest": 0.11 + 0.1 / math.log(h["trees"]) + 0.004 * abs(h["depth"] - 12),
        "net": 0.01
        + 0.08 * abs(math.log10(h["lr"]) + 2.5)
        + 0.02 * abs(math.log2(h["units"]) - 7),
        "boost": 0.07 * abs(math.log10(h["lr"]) + 1.2) + 0.01 * abs(h["depth"] - 5),
    }[h["model"]]
    return float(loss + {"none": 0.1, "standard": 0.0, "range": 0.03}[h["scaling"]])


LETTERS = "abcdef"
CATEGORIES = Searchspace(
    **{f"c{number}": Categorical(list(LETTERS)) for number in range(10)},
    x=Double(0, 1),
    y=Double(0, 1),
)
COSTS = np.random.default_rng(7).random((10, 6))
COSTS -= COSTS.min(axis=1, keepdims=True)


def categories(hparams: Mapping[str, Any]) -> float:
    """Ten categories of six, neighbours interacting, and two numbers."""
    picked = [LETTERS.index(hparams[f"c{number}"]) for number in range(10)]
    loss = 0.0
    for number, choice in enumerate(picked):
        together = picked[(number + 1) % 10] == choice
        loss += float(COSTS[number, choice]) * (1.5 if together else 1.0) / 10
    return float(loss + (hparams["x"] - 0.3) ** 2 + (hparams["y"] - 0.8) ** 2)


FUNCTIONS = {
    "branin": Function(box(2, 0, 1), branin, 0.39788735772973816),
    "noisy branin": Function(box(2, 0, 1), branin, 0.39788735772973816, noise=3.0),
    "hartmann 6": Function(box(6, 0, 1), hartmann, -3.322368011415515),
    "rosenbrock 10": Function(box(10, -2, 2), valley, 0.0),
    "rastrigin 5": Function(box(5, -2, 3), ripples, 0.0),
    "network": Function(MIXED, network, 0.0),
    "algorithms": Function(ALGORITHMS, algorithms, 0.0),
    "categories": Function(CATEGORIES, categories, 0.0),
}


class Searcher(Protocol):
    """What is compared."""

    def ask(self) -> tuple[Any, Mapping[str, Any]]:
        """A token and a configuration."""
        ...

    def tell(self, token: Any, loss: float) -> None:
        """The loss of what ``ask`` gave with this token."""
        ...


class Ours:
    """One of maggy's optimizers, by name."""

    def __init__(self, name: str, space: Searchspace, trials: int, seed: int) -> None:
        self._optimizer = resolve(name)
        self._optimizer.start(
            SearchContext(searchspace=space, num_trials=trials, num_workers=1, seed=seed)
        )
        self._seed, self._number = seed, 0

    def ask(self) -> tuple[Any, Mapping[str, Any]]:
        """A trial and its configuration."""
        rng = np.random.default_rng([self._seed, self._number])
        answer = self._optimizer.ask(self._number, (), rng)
        assert isinstance(answer, Suggestion)
        trial = Trial(id=self._number, hparams=answer.hparams)
        self._number += 1
        return trial, answer.hparams

    def tell(self, token: Any, loss: float) -> None:
        """The trial has completed."""
        token.status, token.loss = TrialStatus.COMPLETED, loss
        self._optimizer.tell(token)


class Optunas:
    """Optuna's TPE as it comes."""

    def __init__(self, space: Searchspace, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
        self._space = space

    def ask(self) -> tuple[Any, Mapping[str, Any]]:
        """A trial and its configuration."""
        trial = self._study.ask()
        hparams: dict[str, Any] = {}
        for name, kind in self._space.items():
            if not self._space.dependencies.active(name, hparams):
                continue
            if isinstance(kind, Double):
                hparams[name] = trial.suggest_float(name, kind.low, kind.high, log=kind.log)
            elif isinstance(kind, Integer):
                hparams[name] = trial.suggest_int(name, kind.low, kind.high, log=kind.log)
            else:
                hparams[name] = trial.suggest_categorical(name, list(kind.choices))
        return trial, hparams

    def tell(self, token: Any, loss: float) -> None:
        """The trial has completed."""
        self._study.tell(token, loss)


def make(name: str, space: Searchspace, trials: int, seed: int) -> Searcher:
    """A fresh search."""
    if name == "Optuna TPE":
        return Optunas(space, seed)
    return Ours(name, space, trials, seed)


def regret(name: str, function: Function, trials: int, seed: int) -> float:
    """Of one search; the noise is the same for every optimizer."""
    search = make(name, function.space, trials, seed)
    noise = np.random.default_rng([seed, 77]).standard_normal(trials) * function.noise
    seen, true = math.inf, math.inf
    for number in range(trials):
        token, hparams = search.ask()
        loss = function.loss(hparams)
        observed = loss + float(noise[number])
        search.tell(token, observed)
        if observed < seen:
            seen, true = observed, loss
    return true - function.minimum


def chosen(function: Function, trials: int) -> str:
    """What ``auto`` says of this search; its suggestions are those of what it chose."""
    context = SearchContext(searchspace=function.space, num_trials=trials, num_workers=1, seed=0)
    return choose(context)[1]


def main() -> None:
    """Run all and print one table."""
    options = arguments(__doc__)
    trials, seeds = QUICK if options.quick else (TRIALS, SEEDS)
    describe(f"Quality: x random after {trials} trials, {seeds} seeds")
    random: dict[str, float] = {}
    rows = []
    for name in ("randomsearch", "Optuna TPE", "tpe", "gp"):
        before = time.process_time()
        logs = {
            label: float(
                np.mean(
                    [
                        math.log(max(regret(name, function, trials, seed), FLOOR))
                        for seed in range(seeds)
                    ]
                )
            )
            for label, function in FUNCTIONS.items()
        }
        random = random or logs
        ratios = [math.exp(logs[label] - random[label]) for label in FUNCTIONS]
        cost = 1000 * (time.process_time() - before) / (trials * seeds * len(FUNCTIONS))
        together = math.exp(float(np.mean(np.log(ratios))))
        rows.append([name, *(f"{ratio:.3f}" for ratio in (*ratios, together)), f"{cost:.1f}"])
    table(["optimizer", *FUNCTIONS, "all", "ms a trial"], rows)
    for sentence in sorted({chosen(function, trials) for function in FUNCTIONS.values()}):
        print(sentence)


if __name__ == "__main__":
    main()
