"""What was tried, and what is next in a sequence."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from maggy.contracts import SearchContext
from maggy.errors import ConfigError
from maggy.optimizer.history import Tried, Untried, require_hyperparameters
from maggy.searchspace import Integer, Searchspace
from maggy.trial import Trial

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from maggy.trial import Value

SPACE = Searchspace(x=Integer(0, 1000)).with_constraints(["x % 5 != 0"])


def trial(number: int, x: int) -> Trial:
    """A trial at ``x``."""
    return Trial(id=number, hparams={"x": x})


def counting() -> Iterator[dict[str, Value]]:
    """0, 0, 1, 1, 2, 2, ..."""
    for x in range(1001):
        yield {"x": x}
        yield {"x": x}


def test_tried() -> None:
    """Ended and pending trials are known by their keys; telling twice changes nothing."""
    tried = Tried(SPACE)
    trials = [trial(0, 1), trial(1, 2)]
    assert tried.pending(trials) == {SPACE.key({"x": 1}), SPACE.key({"x": 2})}
    assert tried.ended == set()
    tried.tell(trials[0])
    tried.tell(trials[0])
    assert tried.ended == {SPACE.key({"x": 1})}
    assert tried.pending([]) == set()
    tried.tell(trial(7, 9))
    assert len(tried.ended) == 2


def test_tried_follows_who_is_pending() -> None:
    """New trials are found at the end; those that vanished untold are free again."""
    tried = Tried(SPACE)

    def taken(*numbers: int) -> set[Hashable]:
        return set(tried.pending([trial(number, number) for number in numbers]))

    def keys(*numbers: int) -> set[Hashable]:
        return {SPACE.key({"x": number}) for number in numbers}

    assert taken(0, 1, 2) == keys(0, 1, 2)
    assert taken(0, 1, 2, 3, 4) == keys(0, 1, 2, 3, 4)
    tried.tell(trial(1, 1))
    assert taken(0, 2, 3, 4, 5) == keys(0, 2, 3, 4, 5)
    assert taken(0, 2, 3, 4, 6) == keys(0, 2, 3, 4, 6)
    assert taken(0, 4) == keys(0, 4)


def test_untried_skips() -> None:
    """What is repeated, infeasible or tried is skipped; pending entries that vanish come back."""
    walk = Untried(SPACE, counting(), patience=10)
    ended: set[object] = set()
    assert walk.first(ended, set()) == {"x": 1}
    assert walk.first(ended, {SPACE.key({"x": 1})}) == {"x": 2}
    assert walk.first(ended, set()) == {"x": 1}
    ended.add(SPACE.key({"x": 1}))
    taken = {SPACE.key({"x": x}) for x in (2, 3, 4)}
    assert walk.first(ended, taken) == {"x": 6}
    assert walk.found == 5


def test_untried_does_not_depend_on_the_order() -> None:
    """Which trials are ended and which pending makes no difference."""
    keys = [SPACE.key({"x": x}) for x in (1, 2, 3, 4, 6)]
    for size in range(6):
        for ended in itertools.combinations(keys, size):
            walk = Untried(SPACE, counting(), patience=10)
            assert walk.first(set(ended), set(keys) - set(ended)) == {"x": 7}


def test_untried_ends() -> None:
    """A sequence ends when it is over, or when patience is, for good; restarts do not count."""
    walk = Untried(SPACE, iter([{"x": 1}, {"x": 2}]), patience=10)
    ended = {SPACE.key({"x": 1}), SPACE.key({"x": 2})}
    assert walk.first(ended, set()) is None
    assert not walk.gave_up
    walk = Untried(SPACE, itertools.cycle([{"x": 1}, {"x": 2}]), patience=10)
    assert walk.first(ended, set()) is None
    assert walk.gave_up
    assert walk.first(set(), set()) is None
    patient = Untried(SPACE, counting(), patience=4)
    tried = {SPACE.key({"x": x}) for x in range(500)}
    assert patient.first(tried, set()) == {"x": 501}


def test_empty_spaces() -> None:
    """An empty space is refused with an example."""
    context = SearchContext(searchspace=Searchspace(), num_trials=1, num_workers=1, seed=0)
    with pytest.raises(ConfigError, match="Declare a hyperparameter"):
        require_hyperparameters(context)
