"""Whatever the space and however the trials end, the Gaussian process goes on, and repeats."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from maggy.optimizer import GP, Asha, Hyperband
from maggy.optimizer._gp.acquisition import log_h
from maggy.optimizer._gp.warp import Warp
from maggy.searchspace import Categorical, Discrete, Double, Integer, Searchspace
from maggy.testing.optimizers import Rehearsal

if TYPE_CHECKING:
    from maggy.searchspace import Hyperparameter
    from maggy.trial import Suggestion, Trial

LOSSES = st.floats(allow_nan=False, allow_infinity=False, width=64)


KINDS: list[Hyperparameter] = [
    Double(-1.0, 2.0),
    Double(1e-6, 1e3, log=True),
    Double(0.0, 1.0, step=0.25),
    Integer(1, 1000, log=True),
    Integer(-3, 3),
    Discrete([0.1, 0.2, 5]),
    Categorical(["a", None, 3]),
    Categorical([True]),
]


@st.composite
def spaces(draw: st.DrawFn) -> Searchspace:
    """One to four hyperparameters."""
    chosen = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4))
    return Searchspace(**{f"h{number}": kind for number, kind in enumerate(chosen)})


ENDS = st.lists(st.one_of(LOSSES, st.sampled_from(["fail", "stop"])), min_size=14, max_size=14)


@settings(max_examples=25, deadline=None)
@given(space=spaces(), ends=ENDS, at_once=st.integers(1, 4))
def test_any_search_is_survived_and_repeats(
    space: Searchspace, ends: list[float | str], at_once: int
) -> None:
    """Members of the space, each once, the same in a second search: for any ends of trials."""

    def end(search: Rehearsal, trial: Trial) -> None:
        how = ends[trial.id % len(ends)]
        if how == "fail":
            search.fail(trial)
        elif how == "stop":
            search.stop(trial, [3.0, 1.0, 2.0][: trial.id % 4])
        else:
            search.complete(trial, float(how))

    first = Rehearsal(GP(initial_trials=3), space, num_trials=14).run(14, end, at_once=at_once)
    second = Rehearsal(GP(initial_trials=3), space, num_trials=14).run(14, end, at_once=at_once)
    assert first == second


@settings(max_examples=8, deadline=None)
@given(space=spaces(), ends=ENDS, at_once=st.integers(1, 4), hyperband=st.booleans())
def test_any_search_with_rungs_is_survived_and_repeats(
    space: Searchspace, ends: list[float | str], at_once: int, hyperband: bool
) -> None:
    """The same under ASHA and Hyperband, where trials are promoted, fail there, and so on."""

    def end(search: Rehearsal, trial: Trial) -> None:
        how = ends[(trial.id + 5 * trial.attempt) % len(ends)]
        if how == "fail":
            search.fail(trial)
        else:
            search.complete(trial, 3.0 if how == "stop" else float(how))

    def found() -> list[Suggestion]:
        kind = Hyperband if hyperband else Asha
        optimizer = kind(2, 1, 4, sampler=GP(initial_trials=3))
        return Rehearsal(optimizer, space, num_trials=14).run(24, end, at_once=at_once)

    assert found() == found()


@given(losses=st.lists(LOSSES, min_size=1, max_size=40))
def test_the_warp_is_monotone_and_finite(losses: list[float]) -> None:
    """Targets are finite and never order losses the other way round."""
    ordered = np.sort(losses)
    targets = Warp(ordered)(ordered)
    assert np.isfinite(targets).all()
    assert (np.diff(targets) >= -1e-9).all()


@given(z=st.lists(st.floats(-1e8, 50.0), min_size=2, max_size=30))
def test_log_h_is_monotone(z: list[float]) -> None:
    """More to gain is never worth less."""
    values = log_h(np.sort(z))
    assert np.isfinite(values).all()
    assert (np.diff(values) >= -1e-9 * np.abs(values[1:])).all()
