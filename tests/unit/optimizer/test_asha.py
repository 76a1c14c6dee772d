"""ASHA: its rungs, its three variants, its options, and what it tells its sampler."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest

from maggy import OptimizationConfig, Searchspace
from maggy.contracts import Fidelity, MultiFidelityOptimizer, Optimizer, SearchContext
from maggy.errors import ConfigError
from maggy.optimizer import Asha, GridSearch, Hyperband, Initial, RandomSearch
from maggy.optimizer._rungs import Brackets, Rung, RungRule, milestones, one_round
from maggy.testing.optimizers import OptimizerContract, Rehearsal
from maggy.testing.policies import PolicyContract
from maggy.trial import Exhausted, Suggestion, Trial, TrialStatus, Wait

SPACE = Searchspace(x=("DOUBLE", [0.0, 1.0]))


def context(num_trials: int | None = 8, **options: Any) -> SearchContext:
    return SearchContext(
        searchspace=SPACE, num_trials=num_trials, num_workers=2, seed=0, **options
    )


def rng(number: int = 0) -> np.random.Generator:
    return np.random.default_rng(number)


class TestAsha(OptimizerContract):
    """ASHA with random search, by promotion, keeps the contract of an optimizer."""

    def make_optimizer(self) -> Optimizer:
        return Asha()


class TestAshaStopping(OptimizerContract):
    """ASHA that stops at rungs proposes like its sampler."""

    def make_optimizer(self) -> Optimizer:
        return Asha(mode="stopping")


class TestAshaOfGridSearch(OptimizerContract):
    """Any optimizer can be the sampler."""

    def make_optimizer(self) -> Optimizer:
        return Asha(3, 2, 18, brackets=2, sampler=GridSearch())


class TestRungRule(PolicyContract):
    """The rungs judge as a stopping policy does."""

    def policy(self) -> RungRule:
        return RungRule(2, (1, 2, 4, 8), Brackets(1, 2, 4))


# Rungs


@pytest.mark.parametrize(
    ("numbers", "rungs"),
    [
        ((2, 1, 4), (1, 2, 4)),
        ((3, 1, 10), (1, 3, 9, 10)),
        ((3, 1, 243), (1, 3, 9, 27, 81, 243)),
        ((10, 1, 1000), (1, 10, 100, 1000)),
        ((2, 5, 5), (5,)),
        ((4, 3, 100), (3, 12, 48, 100)),
    ],
)
def test_rungs_are_whole_and_end_exactly_at_the_maximum(numbers: Any, rungs: Any) -> None:
    """No logarithm, hence no rounding: 243 is the fifth power of 3."""
    assert Asha(*numbers).milestones == rungs
    factor, low, high = numbers
    assert milestones(factor, low, high) == rungs


def arrived(factor: int, losses: list[float], *, exact: bool = False) -> Rung:
    rung = Rung(factor, exact=exact)
    for trial, loss in enumerate(losses):
        rung.arrive(trial, loss)
    return rung


def promoted(rung: Rung) -> list[int]:
    """All that are due, the first first."""
    due = []
    while (trial := rung.promotable()) is not None:
        due.append(trial)
        rung.promote(trial)
    return due


def test_a_rung_promotes_whoever_no_more_than_a_share_is_better_than() -> None:
    """Of three, rank 0 and 1, the earlier of equals first; a failed one counts and stays."""
    assert promoted(arrived(3, [3.0, 1.0])) == []
    assert promoted(arrived(3, [3.0, 1.0, math.inf])) == [1, 0]
    assert promoted(arrived(3, [math.inf, math.inf, 2.0])) == [2]
    assert promoted(arrived(3, [2.0, 2.0, 2.0, 2.0])) == [0, 1]


def test_a_later_trial_goes_on_whoever_went_on_before() -> None:
    """Rank decides: those that were promoted early keep no better one from it."""
    rung = arrived(3, [3.0, 2.0, 4.0])
    assert promoted(rung) == [1, 0]
    rung.arrive(3, 1.0)
    rung.arrive(3, 9.0)
    assert promoted(rung) == [3]
    rung.arrive(4, 2.5)
    assert promoted(rung) == [], "two are better, of five"
    rung.arrive(5, 5.0)
    assert promoted(rung) == [4], "two are better, of six"


def test_an_exact_rung_promotes_its_share_and_no_more() -> None:
    """One in three, whatever came early; none twice."""
    rung = arrived(3, [3.0, 1.0, math.inf], exact=True)
    assert rung.promotable() == 1
    rung.promote(1)
    assert promoted(rung) == []
    for trial in (3, 4):
        rung.arrive(trial, 0.5)
        assert promoted(rung) == []
    rung.arrive(5, 2.0)
    assert promoted(rung) == [3]


@pytest.mark.parametrize("exact", [False, True])
def test_the_last_call_promotes_one_however_few_there_are(exact: bool) -> None:
    """But only one, and only a trial with a loss."""
    rung = arrived(4, [], exact=exact)
    assert rung.promotable(last_call=True) is None
    rung.arrive(7, math.inf)
    assert rung.promotable(last_call=True) is None
    rung.arrive(8, 1.0)
    rung.arrive(9, 2.0)
    assert rung.promotable() is None
    assert rung.promotable(last_call=True) == 8
    rung.promote(8)
    assert rung.promotable(last_call=True) is None


@pytest.mark.parametrize(
    ("made", "configurations"),
    [
        (Asha(), 4),
        (Asha(3, 1, 10), 9),
        (Asha(4, 1, 81), 64),
        (Asha(2, 5, 5), 1),
        (Asha(2, 3, 4), 1),
        (Asha(3, 1, 81, brackets=2), 81 + 34),
        (Hyperband(3, 1, 81), 81 + 34 + 15 + 8 + 5),
    ],
)
def test_one_round_is_that_of_the_book(made: Asha, configurations: int) -> None:
    """Only whole steps count, and a bracket more counts its own (Li et al. 2018, table 1)."""
    assert one_round(made.reduction_factor, made.milestones, made.brackets) == configurations


def test_trials_are_dealt_out_in_the_proportions_of_hyperband() -> None:
    """With R = 81 and factor 3 a round is 81, 34, 15, 8 and 5 trials (Li et al. 2018, table 1)."""
    brackets = Brackets(5, 3, 5)
    assert brackets.weights == (81, 34, 15, 8, 5)
    dealt = [brackets.of(trial) for trial in range(143)]
    assert [dealt.count(bracket) for bracket in range(5)] == [81, 34, 15, 8, 5]
    assert [Brackets(5, 3, 5).of(trial) for trial in (142, 3, 0)] == [dealt[142], dealt[3], 0]


# Options


def test_the_arguments_are_those_of_the_documentation() -> None:
    """Reduction factor, minimum and maximum by position; 2, 1, 4 by default; numpy's ints too."""
    asha = Asha(3, np.int64(1), 10)  # type: ignore[arg-type]
    assert (asha.reduction_factor, asha.resource_min, asha.resource_max) == (3, 1, 10)
    assert type(asha.resource_min) is int
    assert Asha().milestones == (1, 2, 4)
    assert repr(Asha(brackets=2)) == (
        "Asha(2, 1, 4, mode='auto', brackets=2, sampler=RandomSearch(sampling='uniform'))"
    )
    assert isinstance(Asha(), MultiFidelityOptimizer)
    assert not isinstance(RandomSearch(), MultiFidelityOptimizer)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reduction_factor": 1}, "`reduction_factor` must be a whole number >= 2, but got 1"),
        ({"reduction_factor": 2.5}, "`reduction_factor` must be a whole number >= 2, but got 2.5"),
        ({"reduction_factor": True}, "`reduction_factor`"),
        ({"resource_min": 0}, "`resource_min` must be a whole number >= 1"),
        ({"resource_min": 0.5}, "`resource_min` must be a whole number >= 1"),
        ({"resource_max": "9"}, "`resource_max` must be a whole number >= 1, but got '9'"),
        ({"resource_min": 5}, "`resource_min <= resource_max` must hold, but got resource_min=5"),
        ({"mode": "promote"}, "Did you mean 'promotion'"),
        ({"brackets": 0}, "`brackets` must be a whole number >= 1"),
        ({"brackets": 4}, "at most the number of rungs, 3 \\(1, 2, 4\\), but got 4"),
        ({"sampler": "random"}, "no optimizer is called 'random'"),
        ({"sampler": RandomSearch}, "Write RandomSearch\\(\\)"),
        ({"sampler": Asha()}, "hands out budgets itself"),
        ({"sampler": "hyperband"}, "hands out budgets itself"),
    ],
)
def test_wrong_options_are_refused(options: Any, message: str) -> None:
    """At once, with what was given."""
    with pytest.raises(ConfigError, match=message):
        Asha(**options)


