"""The contract of an optimizer as tests: subclass ``OptimizerContract`` and run pytest.

    class TestMine(OptimizerContract):
        def make_optimizer(self) -> Optimizer:
            return Mine()

It covers what every search relies on, and nothing about how good the suggestions are.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from maggy.contracts import SearchContext
from maggy.searchspace import Categorical, Discrete, Double, Integer, Searchspace
from maggy.trial import Exhausted, Suggestion, Trial, TrialError, TrialStatus, Wait

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from maggy.contracts import Optimizer

__all__ = ["OptimizerContract", "Rehearsal", "example_spaces"]

_FAILURE = TrialError(type="RuntimeError", message="out of memory")


def example_spaces() -> dict[str, Searchspace]:
    """Spaces that between them have every kind, option, condition and constraint."""
    x = Double(0.0, 1.0)
    conditional = Searchspace(
        optimizer=Categorical(["adam", "sgd", None]),
        momentum=Double(0.0, 0.99, when={"optimizer": "sgd"}),
        nesterov=Categorical([True, False], when={"optimizer": ["sgd", "adam"]}),
        lag=Integer(1, 5, when={"nesterov": True, "optimizer": "sgd"}),
        lr=Double(1e-5, 1e-1, log=True),
    )
    return {
        "double": Searchspace(x=Double(-5.0, 10.0)),
        "double-log": Searchspace(x=Double(1e-5, 1e-1, log=True)),
        "double-step": Searchspace(x=Double(0.1, 0.95, step=0.1), y=x),
        "integer": Searchspace(x=Integer(-3, 300), y=x),
        "integer-log": Searchspace(x=Integer(1, 1000, log=True), y=x),
        "integer-step": Searchspace(x=Integer(8, 64, step=8), y=x),
        "discrete": Searchspace(x=Discrete([0.5, 1, 2.5, 10]), y=x),
        "categorical": Searchspace(x=Categorical(["relu", None, True, 1, 1.0, (3, "same")]), y=x),
        "constants": Searchspace(
            x=Double(2.0, 2.0), y=x, z=Categorical(["only"]), w=Integer(7, 7)
        ),
        "conditions": conditional,
        "constraints": Searchspace(
            kernel=Integer(2, 40), pool=Integer(2, 40), x=x
        ).with_constraints(["pool < kernel", lambda hparams: hparams["x"] > 0.05]),
        "both": conditional.with_constraints(
            ["momentum < 0.9", "lr < 0.01 or optimizer == 'sgd'"]
        ),
    }


def _mean(point: Sequence[float]) -> float:
    return float(np.mean(point))


class Rehearsal:
    """A search without workers: hands out trials, ends them as it is told, checks each suggestion.

    Args:
        optimizer: A fresh optimizer; it is started.
        space: What to search.
        num_trials: What the optimizer is told to expect.
        seed: Of the run.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        space: Searchspace,
        *,
        num_trials: int | None = 30,
        seed: int = 0,
    ) -> None:
        self.optimizer = optimizer
        self.space = space
        self.seed = seed
        self.trials: dict[int, Trial] = {}
        self.pending: list[Trial] = []
        self.told: list[Trial] = []
        self.suggestions: list[Suggestion] = []
        self._known: set[Hashable] = set()
        context = SearchContext(searchspace=space, num_trials=num_trials, num_workers=4, seed=seed)
        optimizer.start(context)

    def ask(self) -> Suggestion | Wait | Exhausted:
        """Ask once; a suggestion is checked and becomes a pending trial."""
        number = len(self.trials)
        rng = np.random.default_rng([self.seed, number])
        answer = self.optimizer.ask(number, list(self.pending), rng)
        if isinstance(answer, Suggestion):
            self._accept(answer)
        else:
            assert isinstance(answer, Wait | Exhausted), f"ask returned {answer!r}"
        return answer

    def complete(self, trial: Trial, loss: float) -> None:
        """End a trial with this loss."""
        trial.steps.append(len(trial.steps) + 1)
        trial.losses.append(loss)
        self._end(trial, TrialStatus.COMPLETED, loss=loss)

    def stop(self, trial: Trial, losses: Sequence[float]) -> None:
        """End a trial early, after these losses at steps 1, 2, ..."""
        trial.steps[:] = range(1, len(losses) + 1)
        trial.losses[:] = losses
        self._end(trial, TrialStatus.STOPPED, loss=losses[-1] if losses else None)

    def fail(self, trial: Trial) -> None:
        """End a trial with an error."""
        self._end(trial, TrialStatus.FAILED, error=_FAILURE)

    def run(
        self,
        count: int,
        end: Callable[[Rehearsal, Trial], None] | None = None,
        *,
        at_once: int = 1,
        newest_first: bool = False,
    ) -> list[Suggestion]:
        """Hand out suggestions until there are ``count`` or the search is exhausted; end them all.

        Args:
            count: How many suggestions.
            end: How a trial ends; default: with the mean of its coordinates in the unit cube.
            at_once: How many are pending at a time.
            newest_first: End trials in the opposite order.
        """
        finish = end or _complete_with_mean
        answer: Suggestion | Wait | Exhausted | None = None
        while len(self.suggestions) < count and not isinstance(answer, Exhausted):
            answer = self.ask()
            waits = isinstance(answer, Wait)
            assert self.pending or not waits, "waits although nothing is pending"
            if waits or len(self.pending) >= at_once:
                finish(self, self.pending[-1 if newest_first else 0])
        while self.pending:
            finish(self, self.pending[-1 if newest_first else 0])
        assert self.suggestions, f"nothing was suggested, but {answer!r}"
        return self.suggestions

    def _accept(self, suggestion: Suggestion) -> None:
        hparams = suggestion.hparams
        objection = self.space.objection(hparams)
        assert not objection, f"{hparams} was suggested: {objection}"
        json.dumps([hparams, suggestion.state], allow_nan=False)
        self.suggestions.append(suggestion)
        if suggestion.continues is not None:
            trial = self.trials[suggestion.continues]
            assert trial.status.ended, f"trial {trial.id} is continued while it runs"
            trial.status, trial.budget, trial.loss = TrialStatus.RUNNING, suggestion.budget, None
            trial.attempt += 1
        else:
            assert self.space.key(hparams) not in self._known, f"{hparams} was suggested twice"
            self._known.add(self.space.key(hparams))
            trial = Trial(
                id=len(self.trials),
                hparams=hparams,
                budget=suggestion.budget,
                status=TrialStatus.RUNNING,
            )
            self.trials[trial.id] = trial
        self.pending.append(trial)

    def _end(
        self,
        trial: Trial,
        status: TrialStatus,
        *,
        loss: float | None = None,
        error: TrialError | None = None,
    ) -> None:
        trial.status, trial.loss, trial.error = status, loss, error
        self.pending.remove(trial)
        self.told.append(trial.snapshot())
        self.optimizer.tell(trial)


