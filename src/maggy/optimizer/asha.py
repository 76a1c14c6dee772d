"""Asynchronous successive halving: all configurations train a little, the best of them on.

Li et al. (2020), "A System for Massively Parallel Hyperparameter Tuning", algorithm 2; a search of
exactly one round has the sizes of successive halving.  ``_rungs`` says who goes on.
``docs/asha.md`` says what users need to know, ADR 12 how the variants are chosen.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from math import inf, isfinite
from typing import TYPE_CHECKING, Literal, Self

from maggy.contracts import Fidelity, MultiFidelityOptimizer
from maggy.errors import ConfigError
from maggy.optimizer._rungs import Brackets, Rung, RungRule, milestones, one_round
from maggy.optimizer._sampler import Informed
from maggy.optimizer.registry import resolve
from maggy.searchspace.naming import did_you_mean
from maggy.searchspace.values import unwrapped
from maggy.trial import Exhausted, Suggestion, TrialStatus, Wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np

    from maggy.contracts import Optimizer, SearchContext, StoppingPolicy
    from maggy.trial import Hparams, Trial

__all__ = ["Asha", "Mode"]

Mode = Literal["auto", "promotion", "stopping"]

_MODES = ("auto", "promotion", "stopping")


class Asha:
    """Trains every configuration a little, and one in ``reduction_factor`` on to the next rung.

    The rungs are ``resource_min``, times ``reduction_factor`` from one to the next, and exactly
    ``resource_max`` as the last; ``num_trials`` counts configurations.  A trial goes on from a
    rung if at most one in ``reduction_factor`` of those that have got there are better.  The
    search ends when nothing can be promoted any more; one configuration at least is trained to
    ``resource_max``.

    Asking for exactly one round is asking for successive halving: of each rung, exactly one in
    ``reduction_factor`` is promoted.  With the defaults and ``num_trials=4``, 4 configurations
    train to 1, 2 of them to 2 and 1 to 4.  A round is ``reduction_factor ** s`` configurations for
    the largest *s* with ``resource_min * reduction_factor ** s <= resource_max``; with several
    brackets it is the sum of theirs, as in Hyperband.

    Args:
        reduction_factor: One in so many goes on; 3 or 4 suits most searches.
        resource_min: The resource, usually epochs, after which trials are compared first.
        resource_max: The most that a trial trains.
        mode: ``"promotion"`` (runs end at a rung, and promoted trials run again with a larger
            budget), ``"stopping"`` (trials are judged at the rungs that their reports reach), or
            ``"auto"``: promotion if the training function takes ``budget``, else stopping if it
            takes ``reporter``, else each trial runs once, as if at ``resource_max``.
        brackets: Trials are dealt out to so many brackets; bracket *s* starts at rung *s*.
        sampler: Where new configurations come from: any optimizer, or its name; ``RandomSearch()``
            by default.

    Attributes:
        notes: After ``start``: where trials are compared and what becomes of them, then the
            sampler's notes.

    Raises:
        ConfigError: One of them is wrong.
    """

    fidelity: Fidelity = Fidelity.PROMOTION
    rungs: StoppingPolicy | None = None

    def __init__(
        self,
        reduction_factor: int = 2,
        resource_min: int = 1,
        resource_max: int = 4,
        *,
        mode: Mode = "auto",
        brackets: int = 1,
        sampler: Optimizer | str = "randomsearch",
    ) -> None:
        self.reduction_factor = _whole("reduction_factor", reduction_factor, least=2)
        self.resource_min = _whole("resource_min", resource_min, least=1)
        self.resource_max = _whole("resource_max", resource_max, least=1)
        if self.resource_min > self.resource_max:
            msg = (
                f"`resource_min <= resource_max` must hold, but got {resource_min=} and "
                f"{resource_max=}."
            )
            raise ConfigError(msg)
        if mode not in _MODES:
            hint = did_you_mean(mode, _MODES)
            msg = f"`mode` must be one of {', '.join(map(repr, _MODES))}, but got {mode!r}. {hint}"
            raise ConfigError(msg)
        self.mode = mode
        self.milestones = milestones(self.reduction_factor, self.resource_min, self.resource_max)
        self.brackets = _whole("brackets", brackets, least=1)
        if self.brackets > len(self.milestones):
            msg = (
                f"`brackets` must be at most the number of rungs, {len(self.milestones)} "
                f"({', '.join(map(str, self.milestones))}), but got {brackets}."
            )
            raise ConfigError(msg)
        self.sampler = _sampler(sampler)
        self.suggests_inline = bool(getattr(self.sampler, "suggests_inline", False))
        self.notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        numbers = f"{self.reduction_factor}, {self.resource_min}, {self.resource_max}"
        return (
            f"{type(self).__name__}({numbers}, mode={self.mode!r}, brackets={self.brackets}, "
            f"sampler={self.sampler!r})"
        )

    @property
    def preload(self) -> Sequence[str]:
        """The modules that the sampler will need."""
        return tuple(getattr(self.sampler, "preload", ()))

    def with_sampler(self, wrap: Callable[[Optimizer], Optimizer]) -> Self:
        """The same search, with new configurations from ``wrap(self.sampler)``."""
        other = copy.copy(self)
        other.sampler = wrap(self.sampler)
        other.suggests_inline = bool(getattr(other.sampler, "suggests_inline", False))
        return other

    def start(self, context: SearchContext) -> None:
        """Choose the variant, and get ready.

        Raises:
            ConfigError: The training function does not take what the mode needs, or the sampler
                cannot search this space.
        """
        self.fidelity = _fidelity(self.mode, context)
        rungs = () if self.fidelity is Fidelity.SINGLE else self.milestones
        self.sampler.start(replace(context, rungs=rungs))
        self._num_trials = inf if context.num_trials is None else context.num_trials
        self._exhausted: Exhausted | None = None
        self._brackets = Brackets(self.brackets, self.reduction_factor, len(self.milestones))
        self._index = {budget: rung for rung, budget in enumerate(self.milestones)}
        factor = self.reduction_factor
        exact = self._num_trials == one_round(factor, self.milestones, self.brackets)
        self._rungs = [
            [Rung(factor, exact=exact) for _ in self.milestones] for _ in range(self.brackets)
        ]
        self._under_way: dict[int, tuple[int, int]] = {}
        self._hparams: dict[int, Hparams] = {}
        self._informed = Informed(self.sampler, len(context.searchspace), self.milestones)
        self.rungs = None
        if self.fidelity is Fidelity.STOPPING:
            self.rungs = RungRule(self.reduction_factor, self.milestones, self._brackets)
        note = _note(self.fidelity, self.milestones, saves=context.takes_reporter)
        self.notes = (note, *getattr(self.sampler, "notes", ()))

    def ask(
        self, number: int, pending: Sequence[Trial], rng: np.random.Generator
    ) -> Suggestion | Wait | Exhausted:
        """A promotion if one is due, the highest rung first; else a new configuration."""
        if self.fidelity is not Fidelity.PROMOTION:
            return self._new(number, self.milestones[-1], pending, rng)
        self._note(pending)
        promotion = next(self._promotions(), None)
        if promotion is not None:
            return promotion
        if number < self._num_trials and self._exhausted is None:
            budget = self.milestones[self._brackets.of(number)]
            answer = self._new(number, budget, pending, rng)
            if not isinstance(answer, Exhausted):
                return answer
            self._exhausted = answer
        promotion = next(self._promotions(self._lowest()), None)
        if promotion is not None:
            return promotion
        return Wait() if pending else self._end(number)

    def tell(self, trial: Trial) -> None:
        """A run ended: its trial has arrived at a rung, the failed ones as the worst."""
        if self.fidelity is not Fidelity.PROMOTION:
            self.sampler.tell(trial)
            return
        self._under_way.pop(trial.id, None)
        bracket, rung = self._place(trial)
        loss = trial.loss if trial.status is TrialStatus.COMPLETED else None
        self._hparams[trial.id] = trial.hparams
        self._rungs[bracket][rung].arrive(
            trial.id, loss if loss is not None and isfinite(loss) else inf
        )
        self._informed.tell(trial, rung)

    def _new(
        self, number: int, budget: int, pending: Sequence[Trial], rng: np.random.Generator
    ) -> Suggestion | Wait | Exhausted:
        answer = self.sampler.ask(number, pending, rng)
        if not isinstance(answer, Suggestion):
            return answer
        return Suggestion(hparams=answer.hparams, budget=budget, state=answer.state)

    def _place(self, trial: Trial) -> tuple[int, int]:
        """The bracket, and the rung that the trial's run is for: it was promoted to there."""
        bracket = self._brackets.of(trial.id)
        assert isinstance(trial.budget, int), "every suggestion has a budget of ours"
        rung = self._index[trial.budget]
        if rung > bracket:
            self._rungs[bracket][rung - 1].promote(trial.id)
        return bracket, rung

    def _note(self, pending: Sequence[Trial]) -> None:
        """Take in who is under way; cheap for those that were so before."""
        known = self._under_way
        for trial in pending:
            if trial.id not in known:
                known[trial.id] = self._place(trial)
        if len(known) > len(pending):  # some vanished without an end
            self._under_way = {trial.id: known[trial.id] for trial in pending}

    def _lowest(self) -> Sequence[int]:
        """For each bracket, the lowest rung that can get arrivals when nothing new is started."""
        lowest = [len(self.milestones)] * self.brackets
        for bracket, rung in self._under_way.values():
            lowest[bracket] = min(lowest[bracket], rung)
        return lowest

    def _promotions(self, lowest: Sequence[int] | None = None) -> Iterator[Suggestion]:
        """What is due, from the second highest rung down; the best first.

        Args:
            lowest: For each bracket, the lowest rung that can still get arrivals; at the rungs
                below it one trial goes on, however few there are.  None: every rung can.
        """
        for rung in reversed(range(len(self.milestones) - 1)):
            for bracket, rungs in enumerate(self._rungs):
                last_call = lowest is not None and rung < lowest[bracket]
                trial = rungs[rung].promotable(last_call=last_call)
                if trial is not None:
                    budget = self.milestones[rung + 1]
                    hparams = self._hparams[trial]
                    yield Suggestion(hparams=hparams, budget=budget, continues=trial)

    def _end(self, number: int) -> Exhausted:
        if self._exhausted is not None:
            return self._exhausted
        arrived = sum(len(rungs[-1].losses) for rungs in self._rungs)
        return Exhausted(
            f"Nothing is left to promote: of {number} configurations, {arrived} got the largest "
            f"budget, {self.milestones[-1]}."
        )


