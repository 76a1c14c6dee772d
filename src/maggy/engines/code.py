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
    unpack = _unpacker(code, hashlib.sha256(code).hexdigest()[:16])

    # A nested function, because those are never pickled as a reference to this module; for the
    # same reason it uses no global of it.
    def call(*args: Any, **kwargs: Any) -> Any:
        import importlib
        import sys

        def there(name: str) -> bool:
            return name.partition(".")[0] == "maggy"

        def brought(module: object) -> bool:
            return str(getattr(module, "__file__", None)).startswith(folder)

        folder = unpack()
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

    return call


def _unpacker(code: bytes, digest: str) -> Callable[[], str]:
    """A function, to be sent by value, that unpacks ``code`` once and returns the folder.

    The folder is the user's alone.  Under Spark it lies in the executor's scratch space, which
    goes when the executor does.
    """

    def unpack() -> str:
        import io
        import os
        import shutil
        import stat
        import tempfile
        import zipfile

        def is_ours(path: str) -> bool:
            try:
                found = os.lstat(path)
            except FileNotFoundError:
                return False
            private = stat.S_IMODE(found.st_mode) & 0o077 == 0
            return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and private

        scratch = os.environ.get("SPARK_LOCAL_DIRS", "").split(",")[0]
        parent = scratch if os.access(scratch, os.W_OK) else tempfile.gettempdir()
        home = os.path.join(parent, f"maggy-code-{os.getuid()}-{digest}")  # noqa: PTH118
        if is_ours(home):
            return home
        fresh = tempfile.mkdtemp(prefix="maggy-code-", dir=parent)
        with zipfile.ZipFile(io.BytesIO(code)) as archive:
            archive.extractall(fresh)
        try:
            os.rename(fresh, home)  # noqa: PTH104
        except OSError:  # there is one: of an agent that was faster, or a stranger's
            if not is_ours(home):
                return fresh
            shutil.rmtree(fresh)
        return home

    return unpack


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
