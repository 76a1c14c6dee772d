"""What ``maggy`` exports, and what importing it costs."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

import maggy
from maggy import errors


def test_the_public_names_are_these() -> None:
    """A name more or less is a decision, not an accident."""
    assert maggy.__all__ == sorted(maggy.__all__)
    assert set(maggy.__all__) == {
        "Categorical",
        "ConfigError",
        "Discrete",
        "Double",
        "EarlyStopException",
        "ExperimentFailed",
        "ExperimentInterrupted",
        "Integer",
        "MaggyError",
        "OptimizationConfig",
        "Reporter",
        "Searchspace",
        "experiment",
        "optimizer",
    }
    for name in maggy.__all__:
        assert getattr(maggy, name) is not None
        assert name in dir(maggy)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As for every module."""
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = maggy.nothing


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("maggy", ["numpy", "scipy", "rich", "click", "asyncio", "sqlite3", "multiprocessing"]),
        ("maggy.wire.channel", ["numpy", "scipy", "rich", "click", "asyncio", "cloudpickle"]),
        ("maggy.worker.client", ["numpy", "scipy", "rich", "click", "asyncio"]),
        ("maggy.experiment", ["scipy", "rich", "click", "pandas", "sklearn", "multiprocessing"]),
    ],
)
def test_importing_is_light(module: str, heavy: list[str]) -> None:
    """A fresh interpreter has loaded none of these."""
    code = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_exception_survives_pickling() -> None:
    """They cross process borders with all they carry."""
    samples = {"TransitionError": ("trial 1", "idle", "Tick", ("a", "b"))}
    for name in errors.__all__:
        kind = getattr(errors, name)
        error = kind(*samples.get(name, ("what happened",)))
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is kind
        assert (str(again), again.args) == (str(error), error.args)


def test_the_two_that_pass_through_except_exception() -> None:
    """An early stop and an interruption must not be swallowed by users' ``except Exception``."""
    for kind in (errors.EarlyStopException, errors.ExperimentInterrupted):
        assert not issubclass(kind, Exception)
    assert issubclass(errors.ExperimentInterrupted, KeyboardInterrupt)