# Variants


@pytest.mark.parametrize(
    ("mode", "budget", "reporter", "fidelity"),
    [
        ("auto", True, True, Fidelity.PROMOTION),
        ("auto", True, False, Fidelity.PROMOTION),
        ("auto", False, True, Fidelity.STOPPING),
        ("auto", False, False, Fidelity.SINGLE),
        ("promotion", True, True, Fidelity.PROMOTION),
        ("stopping", True, True, Fidelity.STOPPING),
        ("stopping", False, True, Fidelity.STOPPING),
    ],
)
def test_the_training_function_decides(
    mode: Any, budget: bool, reporter: bool, fidelity: Fidelity
) -> None:
    """What it takes, unless a mode is forced."""
    asha = Asha(mode=mode)
    asha.start(context(takes_budget=budget, takes_reporter=reporter))
    assert asha.fidelity is fidelity
    assert (asha.rungs is not None) == (fidelity is Fidelity.STOPPING)


@pytest.mark.parametrize(
    ("budget", "reporter", "words"),
    [
        (True, True, "at 1, 2, 4; a promoted one goes on from its checkpoint, or without one"),
        (True, False, "at 1, 2, 4; a promoted one trains again from the start"),
        (False, True, "at 1, 2, 4; one that is not among the best there is stopped"),
        (False, False, "once, as if to 4"),
    ],
)
def test_it_says_once_what_becomes_of_trials(budget: bool, reporter: bool, words: str) -> None:
    """Before the sampler has its say."""
    asha = Asha(sampler="gridsearch")
    asha.start(context(takes_budget=budget, takes_reporter=reporter))
    first, second = asha.notes
    assert words in first
    assert "Grid of" in second


