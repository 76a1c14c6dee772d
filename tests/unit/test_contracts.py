"""What the seams refuse and repair, so that nobody behind them has to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from maggy.contracts import Decision


def test_a_stop_needs_a_sentence() -> None:
    """The user is always told why."""
    with pytest.raises(ValueError, match="must be a sentence"):
        Decision(stop=True)
    assert not Decision(stop=False).reason


@pytest.mark.parametrize("threshold", [np.float32(0.5), np.array(0.5), 1, True])
def test_a_threshold_becomes_a_plain_float(threshold: Any) -> None:
    """Policies compute with numpy, and the log holds plain numbers."""
    decision = Decision(stop=True, reason="worse", threshold=threshold)
    assert type(decision.threshold) is float
    assert decision.threshold == threshold


def test_a_threshold_that_is_no_number_is_the_policys_error() -> None:
    """It is raised where the policy makes its decision."""
    with pytest.raises(ValueError, match="could not convert"):
        Decision(stop=True, reason="worse", threshold="low")  # type: ignore[arg-type]
