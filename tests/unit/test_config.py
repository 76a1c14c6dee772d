"""Every option is checked when the config is built, and every error says what to do."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
from typing import Any

import numpy as np
import pytest

from maggy import OptimizationConfig, Searchspace
from maggy.contracts import Decision
from maggy.earlystop import MedianRule, ThresholdRule
from maggy.errors import ConfigError
from maggy.optimizer import Auto, GridSearch, RandomSearch

SPACE = Searchspace(x=("DOUBLE", [0.0, 1.0]))


def config(**options: Any) -> OptimizationConfig:
    return OptimizationConfig(**{"num_trials": 4, "searchspace": SPACE, **options})


def test_the_documented_defaults() -> None:
    """As the public contract lists them."""
    made = config()
    assert made.optimizer == "auto"
    assert (made.optimization_key, made.direction) == ("metric", "max")
    assert (made.es_interval, made.es_min, made.hb_interval) == (1, 10, 1.0)
    assert (made.name, made.description, made.seed) == ("experiment", "", None)
    assert (made.model, made.train_set, made.test_set) == (None, None, None)
    assert str(made.folder) == "maggy-runs"
    assert isinstance(made.build_policy(), MedianRule)
    assert isinstance(made.build_optimizer(), Auto)


def test_help_shows_the_options() -> None:
    """Notebooks and editors offer every option by its name, and nothing else."""
    shown = inspect.signature(OptimizationConfig).parameters
    assert list(shown) == [f.name for f in dataclasses.fields(OptimizationConfig) if f.init]
    assert shown["direction"].default == "max"


def test_options_have_names() -> None:
    """Who gives them by position is told to name them; copies are made as ever."""
    build: Any = OptimizationConfig
    with pytest.raises(ConfigError, match="write every option with its name"):
        build(4)
    made = config()
    assert copy.copy(made).num_trials == 4
    assert dataclasses.replace(made, num_trials=5).num_trials == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"searchspace": {"x": [0, 1]}}, r"`searchspace` must be a Searchspace"),
        ({"searchspace": Searchspace()}, "it is empty"),
        ({"num_trials": None}, r"Write num_trials=100"),
        ({"num_trial": 3}, "no option is called 'num_trial'. Did you mean 'num_trials'"),
        ({"optimiser": "gp"}, "Did you mean 'optimizer'"),
        ({"space": Searchspace()}, "no option is called 'space'"),
        ({"num_trials": 0}, "`num_trials` must be a whole number >= 1, but got 0"),
        ({"num_trials": 2.5}, "but got 2.5"),
        ({"num_trials": True}, "but got True"),
        ({"optimizer": "randomserch"}, "Did you mean 'randomsearch'"),
        ({"optimizer": RandomSearch}, r"Write RandomSearch\(\)"),
        ({"optimizer": 3}, "methods start, ask, tell"),
        ({"direction": "MAX"}, "Did you mean 'max'"),
        ({"direction": "maximize"}, "must be 'max' or 'min', but got .*Did you mean 'max'"),
        ({"direction": "down"}, r"but got 'down'\.$"),
        ({"es_interval": 0}, "`es_interval`"),
        ({"es_min": -1}, "`es_min`"),
        ({"es_policy": "medain"}, "Did you mean 'median'"),
        ({"es_policy": ThresholdRule(3, at_least=0.5), "direction": "min"}, "at_least"),
        ({"hb_interval": 0}, "`hb_interval > 0`"),
        ({"hb_interval": float("inf")}, "`hb_interval > 0`"),
        ({"hb_interval": "1"}, "`hb_interval > 0`"),
        ({"name": ""}, "`name`"),
        ({"name": "x" * 201}, r"at most 200 characters, but got 'x+\.\.\.x+'"),
        ({"name": 7}, "`name` must be text"),
        ({"seed": -1}, "`seed`"),
        ({"seed": 1.5}, "`seed`"),
        (
            {"engine": "lokal"},
            "'local', 'inline', 'spark', 'ray' or 'manual', but .*Did you mean 'local'",
        ),
        ({"num_workers": 0}, "`num_workers`"),
        ({"folder": 3}, "`folder` must be a path"),
        ({"quiet": "yes"}, "`quiet`"),
        ({"model": object()}, "pass the class"),
        ({"constraints": "x < 1"}, "`constraints` must be a list"),
        ({"initial": {"x": 0.5}}, "`initial` must be a list of dicts"),
        ({"constraints": ["x <"]}, "x <"),
        ({"resources": 1}, r"`resources` must be a dict such as \{'gpu': 1\}.*but got 1"),
        ({"resources": {}}, r"but got \{\}"),
        ({"resources": {"gpus": 1}}, "asks for 'gpus'. Did you mean 'gpu'"),
        ({"resources": {"memory": 1}}, "Known: 'cpu', 'gpu'"),
        ({"resources": {1: 1}}, "asks for 1"),
        ({"resources": {"gpu": 0}}, "must be a number > 0, but got 0. Leave 'gpu' out"),
        ({"resources": {"gpu": -1}}, "but got -1"),
        ({"resources": {"gpu": True}}, "but got True"),
        ({"resources": {"gpu": "1"}}, "but got '1'"),
        ({"resources": {"gpu": float("nan")}}, "but got nan"),
        ({"resources": {"gpu": 0.4}}, r"such as 0\.5 or 1/3, but got 0\.4. Write 1/2"),
        ({"resources": {"gpu": 0.33}}, "Write 1/3"),
        ({"resources": {"gpu": 1.5}}, r"\['gpu'\]` must be a whole number, but got 1\.5"),
        ({"resources": {"cpu": 0.5}}, r"\['cpu'\]` must be a whole number, but got 0\.5"),
        ({"resources": {"gpu": 1, "cpu": float("inf")}}, "but got inf"),
        ({"trial_timeout": 0}, "`trial_timeout > 0` seconds must hold, but got 0"),
        ({"trial_timeout": True}, "`trial_timeout > 0`"),
        ({"time_limit": -1.0}, "`time_limit > 0`"),
        ({"time_limit": "1h"}, "`time_limit > 0` seconds must hold, but got '1h'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    """What is wrong, what was given, what to do."""
    with pytest.raises(ConfigError, match=message):
        config(**options)


def test_numbers_of_numpy_are_numbers() -> None:
    """A whole number may come from a generator or an array; it is kept as Python's."""
    made = config(num_trials=np.int64(7), seed=np.uint32(3), trial_timeout=np.int32(2))
    assert (made.num_trials, made.seed, made.trial_timeout) == (7, 3, 2)
    assert type(made.num_trials) is type(made.seed) is int
    with pytest.raises(ConfigError, match=r"but got 2\.5"):
        config(num_trials=np.float64(2.5))