@pytest.mark.parametrize(("mode", "missing"), [("promotion", "budget"), ("stopping", "reporter")])
def test_a_forced_mode_needs_its_parameter(mode: Any, missing: str) -> None:
    """The message names it."""
    with pytest.raises(ConfigError, match=f"takes `{missing}`"):
        Asha(mode=mode).start(context(takes_budget=False, takes_reporter=False))


@pytest.mark.parametrize("reporter", [False, True])
def test_without_promotions_every_trial_may_use_the_largest_budget(reporter: bool) -> None:
    """Judged at the rungs or not at all, it is one run, and the sampler hears of it as it is."""
    asha = Asha(sampler=Recorder())
    asha.start(context(takes_budget=False, takes_reporter=reporter))
    answer = asha.ask(0, [], rng())
    assert isinstance(answer, Suggestion)
    assert (answer.budget, answer.continues) == (4, None)
    trial = ended(0, 1.0, 4)
    asha.tell(trial)
    assert isinstance(asha.sampler, Recorder)
    assert asha.sampler.told == [trial]


def test_one_object_serves_two_searches() -> None:
    """``start`` begins anew."""
    asha = Asha()
    first = Rehearsal(asha, SPACE, num_trials=6).run(100)
    assert Rehearsal(asha, SPACE, num_trials=6).run(100) == first


def test_a_sampler_that_ends_ends_the_search_after_its_promotions() -> None:
    """Three points on a grid: 3 runs at 1, the best two at 3, one at 9, then the reason."""
    space = Searchspace(k=("INTEGER", [1, 3]))
    rehearsal = Rehearsal(Asha(3, 1, 9, sampler="gridsearch"), space, num_trials=None)
    suggestions = rehearsal.run(100)
    assert [suggestion.budget for suggestion in suggestions] == [1, 1, 1, 3, 3, 9]
    answer = rehearsal.ask()
    assert isinstance(answer, Exhausted)
    assert "grid is complete" in answer.reason


def test_it_waits_while_a_promotion_may_become_due() -> None:
    """All are started and one runs: nothing is promoted, nothing is new, nothing is over."""
    rehearsal = Rehearsal(Asha(4, 1, 4), SPACE, num_trials=2)
    rehearsal.ask()
    rehearsal.ask()
    rehearsal.complete(rehearsal.pending[0], 1.0)
    assert rehearsal.ask() == Wait()
    rehearsal.complete(rehearsal.pending[0], 2.0)
    answer = rehearsal.ask()
    assert isinstance(answer, Suggestion)
    assert (answer.continues, answer.budget) == (0, 4)


def test_a_pending_trial_that_vanishes_is_not_waited_for() -> None:
    """What is under way is what ``ask`` is shown."""
    asha = Asha()
    asha.start(context(num_trials=2))
    trial = Trial(id=0, hparams={"x": 0.5}, budget=1, status=TrialStatus.RUNNING)
    asha.ask(1, [trial], rng())
    asha.ask(1, [], rng())
    asha.tell(ended(1, 1.0, 1))
    answer = asha.ask(2, [], rng())
    assert isinstance(answer, Suggestion)
    assert answer.continues == 1


