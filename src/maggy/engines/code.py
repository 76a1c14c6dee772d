"""maggy for machines that do not have it: packed by the driver, unpacked where an agent starts.

What travels are the pure-Python files of maggy and of cloudpickle, which is all that agents and
workers need, and the user's own files.  They are unpacked rather than imported from the zip,
because the worker is a process of its own that has to find them as well.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maggy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["carry", "pack"]

_PACKAGES = ("maggy", "cloudpickle")
_ARCHIVES = (".zip", ".egg", ".whl")
_COMPILED = (".pyc", ".pyo", ".so", ".pyd")
_DATE = (1980, 1, 1, 0, 0, 0)
"""The same files give the same bytes, whenever they are packed."""


def pack(py_files: Iterable[str | Path] = ()) -> bytes:
    """A zip file of maggy, cloudpickle and these files, about 0.4 MB without them.

    Args:
        py_files: Modules (``.py``), packages (folders), and archives of them (``.zip``, ``.egg``,
            ``.whl``), each of which is found by ``import`` afterwards.

    Raises:
        ConfigError: One of the files cannot be used, or would hide another one.
    """
    files: dict[str, bytes] = {}
    for package in _PACKAGES:
        files.update(_files_of(_folder(package)))
    for given in py_files:
        path = Path(given)
        for name, content in _user_files(path):
            _refuse_clash(path, name, files.get(name, content), content)
            files[name] = content
    blob = io.BytesIO()
    with zipfile.ZipFile(blob, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, _DATE), files[name], zipfile.ZIP_DEFLATED)
    return blob.getvalue()


def carry(code: bytes, target: str) -> Callable[..., Any]:
    """A function that brings ``code`` along and calls ``target`` from it.

    Any cloudpickle sends it by value, and it runs where neither maggy nor cloudpickle is
    installed.  Another maggy that is installed there, or was loaded already, stays out of the way
    during the call and is back afterwards, and so is ``sys.path``.

    Args:
        code: What ``pack`` returned.
        target: ``"package.module:function"``.
    """
    hold, release = _unpacker(code, hashlib.sha256(code).hexdigest()[:16])

    # A nested function, because those are never pickled as a reference to this module; for the
    # same reason it uses no global of it.
    def call(*args: Any, **kwargs: Any) -> Any:
        import importlib
        import sys

        def there(name: str) -> bool:
            return name.partition(".")[0] == "maggy"

        def brought(module: object) -> bool:
            return str(getattr(module, "__file__", None)).startswith(folder)

        folder, lock = hold()
        module, _, function = target.partition(":")
        kept = {name: sys.modules.pop(name) for name in list(sys.modules) if there(name)}
        sys.path.insert(0, folder)
        try:
            importlib.invalidate_caches()
            return getattr(importlib.import_module(module), function)(*args, **kwargs)
        finally:
            sys.path.remove(folder)
            for name in [name for name, found in list(sys.modules.items()) if brought(found)]:
                del sys.modules[name]
            sys.modules.update(kept)
            release(folder, lock)

    return call


def _unpacker(
    code: bytes, digest: str
) -> tuple[Callable[[], tuple[str, int]], Callable[[str, int], None]]:
    """Two functions, to be sent by value: one unpacks ``code``, the other says it is done with.

    All that call it on one machine at a time share one folder, which is the user's alone.  Each
    holds a shared lock on it, which the system drops when its process is killed; the last one
    deletes it, and what killed ones have left goes when the next one comes.
    """
    take, delete = _locks()
    sweep = _sweeper(take, delete)

    def hold() -> tuple[str, int]:
        import io
        import os
        import tempfile
        import zipfile

        scratch = os.environ.get("SPARK_LOCAL_DIRS", "").split(",")[0]
        parent = scratch if os.access(scratch, os.W_OK) else tempfile.gettempdir()
        prefix = f"maggy-code-{os.getuid()}-"
        home = os.path.join(parent, prefix + digest)  # noqa: PTH118
        sweep(parent, prefix, home)
        while os.path.lexists(home):
            if (lock := take(home)) is not None:
                return home, lock
            if os.path.lexists(home):  # a stranger's: stay away from it
                break
        fresh = tempfile.mkdtemp(prefix=prefix, dir=parent)
        lock = take(fresh)
        if lock is None:  # somebody has tidied it up
            return hold()
        with zipfile.ZipFile(io.BytesIO(code)) as archive:
            archive.extractall(fresh)
        try:
            os.rename(fresh, home)  # noqa: PTH104
        except OSError:  # an agent was faster, or it is a stranger's
            return fresh, lock
        return home, lock

    return hold, delete


def _sweeper(
    take: Callable[[str], int | None], delete: Callable[[str, int], None]
) -> Callable[[str, str, str], None]:
    """A function, to be sent by value: delete our folders but one that nobody uses."""

    def sweep(parent: str, prefix: str, besides: str) -> None:
        import os

        for name in os.listdir(parent):  # noqa: PTH208
            path = os.path.join(parent, name)  # noqa: PTH118
            if name.startswith(prefix) and path != besides and (lock := take(path)) is not None:
                delete(path, lock)

    return sweep


def _locks() -> tuple[Callable[[str], int | None], Callable[[str, int], None]]:
    """Two functions, to be sent by value: lock a folder of ours, and delete it if nobody else has.

    The first returns a descriptor, or None if the folder is gone or not ours alone.
    """

    def take(path: str) -> int | None:
        import fcntl
        import os
        import stat

        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        found = os.fstat(lock)
        if found.st_uid == os.getuid() and not stat.S_IMODE(found.st_mode) & 0o077:
            fcntl.flock(lock, fcntl.LOCK_SH)  # waits while another one deletes it
            if os.path.lexists(path) and os.path.samestat(os.lstat(path), found):
                return lock
        os.close(lock)
        return None

    def delete(path: str, lock: int) -> None:
        import fcntl
        import os
        import shutil

        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        except BlockingIOError:  # somebody else uses it
            return
        finally:
            os.close(lock)

    return take, delete


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _files_of(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The files of a package, by their names in the zip."""
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix not in _COMPILED and "__pycache__" not in path.parts:
            yield path.relative_to(folder.parent).as_posix(), path.read_bytes()


def _user_files(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        if path.is_dir():
            yield from _files_of(path.resolve())
        elif path.suffix in _ARCHIVES:
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    if not name.endswith("/"):
                        yield name, archive.read(name)
        elif path.suffix == ".py":
            yield path.name, path.read_bytes()
        else:
            msg = (
                f"`py_files` must name modules (.py), packages (folders) or archives of them "
                f"({', '.join(_ARCHIVES)}), but got {str(path)!r}."
            )
            raise ConfigError(msg)
    except (OSError, zipfile.BadZipFile) as error:
        msg = f"`py_files` names {str(path)!r}, which cannot be read: {error}."
        raise ConfigError(msg) from None


def _refuse_clash(path: Path, name: str, there: bytes, content: bytes) -> None:
    top = name.partition("/")[0].removesuffix(".py")
    if top in _PACKAGES or there != content:
        what = f"{top!r}, which maggy brings itself" if top in _PACKAGES else f"another {name!r}"
        msg = f"`py_files` names {str(path)!r}, which holds {what}. Leave one of them out."
        raise ConfigError(msg)
