"""Data sets travel in one file that every worker of the machine maps, so none has a private copy.

The file has no name: it is an anonymous memory file or an unlinked temporary one, inherited by
the workers as a descriptor, gone when the last of them is.  Its layout::

    0    header: magic, offset and length of the index (64 bytes)
    64   each object's pickle (protocol 5), then its large buffers, each aligned to 64 bytes
    end  index: JSON, ``{name: {"pickle": [offset, length], "buffers": [[offset, length], ...]}}``
"""

from __future__ import annotations

import json
import mmap
import os
import pickle
import struct
import weakref
from typing import TYPE_CHECKING, Any

from maggy.worker.pickling import IN_BAND, write_pickle

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from maggy.worker.storage import Storage

__all__ = ["DataFile"]

_MAGIC = b"maggyds1"
_HEADER = struct.Struct("<8sQQ")
_ALIGN = 64


class DataFile:
    """The data sets of one run.

    The driver publishes it and passes ``fd`` to its workers; a worker opens it by that number.

    Attributes:
        fd: The descriptor; it belongs to this object.
        size: Bytes.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.size = os.fstat(fd).st_size
        header = os.pread(fd, _HEADER.size, 0)
        if not header.startswith(_MAGIC):
            msg = f"descriptor {fd} is no file of data sets: it starts with {header[:8]!r}."
            raise ValueError(msg)
        _, offset, length = _HEADER.unpack(header)
        self._index: dict[str, Any] = json.loads(os.pread(fd, length, offset))
        self._give_up = weakref.finalize(self, os.close, fd)  # also if the run never begins
        self._give_up.atexit = False  # then the system does it

    @classmethod
    def publish(cls, objects: Mapping[str, object], *, travels: bool = False) -> DataFile:
        """Write these objects, named as the training function asks for them.

        Arrays go from the user's memory straight to the file.

        Args:
            objects: By name.
            travels: See ``maggy.worker.pickling.write_pickle``.

        Raises:
            UnpicklableError: An object cannot be pickled; it names the part at fault.
            StorageError: Neither memory nor disk has room.
        """
        from maggy.worker.storage import Storage

        storage = Storage()
        try:
            storage.write(bytes(_ALIGN))
            index = _write_objects(storage, objects, travels=travels)
            entry = json.dumps(index).encode()
            offset = storage.size
            storage.write(entry)
            os.pwrite(storage.fd, _HEADER.pack(_MAGIC, offset, len(entry)), 0)
        except BaseException:
            storage.close()
            raise
        return cls(storage.fd)

    @classmethod
    def open(cls, fd: int) -> DataFile:
        """The file behind an inherited descriptor.

        Raises:
            ValueError: It is another file.
        """
        return cls(fd)

    def load(self, names: Collection[str] | None = None) -> dict[str, object]:
        """New objects, whose arrays lie in a private copy-on-write map of the file.

        What a trial writes into them is neither in the file nor in the objects of a later call.

        Args:
            names: Which objects are wanted; those that the file lacks are left out.  None means
                all.
        """
        entries = {n: e for n, e in self._index.items() if names is None or n in names}
        if not entries:
            return {}
        view = memoryview(mmap.mmap(self.fd, self.size, access=mmap.ACCESS_COPY))
        return {name: _load(view, entry) for name, entry in entries.items()}

    def close(self) -> None:
        """Give up the descriptor; objects that were loaded stay valid.  May be called twice."""
        self._give_up()
        self.fd = -1


def _load(view: memoryview, entry: Mapping[str, Any]) -> object:
    start, length = entry["pickle"]
    buffers = [view[offset : offset + size] for offset, size in entry["buffers"]]
    return pickle.loads(view[start : start + length], buffers=buffers)  # noqa: S301  our driver's


def _write_objects(
    storage: Storage, objects: Mapping[str, object], *, travels: bool
) -> dict[str, Any]:
    """Write all pickles, then all buffers: by then it is known how much room they need."""
    index: dict[str, Any] = {}
    pending: list[tuple[list[list[int]], pickle.PickleBuffer]] = []
    for name, value in objects.items():
        buffers: list[list[int]] = []
        kept: list[pickle.PickleBuffer] = []
        start = storage.size
        _write_pickle(storage, name, value, kept, travels=travels)
        pending += [(buffers, buffer) for buffer in kept]
        index[name] = {"pickle": [start, storage.size - start], "buffers": buffers}
    storage.reserve(sum(buffer.raw().nbytes + _ALIGN for _, buffer in pending))
    for places, buffer in pending:
        with buffer.raw() as raw:
            storage.write(bytes(-storage.size % _ALIGN))
            places.append([storage.size, raw.nbytes])
            storage.write(raw)
    return index


def _write_pickle(
    storage: Storage,
    name: str,
    value: object,
    kept: list[pickle.PickleBuffer],
    *,
    travels: bool,
) -> None:
    def keep(buffer: pickle.PickleBuffer) -> bool:
        """Whether the buffer stays inside the pickle."""
        small = buffer.raw().nbytes < IN_BAND
        if not small:
            kept.append(buffer)
        return small

    from maggy.worker.captures import unpicklable
    from maggy.worker.storage import StorageError

    try:
        write_pickle(value, storage, buffers=keep, travels=travels)
    except (MemoryError, StorageError):
        raise
    except Exception as error:
        raise unpicklable(name, value, error) from error
