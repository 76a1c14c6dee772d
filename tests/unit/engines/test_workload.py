"""Workloads: the same training for the same trial, in whatever order they are asked."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from maggy import Categorical, Double, Searchspace
from maggy.engines.workload import InOrder, Nearest, Recording, Resampled, Synthetic
from maggy.errors import ConfigError


def recording(x: float, kind: str = "a", steps: Any = (0, 1, 2), **options: Any) -> Recording:
    return Recording(
        hparams={"x": x, "kind": kind},
        steps=steps,
        values=[x] * len(steps),
        seconds=[2.0] * len(steps),
        **options,
    )


def test_a_recording_knows_its_length_and_end() -> None:
    """Duration includes the closing; the result counts, else the last report."""
    assert recording(0.3).duration == 6.0
    assert recording(0.3).final == 0.3
    whole = recording(0.3, result=0.9, closing=1.0)
    assert (whole.duration, whole.final) == (7.0, 0.9)
    assert whole.scaled(0.5).duration == 3.5


def test_a_budget_cuts_a_recording() -> None:
    """In the unit of the reporter: steps from 0 count one more, steps from 1 as they are."""
    whole = recording(0.3, result=0.9, closing=1.0)
    assert whole.until(None) is whole
    assert whole.until(3) is whole
    assert whole.until(99) is whole
    assert whole.until(2).steps == (0, 1)
    assert whole.until(2).final == 0.3
    assert recording(0.3, steps=(1, 2, 3)).until(2).steps == (1, 2)
    assert recording(0.3, steps=(5, 10)).until(2).steps == (5,)
    silent = Recording(hparams={}, steps=[], values=[], seconds=[], result=1.0)
    assert silent.until(1) is silent


@pytest.mark.parametrize(
    "options", [{"values": [1.0]}, {"seconds": []}, {"steps": [], "values": [], "seconds": []}]
)
def test_recordings_are_checked(options: Any) -> None:
    """Lists of different lengths, or nothing at all, are refused."""
    given = {"hparams": {}, "steps": [0, 1], "values": [0.1, 0.2], "seconds": [1.0, 1.0]}
    with pytest.raises(ConfigError, match="as many values and seconds as steps"):
        Recording(**(given | options))


def test_in_order_begins_again() -> None:
    """Trial n gets recording n, then the first again."""
    recordings = [recording(0.1), recording(0.2)]
    workload = InOrder(recordings)
    assert [workload.run(n, {}, None).final for n in range(5)] == [0.1, 0.2, 0.1, 0.2, 0.1]


def test_resampling_depends_on_seed_and_number_only() -> None:
    """All recordings come up, the same for the same trial, others under another seed."""
    recordings = [recording(x / 10) for x in range(5)]
    first, again, other = (Resampled(recordings, seed=seed) for seed in (1, 1, 2))
    drawn = [first.run(n, {}, None).final for n in range(200)]
    assert [again.run(n, {}, None).final for n in reversed(range(200))] == drawn[::-1]
    assert [other.run(n, {}, None).final for n in range(200)] != drawn
    assert min(Counter(drawn).values()) > 20


def test_nearest_means_the_cell_of_the_space() -> None:
    """Numbers by their place in the range, logarithms where the range is one."""
    space = Searchspace(x=Double(1e-4, 1.0, log=True), kind=Categorical(["a", "b"]))
    workload = Nearest([recording(1e-4), recording(1e-2), recording(1.0)], space)
    assert workload.run(0, {"x": 2e-3, "kind": "a"}, None).final == 1e-2
    assert workload.run(0, {"x": 0.3, "kind": "a"}, 1).steps == (0,)


def test_nearest_keeps_categories_together() -> None:
    """Another category is as far as the whole range of a number; ties go to the earlier."""
    space = Searchspace(x=Double(0.0, 1.0), kind=Categorical(["a", "b", "c"]))
    recordings = [recording(0.0, "a"), recording(0.9, "b"), recording(0.9, "b")]
    workload = Nearest(recordings, space)
    assert workload.run(0, {"x": 0.8, "kind": "a"}, None).hparams == recordings[0].hparams
    assert workload.run(0, {"x": 0.1, "kind": "b"}, None) is recordings[1]
    assert workload.run(0, {"x": 0.9, "kind": "c"}, None) is recordings[1]


def test_synthetic_trainings_improve() -> None:
    """They rise to a plateau, last one unit on average, and repeat by seed and number."""
    workload = Synthetic(steps=20, seed=3)
    runs = [workload.run(n, {}, None) for n in range(400)]
    assert sum(run.duration for run in runs) / 400 == pytest.approx(1.0, abs=0.15)
    assert sum(run.values[-1] > run.values[0] for run in runs) > 350
    assert Synthetic(steps=20, seed=3).run(7, {}, None) == runs[7]
    assert Synthetic(steps=20, seed=4).run(7, {}, None) != runs[7]
    assert len(workload.run(7, {}, 5).steps) == 5


@pytest.mark.parametrize("make", [InOrder, lambda none: Resampled(none, seed=0)])
def test_nothing_to_draw_from(make: Any) -> None:
    """An empty list of recordings is refused."""
    with pytest.raises(ConfigError, match="at least one training"):
        make([])
    with pytest.raises(ConfigError, match="steps >= 1"):
        Synthetic(steps=0)
