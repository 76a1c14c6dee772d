"""The training function and the model reach another interpreter, or the culprit is named."""

from __future__ import annotations

import functools
import pickle
import sqlite3
import subprocess
import sys
import textwrap
import threading
from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np
import pytest

from maggy.errors import UnpicklableError
from maggy.worker.captures import large_captures
from maggy.worker.datasets import DataFile
from maggy.worker.payload import Payload, dump_payload, load_payload
from maggy.worker.pickling import measure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

LOCK = threading.Lock()
SETTINGS: Mapping[str, Any] = {"plain": 1, "db": [0, {"lock": LOCK}]}


class Holder:
    """An object whose attribute may be unfit to travel."""

    def __init__(self, content: object = None) -> None:
        self.rate = 0.1
        self.content = content

    def fit(self) -> object:
        return self.content

    def __call__(self) -> object:
        return self.content


class Slotted:
    """Keeps its attributes in slots."""

    __slots__ = ("lock",)

    def __init__(self) -> None:
        self.lock = threading.Lock()


class NeedsLock:
    """A class whose method refers to an unfit global."""

    def fit(self) -> object:
        return LOCK


class Rebel:
    """Refuses to be pickled in a way of its own."""

    def __getstate__(self) -> object:
        msg = "not me"
        raise RuntimeError(msg)


def uses_global() -> object:
    return LOCK


def uses_helper() -> object:
    return uses_global()


def uses_item() -> object:
    return SETTINGS


def nested_code() -> object:
    return [LOCK for _ in range(3)] and (lambda: LOCK)()


def with_default(x: object = LOCK, *, y: object = 1) -> object:
    return x, y


def closure_over(value: object) -> Callable[[], object]:
    def train() -> object:
        return value

    return train


def unassigned_closure() -> Callable[[], object]:
    """A function with a closure variable that was never assigned, and an unfit one."""

    def train() -> object:
        return later, lock  # noqa: F821  # deleted before anybody calls

    lock = threading.Lock()
    later = 1
    del later
    return train


@pytest.fixture(autouse=True)
def sent_by_value() -> Any:
    """Everything in this file travels by value, as if it were the user's script."""
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


def test_round_trip() -> None:
    """Function and model arrive, also when they are closures and local classes."""

    class Net:
        depth = 3

    payload = load_payload(dump_payload(closure_over([1, 2]), model=Net))
    assert payload.train_fn() == [1, 2]
    model: Any = payload.provided()["model"]
    assert model.depth == 3
    assert load_payload(dump_payload(len)).provided() == {}


def test_provides_only_what_is_wanted() -> None:
    """Data sets are loaded if their names are wanted; the model is always the same object."""
    data = DataFile.publish({"train_set": [1, 2], "test_set": [3]})
    try:
        payload = load_payload(dump_payload(len, model=dict), data)
        assert payload.provided() == {"model": dict, "train_set": [1, 2], "test_set": [3]}
        assert payload.provided(["test_set"]) == {"test_set": [3]}
        assert payload.provided(["model"]) == {"model": dict}
        assert payload.provided([]) == {}
        first, second = (payload.provided()["train_set"] for _ in range(2))
        assert first is not second
    finally:
        data.close()


@pytest.mark.parametrize(
    ("train_fn", "wanted"),
    [
        pytest.param(uses_global, "`uses_global` uses the global variable `LOCK`", id="global"),
        pytest.param(
            uses_helper,
            "`uses_helper` uses `uses_global`, which uses the global variable `LOCK`",
            id="helper",
        ),
        pytest.param(
            uses_item, "the global variable `SETTINGS['db'][1]['lock']`", id="item-of-global"
        ),
        pytest.param(nested_code, "the global variable `LOCK`", id="nested-code"),
        pytest.param(with_default, "the default of the parameter `x`", id="default"),
        pytest.param(
            closure_over(LOCK),
            "`train` uses the variable `value` of the enclosing function",
            id="closure",
        ),
        pytest.param(
            unassigned_closure(), "the variable `lock` of the enclosing function", id="unassigned"
        ),
        pytest.param(closure_over(Holder(LOCK)), "the variable `value.content`", id="attribute"),
        pytest.param(closure_over(Slotted()), "the variable `value.lock`", id="slot"),
        pytest.param(closure_over(NeedsLock), "`train` uses `value.fit`, which", id="class"),
        pytest.param(Holder([LOCK]).fit, "`fit` uses `self.content[0]`", id="method"),
        pytest.param(NeedsLock().fit, "its class `NeedsLock.fit`", id="method-of-class"),
        pytest.param(Holder(LOCK), "`Holder.content` (a `_thread.lock`) cannot", id="object"),
        pytest.param(
            functools.partial(print, LOCK), "the fixed argument `args[0]`", id="partial-position"
        ),
        pytest.param(functools.partial(print, end=LOCK), "argument `end`", id="partial-name"),
        pytest.param(
            functools.partial(uses_global),
            "`uses_global` uses `uses_global`",
            id="partial-function",
        ),
    ],
)
def test_names_the_culprit(train_fn: Any, wanted: str) -> None:
    """What cannot be pickled is named by the path that leads to it, with its type and a remedy."""
    with pytest.raises(UnpicklableError) as caught:
        dump_payload(train_fn)
    text = str(caught.value)
    assert wanted in text
    assert "(a `_thread.lock`)" in text
    assert "cannot be sent to the workers: TypeError: cannot pickle '_thread.lock' object" in text
    assert "Create it inside" in text


