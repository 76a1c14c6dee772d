"""The Gaussian process as an optimizer: the contract, what it adds to it, and what it costs."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from maggy.contracts import SearchContext
from maggy.errors import ConfigError
from maggy.optimizer import GP
from maggy.searchspace import Categorical, Discrete, Double, Integer, Searchspace
from maggy.testing.optimizers import OptimizerContract, Rehearsal
from maggy.trial import Exhausted, Suggestion, Trial, TrialError, TrialStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from maggy.contracts import Optimizer
    from maggy.trial import Hparams

FAILURE = TrialError(type="RuntimeError", message="out of memory")


class TestContract(OptimizerContract):
    """The Gaussian process does what every optimizer does."""

    def make_optimizer(self) -> Optimizer:
        """A fresh one."""
        return GP()


class TestContractWithoutDesign(OptimizerContract):
    """So it does when the model begins as early as it can."""

    def make_optimizer(self) -> Optimizer:
        """A fresh one."""
        return GP(initial_trials=1)


def plane(dimensions: int = 2) -> Searchspace:
    """A space of doubles in [0, 1]."""
    return Searchspace(**{f"x{number}": Double(0.0, 1.0) for number in range(dimensions)})


def bowl(hparams: Hparams) -> float:
    """A loss with its minimum, 0, at 0.3 everywhere."""
    return float(np.square(np.array(list(hparams.values()), dtype=float) - 0.3).sum())


def started(
    space: Searchspace, *, num_trials: int = 30, num_workers: int = 1, seed: int = 0
) -> GP:
    """A Gaussian process that searches this space."""
    optimizer = GP()
    optimizer.start(
        SearchContext(searchspace=space, num_trials=num_trials, num_workers=num_workers, seed=seed)
    )
    return optimizer


def completed(number: int, hparams: Hparams, loss: float) -> Trial:
    """A trial that ended well."""
    return Trial(id=number, hparams=hparams, status=TrialStatus.COMPLETED, loss=loss)


def rng(number: int = 0) -> np.random.Generator:
    """The generator of a suggestion."""
    return np.random.default_rng([5, number])


def ask(optimizer: GP, number: int, pending: Sequence[Trial] = ()) -> Hparams:
    """A suggestion's configuration."""
    answer = optimizer.ask(number, pending, rng(number))
    assert isinstance(answer, Suggestion)
    return answer.hparams


def search(
    space: Searchspace, loss: Callable[[Hparams], float], trials: int, seed: int = 0
) -> list[float]:
    """The losses of a sequential search."""
    optimizer = started(space, num_trials=trials, seed=seed)
    losses = []
    for number in range(trials):
        hparams = ask(optimizer, number)
        losses.append(loss(hparams))
        optimizer.tell(completed(number, hparams, losses[-1]))
    return losses


def told(space: Searchspace, count: int, seed: int = 0) -> list[Trial]:
    """Random trials of the bowl."""
    draw = np.random.default_rng(seed)
    points = [space.decode(draw.random(len(space)).tolist()) for _ in range(count)]
    return [completed(number, point, bowl(point)) for number, point in enumerate(points)]


def test_options() -> None:
    """Options are checked, and shown."""
    assert repr(GP()) == "GP()"
    assert repr(GP(initial_trials=7)) == "GP(initial_trials=7)"
    for wrong in (0, True, 2.0):
        with pytest.raises(ConfigError, match="`initial_trials` must be a positive int or None"):
            GP(initial_trials=wrong)  # type: ignore[arg-type]


def test_empty_space() -> None:
    """There must be something to search."""
    with pytest.raises(ConfigError, match="the search space is empty"):
        started(Searchspace())


def test_the_centre_comes_first() -> None:
    """The first trial has the declared defaults, and the middle of what has none."""
    space = Searchspace(
        x=Double(0.0, 1.0),
        k=Integer(1, 9, default=2),
        c=Categorical(["a", "b", "c"], default="c"),
        only=Double(0.0, 4.0, when={"c": "a"}),
    )
    assert ask(started(space), 0) == {"x": 0.5, "k": 2, "c": "c"}


def test_a_forbidden_centre_is_left_out() -> None:
    """If the constraints forbid the centre, the first trial is another one."""
    space = plane().with_constraints(["x0 > 0.6"])
    assert ask(started(space), 0)["x0"] > 0.6  # type: ignore[operator]


