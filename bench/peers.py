"""maggy beside its peers: trials a second, start-up, lines printed, and what is installed.

Each tool gets a virtual environment of its own in ``bench/.venvs``, made where there is none, and
does the same random search of two hyperparameters with the same training function, which sleeps
for 1 ms: two trials at a time where the tool can, its settings and output as it has them when
nobody changes them, into a pipe.  What cannot be installed, or fails, has the reason in its row.

The tables are printed and, without ``--quick``, put between the markers in docs/benchmarks.md.
Two gigabytes are installed; delete ``bench/.venvs`` to get them back, or for newer versions.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from environments import ROOT, Package, Trouble, footprint, install, run
from setting import arguments, load, machine, markdown, spread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- peers: begin -->\n", "<!-- peers: end -->"
FEW, REPEATS = 10, 3
LIMIT = 240
"""Seconds for one search."""
QUIETLY = {"RAY_USAGE_STATS_ENABLED": "0", "SYNETUNE_FOLDER": "results"}
"""Nothing is sent anywhere, or left in the home."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to search with a tool.

    Attributes:
        package: Whose.
        how: In a few words.
        script: In ``bench/searches``.
        trials: How many for the rate; ten where each takes seconds.
        option: Given to the script after the number of trials.
    """

    package: Package
    how: str
    script: str
    trials: int
    option: str = ""

    @property
    def label(self) -> str:
        """For the tables."""
        return f"{self.package.name}: {self.how}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """One search.

    Attributes:
        rate: Trials a second, from the start of the first to the end of the last.
        first: Seconds from the start of the process to that of the first trial.
        whole: Seconds from the start of the process to its end.
        lines: Lines that it printed.
    """

    rate: float
    first: float
    whole: float
    lines: int


@dataclass(slots=True)
class Measured:
    """All repeats of one way, or why there are none."""

    few: list[Search] = field(default_factory=list)
    many: list[Search] = field(default_factory=list)
    imports: list[float] = field(default_factory=list)
    problem: str = ""


MAGGY = Package(name="maggy", distribution="maggy", module="maggy", source=ROOT)
OPTUNA = Package(name="Optuna", distribution="optuna", module="optuna")
HYPEROPT = Package(name="Hyperopt", distribution="hyperopt", module="hyperopt")
RAY = Package(name="Ray Tune", distribution="ray", extra="tune", module="ray.tune")
SYNE = Package(name="Syne Tune", distribution="syne-tune", module="syne_tune")
OURS = Way(package=MAGGY, how="2 processes, event log", script="with_maggy.py", trials=3000)
WAYS = (
    OURS,
    Way(
        package=OPTUNA,
        how="2 threads, in memory",
        script="with_optuna.py",
        trials=3000,
        option="threads",
    ),
    Way(
        package=OPTUNA,
        how="2 processes, JournalFile",
        script="with_optuna.py",
        trials=600,
        option="journal",
    ),
    Way(
        package=OPTUNA,
        how="2 processes, SQLite",
        script="with_optuna.py",
        trials=100,
        option="sqlite",
    ),
    Way(package=HYPEROPT, how="1 trial at a time", script="with_hyperopt.py", trials=500),
    Way(package=RAY, how="2 actors at a time", script="with_ray.py", trials=FEW),
    Way(package=SYNE, how="2 processes at a time", script="with_syne_tune.py", trials=FEW),
)


def search(way: Way, trials: int) -> Search:
    """One search in a fresh process and an empty folder.

    Raises:
        Trouble: The reason.
    """
    script = ROOT / "bench" / "searches" / way.script
    words: list[str | Path] = [way.package.python, script, str(trials)]
    if way.option:
        words.append(way.option)
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        notes = Path(folder) / "notes"
        notes.touch()
        began = time.monotonic()
        printed = run(*words, limit=LIMIT, cwd=Path(folder), PEERS_NOTES=str(notes), **QUIETLY)
        ended = time.monotonic()
        times = [tuple(map(float, line.split())) for line in notes.read_text().splitlines()]
    if len(times) < trials:
        msg = f"it ran {len(times)} of {trials} trials"
        raise Trouble(msg)
    first, last = min(start for start, _ in times), max(end for _, end in times)
    return Search(
        rate=len(times) / (last - first),
        first=first - began,
        whole=ended - began,
        lines=sum(1 for line in printed.splitlines() if line.strip()),
    )


def import_seconds(package: Package) -> float:
    """How long importing takes in a fresh interpreter.

    Raises:
        Trouble: The reason.
    """
    clock = "import time; began = time.perf_counter()"
    code = f"{clock}; import {package.module}; print(time.perf_counter() - began)"
    return float(run(package.python, "-c", code, limit=60).splitlines()[-1])


def take(way: Way, found: Measured, *, quick: bool) -> None:
    """One repeat.

    Raises:
        Trouble: The reason.
    """
    imported = import_seconds(way.package)
    few = search(way, FEW)
    trials = way.trials // 10 if quick and way.trials > FEW else way.trials
    many = few if trials == FEW else search(way, trials)
    found.imports.append(imported)
    found.few.append(few)
    found.many.append(many)
    sys.stderr.write(f"  {way.label}: {many.rate:,.1f} trials/s\n")


def installed() -> dict[Package, str]:
    """Every tool to why it could not be installed, or ``""``."""
    problems = {}
    for package in {way.package: None for way in WAYS}:
        try:
            install(package)
            problems[package] = ""
        except Trouble as trouble:
            problems[package] = f"not installed: {trouble}"
    return problems


def measure(problems: Mapping[Package, str], *, quick: bool) -> dict[Way, Measured]:
    """All ways in turns, several times; one that failed once is left out from then on."""
    measured = {way: Measured(problem=problems[way.package]) for way in WAYS}
    for _ in range(1 if quick else REPEATS):
        for way, found in measured.items():
            if found.problem:
                continue
            try:
                take(way, found, quick=quick)
            except Trouble as trouble:
                found.problem = f"failed: {trouble}"
    return measured


def speed(measured: Mapping[Way, Measured]) -> str:
    """The table of trials a second, start-up and lines."""
    header = ["tool", "trials/s", "maggy, times as fast", "first trial, s"]
    header += ["ten trials, s", "lines for them"]
    rows = []
    for way, found in measured.items():
        if found.problem:
            rows.append([way.label, found.problem, *[""] * (len(header) - 2)])
            continue
        rates = [each.rate for each in found.many]
        ratios = [a.rate / b for a, b in zip(measured[OURS].many, rates, strict=False)]
        rows.append(
            [
                way.label,
                spread(rates, digits(rates)),
                spread(ratios, digits(ratios)) if ratios and way is not OURS else "",
                spread([each.first for each in found.few], 1),
                spread([each.whole for each in found.few], 1),
                spread([each.lines for each in found.few]),
            ]
        )
    return markdown(header, rows)


def digits(values: Sequence[float]) -> int:
    """How many decimals show about two figures of the smallest value."""
    return 0 if min(values) >= 20 else 1 if min(values) >= 0.8 else 2


def sizes(problems: Mapping[Package, str], measured: Mapping[Way, Measured]) -> str:
    """The table of what is installed, and how long importing it takes."""
    header = ["tool", "version", "packages", "MB", "of that byte code", "import, s"]
    rows = []
    for package, problem in problems.items():
        if problem:
            rows.append([package.name, problem, *[""] * (len(header) - 2)])
            continue
        found = footprint(package)
        ways = [each for way, each in measured.items() if way.package is package]
        imports = [seconds for each in ways for seconds in each.imports]
        row = [package.name, found.version, str(found.packages)]
        row += [f"{found.size:,.0f}", f"{found.bytecode:,.0f}"]
        rows.append([*row, spread(imports, 2) if imports else ""])
    return markdown(header, rows)


def put(text: str) -> None:
    """Put the text between the markers of the page."""
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(f"{before}{BEGIN}{text}{END}{after}")


def main() -> None:
    """Install, measure, and write the tables."""
    quick = arguments(__doc__).quick
    before = load()
    problems = installed()
    measured = measure(problems, quick=quick)
    priority = f" at nice {os.nice(0)}" if os.nice(0) else ""
    setting = (
        f"{machine()}; load {before} before and {load()} after{priority}; "
        f"{datetime.now(UTC):%B %Y}; "
        f"median, smallest and largest of {1 if quick else REPEATS} repeats."
    )
    text = f"\n{setting}\n\n{speed(measured)}\n\n{sizes(problems, measured)}\n\n"
    print(text)
    if not quick:
        put(text)


if __name__ == "__main__":
    main()