def test_names_a_connection() -> None:
    """Other kinds of objects are named by their own type."""
    connection = sqlite3.connect(":memory:")
    with pytest.raises(UnpicklableError, match=r"\(a `sqlite3\.Connection`\)"):
        dump_payload(closure_over(connection))
    connection.close()


def test_objects_that_refuse_on_their_own() -> None:
    """An object whose own code refuses to be pickled is the culprit, whatever it raises."""
    with pytest.raises(UnpicklableError, match=r"`value\.content`.*RuntimeError: not me"):
        dump_payload(closure_over(Holder(Rebel())))


def test_names_the_model() -> None:
    """A model that cannot be pickled is named as the model, and no function is blamed."""
    with pytest.raises(UnpicklableError, match=r"`model\.fit` uses the global variable `LOCK`"):
        dump_payload(len, model=NeedsLock)


def test_a_cycle_ends() -> None:
    """Looking for the culprit ends although objects refer to each other."""
    ring: list[object] = [LOCK]
    ring.insert(0, ring)
    with pytest.raises(UnpicklableError, match=r"`value\[1\]`"):
        dump_payload(closure_over(ring))


def test_large_captures_are_named() -> None:
    """Large objects are reported by the user's name for them, largest first."""
    small, large = np.zeros(30_000), np.zeros(60_000)

    def helper() -> object:
        return large

    def train() -> object:
        return small, helper

    size = len(dump_payload(train))
    found = large_captures(train, size, threshold=100_000)
    assert [name for name, _ in found] == ["large", "small"]
    assert found[0][1] == pytest.approx(large.nbytes, rel=0.01)
    assert large_captures(train, 99_999, threshold=100_000) == []
    assert large_captures(train, size, threshold=10_000_000) == []


@pytest.mark.parametrize("train_fn", [Holder(np.zeros(30_000)).fit, Holder(np.zeros(30_000))])
def test_large_attributes_are_named(train_fn: Any) -> None:
    """What a method's object carries is named by its attribute."""
    size = len(dump_payload(train_fn))
    assert [n for n, _ in large_captures(train_fn, size, threshold=100_000)] == ["self.content"]


def test_measuring_counts_what_pickling_writes() -> None:
    """The measured size is the pickle's own, out-of-band buffers included."""
    assert measure([1, 2]) == pytest.approx(len(pickle.dumps([1, 2], 5)), abs=20)
    assert measure(np.zeros(100_000)) == pytest.approx(800_000, abs=500)


def test_publishing_leaves_dunder_names_alone() -> None:
    """Globals that came with a function appear in the namespace, ``__name__`` and others stay."""
    namespace: dict[str, Any] = {"__name__": "worker"}
    code = "def helper(): return 1\ndef train(): return helper()"
    main: dict[str, Any] = {"__name__": "__main__"}
    exec(code, main)
    Payload(functools.partial(main["train"])).publish(namespace)
    assert {"helper", "train"} <= namespace.keys()
    assert namespace["__name__"] == "worker"
    Payload(uses_global, model=Holder).publish(namespace)
    assert "LOCK" not in namespace


SCRIPT = """
    import pickle, sys
    from maggy.worker.payload import dump_payload
    import helper_beside

    class Net:
        def area(self): return scale(2)

    def scale(x): return 10 * x

    def train(a):
        import pickle
        restored = pickle.loads(pickle.dumps((scale, Net)))
        return restored[0](a) + Net().area() + helper_beside.VALUE

    sys.stdout.buffer.write(dump_payload(train, model=Net))
"""
READER = """
    import pickle, sys
    from maggy.worker.payload import load_payload
    sys.path.insert(0, sys.argv[1])
    payload = load_payload(sys.stdin.buffer.read())
    payload.publish(vars(sys.modules["__main__"]))
    model = payload.provided()["model"]
    assert pickle.loads(pickle.dumps(model)) is model
    print(payload.train_fn(1))
"""


def test_a_script_works_in_another_process(tmp_path: Path) -> None:
    """A script's own functions and classes can be pickled by the user's code in the worker."""
    (tmp_path / "helper_beside.py").write_text("VALUE = 5")
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    blob = subprocess.run([sys.executable, script], stdout=subprocess.PIPE, check=True).stdout
    reader = [sys.executable, "-c", textwrap.dedent(READER), str(tmp_path)]
    done = subprocess.run(reader, input=blob, stdout=subprocess.PIPE, check=True)
    assert done.stdout.strip() == b"35"


def test_an_unimportable_module_is_sent_by_value(tmp_path: Path) -> None:
    """A function of a module that a fresh interpreter cannot import arrives all the same."""
    code = """
        import sys, types
        from maggy.worker.payload import dump_payload
        module = types.ModuleType("made_at_run_time")
        sys.modules["made_at_run_time"] = module
        exec("def helper(): return 4\\ndef train(): return helper()", vars(module))
        sys.stdout.buffer.write(dump_payload(module.train))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    blob = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    assert load_payload(blob).train_fn() == 4
    assert "made_at_run_time" not in sys.modules


def test_a_namesake_elsewhere_is_not_mistaken(tmp_path: Path) -> None:
    """A module loaded from another file than the importable one of its name goes by value."""
    for folder, value in (("loaded", 1), ("importable", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "namesake.py").write_text(f"def train(): return {value}")
    code = f"""
        import sys
        from maggy.worker.payload import dump_payload
        sys.path.insert(0, {str(tmp_path / "loaded")!r})
        import namesake
        sys.path[0] = {str(tmp_path / "importable")!r}
        sys.stdout.buffer.write(dump_payload(namesake.train))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    blob = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    assert load_payload(blob).train_fn() == 1