@pytest.mark.parametrize(
    ("num_trials", "num_workers", "wanted"),
    [(100, 1, 6), (100, 8, 8), (16, 8, 4), (4, 1, 3)],
)
def test_size_of_the_design(num_trials: int, num_workers: int, wanted: int) -> None:
    """So many trials precede the model's: six, more for more workers, a quarter at most."""
    optimizer = started(plane(), num_trials=num_trials, num_workers=num_workers)
    for number in range(wanted):
        assert optimizer._strategy is None
        hparams = ask(optimizer, number)
        optimizer.tell(completed(number, hparams, float(number)))
    ask(optimizer, wanted)
    assert optimizer._strategy is not None


def test_workers_never_wait() -> None:
    """While the design's trials run, more quasi-random ones are handed out, all different."""
    optimizer = started(plane(), num_workers=8)
    pending: list[Trial] = []
    for number in range(50):
        pending.append(Trial(id=number, hparams=ask(optimizer, number, pending)))
    assert len({tuple(trial.hparams.values()) for trial in pending}) == 50
    assert optimizer._strategy is None


@pytest.mark.parametrize("seed", range(3))
def test_finds_the_minimum_of_a_bowl(seed: int) -> None:
    """A smooth function of 3 dimensions is solved to 1e-4 within 30 trials."""
    assert min(search(plane(3), bowl, 30, seed)) < 1e-4


def test_finds_the_best_of_a_mixed_space() -> None:
    """Categories, whole numbers and reals that depend on each other are solved together."""
    space = Searchspace(
        c=Categorical(["a", "b", "c", "d"]),
        k=Integer(1, 32, log=True),
        v=Discrete([0.1, 1.0, 10.0, 100.0]),
        x=Double(1e-4, 1.0, log=True),
    )

    def loss(hparams: Hparams) -> float:
        wanted = {"a": -1.0, "b": -2.0, "c": -2.5, "d": -3.0}[str(hparams["c"])]
        gap = np.log10(float(hparams["x"])) - wanted  # type: ignore[arg-type]
        width = abs(np.log2(float(hparams["k"])) - 3)  # type: ignore[arg-type]
        level = abs(np.log10(float(hparams["v"])) - 1)  # type: ignore[arg-type]
        return float(gap**2 + 0.3 * width + 0.2 * level + 0.5 * (hparams["c"] != "c"))

    assert min(search(space, loss, 60)) < 0.01


def test_the_order_of_tells_does_not_matter() -> None:
    """The same trials, told in any order, give the same suggestion."""
    trials = told(plane(3), 25)
    answers = []
    for seed in range(3):
        optimizer = started(plane(3))
        shuffled = list(trials)
        random.Random(seed).shuffle(shuffled)
        for trial in shuffled:
            optimizer.tell(trial)
        answers.append(ask(optimizer, 25))
    assert answers[0] == answers[1] == answers[2]


def test_asking_leaves_no_trace() -> None:
    """A search that was asked along the way goes on like one that was told everything at once."""
    trials = told(plane(3), 40)
    asked, fresh = started(plane(3)), started(plane(3))
    for trial in trials:
        ask(asked, trial.id)
        asked.tell(trial)
        fresh.tell(trial)
    assert ask(asked, 40) == ask(fresh, 40)


def test_pending_trials_repel() -> None:
    """Eight suggestions without news in between are eight different places."""
    optimizer = started(plane())
    for trial in told(plane(), 12):
        optimizer.tell(trial)
    pending: list[Trial] = []
    for number in range(12, 20):
        pending.append(Trial(id=number, hparams=ask(optimizer, number, pending)))
    points = np.array([list(trial.hparams.values()) for trial in pending], dtype=float)
    gaps = np.linalg.norm(points[:, None] - points, axis=2)[np.triu_indices(8, 1)]
    assert gaps.min() > 0.003
    assert len(np.unique(points.round(2), axis=0)) >= 6


def test_many_pending_trials() -> None:
    """Of a hundred pending trials the most promising are integrated, none is repeated."""
    optimizer = started(plane())
    for trial in told(plane(), 12):
        optimizer.tell(trial)
    draw = np.random.default_rng(1)
    pending = [
        Trial(id=number, hparams=plane().decode(draw.random(2).tolist()))
        for number in range(12, 112)
    ]
    hparams = ask(optimizer, 112, pending)
    assert hparams not in [trial.hparams for trial in pending]


def test_a_region_that_fails_is_left() -> None:
    """Where every trial fails, few of the later trials go, though the loss there promises most."""
    optimizer = started(plane())
    inside = 0
    for number in range(40):
        hparams = ask(optimizer, number)
        bad = float(hparams["x0"]) < 0.4  # type: ignore[arg-type]
        if bad:
            inside += number >= 20
            optimizer.tell(
                Trial(id=number, hparams=hparams, status=TrialStatus.FAILED, error=FAILURE)
            )
        else:
            optimizer.tell(completed(number, hparams, float(hparams["x0"])))  # type: ignore[arg-type]
    assert inside <= 8


