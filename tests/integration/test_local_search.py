"""Searches on real worker processes, as users write them and as the world treats them."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from maggy import experiment
from maggy.errors import ConfigError, UnpicklableError
from maggy.store.folder import find_runs

pytestmark = pytest.mark.integration

PRELUDE = """
import os, sys, time, signal
from maggy import OptimizationConfig, Searchspace, experiment

def config(**options):
    space = Searchspace(x=("DOUBLE", [0.0, 1.0]))
    defaults = dict(num_trials=4, searchspace=space, optimizer="randomsearch", folder="runs",
                    num_workers=2, quiet=True)
    return OptimizationConfig(**{**defaults, **options})
"""


def write(folder: Path, source: str, name: str = "script.py") -> Path:
    path = folder / name
    path.write_text(PRELUDE + textwrap.dedent(source))
    return path


def start(folder: Path, source: str, **options: Any) -> subprocess.Popen[str]:
    script = write(folder, source)
    return subprocess.Popen(
        [sys.executable, str(script)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def run(folder: Path, source: str) -> str:
    process = start(folder, source)
    output: str = process.communicate(timeout=100)[0]
    assert process.returncode == 0, output
    return output


def wait_for(condition: Any, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return status != "Z"


def pids_in(folder: Path, pattern: str = "*.pid") -> list[int]:
    with contextlib.suppress(ValueError):
        return [int(path.read_text()) for path in folder.glob(pattern)]
    return []


def only_run(folder: Path) -> Any:
    (place,) = find_runs(folder / "runs")
    return experiment.load(place.path)


# As users write them


def test_a_script_without_a_main_guard_with_everything_users_pass(tmp_path: Path) -> None:
    """Functions, lambdas, closures, methods, partials, and a helper module beside the script."""
    (tmp_path / "helper.py").write_text("def score(x):\n    return 10 * x\n")
    output = run(
        tmp_path,
        """
        import functools
        import helper
        OFFSET = 1

        def plain(x): return helper.score(x) + OFFSET
        def maker(k):
            def inner(x): return k * x
            return inner
        class Net:
            scale = 3
            def fit(self, x): return self.scale * x
        def two(x, k): return x + k

        for fn in (plain, lambda x: x, maker(5), Net().fit, functools.partial(two, k=2)):
            result = experiment.lagom(fn, config(num_trials=2))
            print(result["num_trials"], result["failed"], result["best_val"] > 0)
        """,
    )
    assert output.split("\n") == ["2 0 True"] * 5 + [""]


def test_from_standard_input_as_in_a_repl(tmp_path: Path) -> None:
    """A function without any file goes by value."""
    source = (
        PRELUDE + "result = experiment.lagom(lambda x: x, config())\nprint(len(result.trials))"
    )
    done = subprocess.run(
        [sys.executable, "-"],
        input=source,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("4\n", "")


def test_in_a_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel has a running event loop and functions without files; output goes to the cell."""
    import nbclient
    import nbformat

    monkeypatch.chdir(tmp_path)
    cells = [
        PRELUDE + "def train(x, reporter):\n    reporter.broadcast(x)",
        "result = experiment.lagom(train, config(num_trials=6, quiet=False))\n"
        "result['num_trials']",
    ]
    code: Any = nbformat.v4
    notebook = code.new_notebook(cells=[code.new_code_cell(cell) for cell in cells])
    client = nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3")
    done = client.execute()
    outputs = done.cells[1].outputs
    assert outputs[-1]["data"]["text/plain"] == "6"
    shown = "".join(output.get("data", {}).get("text/plain", "") for output in outputs)
    assert "6 completed" in shown


def test_output_is_caught_on_descriptor_level(tmp_path: Path) -> None:
    """Python's, C's and a subprocess's; each trial in its own file, nothing on the terminal."""
    output = run(
        tmp_path,
        """
        def train(x, reporter):
            print("from python")
            os.write(1, b"from c\\n")
            os.system("echo from a child; echo and its errors 1>&2")
            return x
        result = experiment.lagom(train, config(num_trials=3))
        for trial in result.trials:
            print(sorted(trial.log_path.read_text().split("\\n")))
        """,
    )
    expected = ["", "and its errors", "from a child", "from c", "from python"]
    assert output == f"{expected}\n" * 3


