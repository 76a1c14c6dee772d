"""Search spaces of any shape: JSON, the unit cube, membership, counting, grids."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from maggy.optimizer import GridSearch, RandomSearch
from maggy.searchspace import Categorical, Discrete, Double, Integer, Searchspace
from maggy.searchspace.values import identity
from maggy.testing.optimizers import Rehearsal
from maggy.trial import Suggestion

if TYPE_CHECKING:
    from maggy.searchspace import Hyperparameter

finite = st.floats(allow_nan=False, allow_infinity=False)
units = st.floats(0, 1)
scalars = st.none() | st.booleans() | st.integers() | finite | st.text(max_size=5)
choices = scalars | st.tuples(scalars) | st.tuples(scalars, st.tuples(scalars))
choice_lists = st.lists(choices, min_size=1, max_size=5, unique_by=identity)


@st.composite
def doubles(draw: st.DrawFn) -> Double:
    """A real range: plain, logarithmic or stepped."""
    form = draw(st.sampled_from(["plain", "log", "step"]))
    if form == "step":
        step = draw(st.sampled_from([0.1, 0.25, 1e-3, 3.0, 0.7, 1e-12]))
        low = draw(st.sampled_from([0.0, -0.3, 0.1, 1e3, 1e-7]))
        return Double(low, low + draw(st.integers(2, 50)) * step, step=step)
    numbers = st.floats(5e-324, 1.7e308) if form == "log" else finite
    low, high = sorted((draw(numbers), draw(numbers)))
    return Double(low, high, log=form == "log")


@st.composite
def integers(draw: st.DrawFn) -> Integer:
    """A whole range: plain, logarithmic or stepped."""
    form = draw(st.sampled_from(["plain", "log", "step"]))
    low = draw(st.integers(1 if form == "log" else -1000, 1000))
    high = low + draw(st.integers(0, 10**6))
    if form == "step" and high > low:
        return Integer(low, high, step=draw(st.integers(1, high - low)))
    return Integer(low, high, log=form == "log")


kinds = doubles() | integers() | choice_lists.map(Discrete) | choice_lists.map(Categorical)
small = st.integers(0, 3).map(lambda n: Integer(0, n)) | choice_lists.map(Categorical)


@st.composite
def spaces(draw: st.DrawFn, kind: st.SearchStrategy[Hyperparameter] = kinds) -> Searchspace:
    """A space with conditions on finite hyperparameters declared before."""
    space = Searchspace()
    for number in range(draw(st.integers(1, 5))):
        options: dict[str, Any] = {}
        finite_names = [name for name in space if space[name].cardinality]
        conditional: bool = draw(st.booleans())
        if finite_names and conditional:
            parents: list[str] = draw(
                st.lists(st.sampled_from(finite_names), min_size=1, unique=True)
            )
            options["when"] = {name: draw(accepted(space[name])) for name in parents}
        base = draw(kind)
        if draw(st.booleans()):
            options["default"] = base.from_unit(draw(units))
        space.add(f"h{number}", with_options(base, options))
    return space


@st.composite
def accepted(draw: st.DrawFn, parent: Hyperparameter) -> list[object]:
    """Some values of a parent."""
    return [parent.from_unit(u) for u in draw(st.lists(units, min_size=1, max_size=3))]


def with_options(kind: Hyperparameter, options: dict[str, Any]) -> Hyperparameter:
    """The same hyperparameter with a default or a condition."""
    match kind:
        case Double() | Integer():
            step: Any = kind.step
            return type(kind)(kind.low, kind.high, log=kind.log, step=step, **options)  # type: ignore[arg-type]
        case _:
            return type(kind)(kind.choices, **options)


@given(spaces())
def test_json_round_trip(space: Searchspace) -> None:
    """Every space comes back from JSON text, with the same types, defaults and conditions."""
    text = json.dumps(space.to_json(), allow_nan=False)
    restored = Searchspace.from_json(json.loads(text))
    assert restored == space
    assert restored.to_json() == space.to_json()


@given(kinds, units)
def test_values_of_the_unit_interval(kind: Hyperparameter, u: float) -> None:
    """Every u is a plain member, whose code is in the unit interval."""
    value = kind.from_unit(u)
    assert kind.contains(value)
    assert type(value) in (bool, int, float, str, tuple, type(None))
    assert 0 <= kind.to_unit(value) <= 1  # type: ignore[arg-type]
    assert identity(kind.coerce(value)) == identity(value)


@given(kinds, units)
def test_finite_kinds_are_coded_without_loss(kind: Hyperparameter, u: float) -> None:
    """The code of a value of a finite hyperparameter gives the value back."""
    assume(kind.cardinality is not None)
    value = kind.from_unit(u)
    assert identity(kind.from_unit(kind.to_unit(value))) == identity(value)  # type: ignore[arg-type]


@given(kinds, units, units)
def test_ranges_keep_the_order(kind: Hyperparameter, u: float, v: float) -> None:
    """A larger u never gives a smaller number."""
    assume(isinstance(kind, Double | Integer))
    low, high = sorted((u, v))
    assert kind.from_unit(low) <= kind.from_unit(high)  # type: ignore[operator]


@given(spaces(), st.data())
def test_points_are_members(space: Searchspace, data: st.DataObject) -> None:
    """Every point of the cube decodes to a member, which survives JSON and encoding."""
    point = data.draw(st.lists(units, min_size=len(space), max_size=len(space)))
    hparams = space.decode(point)
    assert space.objection(hparams) == ""
    assert all(0 <= u <= 1 for u in space.encode(hparams))
    again = space.decode(space.encode(hparams))
    assert again.keys() == hparams.keys()


@given(spaces(small))
def test_counting_is_exact(space: Searchspace) -> None:
    """The number of configurations is the number of distinct ones that are listed."""
    listed = [space.key(hparams) for hparams in space.configurations()]
    assert len(set(listed)) == len(listed) == space.cardinality


@given(spaces(small))
def test_finite_spaces_are_exhausted(space: Searchspace) -> None:
    """Random search and a full grid propose exactly the configurations of a finite space."""
    wanted = {space.key(hparams) for hparams in space.configurations()}
    assume(len(wanted) <= 60)
    for optimizer in (RandomSearch(), GridSearch()):
        search = Rehearsal(optimizer, space, num_trials=None)
        search.run(100, at_once=2)
        assert {space.key(trial.hparams) for trial in search.trials.values()} == wanted


@given(spaces(), st.integers(1, 40))
def test_grids_have_enough_points(space: Searchspace, num_trials: int) -> None:
    """A grid for n trials has n points, unless the space has fewer."""
    search = Rehearsal(GridSearch(), space, num_trials=num_trials)
    found = sum(isinstance(search.ask(), Suggestion) for _ in range(num_trials))
    size = space.cardinality
    assert found == num_trials if size is None else found >= min(size, num_trials)


@given(spaces(), st.integers(0, 2**31 - 1))
def test_sampling_repeats(space: Searchspace, seed: int) -> None:
    """The same generator draws the same member."""
    first = space.sample(np.random.default_rng(seed))
    assert space.allows(first)
    assert space.key(first) == space.key(space.sample(np.random.default_rng(seed)))
