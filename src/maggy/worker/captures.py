"""What a training function carries with it: who cannot be sent to the workers, and who is large.

A walk over closure variables, referenced globals, defaults and attributes.  It asks the pickler
about each of them and goes down only where the answer is bad, so that importable functions and
ordinary data end it at once.
"""

from __future__ import annotations

import dis
import functools
import inspect
import itertools
import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from maggy.errors import UnpicklableError
from maggy.worker.injection import callable_name
from maggy.worker.pickling import measure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["LARGE", "large_captures", "unpicklable"]

LARGE = 10_000_000
"""Bytes from which a captured object is worth a word."""

_CARRIERS = (types.FunctionType, types.MethodType, functools.partial)
"""What is not large itself: its captures are."""

_DEPTH = 20
_WIDTH = 10_000
"""How deep, and how far into one container, a culprit is looked for."""


@dataclass(frozen=True, slots=True)
class _Step:
    """One step down from an object to a part of it.

    Attributes:
        path: How the part is written, such as ``lock``; it continues the path of the owner if it
            starts with a dot or a bracket.
        phrase: How the part is introduced, with ``{}`` for its path; ``""`` for a continuation.
        value: The part.
    """

    path: str
    phrase: str
    value: Any


def unpicklable(name: str, value: object, error: Exception) -> UnpicklableError:
    """The error that names the innermost part of ``value`` that cannot be pickled.

    Args:
        name: What the user calls ``value``.
        value: What could not be pickled.
        error: What pickling it raised.
    """
    steps = _to_culprit(value)
    culprit = steps[-1].value if steps else value
    if steps:
        error = _refusal(culprit) or error
    chain = _chain(name, steps)
    who = f"{chain} (a `{_type_name(culprit)}`)"
    verb = "cannot be sent to the workers"
    what = f"{who}, which {verb}" if " uses " in chain else f"{who} {verb}"
    msg = f"{what}: {type(error).__name__}: {error}. {_advice(name, value)}"
    return UnpicklableError(msg)


def large_captures(
    train_fn: Callable[..., object], size: int, *, threshold: int = LARGE
) -> list[tuple[str, int]]:
    """The captured objects of at least ``threshold`` bytes, largest first.

    Args:
        train_fn: A function that can be pickled.
        size: The bytes of its pickle; below ``threshold`` nothing is looked at.
        threshold: Bytes.

    Returns:
        Pairs of the variable's name (``df``, ``self.images``) and its bytes when pickled.
    """
    if size < threshold:
        return []
    root = "" if isinstance(train_fn, _CARRIERS) else "self"
    found = dict(_large(train_fn, root, threshold, {id(train_fn)}))
    return sorted(found.items(), key=lambda item: -item[1])


def _large(owner: object, path: str, threshold: int, seen: set[int]) -> Iterator[tuple[str, int]]:
    for step in _parts(owner):
        if id(step.value) in seen:
            continue
        seen.add(id(step.value))
        size = measure(step.value)
        if size < threshold:
            continue
        inner = step.path if step.phrase else path + step.path
        if step.path == "self" or isinstance(step.value, (*_CARRIERS, type)):
            yield from _large(step.value, inner, threshold, seen)
        else:
            yield inner, size


def _to_culprit(value: object) -> list[_Step]:
    """The way to the innermost part that cannot be pickled on its own."""
    steps: list[_Step] = []
    seen = {id(value)}
    while len(steps) < _DEPTH:
        for step in itertools.islice(_parts(value), _WIDTH):
            if id(step.value) not in seen and _refusal(step.value) is not None:
                break
        else:
            break
        steps.append(step)
        value = step.value
        seen.add(id(value))
    return steps


def _refusal(value: object) -> Exception | None:
    try:
        measure(value)
    except Exception as error:  # noqa: BLE001  pickling runs users' code, which may raise anything
        return error
    return None