def test_a_training_function_with_its_own_process_pool(tmp_path: Path) -> None:
    """Its helpers pickle functions of __main__, and nothing is left of them."""
    output = run(
        tmp_path,
        """
        from concurrent.futures import ProcessPoolExecutor
        def square(v): return v * v
        def train(x):
            with ProcessPoolExecutor(2) as pool:
                return sum(pool.map(square, [x, 1.0]))
        result = experiment.lagom(train, config(num_trials=3))
        print(result["failed"], result["best_val"] >= 1)
        """,
    )
    assert output == "0 True\n"


def test_a_trial_that_holds_the_gil_is_not_declared_dead(tmp_path: Path) -> None:
    """15 s of C code without a single bytecode in between, with a heartbeat of 0.1 s."""
    output = run(
        tmp_path,
        """
        import re
        def train(x, reporter):
            began = time.monotonic()
            text = "a" * 22
            while time.monotonic() - began < 15:
                re.match(r"(a|a)*b", text[: 18 + int(4 * x)])
            return x
        result = experiment.lagom(train, config(num_trials=2, hb_interval=0.1))
        print([(t.status, t.runs) for t in result.trials])
        """,
    )
    assert output == "[('completed', 1), ('completed', 1)]\n"


def test_nothing_leaks_from_trial_to_trial(tmp_path: Path) -> None:
    """Data, random state, working directory, environment and stdin are as they were."""
    output = run(
        tmp_path,
        """
        import random
        import numpy as np
        def train(train_set, test_set, seed):
            assert test_set.sum() == 1000 and len(train_set) == 2, "data leaked"
            assert os.path.basename(os.getcwd()) != "elsewhere" and "LEAK" not in os.environ
            assert sys.stdin.read() == ""
            test_set[:] = 7
            train_set.append(3)
            os.makedirs("elsewhere", exist_ok=True)
            os.chdir("elsewhere")
            os.environ["LEAK"] = "1"
            return random.random() + np.random.random()
        data = dict(train_set=[1, 2], test_set=np.ones(1000))
        a = experiment.lagom(train, config(num_trials=6, num_workers=1, seed=3, **data))
        b = experiment.lagom(train, config(num_trials=6, num_workers=2, seed=3, **data))
        print([t.value for t in a.trials] == [t.value for t in b.trials], a["failed"])
        """,
    )
    assert output == "True 0\n"


def test_a_search_inside_a_trial_uses_one_worker(tmp_path: Path) -> None:
    """A search does not multiply by itself."""
    output = run(
        tmp_path,
        """
        def inner(x): return x
        def train(x):
            result = experiment.lagom(inner, config(num_trials=3, num_workers=None))
            return float(len({t.worker for t in result.trials}))
        print(experiment.lagom(train, config(num_trials=2))["best_val"])
        """,
    )
    assert output == "1.0\n"


def test_two_searches_at_once_in_one_process_and_one_folder(tmp_path: Path) -> None:
    """From two threads, with one name: two runs, neither disturbs the other."""
    output = run(
        tmp_path,
        """
        from concurrent.futures import ThreadPoolExecutor
        def train(x, reporter):
            reporter.broadcast(x)
            time.sleep(0.05)
        def search(seed):
            return experiment.lagom(train, config(num_trials=8, seed=seed))
        with ThreadPoolExecutor(2) as pool:
            a, b = pool.map(search, [1, 2])
        print(a["num_trials"], b["num_trials"], a.path != b.path, a["best_val"] != b["best_val"])
        """,
    )
    assert output == "8 8 True True\n"


# What is wrong, before anything starts


def test_errors_come_before_anything_is_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """An unpicklable capture and an unknown parameter leave no run and no process behind."""
    import threading

    from maggy import OptimizationConfig, Searchspace

    monkeypatch.chdir(tmp_path)
    lock = threading.Lock()

    def uses_a_lock(x: Any) -> Any:
        with lock:
            return x

    def asks_too_much(x: Any, learning_rate: Any) -> Any:
        return x + learning_rate

    space = Searchspace(x=("DOUBLE", [0.0, 1.0]))
    config = OptimizationConfig(num_trials=1, searchspace=space, folder=tmp_path / "runs")
    with pytest.raises(UnpicklableError, match="`lock`"):
        experiment.lagom(uses_a_lock, config)
    with pytest.raises(ConfigError, match="learning_rate"):
        experiment.lagom(asks_too_much, config)
    assert not (tmp_path / "runs").exists()