def test_only_failures() -> None:
    """While nothing completed, the search goes on along the quasi-random sequence."""
    rehearsal = Rehearsal(GP(), plane())
    rehearsal.run(20, lambda search, trial: search.fail(trial))
    assert len(rehearsal.trials) == 20


def test_stopped_trials_warn_of_their_region() -> None:
    """Trials that were stopped for being bad keep the search away from where they were."""
    space = plane(1)

    def asked(told_of_stops: bool) -> float:
        optimizer = started(space)
        for number in range(5):
            trial = completed(number, {"x0": 0.1 + 0.05 * number}, 1.0 - 0.1 * number)
            trial.steps, trial.losses = [1, 2], [trial.loss or 0.0, trial.loss or 0.0]
            optimizer.tell(trial)
        for number in range(5, 9):
            stopped = Trial(
                id=number,
                hparams={"x0": 0.4 + 0.05 * number},
                status=TrialStatus.STOPPED,
                steps=[1],
                losses=[2.0],
                loss=2.0,
                threshold=1.0,
            )
            if told_of_stops:
                optimizer.tell(stopped)
        return float(ask(optimizer, 9)["x0"])  # type: ignore[arg-type]

    assert asked(told_of_stops=True) < 0.6
    assert asked(told_of_stops=False) > asked(told_of_stops=True)


def test_a_trial_that_is_continued_replaces_itself() -> None:
    """A trial that is told again counts once, with its newest loss."""
    trials = told(plane(), 10)
    twice, once = started(plane()), started(plane())
    twice.tell(completed(3, trials[3].hparams, 99.0))
    for trial in trials:
        twice.tell(trial)
        once.tell(trial)
    assert ask(twice, 10) == ask(once, 10)


def test_later_changes_of_a_trial_are_not_seen() -> None:
    """A trial is remembered as it was when it was told."""
    trials = told(plane(), 10)
    changed, kept = started(plane()), started(plane())
    for trial in trials:
        changed.tell(trial)
        kept.tell(trial.snapshot())
        trial.loss, trial.status = None, TrialStatus.RUNNING
    assert ask(changed, 10) == ask(kept, 10)


@pytest.mark.parametrize("dimensions", [1, 50])
def test_extreme_dimensions(dimensions: int) -> None:
    """One hyperparameter, and fifty, are searched."""
    losses = search(plane(dimensions), bowl, 20)
    assert min(losses[5:]) < losses[0] + 1e-9


def test_copies_of_one_point() -> None:
    """Thirty trials at the same place with different losses are survived."""
    optimizer = started(plane())
    for number in range(30):
        optimizer.tell(completed(number, {"x0": 0.5, "x1": 0.5}, float(number % 5)))
    assert ask(optimizer, 30) != {"x0": 0.5, "x1": 0.5}


def test_two_thousand_trials() -> None:
    """Thousands of trials are modelled by some of them, in bounded time."""
    optimizer = started(plane())
    trials = told(plane(), 2000)
    for trial in trials:
        optimizer.tell(trial)
    hparams = ask(optimizer, 2000)
    assert bowl(hparams) < 0.01


def test_no_duplicates_with_many_pending() -> None:
    """In a space of 125, 8 pending trials at a time, each is proposed once; then it ends."""
    space = Searchspace(x=Integer(1, 5), y=Integer(1, 5), z=Categorical(list("abcde")))
    rehearsal = Rehearsal(GP(), space, num_trials=200)
    rehearsal.run(200, at_once=8)
    assert len(rehearsal.trials) == 125
    assert isinstance(rehearsal.ask(), Exhausted)


def test_no_duplicates_beyond_listing() -> None:
    """In a space too large to list, but with few good places, nothing is proposed twice."""
    space = Searchspace(x=Integer(0, 99), y=Integer(0, 99))
    rehearsal = Rehearsal(GP(), space, num_trials=60)
    rehearsal.run(60, at_once=2)
    assert len(rehearsal.trials) == 60


def test_importing_is_light() -> None:
    """Making and starting a Gaussian process loads neither numpy nor scipy."""
    code = (
        "import sys; from maggy.optimizer import GP; from maggy.contracts import SearchContext; "
        "from maggy import Searchspace; "
        "GP().start(SearchContext(searchspace=Searchspace(x=('DOUBLE', [0, 1])), "
        "num_trials=5, num_workers=1, seed=0)); "
        "assert not {'numpy', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
