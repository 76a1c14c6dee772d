"""What the local engine says about a training function before it starts anything."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from maggy.engines.local import LocalEngine


def test_a_large_capture_is_reported_with_its_name_and_size() -> None:
    """With what to do: as train_set the workers share it."""
    frame = np.zeros(2_000_000)

    def train(x: float) -> float:
        return x + float(frame[0])

    with pytest.warns(UserWarning, match="carries 16 MB in `frame` to every worker: pass it as"):
        LocalEngine(train, {})


def test_small_captures_and_data_sets_are_not_worth_a_word() -> None:
    """However large the data set is."""
    small = np.zeros(1_000)

    def train(x: float, train_set: object) -> float:
        return x + float(small[0])

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine = LocalEngine(train, {"train_set": np.zeros(2_000_000)})
    assert engine._data is not None
    engine._data.close()
