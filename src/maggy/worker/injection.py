"""What a training function asks for by name, and how it is called with that.

``plan`` looks at the signature once, in the driver, before anything starts; the ``Plan`` travels
to the workers as JSON and calls the function once per trial.
"""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from maggy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from maggy.trial import Hparams, Json, Resource

__all__ = ["Plan", "callable_name", "plan"]

_ALWAYS = ("hparams", "reporter", "seed")
_CONFIGURED = ("model", "train_set", "test_set")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to call one training function.

    Attributes:
        names: Parameters that are passed by keyword.
        provided: Those of ``names`` that the config sets: ``model``, ``train_set``, ``test_set``.
        rest: The function has ``**kwargs``, which receive the hyperparameters not in ``names``.
    """

    names: tuple[str, ...]
    provided: tuple[str, ...] = ()
    rest: bool = False

    @property
    def takes_budget(self) -> bool:
        """The function is told how far to train."""
        return "budget" in self.names

    @property
    def takes_reporter(self) -> bool:
        """The function can broadcast."""
        return "reporter" in self.names

    @property
    def takes_nothing(self) -> bool:
        """Nothing is passed at all, so every trial is the same: worth a warning."""
        return not self.names and not self.rest

    def to_json(self) -> dict[str, Json]:
        """The plan as a JSON object, for the wire."""
        return {"names": list(self.names), "provided": list(self.provided), "rest": self.rest}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """The plan that ``to_json`` wrote."""
        return cls(
            names=tuple(data["names"]), provided=tuple(data["provided"]), rest=bool(data["rest"])
        )

    def call(
        self,
        train_fn: Callable[..., object],
        *,
        hparams: Hparams,
        reporter: object,
        budget: Resource | None,
        seed: int,
        provided: Mapping[str, object],
    ) -> object:
        """Call the training function for one trial and return what it returns.

        Args:
            train_fn: The function that was planned.
            hparams: The active hyperparameters; the function gets a dict of its own.
            reporter: The trial's reporter.
            budget: The total resource to have reached on return.
            seed: The trial's own seed, in [0, 2**31).
            provided: At least the names in ``Plan.provided``.
        """
        given = {"hparams": dict(hparams), "reporter": reporter, "budget": budget, "seed": seed}
        arguments: dict[str, object] = {}
        for name in self.names:
            if name in given:
                arguments[name] = given[name]
            elif name in self.provided:
                arguments[name] = provided[name]
            elif name in hparams:  # an inactive hyperparameter keeps the parameter's default
                arguments[name] = hparams[name]
        if self.rest:
            arguments |= {k: v for k, v in hparams.items() if k not in self.names}
        return train_fn(**arguments)


def plan(
    train_fn: Callable[..., object],
    *,
    hyperparameters: Collection[str],
    provided: Collection[str] = (),
    conditional: Collection[str] = (),
    multi_fidelity: bool = False,
) -> Plan:
    """Decide what to pass to a training function.

    Args:
        train_fn: A function, lambda, bound method, ``functools.partial`` or callable object.
        hyperparameters: The names of the search space.
        provided: Which of ``model``, ``train_set`` and ``test_set`` the config sets.
        conditional: The hyperparameters that are inactive in some trials.
        multi_fidelity: Whether the optimizer hands out budgets.

    Raises:
        ConfigError: The function cannot be called with what there is.
    """
    search = _Offer(
        tuple(hyperparameters), tuple(provided), frozenset(conditional), multi_fidelity
    )
    fn = callable_name(train_fn)
    parameters = tuple(_signature(train_fn, fn).parameters.values())
    fixed = train_fn.keywords if _is_partial(train_fn) else {}
    named = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    asked = [p for p in named if p.name not in fixed]
    _check_fixed(fn, fixed, search)
    _check_missing(fn, [p.name for p in asked if _missing(p, search)], search)
    names = [p for p in asked if p.name in search.names]
    _check_passable(fn, names, search)
    if parameters and all(p.kind is p.VAR_POSITIONAL for p in parameters):
        msg = (
            f"`{fn}` takes only `*{parameters[0].name}`, but maggy passes by name. Name what it "
            "needs, such as `hparams`; a decorator keeps the names with `functools.wraps`."
        )
        raise ConfigError(msg)
    return Plan(
        names=tuple(p.name for p in names),
        provided=tuple(p.name for p in names if p.name in search.provided),
        rest=any(p.kind is p.VAR_KEYWORD for p in parameters),
    )


def callable_name(fn: object) -> str:
    """The name by which the user knows this callable, for messages."""
    if _is_partial(fn):
        return callable_name(fn.func)
    return getattr(fn, "__name__", None) or type(fn).__name__


@dataclass(frozen=True, slots=True)
class _Offer:
    """What a training function can ask for."""

    hyperparameters: tuple[str, ...]
    provided: tuple[str, ...]
    conditional: frozenset[str]
    multi_fidelity: bool

    @property
    def names(self) -> tuple[str, ...]:
        budget = ("budget",) if self.multi_fidelity else ()
        return (*_ALWAYS, *budget, *self.provided, *self.hyperparameters)


def _is_partial(fn: object) -> TypeGuard[functools.partial[object]]:
    return isinstance(fn, functools.partial)


def _signature(train_fn: object, fn: str) -> inspect.Signature:
    if not callable(train_fn):
        msg = (
            f"`train_fn` must be a function, but got {train_fn!r:.80} "
            f"({type(train_fn).__name__}). Pass the function itself, without calling it."
        )
        raise ConfigError(msg)
    if isinstance(train_fn, type):
        msg = (
            f"`train_fn` must be a function, but got the class `{fn}`, which returns an object "
            "and no metric. Pass a function, or an object with a method `__call__`."
        )
        raise ConfigError(msg)
    _check_plain(train_fn, fn)
    try:
        return inspect.signature(train_fn)
    except (ValueError, TypeError) as error:
        msg = (
            f"`{fn}` does not tell its parameters ({error}). Wrap it in a function of your own: "
            f"`def train(hparams): return {fn}(...)`."
        )
        raise ConfigError(msg) from error


def _check_plain(train_fn: Callable[..., object], fn: str) -> None:
    """Refuse functions that return a coroutine or a generator where a metric is wanted."""
    bodies = (train_fn, type(train_fn).__call__)
    for kind, wrong in (
        ("a coroutine (`async def`)", inspect.iscoroutinefunction),
        ("an asynchronous generator", inspect.isasyncgenfunction),
        ("a generator (it contains `yield`)", inspect.isgeneratorfunction),
    ):
        if any(wrong(body) for body in bodies):
            msg = (
                f"`{fn}` is {kind}, so calling it returns no metric. Use a plain function; it "
                "may call `asyncio.run(...)`, and it reports with `reporter.broadcast`."
            )
            raise ConfigError(msg)


def _missing(parameter: inspect.Parameter, offer: _Offer) -> bool:
    return parameter.default is parameter.empty and parameter.name not in offer.names


def _check_fixed(fn: str, fixed: Mapping[str, object], offer: _Offer) -> None:
    for name in fixed:
        if name in offer.hyperparameters or name in offer.provided:
            where = "the search space" if name in offer.hyperparameters else "the config"
            msg = (
                f"`{name}` of `{fn}` is fixed to {fixed[name]!r:.80} by functools.partial, and "
                f"{where} sets it too. Remove one of them."
            )
            raise ConfigError(msg)


def _check_missing(fn: str, missing: Sequence[str], offer: _Offer) -> None:
    if not missing:
        return
    asked = " and ".join(f"`{name}`" for name in missing)
    hints = " ".join(filter(None, (_hint(name, offer) for name in missing)))
    msg = (
        f"`{fn}` asks for {asked}, which nobody provides. It can ask for "
        f"{', '.join(offer.names)}. {hints or 'Rename the parameter, or give it a default.'}"
    )
    raise ConfigError(msg)


def _hint(name: str, offer: _Offer) -> str:
    import difflib

    if name == "budget":
        return (
            "A budget comes from a multi-fidelity optimizer: `optimizer=Asha(3, 1, 27, "
            'sampler="auto")` trains every configuration to 1, a third of them to 3, and the best '
            "to 27. For other optimizers give the parameter a default: `budget=27`."
        )
    if name in _CONFIGURED:
        return f"Set `{name}` in the config."
    lower = {offered.lower(): offered for offered in offer.names}
    close = difflib.get_close_matches(name.lower(), lower, n=1)
    return f"Did you mean `{lower[close[0]]}`?" if close else ""


def _check_passable(fn: str, names: Sequence[inspect.Parameter], offer: _Offer) -> None:
    for parameter in names:
        name = parameter.name
        if parameter.kind is parameter.POSITIONAL_ONLY:
            msg = (
                f"`{fn}` takes `{name}` by position only, but maggy passes by name. "
                "Remove the `/` from its signature."
            )
            raise ConfigError(msg)
        if name in offer.conditional and parameter.default is parameter.empty:
            msg = (
                f"`{fn}` asks for the hyperparameter `{name}`, which has a condition and is not "
                f"passed when inactive. Give it a default, such as `{name}=None`, or take "
                f"`hparams` and read `hparams.get({name!r})`."
            )
            raise ConfigError(msg)
