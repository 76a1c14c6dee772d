"""Large tensors are pickled as the arrays that share their memory, so that workers map them.

The rules are tested with a stand-in that has the attributes the pickler asks for: torch itself is
too large to be a dependency of the tests.
"""

from __future__ import annotations

import io
import sys
import types
from typing import Any

import numpy as np
import pytest

from maggy.worker.datasets import DataFile
from maggy.worker.pickling import IN_BAND, write_pickle

LARGE = np.arange(IN_BAND, dtype="f8").reshape(-1, 64)


class Tensor:
    """An array with what else a tensor may have."""

    __slots__ = (
        "__dict__", "array", "bits", "conjugated", "device", "is_nested", "is_quantized",
        "layout", "negated", "requires_grad", "strides",
    )  # fmt: skip

    def __init__(self, array: Any, *, bits: bool = False, **special: Any) -> None:
        self.array = array
        self.bits = bits
        self.layout = "strided"
        self.requires_grad = self.is_quantized = self.is_nested = False
        self.conjugated = self.negated = False
        self.device = types.SimpleNamespace(type="cpu")
        self.strides = array.strides
        for name, value in special.items():
            setattr(self, name, value)

    @property
    def nbytes(self) -> int:
        return int(self.array.nbytes)

    @property
    def dtype(self) -> Any:
        return self.array.dtype

    def element_size(self) -> int:
        return int(self.array.itemsize)

    def stride(self) -> Any:
        return self.strides

    def is_conj(self) -> bool:
        return self.conjugated

    def is_neg(self) -> bool:
        return self.negated

    def numpy(self) -> Any:
        if self.bits:
            msg = "numpy has no such numbers"
            raise TypeError(msg)
        return self.array

    def view(self, dtype: Any) -> Tensor:
        return Tensor(self.array.view(dtype))


def from_numpy(array: Any) -> Tensor:
    """As torch does: the same memory."""
    return Tensor(array)


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The stand-in, where ``import torch`` finds it."""
    module: Any = types.ModuleType("torch")
    for thing in (Tensor, from_numpy):
        monkeypatch.setattr(thing, "__module__", "torch")
        setattr(module, thing.__name__, thing)
    monkeypatch.setattr(Tensor.view, "__module__", "torch")
    module.strided, module.uint8, module.int16 = "strided", np.dtype("u1"), np.dtype("i2")
    monkeypatch.setitem(sys.modules, "torch", module)
    return module


def sent(value: Any) -> tuple[Any, int]:
    """What arrives, and how many bytes of it went out of band."""
    data = DataFile.publish({"train_set": {"x": value}})
    try:
        arrived: Any = data.load()["train_set"]
    finally:
        data.close()
    return arrived["x"], out_of_band(value)


def out_of_band(value: Any) -> int:
    """Bytes that the pickle leaves to the file of the data sets."""
    sizes: list[int] = []

    def keep(buffer: Any) -> bool:
        size = buffer.raw().nbytes
        sizes.append(size if size >= IN_BAND else 0)
        return bool(size < IN_BAND)

    write_pickle({"x": value}, io.BytesIO(), buffers=keep)
    return sum(sizes)


@pytest.mark.usefixtures("torch")
@pytest.mark.parametrize(
    "array", [LARGE, LARGE.T, LARGE[::2], LARGE > 3], ids=["C", "F", "view", "bool"]
)
def test_large_tensors_go_out_of_band(array: Any) -> None:
    """Of any layout; of a view only what it shows; what arrives can be written."""
    got, size = sent(Tensor(array))
    assert size == array.nbytes
    np.testing.assert_array_equal(got.array, array)
    assert got.array.flags.writeable


@pytest.mark.usefixtures("torch")
@pytest.mark.parametrize("kind", ["f2", "i1"])
def test_numbers_that_numpy_lacks_travel_as_bits(kind: str) -> None:
    """Such as bfloat16: out of band as well, and what arrives has its type."""
    array = np.ones(2 * IN_BAND, dtype=kind)
    got, size = sent(Tensor(array, bits=True))
    assert size == array.nbytes
    assert got.dtype == array.dtype
    np.testing.assert_array_equal(got.array, array)


SPECIAL: list[dict[str, Any]] = [
    {"device": types.SimpleNamespace(type="cuda")},
    {"layout": "sparse"},
    {"requires_grad": True},
    {"is_quantized": True},
    {"is_nested": True},
    {"conjugated": True},
    {"negated": True},
    {"strides": (0, 8)},
    {"label": "the user's own"},
    {"bits": True},
]


@pytest.mark.usefixtures("torch")
@pytest.mark.parametrize("special", SPECIAL, ids=lambda special: next(iter(special)))
def test_special_tensors_are_left_to_torch(special: dict[str, Any]) -> None:
    """What an array cannot tell arrives as torch sends it."""
    got, _ = sent(Tensor(LARGE, **special))
    ((name, value),) = special.items()
    assert getattr(got, name) == value
    np.testing.assert_array_equal(got.array, LARGE)


@pytest.mark.usefixtures("torch")
def test_small_and_derived_tensors_are_left_to_torch() -> None:
    """Too small to be worth a map; and who knows what a subclass means."""

    class Parameter(Tensor):
        """A tensor of its own kind."""

    assert sent(Tensor(np.ones(10)))[1] == 0
    assert type(sent(Parameter(LARGE))[0]).__name__ == "Parameter"
