"""The training function and the model, on their way from the driver to a worker."""

from __future__ import annotations

import functools
import io
import pickle
import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from maggy.worker.injection import callable_name
from maggy.worker.pickling import write_pickle

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from maggy.worker.datasets import DataFile

__all__ = ["Payload", "dump_payload", "load_payload"]


@dataclass(frozen=True, slots=True)
class Payload:
    """What a worker got from the driver, ready to be used by any number of trials.

    Attributes:
        train_fn: The training function.
        model: The model's class or factory, or None.
        data: The file of the data sets, or None.
    """

    train_fn: Callable[..., object]
    model: object = None
    data: DataFile | None = None

    def provided(self, names: Collection[str] | None = None) -> dict[str, object]:
        """The objects for one trial; data sets are new ones at each call.

        Args:
            names: Which of ``model``, ``train_set`` and ``test_set`` are wanted; None means all.
        """
        objects = {} if self.data is None else self.data.load(names)
        if self.model is not None and (names is None or "model" in names):
            objects["model"] = self.model
        return objects

    def publish(self, namespace: dict[str, Any]) -> None:
        """Make what the driver's ``__main__`` defined visible in the worker's.

        User code that pickles its own functions and classes (a process pool, ``torch.save``)
        refers to them as attributes of ``__main__``.

        Args:
            namespace: The ``__dict__`` of the worker's ``__main__``, whose dunder names stay.
        """
        for value in (self.train_fn, self.model):
            names = _names_of_main(value)
            namespace.update({k: v for k, v in names.items() if not k.startswith("__")})


def dump_payload(
    train_fn: Callable[..., object], *, model: object = None, travels: bool = False
) -> bytes:
    """The training function and the model by cloudpickle, for ``load_payload``.

    What can be imported goes by reference, since workers get ``sys.path``; what was defined in
    ``__main__``, a notebook or a function goes by value.

    Args:
        train_fn: The training function.
        model: The model's class or factory, or None.
        travels: See ``maggy.worker.pickling.write_pickle``.

    Raises:
        UnpicklableError: One of them cannot be pickled; it names the variable at fault.
    """
    blob = io.BytesIO()
    try:
        write_pickle((train_fn, model), blob, parts=(train_fn, model), travels=travels)
    except MemoryError:
        raise
    except Exception as error:
        raise _culprit(train_fn, model, error) from error
    return blob.getvalue()


def load_payload(blob: bytes, data: DataFile | None = None) -> Payload:
    """Load what ``dump_payload`` wrote; whatever importing the user's modules raises is passed on.

    Args:
        blob: The pickle.
        data: The run's data sets, if it has any.
    """
    train_fn, model = pickle.loads(blob)  # noqa: S301  the driver proved that it has the key
    return Payload(train_fn, model, data)


def _culprit(train_fn: Callable[..., object], model: object, error: Exception) -> Exception:
    from maggy.worker.captures import unpicklable

    try:
        write_pickle(train_fn, io.BytesIO())
    except Exception as own:  # noqa: BLE001  pickling runs users' code, which may raise anything
        return unpicklable(callable_name(train_fn), train_fn, own)
    return unpicklable("model", model, error)


def _names_of_main(value: Any) -> dict[str, object]:
    """The globals of ``__main__`` that came along with a function, method, class or object."""
    while isinstance(value, (types.MethodType, functools.partial)):
        value = value.__func__ if isinstance(value, types.MethodType) else value.func
    if not isinstance(value, (type, types.FunctionType)):
        value = type(value)
    if value.__module__ != "__main__":
        return {}
    if isinstance(value, types.FunctionType):
        return {**value.__globals__, **_own_name(value)}
    names = _own_name(value)
    for attribute in vars(value).values():
        function = getattr(attribute, "__func__", attribute)
        if isinstance(function, types.FunctionType):
            names = {**function.__globals__, **names}
    return names


def _own_name(value: Any) -> dict[str, object]:
    return {value.__name__: value} if value.__qualname__ == value.__name__ else {}
