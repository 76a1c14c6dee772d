"""The Gaussian process as the sampler of ASHA and Hyperband: it models every rung."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.stats import spearmanr
from threadpoolctl import threadpool_limits

from maggy import OptimizationConfig
from maggy.contracts import SearchContext
from maggy.engines.simulator import simulate
from maggy.engines.workload import Recording
from maggy.events import MetricReported
from maggy.optimizer import GP, Asha, Hyperband
from maggy.optimizer._gp.rung_model import RungModeller
from maggy.optimizer._gp.strategy import Strategy
from maggy.optimizer.encoding import Encoding
from maggy.optimizer.initial import Initial
from maggy.searchspace import Double, Searchspace
from maggy.testing.optimizers import OptimizerContract, Rehearsal
from maggy.trial import Suggestion, Trial, TrialError, TrialStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from maggy.contracts import Optimizer
    from maggy.optimizer._gp.model import Model
    from maggy.optimizer.asha import Mode
    from maggy.trial import Hparams, Resource

RUNGS = (1, 3, 9)
PLANE = Searchspace(x=Double(0.0, 1.0), y=Double(0.0, 1.0))
FAILURE = TrialError(type="RuntimeError", message="out of memory")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The small matrices of these tests are slower on several threads."""
    with threadpool_limits(1):
        yield


class TestContractInAsha(OptimizerContract):
    """ASHA with the Gaussian process does what every optimizer does."""

    def make_optimizer(self) -> Optimizer:
        """A fresh one."""
        return Asha(3, 1, 9, sampler=GP(initial_trials=3))


class TestContractInHyperband(OptimizerContract):
    """So does Hyperband."""

    def make_optimizer(self) -> Optimizer:
        """A fresh one."""
        return Hyperband(3, 1, 9, sampler=GP(initial_trials=3))


def final(hparams: Hparams) -> float:
    """The loss at the largest budget, least at (0.7, 0.3)."""
    x, y = float(hparams["x"]), float(hparams["y"])  # type: ignore[arg-type]
    return (x - 0.7) ** 2 + (y - 0.3) ** 2


def loss_at(hparams: Hparams, resource: int) -> float:
    """Falls to the final one, more slowly where x is large."""
    gap = 4.0 / resource - 4.0 / RUNGS[-1]
    return final(hparams) + gap * (1.0 + 0.02 * float(hparams["x"]))  # type: ignore[arg-type]


def climbed(number: int, hparams: Hparams, rungs: int) -> Trial:
    """A trial that completed runs at so many rungs."""
    steps = list(RUNGS[:rungs])
    losses = [loss_at(hparams, step) for step in steps]
    return Trial(
        id=number,
        hparams=hparams,
        status=TrialStatus.COMPLETED,
        budget=steps[-1],
        steps=steps,
        losses=losses,
        loss=losses[-1],
    )


