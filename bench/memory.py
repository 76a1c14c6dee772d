"""What a long search costs: memory for each trial, and the 10,000th trial beside the first ones.

Two searches with training functions that return at once, one short and one of 10,000 trials, each
in a fresh interpreter.  The difference of their peaks (VmHWM) is what the additional trials cost,
the result included.  The times are those of the event log.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from setting import arguments, describe, in_a_terminal, spread, table

if TYPE_CHECKING:
    from collections.abc import Mapping

SHORT, LONG, QUICK = 1000, 10_000, 3000


def train(hparams: Mapping[str, Any]) -> float:
    """One trial."""
    return float(hparams["x"])


def peak_kib() -> int:
    """The largest memory this process ever had, KiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def child(job: str, answer: str) -> None:
    """One search in this interpreter."""
    from maggy import OptimizationConfig, Searchspace, experiment

    config = OptimizationConfig(
        num_trials=int(job),
        num_workers=2,
        optimizer="randomsearch",
        searchspace=Searchspace(x=("DOUBLE", [0, 1]), k=("INTEGER", [1, 8])),
        name="memory",
        folder="runs",
    )
    result = experiment.lagom(train_fn=train, config=config)
    peak = peak_kib()
    folder = result.path
    assert folder is not None
    with sqlite3.connect(folder / "run.sqlite") as database:
        query = "SELECT at FROM events WHERE kind = 'TrialFinished' ORDER BY at"
        ends = [at for (at,) in database.execute(query)]
    tenth = len(ends) // 10
    measured = {
        "peak_kib": peak,
        "first_ms": 1000 * (ends[tenth] - ends[0]) / tenth,
        "last_ms": 1000 * (ends[-1] - ends[-1 - tenth]) / tenth,
        "disk": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
    }
    Path(answer).write_text(json.dumps(measured))


def main() -> None:
    """Measure and print the table."""
    options = arguments(__doc__)
    if options.child:
        return child(*options.child)
    describe("Memory and growth: training functions that return at once, 2 workers")
    long, repeats = (QUICK, 1) if options.quick else (LONG, 3)
    short_runs: list[dict[str, float]] = []
    long_runs: list[dict[str, float]] = []
    for _ in range(repeats):
        for size, runs in ((SHORT, short_runs), (long, long_runs)):
            with tempfile.TemporaryDirectory() as folder:
                runs.append(in_a_terminal(__file__, str(size), Path(folder)))
    growth = [
        1024 * (after["peak_kib"] - before["peak_kib"]) / (long - SHORT)
        for before, after in zip(short_runs, long_runs, strict=True)
    ]
    table(
        ["", f"{long:,} trials"],
        [
            ["driver's memory, bytes/trial", spread(growth)],
            ["run's folder, bytes/trial", spread([run["disk"] / long for run in long_runs])],
            ["first tenth, ms/trial", spread([run["first_ms"] for run in long_runs], 3)],
            ["last tenth, ms/trial", spread([run["last_ms"] for run in long_runs], 3)],
            ["last / first", spread([run["last_ms"] / run["first_ms"] for run in long_runs], 2)],
        ],
    )
    return None


if __name__ == "__main__":
    main()
