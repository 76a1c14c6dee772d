"""User code finds the driver's surroundings, and each trial the same."""

from __future__ import annotations

import os
import pickle
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from maggy.worker.home import Home, publish, settle
from maggy.worker.payload import dump_payload, load_payload

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _this_process_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put path, folder and main module back after each test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    monkeypatch.chdir(Path.cwd())
    environ = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(environ)


def test_the_drivers_path_comes_first(tmp_path: Path) -> None:
    """Relative entries become absolute, own entries stay behind, the folder is entered."""
    own = list(sys.path)
    settle(["", "lib", "/opt/x", own[-1]], str(tmp_path))
    assert sys.path[:4] == [str(tmp_path), str(tmp_path / "lib"), "/opt/x", own[-1]]
    assert set(own) <= set(sys.path)
    assert len(sys.path) == len(set(sys.path))
    assert Path.cwd() == tmp_path


def test_a_missing_folder_is_not_entered(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The worker stays where it is, and says so."""
    before = Path.cwd()
    settle([], str(tmp_path / "gone"))
    assert Path.cwd() == before
    assert "the worker stays in" in caplog.text


def test_what_a_trial_changed_is_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment and working directory are the same for every trial."""
    monkeypatch.setenv("MAGGY_TEST_KEPT", "1")
    before = Path.cwd()
    home = Home()
    os.environ["MAGGY_TEST_NEW"] = "1"
    del os.environ["MAGGY_TEST_KEPT"]
    gone = tmp_path / "gone"
    gone.mkdir()
    os.chdir(gone)
    shutil.rmtree(gone)
    home.restore()
    assert "MAGGY_TEST_NEW" not in os.environ
    assert os.environ["MAGGY_TEST_KEPT"] == "1"
    assert Path.cwd() == before
    home.restore()


def test_a_home_that_is_gone_costs_only_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If the working directory was removed, trials go on where the process is."""
    home_folder = tmp_path / "home"
    home_folder.mkdir()
    os.chdir(home_folder)
    home = Home()
    os.chdir(tmp_path)
    home_folder.rmdir()
    home.restore()
    assert Path.cwd() == tmp_path
    assert "could not be restored" in caplog.text


def test_pickle_finds_what_the_drivers_main_held() -> None:
    """After publishing, functions of the driver's ``__main__`` can be pickled by name."""
    source = "def helper(x): return x + 1\ndef train(x): return helper(x)\n"
    main: dict[str, Any] = {"__name__": "__main__"}
    exec(source, main)
    payload = load_payload(dump_payload(partial(main["train"], 1)))
    publish(payload)
    module: Any = sys.modules["__main__"]
    assert payload.train_fn() == 2
    assert pickle.loads(pickle.dumps(module.helper)) is module.helper
    assert pickle.loads(pickle.dumps(module.train))(4) == 5
    assert not hasattr(module, "__file__")
