"""ASHA against a naive reading of its rules, in every order of arrival."""

from __future__ import annotations

import itertools
import math
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maggy import OptimizationConfig, Searchspace, experiment
from maggy.contracts import SearchContext
from maggy.optimizer import Asha, Hyperband, RandomSearch
from maggy.trial import Exhausted, Suggestion, Trial, TrialError, TrialStatus, Wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SPACE = Searchspace(x=("DOUBLE", [0.0, 1.0]))
ERROR = TrialError(type="ValueError", message="no")

Loss = float | None
"""None: the run fails."""


class Reference:
    """One bracket by the letter of the rules; every question looks at everything."""

    def __init__(self, factor: int, rungs: tuple[int, ...], num_trials: int) -> None:
        self.factor = factor
        self.rungs = rungs
        self.num_trials = num_trials
        powers = (factor**power for power in range(len(rungs)))
        self.exact = num_trials == max(power for power in powers if rungs[0] * power <= rungs[-1])
        self.started = 0
        self.running: dict[int, int] = {}
        self.arrived: list[dict[int, Loss]] = [{} for _ in rungs]
        self.promoted: list[set[int]] = [set() for _ in rungs]

    def ask(self) -> tuple[int, int] | str:
        """A trial and the rung that it is to reach, or "wait" or "end"."""
        below_top = list(reversed(range(len(self.rungs) - 1)))
        for rung in below_top:
            for trial in self.ranked(rung):
                if self.due(rung, trial):
                    return self.start(trial, rung + 1)
        if self.started < self.num_trials:
            self.started += 1
            return self.start(self.started - 1, 0)
        for rung in below_top:
            closed = all(where > rung for where in self.running.values())
            for trial in self.ranked(rung) if closed and not self.promoted[rung] else ():
                if self.arrived[rung][trial] is not None:
                    return self.start(trial, rung + 1)
        return "wait" if self.running else "end"

    def tell(self, trial: int, loss: Loss) -> None:
        """A run ended."""
        self.arrived[self.running.pop(trial)][trial] = loss

    def ranked(self, rung: int) -> list[int]:
        """Best first, failed ones last, earlier trials first among equals."""
        losses = self.arrived[rung]
        ends = [(math.inf if loss is None else loss, trial) for trial, loss in losses.items()]
        return [trial for _, trial in sorted(ends)]

    def due(self, rung: int, trial: int) -> bool:
        """Whether it goes on, by those that have arrived."""
        if self.arrived[rung][trial] is None or trial in self.promoted[rung]:
            return False
        count, rank = len(self.arrived[rung]), self.ranked(rung).index(trial)
        if self.exact:
            share = count // self.factor
            return rank < share and len(self.promoted[rung]) < share
        return rank <= count / self.factor and count >= self.factor

    def start(self, trial: int, rung: int) -> tuple[int, int]:
        if rung:
            self.promoted[rung - 1].add(trial)
        self.running[trial] = rung
        return trial, rung


class Lab:
    """A search without an engine: runs ``workers`` trials at a time and ends them in any order."""

    def __init__(self, asha: Asha, num_trials: int | None, space: Searchspace = SPACE) -> None:
        self.asha = asha
        self.trials: list[Trial] = []
        self.pending: list[Trial] = []
        self.told: list[Trial] = []
        asha.start(SearchContext(searchspace=space, num_trials=num_trials, num_workers=2, seed=0))

    def ask(self) -> Suggestion | Wait | Exhausted:
        """The next answer, carried out."""
        number = len(self.trials)
        answer = self.asha.ask(number, list(self.pending), np.random.default_rng([0, number]))
        if isinstance(answer, Suggestion):
            if answer.continues is None:
                trial = Trial(id=number, hparams=answer.hparams, budget=answer.budget)
                self.trials.append(trial)
            else:
                trial = self.trials[answer.continues]
                assert trial.status is TrialStatus.COMPLETED
                assert trial.hparams == answer.hparams
                trial.continue_to(answer.budget)
            trial.status = TrialStatus.RUNNING
            self.pending.append(trial)
        return answer

    def end(self, trial: Trial, loss: Loss) -> None:
        """A run ends, with a loss or as failed."""
        self.pending.remove(trial)
        trial.status = TrialStatus.FAILED if loss is None else TrialStatus.COMPLETED
        trial.loss = loss
        self.told.append(trial.snapshot())
        self.asha.tell(trial)

    def run(self, workers: int, rng: random.Random, loss: Callable[[Trial], Loss]) -> Exhausted:
        """To the end of the search."""
        while True:
            answer = self.ask()
            if isinstance(answer, Exhausted):
                assert not self.pending
                return answer
            assert self.pending, "it waits for nothing"
            if isinstance(answer, Wait) or len(self.pending) >= workers:
                trial = rng.choice(self.pending)
                self.end(trial, loss(trial))

    def runs_at(self, budget: int) -> set[int]:
        """The trials that ended a run with this budget."""
        ids = [trial.id for trial in self.told if trial.budget == budget]
        assert len(ids) == len(set(ids)), "a trial twice at one rung"
        return set(ids)