def test_a_function_that_takes_nothing_runs_with_one_warning(tmp_path: Path) -> None:
    """As the documentation abbreviates it."""
    from maggy import OptimizationConfig, Searchspace

    config = OptimizationConfig(
        num_trials=2,
        searchspace=Searchspace(x=("DOUBLE", [0.0, 1.0])),
        folder=tmp_path,
        quiet=True,
        engine="inline",
    )
    with pytest.warns(UserWarning, match="takes no parameters"):
        result = experiment.lagom(lambda: 3, config)
    assert result["avg"] == 3.0


def test_a_function_that_workers_cannot_load_is_one_clear_error(tmp_path: Path) -> None:
    """The worker's own traceback is shown once, and the run ends."""
    output = run(
        tmp_path,
        """
        import maggy
        class Ghost:
            def __reduce__(self):
                return int, ("a ghost",)
        ghost = Ghost()
        def train(x): return x + ghost
        try:
            experiment.lagom(train, config())
        except maggy.ExperimentFailed as error:
            print(error)
        """,
    )
    assert output.startswith("The workers failed: ValueError: invalid literal")
    assert "a ghost" in output


def test_a_traceback_shows_the_lines_of_the_user(tmp_path: Path) -> None:
    """File, line and source of the mistake, and what the trial had printed last."""
    output = run(
        tmp_path,
        """
        import maggy
        def train(x):
            print("about to divide")
            return x / 0  # here it is
        try:
            experiment.lagom(train, config(num_trials=1))
        except maggy.ExperimentFailed as error:
            print(error)
        """,
    )
    assert "return x / 0  # here it is" in output
    assert "script.py" in output
    assert "about to divide" in output


# As the world treats them


def test_a_killed_worker_is_replaced_and_its_trial_run_again(tmp_path: Path) -> None:
    """The same hyperparameters, one more run, no trial lost or counted twice."""
    output = run(
        tmp_path,
        """
        def train(x, reporter):
            marker = f"killed-{x}"
            if x < 0.5 and not os.path.exists(marker):
                open(marker, "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
            return x
        result = experiment.lagom(train, config(num_trials=8, seed=1))
        assert [t.value for t in result.trials] == [t.hparams["x"] for t in result.trials]
        low = [t.hparams["x"] < 0.5 for t in result.trials]
        print([t.runs for t in result.trials] == [2 if l else 1 for l in low], sum(low) > 1)
        """,
    )
    assert output == "True True\n"


def test_a_trial_that_always_kills_its_worker_fails_and_the_search_goes_on(tmp_path: Path) -> None:
    """After three lost workers it is given up, with what killed them."""
    output = run(
        tmp_path,
        """
        def train(x, reporter):
            reporter.broadcast(x)
            if x > 0.8:
                os._exit(3)
            return x
        result = experiment.lagom(train, config(num_trials=10, seed=5))
        for t in result.trials:
            if t.hparams["x"] > 0.8:
                print(t.status, t.runs, t.error)
        print(result["failed"] + sum(t.status == "completed" for t in result.trials))
        """,
    )
    lines = output.splitlines()
    assert lines[-1] == "10"
    assert len(lines) > 1
    for line in lines[:-1]:
        assert line.startswith("failed 3 WorkerLost: its worker was lost 3 times")
        assert "status 3" in line


HANGING = """
import subprocess
def train(x, reporter):
    child = subprocess.Popen(["sleep", "600"])
    for name, pid in (("worker", os.getpid()), ("child", child.pid)):
        with open(f"{name}-{os.getpid()}.tmp", "w") as file:
            file.write(str(pid))
        os.rename(file.name, f"{name}-{os.getpid()}.pid")
    reporter.broadcast(x)
    while True:
        time.sleep(600)
experiment.lagom(train, config(num_trials=4))
"""