def test_initial_points_are_checked_before_anything_starts() -> None:
    """They need the space, so the optimizer's start refuses them."""
    made = config(initial=[{"y": 1.0}])
    with pytest.raises(ConfigError, match="y"):
        made.build_optimizer().start(_context(made))


def _context(made: OptimizationConfig) -> Any:
    from maggy.engines.machines import search_context

    return search_context(made, 1, 0)


def test_a_hyperparameter_may_not_be_hidden_by_an_option() -> None:
    """`model` is a fine name until the config sets a model too."""
    space = Searchspace(model=("CATEGORICAL", ["a", "b"]))
    assert OptimizationConfig(num_trials=1, searchspace=space).provided() == {}
    with pytest.raises(ConfigError, match="Rename the hyperparameter"):
        OptimizationConfig(num_trials=1, searchspace=space, model=dict)


@pytest.mark.parametrize("model", [dict, len, functools.partial(dict, a=1)])
def test_models_are_classes_or_functions(model: Any) -> None:
    """Anything that builds a model when it is called."""
    assert config(model=model).provided() == {"model": model}


def test_grid_search_goes_without_a_number() -> None:
    """None means the whole grid."""
    made = config(num_trials=None, optimizer="GridSearch")
    assert isinstance(made.build_optimizer(), GridSearch)


def test_a_policy_object_learns_in_its_own_run_only() -> None:
    """Each run gets a copy: the user's object stays as it was built."""

    class Counting:
        """Counts."""

        def __init__(self) -> None:
            self.count = 0

        def finished(self, trial: Any) -> None:
            self.count += 1

        def decide(self, trial: Any) -> Decision:
            return Decision(stop=False)

    policy = Counting()
    built = config(es_policy=policy).build_policy()
    assert built is not None
    built.finished(None)  # type: ignore[arg-type]
    assert policy.count == 0


def test_a_config_does_not_change() -> None:
    """It is frozen, and its search space with constraints is another object."""
    made = config(constraints=["x <= 0.5"])
    with pytest.raises(AttributeError):
        made.num_trials = 9  # type: ignore[misc]
    assert made.space.allows({"x": 0.4})
    assert not made.space.allows({"x": 0.6})
    assert made.searchspace.allows({"x": 0.6})


def test_everything_in_the_description_is_json() -> None:
    """It goes into the log."""
    import json

    described = config(optimizer=RandomSearch(), initial=[{"x": 0.5}]).describe()
    assert json.loads(json.dumps(described)) == described


@pytest.mark.parametrize(
    "resources",
    [{"gpu": 1}, {"gpu": 0.5}, {"gpu": 1 / 3}, {"gpu": 1 / 7}, {"gpu": 2.0}, {"cpu": 4, "gpu": 1}],
)
def test_resources_that_can_be_shared_out(resources: Any) -> None:
    """Whole GPUs, n-th parts of one, whole cores; described as they were given."""
    assert config(resources=resources).describe()["resources"] == resources
