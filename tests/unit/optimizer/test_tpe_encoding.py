"""Rows of numbers for configurations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from maggy.optimizer._tpe.encoding import Encoding, EvenCells, LogCells
from maggy.searchspace import Categorical, Discrete, Double, Integer, Searchspace


def test_columns() -> None:
    """Each kind has its sort of column; what cannot vary has none."""
    space = Searchspace(
        lr=Double(1e-4, 1.0, log=True),
        constant=Double(2.0, 2.0),
        units=Integer(1, 4),
        kind=Categorical(["a", "b", "c"]),
        width=Discrete([8, 2, 4]),
        huge=Integer(1, 10**9),
    )
    encoding = Encoding(space)
    assert len(encoding) == 5
    assert encoding.categories == {2: 3}
    assert encoding.numeric.tolist() == [0, 1, 3, 4]
    assert encoding.stepped == [(1, 1), (2, 3)]
    assert encoding.smooth.tolist() == [0, 3]
    assert not encoding.conditional
    hparams = space.decode([0.5, 0.5, 0.3, 0.99, 0.0, 0.5])
    row = encoding.row(hparams)
    assert row[:4] == pytest.approx([0.5, 0.375, 2.0, 1 / 6])
    assert encoding.hparams(row) == hparams


def test_snapping_moves_to_the_centre_of_the_cell() -> None:
    """Countable values move to the row of their configuration, others stay."""
    space = Searchspace(x=Double(0, 1), y=Integer(1, 4), z=Integer(1, 9, log=True))
    encoding = Encoding(space)
    snapped = encoding.snapped(np.array([[0.123, 0.26, 0.0], [1.0, 1.0, 1.0]]))
    first = encoding.row({"x": 0.123, "y": 2, "z": 1})
    last = encoding.row({"x": 1.0, "y": 4, "z": 9})
    assert snapped == pytest.approx(np.array([first, last]))


def test_conditions() -> None:
    """A column is NaN where a parent, or a parent's parent, has another value."""
    space = Searchspace(
        a=Categorical(["x", "y"]),
        b=Integer(1, 4, when={"a": "x"}),
        c=Double(0, 1, when={"b": [2, 3]}),
    )
    encoding = Encoding(space)
    assert encoding.conditional
    rows = encoding.snapped(np.array([[0.0, 0.3, 0.7], [0.0, 0.9, 0.7], [1.0, 0.3, 0.7]]))
    assert np.isnan(rows).tolist() == [
        [False, False, False],
        [False, False, True],
        [False, True, True],
    ]
    assert [set(encoding.hparams(row)) for row in rows] == [{"a", "b", "c"}, {"a", "b"}, {"a"}]
    assert math.isnan(encoding.row({"a": "y"})[1])


def test_constant_parents_have_a_column() -> None:
    """A parent with one value, itself conditional, decides what is active."""
    space = Searchspace(
        a=Categorical(["x", "y"]),
        only=Integer(7, 7, when={"a": "x"}),
        c=Double(0, 1, when={"only": 7}),
    )
    encoding = Encoding(space)
    rows = encoding.snapped(np.array([[0.0, 0.5, 0.7], [1.0, 0.5, 0.7]]))
    assert [encoding.hparams(row) for row in rows] == [{"a": "x", "only": 7, "c": 0.7}, {"a": "y"}]


@pytest.mark.parametrize("cells", [EvenCells(7), LogCells(1, 7), LogCells(3, 400)])
def test_cells_tile_the_range(cells: EvenCells | LogCells) -> None:
    """Cells follow each other from 0 to 1, and each holds its own centre."""
    numbers = np.arange(float(cells.count))
    lower, upper = cells.bounds(numbers)
    assert lower[0] == pytest.approx(0.0)
    assert upper[-1] == pytest.approx(1.0)
    assert np.array_equal(lower[1:], upper[:-1])
    assert np.array_equal(cells.index((lower + upper) / 2), numbers)
    assert cells.index(np.array([0.0, 1.0])).tolist() == [0.0, cells.count - 1.0]
