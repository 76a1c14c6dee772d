"""A driver and workers with network addresses of their own, and a link between them that is cut.

Each side is in a network namespace; the link is a pair of virtual Ethernet devices.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.needs("ip"),
    pytest.mark.timeout(180),
]

DRIVER, WORKER = "10.213.7.1", "10.213.7.2"
PORT = 7077

SEARCH = """
    import json, sys, time
    from maggy import OptimizationConfig, Searchspace, experiment
    from maggy.events import TrialStarted, WorkerLost
    from maggy.store.folder import open_run
    from maggy.store.sqlite import SqliteLog

    def train(x, reporter):
        for step in range(50):
            time.sleep(0.1)
            reporter.broadcast(x + step, step=step)
        return x

    config = OptimizationConfig(
        num_trials=int(sys.argv[1]), searchspace=Searchspace(x=("DOUBLE", [0.0, 1.0])),
        optimizer="randomsearch", es_policy="none", engine="manual", listen="{driver}:{port}",
        num_workers=2, hb_interval=0.2, seed=1, quiet=True,
    )
    result = experiment.lagom(train, config)
    with SqliteLog.open(open_run(result.path).database) as log:
        lost = [event.reason for event in log.read() if isinstance(event, WorkerLost)]
    json.dump({{
        "trials": [[t.status, t.runs, len(t.curve.values)] for t in result.trials], "lost": lost,
    }}, sys.stdout)
"""


class Network:
    """Two namespaces, named after this process, and the link between them."""

    def __init__(self) -> None:
        self.driver, self.worker = f"mgd{os.getpid()}", f"mgw{os.getpid()}"

    def make(self) -> None:
        """Make them; raises ``CalledProcessError`` where that is not allowed."""
        ends = f"d{os.getpid()}", f"w{os.getpid()}"
        for name in (self.driver, self.worker):
            self.ip("netns", "add", name)
        self.ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for name, end, address in (
            (self.driver, ends[0], DRIVER),
            (self.worker, ends[1], WORKER),
        ):
            self.ip("link", "set", end, "netns", name)
            self.ip("-n", name, "link", "set", end, "name", "link0")
            self.ip("-n", name, "address", "add", f"{address}/24", "dev", "link0")
            self.ip("-n", name, "link", "set", "link0", "up")
            self.ip("-n", name, "link", "set", "lo", "up")

    def remove(self) -> None:
        """Remove what there is."""
        for name in (self.driver, self.worker):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def cut(self) -> None:
        """From now on nothing passes, and nobody is told."""
        self.ip("-n", self.driver, "link", "set", "link0", "down")

    def heal(self) -> None:
        """Everything passes again."""
        self.ip("-n", self.driver, "link", "set", "link0", "up")

    def start(self, where: str, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Start a process in a namespace."""
        return subprocess.Popen(
            ["ip", "netns", "exec", where, *command],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )

    @staticmethod
    def ip(*arguments: str) -> None:
        """Run ``ip``."""
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture
def network(without: Callable[[str], None]) -> Iterator[Network]:
    """Two namespaces with a link."""
    network = Network()
    try:
        try:
            network.make()
        except subprocess.CalledProcessError as error:
            without(f"needs to be allowed to make network namespaces: {error.stderr.strip()}")
        yield network
    finally:
        network.remove()


class Stage:
    """A search in one namespace and its workers in the other, or beside it."""

    def __init__(self, network: Network, folder: Path, trials: int) -> None:
        self.network = network
        self.folder = folder
        self.env = {**os.environ, "XDG_STATE_HOME": str(folder / "state")}
        source = textwrap.dedent(SEARCH).format(driver=DRIVER, port=PORT)
        self.search = network.start(
            network.driver,
            sys.executable,
            "-c",
            source,
            str(trials),
            cwd=folder,
            env=self.env,
        )
        self.key = folder / "state" / "maggy" / "keys" / f"{DRIVER}-{PORT}.key"
        self.workers: list[subprocess.Popen[str]] = []

    def add_worker(self, where: str) -> subprocess.Popen[str]:
        """Start a worker there."""
        deadline = time.monotonic() + 30
        while not self.key.exists():
            assert time.monotonic() < deadline
            assert self.search.poll() is None, self.search.communicate()
            time.sleep(0.05)
        connect = ("--connect", f"{DRIVER}:{PORT}")
        command = (sys.executable, "-m", "maggy", "worker", *connect)
        worker = self.network.start(where, *command, env=self.env)
        self.workers.append(worker)
        return worker

    def wait_for_work(self, worker: subprocess.Popen[str]) -> None:
        """Until the worker says that it works."""
        assert worker.stderr is not None
        for line in worker.stderr:
            if "working" in line:
                return

    def outcome(self) -> dict[str, Any]:
        """What the search came to."""
        out, err = self.search.communicate(timeout=90)
        assert self.search.returncode == 0, err
        outcome: dict[str, Any] = json.loads(out)
        return outcome

    def close(self) -> None:
        """Leave nothing behind."""
        for process in (self.search, *self.workers):
            process.kill()
            process.communicate()


@pytest.fixture
def stage(network: Network, tmp_path: Path) -> Iterator[Callable[[int], Stage]]:
    """Makes the stage."""
    made: list[Stage] = []

    def make(trials: int) -> Stage:
        made.append(Stage(network, tmp_path, trials))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_cut_that_heals_in_time_is_not_noticed(
    network: Network, stage: Callable[[int], Stage]
) -> None:
    """The trial goes on; every report arrives, those during the cut as well; nobody is lost."""
    scene = stage(2)
    worker = scene.add_worker(network.worker)
    scene.wait_for_work(worker)
    time.sleep(1)
    network.cut()
    time.sleep(4)
    network.heal()
    outcome = scene.outcome()
    assert outcome == {"trials": [["completed", 1, 50]] * 2, "lost": []}
    assert worker.wait(30) == 0


def test_a_long_cut_gives_the_trial_to_another_worker(
    network: Network, stage: Callable[[int], Stage]
) -> None:
    """The worker that was cut off ends its trial, and joins again when the link is back."""
    scene = stage(8)
    far = scene.add_worker(network.worker)
    scene.wait_for_work(far)
    near = scene.add_worker(network.driver)
    scene.wait_for_work(near)
    time.sleep(1)
    network.cut()
    time.sleep(14)
    network.heal()
    outcome = scene.outcome()
    assert [trial[0] for trial in outcome["trials"]] == ["completed"] * 8
    assert sum(trial[1] for trial in outcome["trials"]) == 9
    assert len(outcome["lost"]) == 1
    assert "silent" in outcome["lost"][0]
    assert far.wait(30) == near.wait(30) == 0
    assert far.stderr is not None
    assert "joining again" in far.stderr.read()