def told(count: int) -> list[Trial]:
    """Trials at random places; the best third was promoted, and the best ninth again."""
    rng = np.random.default_rng(0)
    points = [PLANE.decode(rng.random(2).tolist()) for _ in range(count)]
    ranks = np.argsort(np.argsort([loss_at(point, 1) for point in points]))
    rungs = [1 + int(rank < count // 3) + int(rank < count // 9) for rank in ranks]
    return [climbed(number, points[number], rungs[number]) for number in range(count)]


def started(rungs: Sequence[int] = RUNGS) -> GP:
    """A Gaussian process that knows the rungs."""
    optimizer = GP()
    optimizer.start(
        SearchContext(searchspace=PLANE, num_trials=100, num_workers=1, seed=0, rungs=rungs)
    )
    return optimizer


def ask(optimizer: GP, number: int, pending: Sequence[Trial] = ()) -> Hparams:
    """A suggestion's configuration."""
    answer = optimizer.ask(number, pending, np.random.default_rng([5, number]))
    assert isinstance(answer, Suggestion)
    return answer.hparams


def modelled(trials: Sequence[Trial], running: Sequence[Trial] = ()) -> Model:
    """The model of these trials."""
    modeller = RungModeller(Encoding(PLANE), RUNGS)
    for trial in trials:
        modeller.tell(trial)
    model = modeller.model(running)
    assert model is not None
    return model


def expected(model: Model, points: Sequence[Hparams], position: float) -> np.ndarray:
    """The model's means at this position on the ladder."""
    features = Encoding(PLANE).features(Encoding(PLANE).encode(points))
    there = np.full((len(points), 1), position)
    return model.posterior.predict(np.hstack([features, there]))[0][:, 0]


def test_low_rungs_teach_about_the_top() -> None:
    """With two complete trainings of twenty, the order of all others at the top is predicted."""
    model = modelled(told(20))
    points = [PLANE.decode(u) for u in np.random.default_rng(1).random((50, 2)).tolist()]
    finals = np.array([final(point) for point in points])
    assert spearmanr(expected(model, points, 1.0), finals).statistic > 0.85


def test_promotions_are_not_held_against_the_promoted() -> None:
    """Those at the top are the best ones: the incumbent is one of them, not the best of a rung."""
    trials = told(27)
    best = min(trials, key=lambda trial: final(trial.hparams))
    model = modelled(trials)
    assert model.best[0].tolist() == pytest.approx(list(best.hparams.values()))
    assert model.trailing is not None
    assert model.trailing.tolist() == [0.5], "nine trials are enough there, three at 9 are not"
    tried = [trial.hparams for trial in trials]
    assert model.incumbent == pytest.approx(expected(model, tried, 0.5).min())


def test_order_of_arrival_at_rungs_does_not_matter() -> None:
    """Whoever is told first, and however often along the way, the suggestion is the same."""
    trials = told(24)
    answers = []
    for seed in range(3):
        optimizer = started()
        steps = [
            climbed(trial.id, trial.hparams, rungs)
            for trial in trials
            for rungs in range(1, len(trial.steps) + 1)
        ]
        random.Random(seed).shuffle(steps)
        for step in sorted(steps, key=lambda trial: len(trial.steps)):
            optimizer.tell(step)
            if seed == 2 and step.id % 5 == 0:
                ask(optimizer, 50 + step.id)
        answers.append(ask(optimizer, 24))
    assert answers[0] == answers[1] == answers[2]


def test_one_rung_is_none() -> None:
    """With a single rung the process is the usual one."""
    plain, single = started(()), started((9,))
    for trial in told(20):
        plain.tell(trial)
        single.tell(trial)
    assert ask(plain, 20) == ask(single, 20)


def test_stopped_trials_count_at_their_rungs() -> None:
    """Trials stopped at the first rung are enough for the model to begin, and are learned from."""
    optimizer = started()
    for trial in told(20):
        only = climbed(trial.id, trial.hparams, 1)
        only.status = TrialStatus.STOPPED
        optimizer.tell(only)
    assert final(ask(optimizer, 20)) < 0.05
    assert optimizer._strategy is not None


def test_running_trials_count_where_they_have_been() -> None:
    """A running trial that was good at a rung is known to be; one that was told is not doubled."""
    trials = told(12)
    running = climbed(12, {"x": 0.71, "y": 0.31}, 2)
    running.status, running.budget = TrialStatus.RUNNING, 9
    before, after = modelled(trials), modelled(trials, [running])
    assert len(after.evidence) == len(before.evidence) + 2
    promoted = climbed(3, trials[3].hparams, 3)
    promoted.status = TrialStatus.RUNNING
    assert len(modelled(trials, [promoted]).evidence) == len(before.evidence)


def test_the_model_at_rungs_is_kept_until_the_next_trial() -> None:
    """Asking twice computes once; news change it."""
    modeller = RungModeller(Encoding(PLANE), RUNGS)
    assert modeller.model([]) is None
    for trial in told(10):
        modeller.tell(trial)
    model = modeller.model([])
    assert modeller.model([]) is model
    modeller.tell(told(11)[-1])
    assert modeller.model([]) is not model


def test_equal_losses_make_no_model_at_rungs() -> None:
    """Nothing can be learned from trials that are all alike."""
    modeller = RungModeller(Encoding(PLANE), RUNGS)
    for trial in told(10):
        trial.losses = [1.0] * len(trial.losses)
        modeller.tell(trial)
    assert modeller.model([]) is None


def test_pending_trials_at_rungs_repel() -> None:
    """Eight suggestions in a row are eight places, though all run to the first rung only."""
    optimizer = started()
    for trial in told(15):
        optimizer.tell(trial)
    pending: list[Trial] = []
    for number in range(15, 23):
        pending.append(Trial(id=number, hparams=ask(optimizer, number, pending), budget=1))
    points = np.array([list(trial.hparams.values()) for trial in pending], dtype=float)
    gaps = np.linalg.norm(points[:, None] - points, axis=2)[np.triu_indices(8, 1)]
    assert gaps.min() > 0.003


def test_a_region_that_fails_at_rungs_is_left() -> None:
    """Where trials fail at the first rung, few later ones go."""
    optimizer = started()
    inside = 0
    for number in range(36):
        hparams = ask(optimizer, number)
        if float(hparams["x"]) > 0.5:  # type: ignore[arg-type]
            inside += number >= 18
            optimizer.tell(
                Trial(
                    id=number,
                    hparams=hparams,
                    budget=1,
                    status=TrialStatus.FAILED,
                    error=FAILURE,
                )
            )
        else:
            optimizer.tell(climbed(number, hparams, 1))
    assert inside <= 7


def test_thousands_of_trials_at_rungs() -> None:
    """Two thousand trials are modelled by some of their observations, the top ones among them."""
    trials = told(2000)
    model = modelled(trials)
    assert len(model.evidence) == 512
    assert model.evidence.trailing is not None
    assert (model.evidence.trailing == 1.0).sum() >= 64
    assert final(dict(zip("xy", model.best[0].tolist(), strict=True))) < 0.01


def test_asha_with_the_process_finds_the_best() -> None:
    """Within 40 configurations, of which not all train to the end, the optimum is found."""
    rehearsal = Rehearsal(Asha(3, 1, 9, sampler=GP()), PLANE, num_trials=40)

    def end(search: Rehearsal, trial: Trial) -> None:
        assert isinstance(trial.budget, int)
        search.complete(trial, loss_at(trial.hparams, trial.budget))

    rehearsal.run(200, end, at_once=4)
    top = [trial for trial in rehearsal.trials.values() if trial.budget == 9]
    assert len(rehearsal.trials) == 40
    assert len(top) < 30
    assert min(final(trial.hparams) for trial in top) < 1e-3


def test_the_strategy_models_rungs_only_where_there_are_some() -> None:
    """Under ASHA it knows them; elsewhere it is the process over configurations alone."""
    for rungs, expected in ((RUNGS, True), ((), False)):
        context = SearchContext(
            searchspace=PLANE, num_trials=9, num_workers=1, seed=0, rungs=rungs
        )
        assert isinstance(Strategy(context)._modeller, RungModeller) is expected


class Curves:
    """A workload: nine reports of the loss."""

    def run(self, trial: int, hparams: Hparams, budget: Resource | None) -> Recording:
        """The training of this configuration."""
        losses = [loss_at(hparams, step) for step in range(1, 10)]
        recording = Recording(
            hparams=hparams, steps=range(1, 10), values=losses, seconds=[1.0] * 9
        )
        return recording.until(budget)


@pytest.mark.parametrize("mode", ["promotion", "stopping"])
def test_simulated_searches_repeat_and_find_the_best(mode: Mode) -> None:
    """With 4 workers, and reports of running trials at hand, the optimum is found, twice alike."""

    def found() -> list[float]:
        config = OptimizationConfig(
            searchspace=PLANE,
            num_trials=24,
            optimizer=Asha(3, 1, 9, mode=mode, sampler=GP()),
            direction="min",
            seed=1,
        )
        done = simulate(config, Curves(), workers=4)
        reports = [event for event in done.events if isinstance(event, MetricReported)]
        return [event.value for event in reports if event.step == 9]

    first = found()
    assert min(first) < 3e-3
    assert first == found()


@pytest.mark.parametrize(
    ("takes_budget", "takes_reporter", "expected"),
    [(True, False, RUNGS), (False, True, RUNGS), (False, False, ())],
    ids=["promotion", "stopping", "single"],
)
def test_the_sampler_hears_of_the_rungs(
    takes_budget: bool, takes_reporter: bool, expected: tuple[int, ...]
) -> None:
    """Where trials are compared at rungs, also behind initial points."""
    optimizer = GP()
    asha = Asha(3, 1, 9, sampler=optimizer).with_sampler(partial(Initial, [{"x": 0.5}]))
    asha.start(
        SearchContext(
            searchspace=PLANE,
            num_trials=9,
            num_workers=1,
            seed=0,
            takes_budget=takes_budget,
            takes_reporter=takes_reporter,
        )
    )
    assert optimizer._context.rungs == expected