def _complete_with_mean(rehearsal: Rehearsal, trial: Trial) -> None:
    rehearsal.complete(trial, _mean(rehearsal.space.encode(trial.hparams)))


class OptimizerContract:
    """What every optimizer has to do; subclasses provide ``make_optimizer``.

    Every suggestion in every test is checked: a member of the space in plain Python values, never
    the same configuration twice, a JSON state.
    """

    def make_optimizer(self) -> Optimizer:
        """A fresh optimizer, not started."""
        raise NotImplementedError

    @pytest.mark.parametrize("name", list(example_spaces()))
    def test_suggestions_are_members_of_the_space(self, name: str) -> None:
        """Kinds, options, conditions, constraints and constants are honoured in every trial."""
        space = example_spaces()[name]
        suggestions = Rehearsal(self.make_optimizer(), space).run(40, at_once=3)
        assert len(suggestions) > 1

    def test_a_constant_space_has_one_trial(self) -> None:
        """One configuration is proposed once, then the search is exhausted."""
        rehearsal = Rehearsal(self.make_optimizer(), Searchspace(x=Integer(3, 3)))
        rehearsal.run(100)
        assert len(rehearsal.trials) == 1
        assert rehearsal.trials[0].hparams == {"x": 3}

    @pytest.mark.parametrize("loss", [0.0, 1e300, -1e300])
    def test_equal_losses(self, loss: float) -> None:
        """A search whose trials all end with the same loss, however large, goes on."""
        space = example_spaces()["conditions"]
        rehearsal = Rehearsal(self.make_optimizer(), space)
        rehearsal.run(30, lambda search, trial: search.complete(trial, loss), at_once=2)
        assert len(rehearsal.suggestions) > 1

    def test_losses_of_every_size(self) -> None:
        """Losses from -1e300 to 1e300 in one search are survived."""
        losses = [1e300, -1e300, 0.0, 1e-300, 1.0]
        rehearsal = Rehearsal(self.make_optimizer(), example_spaces()["conditions"])
        rehearsal.run(30, lambda search, trial: search.complete(trial, losses[trial.id % 5]))
        assert len(rehearsal.suggestions) > 1

    @pytest.mark.parametrize("every", [1, 3])
    def test_failed_trials(self, every: int) -> None:
        """Trials that fail, some or all, end no search, and are not proposed again."""

        def end(search: Rehearsal, trial: Trial) -> None:
            if trial.id % every == 0:
                search.fail(trial)
            else:
                _complete_with_mean(search, trial)

        rehearsal = Rehearsal(self.make_optimizer(), example_spaces()["conditions"])
        rehearsal.run(30, end, at_once=3)
        assert len(rehearsal.suggestions) > 1

    def test_stopped_trials(self) -> None:
        """Trials that were stopped after some reports, or before the first, end no search."""

        def end(search: Rehearsal, trial: Trial) -> None:
            if trial.id % 2:
                search.stop(trial, [1.0, 0.9, 0.8][: trial.id % 4])
            elif trial.id % 8 == 0:
                search.stop(trial, [])
            else:
                _complete_with_mean(search, trial)

        rehearsal = Rehearsal(self.make_optimizer(), example_spaces()["conditions"])
        rehearsal.run(30, end, at_once=3)
        assert len(rehearsal.suggestions) > 1

    def test_trials_end_out_of_order(self) -> None:
        """Trials may end in any order."""
        rehearsal = Rehearsal(self.make_optimizer(), example_spaces()["both"])
        rehearsal.run(40, at_once=8, newest_first=True)
        assert len(rehearsal.suggestions) > 1

    def test_a_hundred_pending_trials(self) -> None:
        """A hundred workers are served, or told to wait, before the first trial has ended."""
        rehearsal = Rehearsal(self.make_optimizer(), example_spaces()["integer"], num_trials=100)
        answers = [rehearsal.ask() for _ in range(100)]
        assert isinstance(answers[0], Suggestion)
        assert len(rehearsal.pending) == sum(isinstance(item, Suggestion) for item in answers)

    def test_same_seed_same_trials(self) -> None:
        """Two searches with the same seed and the same losses propose the same."""
        space = example_spaces()["both"]
        first = Rehearsal(self.make_optimizer(), space, seed=7).run(30, at_once=4)
        second = Rehearsal(self.make_optimizer(), space, seed=7).run(30, at_once=4)
        assert first == second

    def test_a_finite_space_is_searched_to_its_end(self) -> None:
        """All 125 configurations are proposed, once each, then the search is exhausted."""
        space = Searchspace(
            x=Integer(1, 5), y=Discrete([1, 2, 4, 8, 16]), z=Categorical(["a", "b", "c", "d", "e"])
        )
        rehearsal = Rehearsal(self.make_optimizer(), space, num_trials=200)
        rehearsal.run(1000, at_once=4)
        assert len(rehearsal.trials) == 125
        answer = rehearsal.ask()
        assert isinstance(answer, Exhausted)
        assert answer.reason.endswith("."), "the reason must be a sentence"

    def test_replay_restores_the_optimizer(self) -> None:
        """A fresh optimizer that is told the same proposes the same next trial."""
        space = example_spaces()["both"]
        search = Rehearsal(self.make_optimizer(), space)
        search.run(12, at_once=5, newest_first=True)
        fresh = Rehearsal(self.make_optimizer(), space)
        for trial in search.told:
            fresh.optimizer.tell(trial)
        fresh.trials = {number: replace(trial) for number, trial in search.trials.items()}
        assert [fresh.ask() for _ in range(3)] == [search.ask() for _ in range(3)]