def test_nothing_is_left_when_the_driver_is_killed(tmp_path: Path) -> None:
    """Workers and their own children are gone within two seconds of kill -9."""
    driver = start(tmp_path, HANGING)
    wait_for(lambda: len(pids_in(tmp_path)) == 4)
    pids = pids_in(tmp_path)
    assert all(alive(pid) for pid in pids)
    driver.kill()
    killed = time.monotonic()
    wait_for(lambda: not any(alive(pid) for pid in pids), 5.0)
    assert time.monotonic() - killed < 2.0
    driver.wait()
    assert driver.stdout is not None
    driver.stdout.close()


@pytest.mark.parametrize("after", [5, 40, 150])
def test_what_had_finished_is_there_after_the_driver_was_killed(
    tmp_path: Path, after: Any
) -> None:
    """Kill -9 at any moment: every trial whose end the driver showed is in the log."""
    driver = start(
        tmp_path,
        """
        def train(x): return x
        experiment.lagom(train, config(num_trials=100_000, quiet=False))
        """,
    )
    assert driver.stdout is not None
    seen = []
    for line in driver.stdout:
        seen += re.findall(r"trial (\d+) completed", line)
        if len(seen) >= after:
            break
    driver.kill()
    driver.wait()
    driver.stdout.close()
    result = only_run(tmp_path)
    assert result.outcome == "killed"
    completed = {trial.id for trial in result.trials if trial.status == "completed"}
    assert {int(number) for number in seen} <= completed
    for trial in result.trials:
        if trial.status == "completed":
            assert trial.value == trial.hparams["x"]


def read_until(fd: int, text: str, seconds: float = 20.0) -> str:
    output = b""
    deadline = time.monotonic() + seconds
    while text.encode() not in output:
        left = deadline - time.monotonic()
        assert left > 0, output.decode(errors="replace")
        if select.select([fd], [], [], left)[0]:
            try:
                output += os.read(fd, 65536)
            except OSError:  # the other end is closed
                break
    return output.decode(errors="replace")


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_at_a_terminal(tmp_path: Path, times: Any) -> None:
    """Once: a second of grace, then all is killed; twice: at once. The result is kept."""
    source = HANGING.replace(
        "experiment.lagom(train, config(num_trials=4))",
        "import maggy\n"
        "try:\n"
        "    experiment.lagom(train, config(num_trials=4, quiet=False))\n"
        "except maggy.ExperimentInterrupted as stop:\n"
        "    print('INTERRUPTED', stop.result['num_trials'], stop)\n",
    )
    script = write(tmp_path, source)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execv(sys.executable, [sys.executable, str(script)])
    wait_for(lambda: len(pids_in(tmp_path)) == 4)
    pids = pids_in(tmp_path)
    pressed = time.monotonic()
    for _ in range(times):
        os.write(terminal, b"\x03")
    output = read_until(terminal, "INTERRUPTED 2")
    output += read_until(terminal, "experiment.load")
    took = time.monotonic() - pressed
    assert (1.0 <= took < 6.0) if times == 1 else (took < 5.0)
    os.waitpid(pid, 0)
    os.close(terminal)
    assert "Traceback" not in output
    assert not any(alive(process) for process in pids)
    assert {trial.status for trial in only_run(tmp_path).trials} == {"interrupted"}


def test_ctrl_c_lets_trials_leave_in_their_grace(tmp_path: Path) -> None:
    """A trial that broadcasts leaves by itself, with its finally blocks, and is unfinished."""
    driver = start(
        tmp_path,
        """
        import maggy
        def train(x, reporter):
            open(f"{os.getpid()}.pid", "w").write(str(os.getpid()))
            try:
                for step in range(10_000):
                    reporter.broadcast(x)
                    time.sleep(0.01)
            finally:
                open(f"{os.getpid()}.left", "w").close()
        try:
            experiment.lagom(train, config(num_trials=4))
        except KeyboardInterrupt as stop:
            print(type(stop).__name__, stop.result.outcome)
        """,
    )
    wait_for(lambda: len(pids_in(tmp_path)) == 2)
    driver.send_signal(signal.SIGINT)
    output, _ = driver.communicate(timeout=20)
    assert output == "ExperimentInterrupted interrupted\n"
    assert len(list(tmp_path.glob("*.left"))) == 2
    assert {trial.status for trial in only_run(tmp_path).trials} == {"interrupted"}
