"""Trials a second on each engine, and how soon one that was killed is at work again.

A random search with a training function that sleeps for 1 ms, two at a time, in a fresh process
for each repeat, from the start of the first trial to the end of the last: on local workers,
workers started by hand, and Ray, whose agents pass on what their workers say; and with Ray Tune,
whose actors are told to stay, in the environment that ``peers.py`` makes (left out without it).
``bench/spark_engine.py`` does the same on Spark.

*At work again* is the time from SIGKILL of a trial's process to the first report of the same trial
in another process, in a search of long trials.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from environments import ROOT, Trouble, run
from setting import arguments, describe, spread, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENGINES = ("local", "manual", "ray")
TRIALS, QUICK, REPEATS = 3000, 600, 3
RAY_TUNE_TRIALS = 200
RAY_TUNE = ROOT / "bench" / ".venvs" / "ray" / "bin" / "python"
PORT = 7788


def train(x: float) -> float:
    """One short trial."""
    time.sleep(0.001)
    return x


def long_trial(x: float, reporter: Any) -> float:
    """Two seconds, with a report every 10 ms that names the process."""
    for step in range(200):
        time.sleep(0.01)
        reporter.broadcast(x, step=step, process=os.getpid(), at=time.monotonic())
    return x


def search(engine: str, train_fn: Callable[..., Any], trials: int) -> Any:
    """A search on this engine; by hand, two workers of this machine are started."""
    from maggy import OptimizationConfig, Searchspace, experiment

    config = OptimizationConfig(
        num_trials=trials,
        num_workers=2,
        optimizer="randomsearch",
        es_policy="none",
        searchspace=Searchspace(x=("DOUBLE", [0, 1])),
        engine=engine,
        seed=1,
        listen=f"127.0.0.1:{PORT}" if engine == "manual" else None,
        folder="runs",
        quiet=True,
    )
    if engine == "manual":
        threading.Thread(target=start_workers).start()
    return experiment.lagom(train_fn, config)


def start_workers() -> None:
    """Start two workers as soon as the driver has left its key."""
    from maggy.worker.keyfile import key_path

    while not key_path("127.0.0.1", PORT).exists():
        time.sleep(0.01)
    for _ in range(2):
        command = [sys.executable, "-m", "maggy", "worker", "--connect", f"127.0.0.1:{PORT}"]
        subprocess.Popen(command, stderr=subprocess.DEVNULL)


def rate(engine: str, trials: int) -> dict[str, float]:
    """Trials a second, and CPU ms of the driver for each; a first short search warms up."""
    import resource

    from maggy.events import TrialFinished, TrialStarted

    used = resource.getrusage(resource.RUSAGE_SELF)
    result = search(engine, train, trials)
    times = [e.at for e in events(result) if isinstance(e, (TrialStarted, TrialFinished))]
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    return {"rate": trials / (max(times) - min(times)), "cpu": 1000 * cpu / trials}


def recovery(engine: str, _: int) -> dict[str, float]:
    """Seconds from the death of a trial's process to its first report in another one."""
    from maggy.events import MetricReported

    killed: dict[int, float] = {}

    def kill() -> None:
        while not (found := processes(Path("runs"))):
            time.sleep(0.05)
        time.sleep(0.3)
        os.kill(found[0], signal.SIGKILL)
        killed[found[0]] = time.monotonic()

    thread = threading.Thread(target=kill)
    thread.start()
    result = search(engine, long_trial, 4)
    thread.join()
    ((process, died),) = killed.items()
    reports = [e for e in events(result) if isinstance(e, MetricReported)]
    told = [(e.trial, e.others["process"], e.others["at"]) for e in reports if e.others]
    trial = next(number for number, by, _ in told if by == process)
    again = [at for number, by, at in told if number == trial and by != process]
    return {"recovery": min(again) - died}


def processes(folder: Path) -> list[int]:
    """Who has reported in the run that goes on in this folder."""
    import sqlite3

    for database in folder.rglob("*.sqlite"):
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            try:
                rows = connection.execute("SELECT others FROM metrics WHERE others IS NOT NULL")
                return sorted({int(json.loads(row[0])["process"]) for row in rows})
            except sqlite3.OperationalError:  # no table yet
                return []
    return []


def events(result: Any) -> Iterator[Any]:
    """What happened."""
    from maggy.store.folder import open_run
    from maggy.store.sqlite import SqliteLog

    with SqliteLog.open(open_run(result.path).database) as log:
        yield from log.read()


def ray_tune(trials: int) -> float:
    """Trials a second of Ray Tune."""
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder, "notes")
        script = ROOT / "bench" / "searches" / "with_ray_reusing.py"
        variables = {"PEERS_NOTES": str(notes), "RAY_USAGE_STATS_ENABLED": "0"}
        run(RAY_TUNE, script, str(trials), limit=240, cwd=Path(folder), **variables)
        lines = [line.split() for line in notes.read_text().splitlines()]
    times = [float(word) for line in lines for word in line]
    return len(lines) / (max(times) - min(times))


def measure(job: str, engine: str, trials: int) -> dict[str, float]:
    """One repeat, in a fresh process and folder."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "figures.json")
        command = [sys.executable, __file__, "--child", f"{job}:{engine}:{trials}", str(file)]
        variables = {**os.environ, "XDG_STATE_HOME": folder, "RAY_USAGE_STATS_ENABLED": "0"}
        subprocess.run(command, cwd=folder, env=variables, check=True, timeout=300)
        figures: dict[str, float] = json.loads(file.read_text())
        return figures


def child(task: str, file: str) -> None:
    """Do one repeat, and leave its figures in a file."""
    job, engine, trials = task.split(":")
    if engine == "ray":
        import ray

        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    jobs = {"rate": rate, "recovery": recovery}
    Path(file).write_text(json.dumps(jobs[job](engine, int(trials))))


def main() -> None:
    """Measure in turns, and print the table."""
    options = arguments(__doc__)
    if options.child:
        child(*options.child)
        return
    describe("Engines: 1 ms training functions, two at a time")
    repeats, trials = (1, QUICK) if options.quick else (REPEATS, TRIALS)
    figures: dict[str, list[dict[str, float]]] = {engine: [] for engine in ENGINES}
    peer: list[float] = []
    for _ in range(repeats):
        for engine in ENGINES:
            found = measure("rate", engine, trials) | measure("recovery", engine, 4)
            figures[engine].append(found)
        if RAY_TUNE.exists():
            try:
                peer.append(ray_tune(RAY_TUNE_TRIALS))
            except Trouble as trouble:
                print(f"Ray Tune: {trouble}")
    rows = [
        [
            f"maggy, {engine}",
            spread(
                [found["rate"] for found in figures[engine]],
            ),
            spread([found["cpu"] for found in figures[engine]], 2),
            spread([found["recovery"] for found in figures[engine]], 2),
        ]
        for engine in ENGINES
    ]
    if peer:
        rows.append(["Ray Tune, actors that stay", spread(peer, 1), "", ""])
        ratio = statistics.median(found["rate"] for found in figures["ray"]) / max(peer)
        rows.append(["maggy on Ray / Ray Tune, at least", f"{ratio:,.0f} x", "", ""])
    heads = ["engine", "trials/s", "driver CPU, ms/trial", "killed process at work again, s"]
    table(heads, rows)


if __name__ == "__main__":
    main()