def _chain(name: str, steps: Sequence[_Step]) -> str:
    links = [("`{}`", name)]
    for step in steps:
        if step.phrase:
            links.append((step.phrase, step.path))
        else:
            phrase, path = links[-1]
            links[-1] = (phrase, path + step.path)
    first, *others = [phrase.format(path) for phrase, path in links]
    return f"{first} uses {', which uses '.join(others)}" if others else first


def _type_name(value: object) -> str:
    kind = type(value)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"{module}{kind.__qualname__}"


def _advice(name: str, value: object) -> str:
    if callable(value) and not isinstance(value, type):
        return f"Create it inside `{name}`, or use there what it is made from, such as a path."
    return (
        "Pass something that can be pickled, such as arrays, lists or a path, and make the rest "
        "of it inside the training function."
    )


def _parts(value: Any) -> Iterator[_Step]:
    """What ``value`` refers to and takes along when it is pickled."""
    if isinstance(value, types.FunctionType):
        return _parts_of_function(value)
    if isinstance(value, types.MethodType):
        return iter((_Step("self", "`{}`", value.__self__),))
    if isinstance(value, functools.partial):
        return _parts_of_partial(value)
    if isinstance(value, type):
        return _parts_of_class(value)
    if isinstance(value, dict):
        return (_Step(f"[{key!r:.40}]", "", item) for key, item in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return (_Step(f"[{index}]", "", item) for index, item in enumerate(value))
    return _parts_of_instance(value)


def _parts_of_function(fn: types.FunctionType) -> Iterator[_Step]:
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
        try:
            content = cell.cell_contents
        except ValueError:  # a variable that was never assigned
            continue
        yield _Step(name, _phrase(content, "the variable `{}` of the enclosing function"), content)
    for name in sorted(_global_names(fn.__code__)):
        if name in fn.__globals__:
            content = fn.__globals__[name]
            yield _Step(name, _phrase(content, "the global variable `{}`"), content)
    for name, default in _defaults(fn):
        yield _Step(name, "the default of the parameter `{}`", default)
    yield from _attributes(vars(fn))


def _phrase(value: object, phrase: str) -> str:
    return "`{}`" if isinstance(value, (type, types.FunctionType)) else phrase


def _global_names(code: types.CodeType) -> set[str]:
    names = {
        instruction.argval
        for instruction in dis.get_instructions(code)
        if instruction.opname == "LOAD_GLOBAL"
    }
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _global_names(constant)
    return names


def _defaults(fn: types.FunctionType) -> list[tuple[str, object]]:
    positional = fn.__code__.co_varnames[: fn.__code__.co_argcount]
    values = fn.__defaults__ or ()
    pairs = zip(positional[len(positional) - len(values) :], values, strict=True)
    return [*pairs, *(fn.__kwdefaults__ or {}).items()]


def _parts_of_partial(fn: functools.partial[object]) -> Iterator[_Step]:
    for index, value in enumerate(fn.args):
        yield _Step(f"args[{index}]", "the fixed argument `{}`", value)
    for name, value in fn.keywords.items():
        yield _Step(name, "the fixed argument `{}`", value)
    yield _Step(callable_name(fn.func), "`{}`", fn.func)


def _parts_of_instance(value: Any) -> Iterator[_Step]:
    try:
        state = value.__getstate__()
    except Exception:  # noqa: BLE001  users' code; then the object itself is the culprit
        return
    for attributes in state if isinstance(state, tuple) else (state,):
        if isinstance(attributes, dict):
            yield from _attributes(attributes)
    yield _Step(type(value).__qualname__, "its class `{}`", type(value))


def _attributes(attributes: dict[str, Any]) -> Iterator[_Step]:
    for name, value in attributes.items():
        yield _Step(f".{name}", "", value)


def _parts_of_class(kind: type) -> Iterator[_Step]:
    for name, attribute in vars(kind).items():
        value = attribute
        if isinstance(attribute, (staticmethod, classmethod)):
            value = attribute.__func__
        elif isinstance(attribute, property):
            value = attribute.fget
        own = isinstance(value, types.FunctionType) or not name.startswith("_")
        if own and not inspect.isdatadescriptor(value):
            yield _Step(f".{name}", "", value)
