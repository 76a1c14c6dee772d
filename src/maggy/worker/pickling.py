"""Pickling for the workers: cloudpickle, with whatever they could not import sent by value."""

from __future__ import annotations

import contextlib
import functools
import site
import sys
import sysconfig
import threading
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import cloudpickle
from cloudpickle.cloudpickle import list_registry_pickle_by_value

if TYPE_CHECKING:
    import pickle
    from collections.abc import Callable, Iterable, Iterator
    from importlib.machinery import ModuleSpec

__all__ = ["IN_BAND", "Sink", "measure", "write_pickle"]

PROTOCOL = 5
IN_BAND = 64 * 1024
"""Buffers below this many bytes stay inside the pickle: too small to be worth a map."""

_NAMELESS = "<dynamic-code>"

_NOT_USERS = ("__main__", "__mp_main__", "maggy", "cloudpickle")

_REGISTRY = threading.Lock()
"""cloudpickle's list of modules to send by value belongs to the whole process."""


class Sink(Protocol):
    """Anything that takes bytes."""

    def write(self, data: Any, /) -> int:
        """Take these bytes and say how many they were."""
        ...


def write_pickle(
    value: object,
    sink: Sink,
    *,
    buffers: Callable[[pickle.PickleBuffer], bool] | None = None,
    parts: Iterable[object] = (),
    travels: bool = False,
) -> None:
    """Pickle ``value`` into ``sink``.

    A module that the workers could not import (one made at run time, or found by other means than
    ``sys.path``) is sent by value when ``value`` or one of its ``parts`` is defined there.

    Args:
        value: What to pickle; whatever its pickling raises is passed on.
        sink: Receives the pickle, in pieces.
        buffers: Receives large contiguous buffers instead of the sink; it answers whether the
            buffer is to stay inside the pickle.
        parts: Functions, classes and objects inside ``value``.
        travels: To another machine, which has what is installed here and nothing of the user's:
            all modules outside of ``site-packages`` are sent by value as far as they are needed.
    """
    with _by_value((value, *parts), travels=travels):
        _Pickler(sink, protocol=PROTOCOL, buffer_callback=buffers).dump(value)


def measure(value: object) -> int:
    """The size in bytes that ``value`` has when pickled, without keeping a copy of it."""
    count = _Count()
    write_pickle(value, count, buffers=count.buffer)
    return count.size


class _Count:
    """A sink that only counts."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, data: Any, /) -> int:
        size = len(data)
        self.size += size
        return size

    def buffer(self, buffer: pickle.PickleBuffer) -> bool:
        self.size += buffer.raw().nbytes
        return False


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle with three differences.

    Large strided arrays go out of band too: numpy does so for contiguous ones only.  So do large
    tensors, which torch itself copies into the pickle.  Code keeps the name of its file, which
    cloudpickle leaves out: tracebacks show users their own lines.
    """

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, types.CodeType):
            make, arguments = self.dispatch_table[types.CodeType](value)
            named = (value.co_filename if x == _NAMELESS else x for x in arguments)
            return make, tuple(named)
        numpy = sys.modules.get("numpy")
        if (
            numpy is not None
            and type(value) is numpy.ndarray
            and not value.flags.forc
            and value.nbytes >= IN_BAND
            and not value.dtype.hasobject
        ):
            return numpy.ascontiguousarray(value).__reduce_ex__(PROTOCOL)
        torch = sys.modules.get("torch")
        if torch is not None and type(value) is getattr(torch, "Tensor", None):
            reduced = _as_array(value, torch)
            if reduced is not None:
                return reduced
        return super().reducer_override(value)


def _as_array(tensor: Any, torch: Any) -> tuple[Any, tuple[Any, ...]] | None:
    """How to pickle a tensor as the numpy array that shares its memory; None: as torch does it.

    Only what is large, in main memory, and nothing but numbers; unlike in torch's own pickle, a
    part of a large tensor leaves the rest of it behind.
    """
    special = (
        tensor.device.type != "cpu"
        or tensor.layout is not torch.strided
        or tensor.requires_grad
        or tensor.is_quantized
        or tensor.is_nested
        or tensor.is_conj()
        or tensor.is_neg()
        or vars(tensor)  # attributes of the user's
        or 0 in tensor.stride()  # one number stands for many
    )
    if special or tensor.nbytes < IN_BAND:
        return None
    try:
        return torch.from_numpy, (tensor.numpy(),)
    except TypeError:  # numbers that numpy does not know, such as bfloat16: as plain bits
        bits = {1: torch.uint8, 2: torch.int16}.get(tensor.element_size())
        return None if bits is None else (torch.Tensor.view, (tensor.view(bits), tensor.dtype))


@contextlib.contextmanager
def _by_value(values: Iterable[object], *, travels: bool) -> Iterator[None]:
    """Have the modules that define these sent by value, unless they can be imported there."""
    with _REGISTRY:
        modules = {module.__name__: module for module in map(_module, values) if module}
        modules = {name: m for name, m in modules.items() if not _importable(m)}
        if travels:
            modules |= {m.__name__: m for m in list(sys.modules.values()) if _is_users(m)}
        for name in list_registry_pickle_by_value() & modules.keys():  # the user's own choice
            del modules[name]
        for module in modules.values():
            cloudpickle.register_pickle_by_value(module)
        try:
            yield
        finally:
            for module in modules.values():
                cloudpickle.unregister_pickle_by_value(module)


def _module(value: object) -> types.ModuleType | None:
    while isinstance(value, (functools.partial, types.MethodType)):
        value = value.func if isinstance(value, functools.partial) else value.__self__
    is_definition = isinstance(value, (type, types.FunctionType))
    name = getattr(value if is_definition else type(value), "__module__", None)
    return sys.modules.get(name) if isinstance(name, str) and name != "__main__" else None


def _is_users(module: types.ModuleType) -> bool:
    """Whether a module is the user's own: not installed, not Python's, and not ours."""
    file = getattr(module, "__file__", None)
    name = getattr(module, "__name__", "__main__")
    if not isinstance(file, str) or name.partition(".")[0] in _NOT_USERS:
        return False
    path = Path(file).resolve()
    return path.suffix == ".py" and not any(path.is_relative_to(root) for root in _installed())


@functools.cache
def _installed() -> tuple[Path, ...]:
    """The folders of Python itself and of what is installed."""
    folders = [
        *sysconfig.get_paths().values(),
        *site.getsitepackages(),
        site.getusersitepackages(),
    ]
    named = [p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
    data = {sysconfig.get_path("data"), sysconfig.get_path("scripts")}  # may hold a checkout
    return tuple(Path(folder).resolve() for folder in {*folders, *named} - data)


def _importable(module: types.ModuleType) -> bool:
    """Whether ``import`` in a fresh interpreter with our ``sys.path`` finds this very module."""
    spec: ModuleSpec | None = None
    parts = module.__name__.split(".")
    for end in range(1, len(parts) + 1):
        spec = _find(".".join(parts[:end]), spec)
        if spec is None:
            return False
    file = getattr(module, "__file__", None)
    if spec is None or spec.origin is None or file is None:
        return True
    return Path(spec.origin).resolve() == Path(file).resolve()


def _find(name: str, parent: ModuleSpec | None) -> ModuleSpec | None:
    path = None if parent is None else list(parent.submodule_search_locations or [])
    for finder in sys.meta_path:
        spec = finder.find_spec(name, path) if hasattr(finder, "find_spec") else None
        if spec is not None:
            return spec
    return None