def chance(rng: random.Random, failures: float = 0.0) -> Callable[[Trial], Loss]:
    """Losses by chance; this share of the runs fails."""
    return lambda _: None if rng.random() < failures else rng.random()


@settings(max_examples=150, deadline=None)
@given(
    factor=st.integers(2, 4),
    top=st.integers(1, 70),
    num_trials=st.integers(1, 25) | st.sampled_from([2, 3, 4, 8, 9, 16]),
    workers=st.integers(1, 8),
    direction=st.sampled_from(["max", "min"]),
    data=st.data(),
)
def test_asha_follows_its_rules(
    factor: int, top: int, num_trials: int, workers: int, direction: str, data: Any
) -> None:
    """Through the real machine, each answer is that of the rules: ties, failures, any order."""
    asha = Asha(factor, 1, top)
    config = OptimizationConfig(
        searchspace=SPACE, num_trials=num_trials, optimizer=asha, direction=direction, seed=1
    )
    sign = -1 if direction == "max" else 1
    search: Any = experiment.ask_tell(config)
    reference = Reference(factor, asha.milestones, num_trials)
    running: list[Any] = []
    while not search.done:
        trial = search.ask() if len(running) < workers else None
        if trial is not None:
            expected = reference.ask()
            assert (trial.id, asha.milestones.index(trial.budget)) == expected
            running.append(trial)
            continue
        if len(running) < workers:
            assert reference.ask() == ("end" if search.done else "wait")
        if search.done:
            break
        trial = running.pop(data.draw(st.integers(0, len(running) - 1)))
        loss = data.draw(st.none() | st.integers(0, 5))
        reference.tell(trial.id, loss)
        if loss is None:
            search.tell(trial, error="no")
        else:
            search.tell(trial, value=sign * float(loss))
    assert reference.ask() == "end"
    result = search.result
    assert result["num_trials"] == num_trials
    check_result(result, reference, sign)


def check_result(result: Any, reference: Reference, sign: int) -> None:
    """The best are those at the highest rung with a value, and each trial says how far it came."""
    finite = [{t: x for t, x in rung.items() if x is not None} for rung in reference.arrived]
    reached = [(k, rung) for k, rung in enumerate(finite) if rung]
    if not reached:
        assert result["best_id"] is None
        return
    _, highest = reached[-1]
    best = min(highest, key=lambda trial: (highest[trial], trial))
    assert (result["best_id"], result["best_val"]) == (best, sign * highest[best])
    assert result["avg"] == pytest.approx(sign * sum(highest.values()) / len(highest))
    for trial in result.trials:
        mine = [k for k, rung in reached if trial.id in rung]
        assert trial.budget == (reference.rungs[mine[-1]] if mine else None)
        assert trial.value == (sign * finite[mine[-1]][trial.id] if mine else None)
        assert trial.runs == sum(trial.id in rung for rung in reference.arrived)


def every_setting() -> Iterator[tuple[int, int, int, int]]:
    return itertools.product(range(1, 31), range(2, 5), range(5), (1, 2, 3, 8))


def test_asha_finishes_for_every_setting() -> None:
    """One trial at least reaches the top, none twice; one round has exactly its shares."""
    for num_trials, factor, height, workers in every_setting():
        rng = random.Random(num_trials)
        lab = Lab(Asha(factor, 1, factor**height), num_trials)
        lab.run(workers, rng, chance(rng))
        sizes = [len(lab.runs_at(budget)) for budget in lab.asha.milestones]
        assert sizes[0] == num_trials
        assert sizes[-1] >= 1
        for below, size in itertools.pairwise(sizes):
            assert 1 <= size <= below
        if num_trials == factor**height:
            assert sizes == [factor**rung for rung in range(height, -1, -1)]


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_asha_with_the_documented_default(workers: int) -> None:
    """Asha(2, 1, 4) with num_trials=4: exactly 4 configurations at 1, 2 at 2, 1 at 4."""
    for seed in range(20):
        rng = random.Random(seed)
        lab = Lab(Asha(2, 1, 4), 4)
        answer = lab.run(workers, rng, chance(rng))
        assert [len(lab.runs_at(budget)) for budget in (1, 2, 4)] == [4, 2, 1]
        assert "1 got the largest budget, 4" in answer.reason


@pytest.mark.parametrize("round_", [1, 2, 5])
def test_one_round_has_the_sizes_of_successive_halving(round_: int) -> None:
    """9, 3, 1 in any order; in larger searches the best of a stable ranking gets to the top."""
    for seed, workers in itertools.product(range(20), (1, 4)):
        quality = random.Random(seed).sample(range(9 * round_), 9 * round_)
        lab = Lab(Asha(3, 1, 9), len(quality))
        lab.run(workers, random.Random(seed), lambda trial: quality[trial.id])  # noqa: B023 - used up
        sizes = [len(lab.runs_at(budget)) for budget in (1, 3, 9)]
        if round_ == 1:
            assert sizes == [9, 3, 1]
        if round_ > 1 or workers == 1:
            assert quality.index(0) in lab.runs_at(9)