def test_initial_points_are_new_configurations_of_asha() -> None:
    """They start at the first rung like others, and are promoted like others."""
    asha = Asha()
    config = OptimizationConfig(
        searchspace=SPACE, num_trials=4, optimizer=asha, initial=[{"x": 0.25}, {"x": 0.5}]
    )
    optimizer = config.build_optimizer()
    assert isinstance(optimizer, Asha)
    assert isinstance(optimizer.sampler, Initial)
    assert isinstance(asha.sampler, RandomSearch), "the user's own object is left as it is"
    suggestions = Rehearsal(optimizer, SPACE, num_trials=4).run(100)
    assert [s.hparams["x"] for s in suggestions[:2]] == [0.25, 0.5]
    assert [s.budget for s in suggestions].count(4) == 1
    assert len(optimizer.notes) == 1


@pytest.mark.parametrize(
    ("optimizer", "explicit", "policy"),
    [
        ("asha", None, "none"),
        (Hyperband(), None, "none"),
        ("asha", "median", "median"),
        ("randomsearch", None, "median"),
    ],
)
def test_asha_stops_trials_itself(optimizer: Any, explicit: Any, policy: str) -> None:
    """So the median rule is its default no more; an explicit policy always applies."""
    config = OptimizationConfig(
        searchspace=SPACE, num_trials=4, optimizer=optimizer, es_policy=explicit
    )
    assert config.describe()["es_policy"] == policy
    assert (config.build_policy() is None) == (policy == "none")


# Stopping


def running(number: int, losses: list[float], first: int = 1) -> Trial:
    steps = list(range(first, first + len(losses)))
    return Trial(id=number, hparams={}, status=TrialStatus.RUNNING, steps=steps, losses=losses)


def rule(factor: int = 2, rungs: tuple[int, ...] = (1, 2, 4)) -> RungRule:
    return RungRule(factor, rungs, Brackets(1, factor, len(rungs)))


def test_first_arrivals_and_the_best_so_far_go_on() -> None:
    """One that too many are better than stops; its threshold is the loss it had to reach."""
    judge = rule(3)
    assert not judge.decide(running(0, [5.0])).stop
    assert not judge.decide(running(1, [4.0])).stop
    assert judge.decide(running(2, [6.0])).stop, "two of three are better"
    decision = judge.decide(running(3, [5.5]))
    assert decision.stop
    assert not decision.complete
    assert decision.threshold == 5.0
    assert decision.reason.format(**decision.losses) == (
        "its value 5.5 at 1 is not among the best 2 of 4 that got there; the last of those has 5.0"
    )
    assert not judge.decide(running(4, [4.5])).stop, "one of five is better"


def test_one_that_is_as_good_as_the_last_that_may_goes_on() -> None:
    """In any order, for only the better ones count."""
    judge = rule(3)
    for number in (4, 5, 3):
        assert not judge.decide(running(number, [1.0])).stop
    assert judge.decide(running(6, [2.0])).stop
    assert not judge.decide(running(7, [1.0])).stop


def test_between_rungs_nothing_is_judged() -> None:
    """However bad it becomes, until the next rung."""
    judge = rule(3, rungs=(1, 3, 9))
    judge.decide(running(0, [1.0, 1.0, 1.0]))
    assert not judge.decide(running(1, [0.5])).stop
    assert not judge.decide(running(1, [0.5, 9.0])).stop
    assert judge.decide(running(1, [0.5, 9.0, 9.0])).stop


@pytest.mark.parametrize("first", [0, 1])
def test_at_the_last_rung_a_trial_is_complete(first: int) -> None:
    """After four reports, whether they are counted from 0 or from 1; a mere stop it is not."""
    judge = rule()
    curve = [1.0, 0.9, 0.8, 0.7]
    ends = [judge.decide(running(0, curve[:n], first)).complete for n in range(1, 5)]
    assert ends == [False, False, False, True]


def test_reports_that_skip_a_rung_count_there() -> None:
    """With a report every five steps, the first one counts at 1, 2 and 4."""
    judge = rule(3, rungs=(1, 2, 4, 8))
    sparse = Trial(id=0, hparams={}, status=TrialStatus.RUNNING, steps=[5], losses=[1.0])
    assert not judge.decide(sparse).stop
    assert judge.decide(running(1, [2.0])).stop
    assert judge.decide(running(2, [0.5, 0.5, 0.5])).stop is False
    assert judge.decide(running(2, [0.5, 0.5, 0.5, 3.0])).stop


