"""What a training function may ask for, and what it gets."""

from __future__ import annotations

import asyncio
import functools
import json
import math
import operator
from typing import TYPE_CHECKING, Any

import pytest

from maggy.errors import ConfigError
from maggy.worker.injection import Plan, callable_name, plan

if TYPE_CHECKING:
    from collections.abc import Callable

HPARAMS = {"lr": 0.1, "units": 3}


def run(train_fn: Callable[..., object], **options: Any) -> object:
    """Plan with two hyperparameters, send the plan through JSON, call."""
    made = plan(train_fn, hyperparameters=HPARAMS, **options)
    made = Plan.from_json(json.loads(json.dumps(made.to_json())))
    provided = {name: name.upper() for name in options.get("provided", ())}
    return made.call(
        train_fn, hparams=HPARAMS, reporter="REPORTER", budget=9, seed=7, provided=provided
    )


def refusal(train_fn: Any, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        plan(train_fn, hyperparameters=HPARAMS, **options)
    return str(caught.value)


def test_passes_what_is_asked_for_in_any_order() -> None:
    """Every injectable name arrives, whatever the order of the parameters."""

    def train(
        seed: int, reporter: str, units: int, hparams: Any, budget: int, train_set: str, model: str
    ) -> object:
        return seed, reporter, units, hparams, budget, train_set, model

    got = run(train, provided=("model", "train_set", "test_set"), multi_fidelity=True)
    assert got == (7, "REPORTER", 3, HPARAMS, 9, "TRAIN_SET", "MODEL")


def test_hparams_is_a_dict_of_the_trial() -> None:
    """A training function may change its ``hparams`` without changing anybody else's."""
    given = dict(HPARAMS)

    def train(hparams: dict[str, object]) -> dict[str, object]:
        hparams["lr"] = None
        return hparams

    got = plan(train, hyperparameters=given).call(
        train, hparams=given, reporter=None, budget=None, seed=0, provided={}
    )
    assert got == {"lr": None, "units": 3}
    assert given == HPARAMS


def test_defaults_stay_when_nobody_provides() -> None:
    """A parameter that nobody provides keeps its default; one that somebody provides does not."""

    def train(lr: float = 5.0, epochs: int = 10, budget: int = 4, model: object = "own") -> object:
        return lr, epochs, budget, model

    assert run(train) == (0.1, 10, 4, "own")
    assert run(train, multi_fidelity=True, provided=["model"]) == (0.1, 10, 9, "MODEL")


def test_kwargs_receive_the_other_hyperparameters_only() -> None:
    """``**kwargs`` hold the hyperparameters that no parameter takes, and nothing else."""

    def train(lr: float, reporter: object, **kwargs: object) -> object:
        return lr, kwargs

    assert run(train, provided=["model"], multi_fidelity=True) == (0.1, {"units": 3})


def test_an_inactive_hyperparameter_keeps_the_default() -> None:
    """A conditional hyperparameter that a trial lacks leaves its parameter's default alone."""

    def train(lr: float, units: int = 99, **rest: object) -> object:
        return lr, units, rest

    made = plan(train, hyperparameters=["lr", "units", "depth"], conditional=["units", "depth"])

    def call(hparams: dict[str, Any]) -> object:
        return made.call(train, hparams=hparams, reporter=0, budget=None, seed=0, provided={})

    assert call({"lr": 1.0}) == (1.0, 99, {})
    assert call({"lr": 1.0, "units": 2, "depth": 5}) == (1.0, 2, {"depth": 5})


def test_a_conditional_hyperparameter_needs_a_default() -> None:
    """A parameter for a hyperparameter that can be inactive is refused without a default."""

    def train(lr: float, units: int) -> float:
        return lr * units

    text = refusal(train, conditional=["units"])
    assert "`units`" in text
    assert "`units=None`" in text
    assert "hparams.get('units')" in text


class Trainer:
    def fit(self, lr: float) -> object:
        return "fit", lr

    def __call__(self, lr: float, seed: int) -> object:
        return "call", lr, seed


def traced(fn: Callable[..., object]) -> Callable[..., object]:
    @functools.wraps(fn)
    def wrapper(*args: object, **kwargs: object) -> object:
        return "traced", fn(*args, **kwargs)

    return wrapper


@traced
def decorated(units: int, seed: int) -> object:
    return units, seed


def plain(lr: float, factor: float, model: object = None) -> object:
    return lr * factor, model


@pytest.mark.parametrize(
    ("train_fn", "expected"),
    [
        pytest.param(lambda lr, seed: (lr, seed), (0.1, 7), id="lambda"),
        pytest.param(Trainer().fit, ("fit", 0.1), id="bound-method"),
        pytest.param(Trainer(), ("call", 0.1, 7), id="callable-object"),
        pytest.param(functools.partial(plain, factor=20), (2.0, None), id="partial"),
        pytest.param(functools.partial(plain, factor=20, model="own"), (2.0, "own"), id="fixed"),
        pytest.param(decorated, ("traced", (3, 7)), id="decorated"),
    ],
)
def test_kinds_of_callables(train_fn: Callable[..., object], expected: object) -> None:
    """Everything that can be called and tells its parameters can be a training function."""
    assert run(train_fn) == expected


def test_a_partial_may_fix_an_injectable() -> None:
    """What ``functools.partial`` fixes is the user's word, even for the seed."""

    def train(lr: float, seed: int) -> object:
        return lr, seed

    assert run(functools.partial(train, seed=1)) == (0.1, 1)
    assert run(functools.partial(train, 0.5)) == (0.5, 7)


@pytest.mark.parametrize(("name", "where"), [("lr", "search space"), ("model", "config")])
def test_a_partial_must_not_fix_what_is_searched(name: str, where: str) -> None:
    """Fixing what the search space or the config sets is a contradiction, and is refused."""
    text = refusal(functools.partial(plain, factor=2, **{name: 5}), provided=["model"])
    assert f"`{name}` of `plain`" in text
    assert where in text


def test_what_a_plan_knows() -> None:
    """A plan says whether the function takes a budget, a reporter, or nothing at all."""
    full = plan(lambda budget, reporter: 0, hyperparameters=[], multi_fidelity=True)
    assert full.takes_budget
    assert full.takes_reporter
    assert not full.takes_nothing
    without = plan(lambda lr, budget=1: 0, hyperparameters=["lr"])
    assert not without.takes_budget
    assert not without.takes_reporter
    for train_fn in (lambda: 0, lambda epochs=3: 0):
        assert plan(train_fn, hyperparameters=["lr"]).takes_nothing
    assert not plan(lambda **kwargs: 0, hyperparameters=["lr"]).takes_nothing


def test_nobody_provides_it() -> None:
    """An unknown name is refused with what was asked, what there is and the nearest name."""

    def train(hparams: object, reportr: object, unit: int) -> float:
        return 0.0

    text = refusal(train, provided=["model"])
    assert "`train` asks for `reportr` and `unit`, which nobody provides" in text
    assert "hparams, reporter, seed, model, lr, units" in text
    assert "Did you mean `reporter`? Did you mean `units`?" in text


@pytest.mark.parametrize(
    ("train_fn", "hint"),
    [
        (lambda budget: 0, '`optimizer=Asha(3, 1, 27, sampler="auto")`'),
        (lambda train_set: 0, "Set `train_set` in the config."),
        (lambda zzzz: 0, "Rename the parameter, or give it a default."),
    ],
    ids=["budget", "train_set", "unknown"],
)
def test_hints(train_fn: Callable[..., object], hint: str) -> None:
    """The refusal of a missing name says what to do about it."""
    assert hint in refusal(train_fn)


async def coroutine(lr: float) -> float:
    await asyncio.sleep(0)
    return lr


def generator(lr: float) -> Any:
    yield lr


class CallsGenerator:
    def __call__(self, lr: float) -> Any:
        yield lr


def by_position(lr: float, /) -> float:
    return lr


@pytest.mark.parametrize(
    ("train_fn", "wanted"),
    [
        pytest.param(0.93, "Pass the function itself, without calling it", id="value"),
        pytest.param(Trainer, "the class `Trainer`", id="class"),
        pytest.param(math.hypot, "`hypot`", id="builtin"),
        pytest.param(operator.itemgetter(1), "`itemgetter`", id="variadic-object"),
        pytest.param(coroutine, "`coroutine` is a coroutine", id="async"),
        pytest.param(functools.partial(coroutine), "`coroutine` is a coroutine", id="partial"),
        pytest.param(generator, "it contains `yield`", id="generator"),
        pytest.param(CallsGenerator(), "it contains `yield`", id="generator-object"),
        pytest.param(by_position, "Remove the `/`", id="positional-only"),
        pytest.param(lambda *args: 0, "takes only `*args`", id="star-args"),
        pytest.param(dict.fromkeys, "", id="builtin-method"),
    ],
)
def test_refused_callables(train_fn: Any, wanted: str) -> None:
    """What cannot be called by name for a metric is refused with the reason."""
    assert wanted in refusal(train_fn)


def test_names_for_messages() -> None:
    """A callable is called what the user calls it."""
    assert callable_name(functools.partial(functools.partial(plain, 1), 2)) == "plain"
    assert callable_name(Trainer()) == "Trainer"
    assert callable_name(Trainer().fit) == "fit"
