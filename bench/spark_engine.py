"""Trials a second on Spark, and how soon what was killed is at work again.

A random search with a training function that sleeps for 1 ms, in two slots: of ``local[2]``, and
of ``local-cluster[2,1,1024]``, whose executors are processes of their own.  Rates are from the
start of the first trial to the end of the last; the overhead is what a trial takes beyond its
sleep, in its slot; CPU is that of the driver's Python.

*At work again* is the time from SIGKILL (of a trial's process; of its agent, which is Spark's
Python worker; of the executor's JVM above that) to the first report of the same trial in another
process, in a search of long trials.  Starting another executor is most of the last one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from setting import arguments, describe, spread, table

if TYPE_CHECKING:
    from collections.abc import Callable

MASTERS = ("local[2]", "local-cluster[2,1,1024]")
TRIALS, QUICK, REPEATS = 3000, 1000, 3
SLOTS = 2
SLEEP = 0.001
GENERATIONS = {"trial": 0, "agent": 1, "executor": 3}
CONF = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "OFF",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.executor.memory": "512m",
}


def train(x: float) -> float:
    """One short trial."""
    time.sleep(SLEEP)
    return x


def long_trial(x: float, reporter: Any) -> float:
    """Some seconds, with a report every 10 ms that names the process."""
    for step in range(300):
        time.sleep(0.01)
        reporter.broadcast(x, step=step, process=os.getpid(), at=time.monotonic())
    return x


def search(train_fn: Callable[..., Any], trials: int) -> Any:
    """A search on Spark."""
    from maggy import OptimizationConfig, Searchspace, experiment

    config = OptimizationConfig(
        num_trials=trials,
        num_workers=SLOTS,
        optimizer="randomsearch",
        es_policy="none",
        searchspace=Searchspace(x=("DOUBLE", [0, 1])),
        engine="spark",
        seed=1,
        folder="runs",
        quiet=True,
    )
    return experiment.lagom(train_fn, config)


def events(result: Any) -> list[Any]:
    """What happened."""
    from maggy.store.folder import open_run
    from maggy.store.sqlite import SqliteLog

    with SqliteLog.open(open_run(result.path).database) as log:
        return list(log.read())


def rate(trials: int) -> dict[str, float]:
    """Trials a second, and what each costs; a first short search warms up."""
    import resource

    from maggy.events import TrialFinished, TrialStarted

    search(train, 20)
    used = resource.getrusage(resource.RUSAGE_SELF)
    result = search(train, trials)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert result["num_trials"] == trials
    times = [e.at for e in events(result) if isinstance(e, (TrialStarted, TrialFinished))]
    seconds = max(times) - min(times)
    cpu = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    return {
        "rate": trials / seconds,
        "overhead": 1000 * (seconds * SLOTS / trials - SLEEP),
        "cpu": 1000 * cpu / trials,
    }


def parent(process: int) -> int:
    """Its parent."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def reporting() -> list[int]:
    """Who has reported in the newest run of this folder."""
    import sqlite3

    databases = sorted(Path("runs").rglob("*.sqlite"), key=lambda path: path.stat().st_mtime)
    if not databases:
        return []
    with sqlite3.connect(f"file:{databases[-1]}?mode=ro", uri=True) as connection:
        try:
            rows = connection.execute("SELECT others FROM metrics WHERE others IS NOT NULL")
            return sorted({int(json.loads(row[0])["process"]) for row in rows})
        except sqlite3.OperationalError:  # no table yet
            return []


def recovery(victim: str) -> float:
    """Seconds from a death to the first report of the trial in another process."""
    from maggy.events import MetricReported

    killed: dict[int, float] = {}

    def kill() -> None:
        while not (found := reporting()):
            time.sleep(0.05)
        time.sleep(0.3)
        process = found[0]
        for _ in range(GENERATIONS[victim]):
            process = parent(process)
        killed[found[0]] = time.monotonic()
        os.kill(process, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    result = search(long_trial, SLOTS)
    thread.join()
    ((process, at),) = killed.items()
    reports = [
        (e.trial, e.others["process"], e.others["at"])
        for e in events(result)
        if isinstance(e, MetricReported) and e.others
    ]
    trial = next(number for number, who, _ in reports if who == process)
    again = [when for number, who, when in reports if number == trial and who != process]
    return float(min(again) - at)


def child(task: str, file: str) -> None:
    """One repeat on one master, in this process."""
    from pyspark.sql import SparkSession

    master, _, trials = task.rpartition(":")
    builder = SparkSession.builder.master(master)
    for name, value in CONF.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    figures = rate(int(trials))
    for victim in GENERATIONS:
        if victim != "executor" or master.startswith("local-cluster"):  # else it is the driver's
            figures[victim] = recovery(victim)
            for run in Path("runs").rglob("*.sqlite"):
                run.unlink()
    Path(file).write_text(json.dumps(figures))
    spark.stop()


def measure(master: str, trials: int) -> dict[str, float]:
    """One repeat, in a fresh process and folder."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "figures.json")
        command = [sys.executable, __file__, "--child", f"{master}:{trials}", str(file)]
        variables = {
            **os.environ,
            "SPARK_LOCAL_IP": "127.0.0.1",
            "PYSPARK_PYTHON": sys.executable,
            "SPARK_LOCAL_DIRS": folder,
            "SPARK_HOME": spark_home(folder),
        }
        done = subprocess.run(
            command, cwd=folder, env=variables, stderr=subprocess.PIPE, check=False, timeout=400
        )
        if done.returncode:
            sys.exit(f"{master} failed:\n{done.stderr.decode()[-3000:]}")
        figures: dict[str, float] = json.loads(file.read_text())
        return figures


def spark_home(folder: str) -> str:
    """The folder of pyspark by links, because ``local-cluster`` writes into its ``SPARK_HOME``."""
    import pyspark

    home = Path(folder, "spark")
    home.mkdir()
    for path in Path(pyspark.__file__ or "").parent.iterdir():
        if path.name != "work":
            (home / path.name).symlink_to(path)
    return str(home)


def main() -> None:
    """Measure in turns, and print the table."""
    options = arguments(__doc__)
    if options.child:
        child(*options.child)
        return
    describe("Spark: 1 ms training functions in two slots")
    repeats, trials = (1, QUICK) if options.quick else (REPEATS, TRIALS)
    rows = []
    for master in MASTERS:
        found = [measure(master, trials) for _ in range(repeats)]
        cells = [spread([one[name] for one in found], 2) for name in ("overhead", "cpu")]
        cells += [
            spread([one[victim] for one in found], 2) if victim in found[0] else "-"
            for victim in GENERATIONS
        ]
        rows.append([master, spread([one["rate"] for one in found]), *cells])
    heads = ["master", "trials/s", "overhead, ms/trial", "driver CPU, ms/trial"]
    heads += [f"{victim} at work again, s" for victim in GENERATIONS]
    table(heads, rows)


if __name__ == "__main__":
    main()
