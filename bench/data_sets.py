"""Data sets on their way to the workers: as `train_set`, and captured by the training function.

A search with one trial for each worker, in turn with 1 MB of such data, with all of it as
`train_set`, and with all of it captured by the training function, which is pickled to each worker:
the plain way.  The time is that from calling `lagom` until the last worker has its data, the start
of the workers included; the memory is what a worker has to itself (`Private_*` of its smaps) when
all workers have read all of the data.
"""

from __future__ import annotations

import json
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from setting import arguments, describe, in_a_terminal, spread, table

if TYPE_CHECKING:
    from collections.abc import Callable

MB = 1_000_000
CASES = [
    ("array", 200, 4, True),
    ("frame of numbers", 200, 4, True),
    ("frame of Arrow strings", 200, 4, True),
    ("frame of Python strings", 50, 4, True),
    ("list of dicts", 50, 4, True),
    ("array", 2000, 8, False),
]
"""Kind, size in MB, workers, and whether to try plain pickling as well."""


def make(kind: str, size: int) -> Any:
    """Data of about so many MB in memory."""
    import numpy as np

    rng = np.random.default_rng(0)
    if kind == "array":
        return rng.random((size * MB // 800, 100))
    if kind == "list of dicts":
        return [{"x": float(i), "y": [i, i + 1], "z": str(i)} for i in range(size * MB // 500)]
    import pandas as pd

    if kind == "frame of numbers":
        return pd.DataFrame(rng.random((size * MB // 800, 100)))
    words = [f"{i:096d}" for i in range(size * MB // 150)]
    dtype = object if kind == "frame of Python strings" else "string[pyarrow]"
    return pd.DataFrame({"word": pd.Series(words, dtype=dtype)})


def read(data: Any) -> float:
    """Read all of it, as a training does."""
    import numpy as np

    if isinstance(data, np.ndarray):
        return float(data.sum())
    if isinstance(data, list):
        return float(sum(len(item["z"]) for item in data))
    if data.shape[1] > 1:
        return float(sum(data[name].sum() for name in data))
    return float(data["word"].str.len().sum())


def private() -> int:
    """Bytes that only this process holds."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def trial(data: Any, workers: int) -> dict[str, Any]:
    """One trial: leaves when each worker has one."""
    began = time.monotonic()
    total = read(data)
    marks = Path("marks")
    (marks / f"{time.monotonic_ns()}").touch()
    while len(list(marks.iterdir())) < workers:
        time.sleep(0.01)
    return {"metric": total, "began": began, "private": private()}


def child(job: str, answer: str) -> None:
    """One search in this interpreter; ``job`` is way, kind, size and workers."""
    from maggy import OptimizationConfig, Searchspace, experiment

    way, kind, size, workers = json.loads(job)
    data = make(kind, 1 if way == "1 MB" else size)

    def shared(train_set: Any) -> dict[str, Any]:
        return trial(train_set, workers)

    def captured() -> dict[str, Any]:
        return trial(data, workers)

    Path("marks").mkdir()
    train_fn: Callable[..., Any] = captured
    options: dict[str, Any] = {}
    if way != "captured":
        train_fn, options = shared, {"train_set": data}
    config = OptimizationConfig(
        num_trials=workers,
        num_workers=workers,
        optimizer="randomsearch",
        searchspace=Searchspace(x=("DOUBLE", [0, 1])),
        folder="runs",
        quiet=True,
        **options,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a function that takes nothing, and one that carries data
        started = time.monotonic()
        result = experiment.lagom(train_fn, config)
    told = [trial.info for trial in result.trials if trial.info is not None]
    assert len(told) == workers, result.trials[0].error
    seconds = max(json.loads(str(one["began"])) for one in told) - started
    held = max(json.loads(str(one["private"])) for one in told)
    Path(answer).write_text(json.dumps({"seconds": seconds, "private": held}))


def measure(way: str, kind: str, size: int, workers: int) -> dict[str, float]:
    """One search in a fresh interpreter."""
    with tempfile.TemporaryDirectory() as folder:
        job = json.dumps([way, kind, size, workers])
        return in_a_terminal(__file__, job, Path(folder))


def main() -> None:
    """Measure and print the table."""
    options = arguments(__doc__)
    if options.child:
        return child(*options.child)
    describe("Data sets: from the call of `lagom` to each worker")
    cases, repeats = (CASES[:1], 1) if options.quick else (CASES, 3)
    rows = []
    for kind, size, workers, plain in cases:
        ways = ("train_set", "captured") if plain else ("train_set",)
        found: dict[str, list[dict[str, float]]] = {way: [] for way in ("1 MB", *ways)}
        for _ in range(repeats if size < 1000 else 1):
            for way, measured in found.items():
                measured.append(measure(way, kind, size, workers))
        for way, measured in found.items():
            seconds = [one["seconds"] for one in measured]
            held = [one["private"] / MB for one in measured]
            label = f"{kind}, {size:,} MB, {workers} workers, {way}"
            rows.append([label, spread(seconds, 2), spread(held, 1)])
    table(["", "seconds", "private MB each"], rows)
    return None


if __name__ == "__main__":
    main()
