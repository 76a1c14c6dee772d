"""maggy travels to machines that do not have it, and leaves no trace in the process it visits."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import cloudpickle
import pytest

from maggy.engines.code import carry, pack
from maggy.errors import ConfigError

BARE = """
import os, pickle, sys
sys.path[:] = [entry for entry in sys.path if "site-packages" not in entry and "src" not in entry]
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in repr(f).lower()]
sys.path.append(sys.argv[1])  # cloudpickle alone, as in pyspark
try:
    import maggy
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("this machine has a maggy: " + maggy.__file__)
before = list(sys.path)
call = pickle.loads(sys.stdin.buffer.read())
print(call("somewhere", found=True))
print(call("again", found=False))
print(sys.path == before, [name for name in sys.modules if name.startswith("maggy")])
"""

VISITOR = """
import maggy, os, sys
from maggy.wire.handshake import new_key

def visit(what, found):
    inside = os.path.dirname(os.path.dirname(maggy.__file__))
    mode = oct(os.stat(inside).st_mode & 0o777)
    return what, found, len(new_key()), inside == sys.path[0], mode

def where():
    return sys.path[0]

def again(pickled):
    import pickle
    inner = pickle.loads(pickled)()
    return inner, sys.path[0], os.path.exists(inner)
"""


def names(blob: bytes, folder: Path) -> set[str]:
    """What is in the zip."""
    path = folder / "code.zip"
    path.write_bytes(blob)
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


def test_what_workers_need_is_packed(tmp_path: Path) -> None:
    """Both packages, as source, and nothing compiled."""
    packed = names(pack(), tmp_path)
    assert {"maggy/__init__.py", "maggy/worker/__main__.py", "cloudpickle/__init__.py"} <= packed
    assert not [name for name in packed if "__pycache__" in name or name.endswith((".pyc", ".so"))]
    assert {name.partition("/")[0] for name in packed} == {"maggy", "cloudpickle"}


def test_the_same_files_give_the_same_bytes() -> None:
    """So a machine that has them unpacked already knows them again."""
    assert pack() == pack()


def test_user_files_are_packed_where_import_finds_them(tmp_path: Path) -> None:
    """Modules, packages, and what archives hold."""
    module = tmp_path / "steps.py"
    module.write_text("STEPS = 3\n")
    package = tmp_path / "layers"
    (package / "deep").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "deep" / "net.py").write_text("")
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "net.pyc").write_bytes(b"")
    wheel = tmp_path / "extra-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("extra/__init__.py", "")
    packed = names(pack([module, str(package), wheel]), tmp_path)
    assert {"steps.py", "layers/__init__.py", "layers/deep/net.py", "extra/__init__.py"} <= packed
    assert "layers/__pycache__/net.pyc" not in packed


@pytest.mark.parametrize("name", ["missing.py", "data.csv", "broken.zip"])
def test_files_that_cannot_be_used_are_refused(name: str, tmp_path: Path) -> None:
    """With their names."""
    path = tmp_path / name
    if name != "missing.py":
        path.write_text("no archive")
    with pytest.raises(ConfigError, match=name):
        pack([path])


def test_a_file_that_hides_another_one_is_refused(tmp_path: Path) -> None:
    """Be it maggy itself, or one of the user's own; the same file twice hides nothing."""
    mine = tmp_path / "maggy.py"
    mine.write_text("")
    with pytest.raises(ConfigError, match="brings itself"):
        pack([mine])
    for folder, text in (("a", "1"), ("b", "2"), ("c", "1")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "steps.py").write_text(text)
    with pytest.raises(ConfigError, match="another"):
        pack([tmp_path / "a" / "steps.py", tmp_path / "b" / "steps.py"])
    pack([tmp_path / "a" / "steps.py", tmp_path / "c" / "steps.py"])


def carried(folder: Path, target: str = "visit") -> bytes:
    """A pickled call of a user's module that uses the maggy it came with."""
    module = folder / "visitor.py"
    module.write_text(VISITOR)
    return bytes(cloudpickle.dumps(carry(pack([module]), f"visitor:{target}")))


def test_it_runs_where_there_is_no_maggy(tmp_path: Path) -> None:
    """From a folder of the user's alone, which is gone afterwards."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    done = subprocess.run(
        [sys.executable, "-S", "-c", BARE, str(Path(cloudpickle.__file__).parents[1])],
        input=carried(tmp_path),
        capture_output=True,
        env={**os.environ, "SPARK_LOCAL_DIRS": f"{scratch},/elsewhere", "PYTHONPATH": ""},
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    first, second, left = done.stdout.decode().splitlines()
    assert first == "('somewhere', True, 32, True, '0o700')"
    assert second == "('again', False, 32, True, '0o700')"
    assert left == "True []"
    assert list(scratch.iterdir()) == []


def test_a_maggy_that_is_there_is_back_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The visitor brings its own, whatever was loaded; ``sys.path`` and modules are as before."""
    monkeypatch.setenv("SPARK_LOCAL_DIRS", str(tmp_path))
    before, path = dict(sys.modules), list(sys.path)
    call = pickle.loads(carried(tmp_path))
    assert call("here", found=True) == ("here", True, 32, True, "0o700")
    ours = [name for name in before if name.partition(".")[0] == "maggy"]
    assert all(sys.modules[name] is before[name] for name in ours)
    assert sys.path == path


def test_calls_at_the_same_time_share_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that ends first leaves it to the other."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("SPARK_LOCAL_DIRS", str(scratch))
    outer = pickle.loads(carried(tmp_path, "again"))
    inner, path, exists = outer(carried(tmp_path, "where"))
    assert inner == path
    assert exists
    assert list(scratch.iterdir()) == []


def test_a_folder_that_a_stranger_has_put_there_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that others can write to is left alone, and another one is used."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("SPARK_LOCAL_DIRS", str(scratch))
    call = pickle.loads(carried(tmp_path, "where"))
    home = Path(call())
    home.mkdir()
    home.chmod(0o777)
    (home / "maggy").mkdir()
    assert Path(call()) != home
    assert list(scratch.iterdir()) == [home]
    (home / "maggy").rmdir()
    home.rmdir()
    home.symlink_to(tmp_path)
    assert Path(call()) != home
    assert home.is_symlink()


def test_what_killed_processes_have_left_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their locks are gone; what belongs to others stays."""
    scratch = tmp_path / "scratch"
    left = scratch / f"maggy-code-{os.getuid()}-0123456789abcdef"
    left.mkdir(parents=True, mode=0o700)
    (left / "module.py").touch()
    (scratch / "another").mkdir()
    monkeypatch.setenv("SPARK_LOCAL_DIRS", str(scratch))
    pickle.loads(carried(tmp_path, "where"))()
    assert [path.name for path in scratch.iterdir()] == ["another"]


def test_what_the_target_raises_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the process is tidied up all the same."""
    monkeypatch.setenv("SPARK_LOCAL_DIRS", str(tmp_path))
    module = tmp_path / "raiser.py"
    module.write_text("def work(): raise ArithmeticError('here')")
    path = list(sys.path)
    with pytest.raises(ArithmeticError, match="here"):
        carry(pack([module]), "raiser:work")()
    assert sys.path == path