@pytest.mark.parametrize(
    ("made", "one_round"),
    [(Asha(3, 1, 27, brackets=2), 39), (Hyperband(2, 1, 8), 22)],
    ids=["two", "hyperband"],
)
@pytest.mark.parametrize("more", [False, True])
def test_brackets_end_and_keep_apart(made: Asha, one_round: int, more: bool) -> None:
    """Each bracket starts at its own rung, and promotes by its own trials alone."""
    num_trials = 2 * one_round if more else one_round
    for seed, workers in itertools.product(range(10), (1, 3, 8)):
        rng = random.Random(seed)
        lab = Lab(made, num_trials)
        lab.run(workers, rng, chance(rng, failures=0.5))
        asha, brackets = lab.asha, lab.asha._brackets
        for bracket in range(asha.brackets):
            mine = {trial.id for trial in lab.trials if brackets.of(trial.id) == bracket}
            sizes = [len(lab.runs_at(budget) & mine) for budget in asha.milestones]
            assert sizes[:bracket] == [0] * bracket
            assert sizes[bracket] == len(mine)
            for below, size in itertools.pairwise(sizes[bracket:]):
                share = below // asha.reduction_factor
                assert size <= (below if more else max(1, share))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 8), st.integers(1, 3), st.floats(0, 1))
def test_asha_goes_on_from_the_log(seed: int, workers: int, brackets: int, share: float) -> None:
    """A new object that is told the same ends, and shown who is pending, goes on alike."""
    rng = random.Random(seed)
    lab = Lab(Asha(2, 1, 8, brackets=brackets), 15)
    for _ in range(int(60 * share)):
        answer = lab.ask() if len(lab.pending) < workers else Wait()
        if isinstance(answer, Exhausted):
            break
        if isinstance(answer, Wait):
            trial = rng.choice(lab.pending)
            lab.end(trial, rng.choice([None, rng.random(), rng.random()]))
    again = Lab(Asha(2, 1, 8, brackets=brackets), 15)
    for told in lab.told:
        again.asha.tell(told)
    again.trials = [trial.snapshot() for trial in lab.trials]
    again.pending = [again.trials[trial.id] for trial in lab.pending]
    for _ in range(3):
        assert again.ask() == lab.ask()


def test_asha_is_quick() -> None:
    """10,000 configurations on 64 workers: no answer looks at all that happened before."""
    rng = random.Random(0)
    lab = Lab(Asha(4, 1, 64, sampler=RandomSearch()), 10_000)
    lab.run(64, rng, chance(rng))
    sizes = [len(lab.runs_at(budget)) for budget in (1, 4, 16, 64)]
    assert sizes[0] == 10_000
    for below, size in itertools.pairwise(sizes):
        assert below / 4 <= size <= below / 4 + 4 * math.sqrt(below), "some sqrt(n) by chance"


@settings(max_examples=100, deadline=None)
@given(
    factor=st.integers(2, 4),
    top=st.integers(1, 20),
    first=st.integers(0, 1),
    direction=st.sampled_from(["max", "min"]),
    data=st.data(),
)
def test_asha_stops_by_its_rules(
    factor: int, top: int, first: int, direction: str, data: Any
) -> None:
    """Reports of any trials in any order: whoever more than n / eta are better than is stopped."""
    asha = Asha(factor, 1, top, mode="stopping")
    config = OptimizationConfig(
        searchspace=SPACE, num_trials=6, optimizer=asha, direction=direction, seed=1
    )
    sign = -1 if direction == "max" else 1
    search = experiment.ask_tell(config)
    running = {trial.id: trial for trial in (search.ask() for _ in range(6)) if trial is not None}
    curves: dict[int, list[int]] = {number: [] for number in running}
    arrived: dict[int, list[int]] = {}
    complete = {}
    while running:
        number = data.draw(st.sampled_from(sorted(running)))
        loss = data.draw(st.integers(0, 4))
        curve = curves[number]
        curve.append(loss)
        wanted = False
        if len(curve) == top:
            wanted, complete[number] = True, loss
        elif len(curve) in asha.milestones:
            rung = arrived.setdefault(len(curve), [])
            rung.append(loss)
            wanted = sum(other < loss for other in rung) > len(rung) / factor
        step = len(curve) - 1 + first
        assert search.report(running[number], step, sign * float(loss)) == wanted
        if wanted:
            search.tell(running.pop(number))
    result = search.result
    status = {trial.id: trial.status for trial in result.trials}
    assert {number for number in status if status[number] == "completed"} == set(complete)
    for trial in result.trials:
        assert (trial.value, trial.budget) == (sign * curves[trial.id][-1], len(curves[trial.id]))
    assert complete, "the best so far always goes on"
    assert sign * result["best_val"] == min(complete.values())