def _fidelity(mode: Mode, context: SearchContext) -> Fidelity:
    missing = {
        "promotion": None if context.takes_budget else "budget",
        "stopping": None if context.takes_reporter else "reporter",
    }
    if mode != "auto":
        if missing[mode] is not None:
            msg = (
                f"mode={mode!r} needs a training function that takes `{missing[mode]}`. Let it "
                f"take `{missing[mode]}`, or leave `mode` out."
            )
            raise ConfigError(msg)
        return Fidelity(mode)
    if context.takes_budget:
        return Fidelity.PROMOTION
    return Fidelity.STOPPING if context.takes_reporter else Fidelity.SINGLE


def _note(fidelity: Fidelity, rungs: Sequence[int], *, saves: bool) -> str:
    """What the user needs to know of the variant."""
    where = f"Trials are compared at {', '.join(map(str, rungs))}"
    if fidelity is Fidelity.STOPPING:
        return f"{where}; one that is not among the best there is stopped."
    if fidelity is Fidelity.SINGLE:
        return f"Each configuration runs once, as if to {rungs[-1]}."
    if not saves:
        return f"{where}; a promoted one trains again from the start."
    return f"{where}; a promoted one goes on from its checkpoint, or without one from the start."


def _whole(name: str, given: object, *, least: int) -> int:
    number = unwrapped(given)
    if type(number) is not int or number < least:
        msg = f"`{name}` must be a whole number >= {least}, but got {given!r}."
        raise ConfigError(msg)
    return number


def _sampler(given: Optimizer | str) -> Optimizer:
    sampler = resolve(given)
    if isinstance(sampler, MultiFidelityOptimizer):
        msg = (
            f"`sampler` proposes new configurations only, but {given!r} hands out budgets itself. "
            "Give RandomSearch() or another optimizer without rungs."
        )
        raise ConfigError(msg)
    return sampler