def test_a_trial_that_runs_again_is_not_judged_twice() -> None:
    """Its worker was lost: the rungs that it has passed are passed."""
    judge = rule()
    judge.decide(running(0, [1.0]))
    judge.decide(running(0, [1.0, 1.0]))
    for number in range(1, 4):
        judge.decide(running(number, [0.5]))
    assert not judge.decide(running(0, [7.0])).stop
    assert not judge.decide(running(0, [7.0, 7.0, 7.0])).stop


def test_a_single_rung_only_ends_trials() -> None:
    """With resource_min = resource_max nobody is judged, and everybody is complete there."""
    judge = rule(rungs=(3,))
    assert not judge.decide(running(0, [1.0, 1.0])).stop
    assert judge.decide(running(0, [1.0, 1.0, 1.0])).complete


# What the sampler learns


class Recorder(RandomSearch):
    """Random search that remembers what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Trial] = []

    def tell(self, trial: Trial) -> None:
        super().tell(trial)
        self.told.append(copy.deepcopy(trial))

    @property
    def known(self) -> dict[int, Trial]:
        """The newest of each trial."""
        return {trial.id: trial for trial in self.told}


def ended(number: int, loss: float | None, budget: int, **options: Any) -> Trial:
    status = TrialStatus.FAILED if loss is None else TrialStatus.COMPLETED
    return Trial(
        id=number,
        hparams={"x": number / 100},
        budget=budget,
        **{"status": status, "loss": loss, **options},
    )


def informed(story: list[Trial], **options: Any) -> Recorder:
    sampler = Recorder()
    asha = Asha(sampler=sampler, **options)
    asha.start(context())
    for trial in story:
        asha.tell(trial)
    return sampler


def test_the_sampler_learns_of_the_lowest_rung_first() -> None:
    """A promotion changes no loss before enough trials have got as far; only the curve grows."""
    first = [ended(number, float(number), 1) for number in range(12)]
    early = informed([*first, *(ended(number, -1.0, 2) for number in range(5))])
    assert [early.known[number].loss for number in range(12)] == [float(n) for n in range(12)]
    assert (early.known[4].steps, early.known[4].losses) == ([1, 2], [4.0, -1.0])
    assert {trial.status for trial in early.told} == {TrialStatus.COMPLETED}


def test_the_sampler_learns_of_the_highest_rung_with_enough_trials() -> None:
    """Six losses at 2: all are told anew, those below as stopped; six at 4: again."""
    first = [ended(number, float(number), 1) for number in range(12)]
    second = [ended(number, 10.0 + number, 2) for number in range(6)]
    sampler = informed([*first, *second])
    assert len(sampler.told) == 12 + 5 + 12
    assert [sampler.known[n].status.value for n in (0, 5, 6, 11)] == [
        *("completed", "completed", "stopped", "stopped")
    ]
    best = sampler.known[5]
    assert (best.loss, best.budget, best.steps, best.losses) == (15.0, 2, [1, 2], [5.0, 15.0])
    below = sampler.known[11]
    assert (below.loss, below.budget, below.steps, below.losses) == (11.0, 1, [1], [11.0])
    later = informed([*first, *second, ended(6, 16.0, 2), ended(0, 7.0, 4)])
    assert later.known[6].loss == 16.0
    assert later.known[0].loss == 10.0, "one at 4 are not enough"
    top = informed([*first, *second, *(ended(n, 20.0 + n, 4) for n in range(6))])
    assert (top.known[3].loss, top.known[3].steps) == (23.0, [1, 2, 4])


def test_failed_runs_are_told_as_what_they_mean() -> None:
    """One that failed before the rung that counts has failed; beyond it, its loss there stands."""
    first = [ended(number, float(number), 1) for number in range(7)]
    sampler = informed([*first, ended(7, None, 1), ended(2, None, 2)])
    assert (sampler.known[7].status, sampler.known[7].loss) == (TrialStatus.FAILED, None)
    assert (sampler.known[2].status, sampler.known[2].loss) == (TrialStatus.COMPLETED, 2.0)
    assert len([trial for trial in sampler.told if trial.id == 2]) == 1


def test_trials_of_higher_brackets_count_with_what_they_have() -> None:
    """They were never at the lowest rung: their first loss is what is known of them."""
    asha = Asha(brackets=3, sampler=Recorder())
    asha.start(context())
    number = next(n for n in range(99) if asha._brackets.of(n) == 2)
    asha.tell(ended(number, 3.0, 4))
    assert isinstance(asha.sampler, Recorder)
    (told,) = asha.sampler.told
    assert (told.status, told.loss, told.steps) == (TrialStatus.COMPLETED, 3.0, [4])
