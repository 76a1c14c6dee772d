"""Grid search over lists and ranges, in an order whose every prefix is spread out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from maggy.errors import ConfigError, SearchspaceError
from maggy.optimizer.history import Tried, Untried, require_hyperparameters
from maggy.optimizer.levels import Even, Given, choose_levels
from maggy.searchspace import Categorical, Discrete
from maggy.searchspace.naming import did_you_mean
from maggy.searchspace.values import identity, unwrapped
from maggy.trial import Exhausted, Suggestion

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np

    from maggy.contracts import SearchContext
    from maggy.searchspace import Hyperparameter, Searchspace
    from maggy.searchspace.conditions import Listing
    from maggy.trial import Trial, Value

__all__ = ["GridSearch", "spread"]

_PATIENCE = 10_000


class GridSearch:
    """Runs the points of a regular grid, at most ``num_trials`` of them; needs no seed.

    Lists contribute all their choices, ranges as many levels as it takes to have ``num_trials``
    points (``optimizer.levels``), or 5 each when ``num_trials`` is None.  Points are computed when
    they are wanted, so a grid of 10^9 points costs nothing.  What the constraints forbid is left
    out, and 10,000 such points in a row end the search.  With conditions, the grids of all
    branches take turns.

    Args:
        resolution: Levels per range: a number for all ranges, or a dict from a name to a number of
            levels or to the list of levels, which lists take too.

    Attributes:
        notes: After ``start``: a sentence on the size of the grid.

    Raises:
        ConfigError: The resolution is no number of levels.
    """

    suggests_inline = True
    learns = False

    def __init__(self, resolution: int | Mapping[str, int | Sequence[Any]] | None = None) -> None:
        by_name = dict(resolution) if isinstance(resolution, Mapping) else {"": resolution}
        for name, given in by_name.items():
            if given is not None and not isinstance(given, (list, tuple)):
                _check_count(name, given)
        self.resolution = resolution
        self.notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return (
            f"GridSearch({'' if self.resolution is None else f'resolution={self.resolution!r}'})"
        )

    def start(self, context: SearchContext) -> None:
        """Choose the levels.

        Raises:
            ConfigError: The space is empty, or the resolution does not fit it.
        """
        space = require_hyperparameters(context)
        levels = choose_levels(space, self._fixed(space), context.num_trials)
        self._tried = Tried(space)
        self._points = Untried(space, _points(space, levels), _PATIENCE)
        self.notes = (_describe(space, levels, context.num_trials),)

    def ask(
        self,
        number: int,
        pending: Sequence[Trial],
        rng: np.random.Generator,
    ) -> Suggestion | Exhausted:
        """The next point; neither the number nor the generator matters.

        Raises:
            SearchspaceError: A constraint raised.
        """
        hparams = self._points.first(self._tried.ended, self._tried.pending(pending))
        if hparams is not None:
            return Suggestion(hparams=hparams)
        which = f"all {self._points.found:,} points were tried"
        if self._points.gave_up:
            which += f", and the next {_PATIENCE:,} are forbidden by the constraints"
        return Exhausted(f"The grid is complete: {which}.")

    def tell(self, trial: Trial) -> None:
        """Remember that this point was tried, whatever came of it."""
        self._tried.tell(trial)

    def _fixed(self, space: Searchspace) -> dict[str, Listing]:
        """The levels that the resolution settles."""
        given = self.resolution
        if given is None:
            return {}
        if not isinstance(given, Mapping):
            lists = (Discrete, Categorical)
            ranges = [name for name, kind in space.items() if not isinstance(kind, lists)]
            given = dict.fromkeys(ranges, given)
        for name in given:
            if name not in space:
                hint = did_you_mean(name, space)
                msg = f"`resolution` names {name!r}, which is not in the search space. {hint}"
                raise ConfigError(msg)
        return {name: _levels(name, space[name], item) for name, item in given.items()}


def spread(sizes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Every index tuple of a grid once, so that every prefix is spread over the grid.

    With ``L = max(sizes)``, class ``c`` holds the tuples whose sum is ``c`` modulo ``L``; classes
    come one after the other.  The last dimension of size ``L`` follows from the others and the
    class, so a class has ``M = prod(sizes) / L`` members, numbered through the others; they come
    in the order ``a t mod M``, ``t = 0, 1, ...``, where ``a`` is the first number from
    ``round(0.618 M)`` that is coprime with ``M``.  With equal sizes each class is a fraction in
    which every pair of levels of two dimensions is equally frequent.

    Args:
        sizes: Levels per dimension, each at least 1.

    >>> list(spread([2, 2, 2]))[:4]
    [(0, 0, 0), (1, 1, 0), (1, 0, 1), (0, 1, 1)]
    """
    if not sizes:
        yield ()
        return
    longest = max(sizes)
    pivot = max(index for index, size in enumerate(sizes) if size == longest)
    others = [*sizes[:pivot], *sizes[pivot + 1 :]]
    members = math.prod(others)
    stride = max((618 * members + 500) // 1000, 1)
    while math.gcd(stride, members) != 1:
        stride += 1
    for residue in range(longest):
        for turn in range(members):
            digits = _digits(stride * turn % members, others)
            last = (residue - sum(digits)) % longest
            yield (*digits[:pivot], last, *digits[pivot:])


def _digits(number: int, sizes: Sequence[int]) -> list[int]:
    """``number`` in mixed radix, the most significant digit first."""
    digits = []
    for size in reversed(sizes):
        number, digit = divmod(number, size)
        digits.append(digit)
    return digits[::-1]


def _points(space: Searchspace, levels: Mapping[str, Listing]) -> Iterator[dict[str, Value]]:
    """The grids of all branches in turns; one grid if there are no conditions."""
    running = []
    for branch in space.dependencies.branches(levels):
        grid = _branch(space, levels, branch)
        yield next(grid)
        running.append(grid)
    while running:
        ended = set()
        for grid in running:
            point = next(grid, None)
            if point is None:
                ended.add(grid)
            else:
                yield point
        running = [grid for grid in running if grid not in ended]


def _branch(
    space: Searchspace, levels: Mapping[str, Listing], branch: Mapping[str, Value]
) -> Iterator[dict[str, Value]]:
    active = [name for name in space if space.dependencies.active(name, branch)]
    free = [name for name in active if name not in branch]
    for indices in spread([levels[name].cardinality or 1 for name in free]):
        row = {name: levels[name].value_at(i) for name, i in zip(free, indices, strict=True)}
        yield {name: branch[name] if name in branch else row[name] for name in active}


def _check_count(name: str, given: object) -> int:
    where = f"`resolution[{name!r}]`" if name else "`resolution`"
    count = unwrapped(given)
    if type(count) is not int or count < 1:
        msg = (
            f"{where} must be a number of levels, at least 1, or a dict such as "
            f"{{'dropout': 5, 'kernel': [2, 4, 8]}}, but got {given!r}."
        )
        raise ConfigError(msg)
    return count


def _levels(name: str, kind: Hyperparameter, given: object) -> Listing:
    """The levels that the user gave for one hyperparameter."""
    if isinstance(given, (list, tuple)):
        return _listed(name, kind, given)
    count = _check_count(name, given)
    if isinstance(kind, Discrete | Categorical):
        msg = (
            f"`resolution[{name!r}]` cannot be a number: {kind!r} contributes all its choices. "
            "Give a list of some of them."
        )
        raise ConfigError(msg)
    size = kind.cardinality
    return Even(kind, count if size is None else min(count, size))


def _listed(name: str, kind: Hyperparameter, given: Sequence[object]) -> Given:
    try:
        values = tuple(kind.coerce(value) for value in given)
    except SearchspaceError as error:
        msg = f"`resolution[{name!r}]`: {error}"
        raise ConfigError(msg) from None
    if not values or len(set(map(identity, values))) != len(values):
        msg = f"`resolution[{name!r}]` must list distinct values, at least one, but got {given!r}."
        raise ConfigError(msg)
    return Given(values)


def _describe(space: Searchspace, levels: Mapping[str, Listing], wanted: int | None) -> str:
    total = space.dependencies.count(levels) or 0
    join, equals = (", ", ":") if space.dependencies.parents else (" x ", " =")
    sizes = join.join(f"{name} {level.cardinality}" for name, level in levels.items())
    limits = " before constraints" if space.constraints else ""
    planned = total if wanted is None else min(wanted, total)
    return f"Grid of {sizes}{equals} {total:,} points{limits}, running {planned:,}."
