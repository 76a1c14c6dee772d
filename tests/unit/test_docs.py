"""The documentation is true: its snippets run, its links lead somewhere, its tables are complete.

All ```python blocks of a page are run in one fresh interpreter, in their order and from an empty
folder, as a reader would; a traceback shows the page's own line numbers.
"""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from maggy import cli, earlystop, errors
from maggy.config import OptimizationConfig
from maggy.core.transitions import TRIAL_MOVES, WORKER_MOVES, WorkerStatus
from maggy.earlystop import POLICY_NAMES
from maggy.optimizer import registry
from maggy.trial import TrialStatus

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w*)$\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name(page: Path) -> str:
    """How a page is called in the tests' ids."""
    return page.relative_to(ROOT).as_posix()


def script(page: Path) -> str:
    """The page's Python blocks, each on its own lines, everything else blanked out."""
    text = page.read_text()
    lines = [""] * (text.count("\n") + 1)
    for fence in FENCE.finditer(text):
        if fence[1] == "python":
            first = text.count("\n", 0, fence.start(2))
            block = fence[2].splitlines()
            lines[first : first + len(block)] = block
    return "\n".join(lines)


def rows(text: str, columns: int) -> set[tuple[str, ...]]:
    """The table rows whose first cells are all code, without their backquotes."""
    pattern = r"^\|" + r" `(\w+)` \|" * columns
    return {match.groups() for match in re.finditer(pattern, text, re.MULTILINE)}


@pytest.mark.integration
@pytest.mark.parametrize("page", [page for page in PAGES if script(page).strip()], ids=name)
def test_snippets_run(page: Path, tmp_path: Path) -> None:
    """Every Python block of a page runs, without a warning."""
    source = tmp_path / page.name.replace(".md", ".py")
    source.write_text(script(page))
    done = subprocess.run(
        [sys.executable, "-W", "error", source.name],
        cwd=tmp_path,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_snippet_hides(page: Path) -> None:
    """Python is in ```python blocks, never in doctest sessions, which nothing runs.

    Code of other tools is in ```py blocks, and only where one migrates from them.
    """
    text = page.read_text()
    assert ">>>" not in text
    assert text.count("```") == 2 * len(FENCE.findall(text))
    allowed = {"python", "sh", "sql", "text", "mermaid"}
    if page.name == "migration.md":
        allowed.add("py")
    assert {fence[1] for fence in FENCE.finditer(text)} <= allowed


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file of the repository."""
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text())):
        if not target.startswith(("https://", "#")):
            assert (page.parent / target.split("#")[0]).exists(), target


def test_every_page_is_linked() -> None:
    """Every page of docs/ is reached from the index of the pages or that of the decisions."""
    indices = [ROOT / "docs" / "README.md", ROOT / "docs" / "adr" / "README.md"]
    linked = {
        (page.parent / target.split("#")[0]).resolve()
        for page in indices
        for target in re.findall(r"\]\(([^)\s]+\.md)", page.read_text())
    }
    pages = {page for page in PAGES if page.is_relative_to(ROOT / "docs")}
    assert pages - linked <= {indices[0]}
    assert "(docs/README.md)" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_fragments_exist(page: Path) -> None:
    """A link to a part of a page names one of its headings."""
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text())):
        path, _, fragment = target.partition("#")
        if fragment and not target.startswith("https://"):
            text = FENCE.sub("", (page.parent / path if path else page).read_text())
            titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
            plain = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
            assert fragment in plain, target


def test_make_targets_exist() -> None:
    """Every `make` target that a page names is one."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        target for page in PAGES for target in re.findall(r"(?:`|^)make (\w+)", page.read_text())
    }
    assert {"demo", "test"} <= named <= targets


def test_states_are_explained() -> None:
    """docs/states.md has a row for each state of trials and workers, and no other."""
    text = (ROOT / "docs" / "states.md").read_text()
    states = {(state.name,) for state in (*TrialStatus, *WorkerStatus)}
    assert rows(text, 1) == states


def test_moves_are_those_of_the_tables() -> None:
    """docs/states.md lists exactly the legal moves."""
    moves = {
        (state.name, cause.__name__, after.name)
        for table in (TRIAL_MOVES, WORKER_MOVES)
        for state, causes in table.items()
        for cause, after in causes.items()
    }
    assert rows((ROOT / "docs" / "states.md").read_text(), 3) == moves


def test_diagram_shows_the_moves_of_trials() -> None:
    """The diagram of trial states has an arrow for each legal move, and no other."""
    text = (ROOT / "docs" / "states.md").read_text()
    drawn = {
        (start, cause.strip(), end)
        for start, end, causes in re.findall(r"^ +(\w+) --> (\w+): (.+)$", text, re.MULTILINE)
        for cause in causes.split(",")
    }
    assert drawn == {
        (state.name, cause.__name__, after.name)
        for state, causes in TRIAL_MOVES.items()
        for cause, after in causes.items()
    }


def test_layers_are_those_that_are_checked() -> None:
    """docs/architecture.md draws the layers that the import contract proves."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    checked = project["tool"]["importlinter"]["contracts"][0]["layers"]
    text = (ROOT / "docs" / "architecture.md").read_text().split("## Who imports whom")[1]
    drawn = next(fence[2] for fence in FENCE.finditer(text)).splitlines()
    for layer, line in zip(checked, drawn, strict=True):
        assert line.startswith(" · ".join(layer.split(" | ")))


def test_every_option_is_documented() -> None:
    """The quickstart's table names every option of the config, and no other."""
    text = (ROOT / "docs" / "quickstart.md").read_text()
    table = text.split("## The config")[1].split("## ")[0]
    named = {
        name
        for cell in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for name in cell.split(", ")
    }
    fields = {field.name for field in dataclasses.fields(OptimizationConfig) if field.init}
    assert {option.strip("`") for option in named} == fields


def test_every_optimizer_is_documented() -> None:
    """docs/optimizers.md has a row for each name of an optimizer, with its class, and no other."""
    text = (ROOT / "docs" / "optimizers.md").read_text()
    named = dict(re.findall(r'^\| `"(\w+)"` \| `(\w+)` \|', text, re.MULTILINE))
    assert set(named) == set(registry.names())
    for optimizer, kind in named.items():
        assert type(registry.resolve(optimizer)).__name__ == kind


def test_every_policy_is_documented() -> None:
    """docs/early-stopping.md has a row for each name and each public class of a policy."""
    text = (ROOT / "docs" / "early-stopping.md").read_text()
    rules = text.split("## The rules")[1].split("## ")[0]
    assert set(re.findall(r'^\| `"(\w+)"` \|', rules, re.MULTILINE)) == set(POLICY_NAMES)
    classes = {
        public for public in earlystop.__all__ if isinstance(getattr(earlystop, public), type)
    }
    assert classes <= set(re.findall(r"`(\w+)`", rules))


def test_every_command_is_documented() -> None:
    """docs/command-line.md has a row for each command, and no other."""
    text = (ROOT / "docs" / "command-line.md").read_text()
    listed = set(re.findall(r"^\| `maggy (\w+)", text, re.MULTILINE))
    assert listed == set(cli.main.commands)


def test_tools_of_the_benchmark_are_in_its_table() -> None:
    """The tables that `make peers` writes have a row for every tool, between their markers."""
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    tables = text.split("<!-- peers: begin -->\n")[1].split("<!-- peers: end -->")[0]
    for tool in ("maggy", "Optuna", "Hyperopt", "Ray Tune", "Syne Tune"):
        assert re.search(rf"^\| {tool}: ", tables, re.MULTILINE)
        assert re.search(rf"^\| {tool} \|", tables, re.MULTILINE)


def test_every_error_is_documented() -> None:
    """docs/failures.md has a row for each public exception but the root."""
    text = (ROOT / "docs" / "failures.md").read_text()
    listed = {row[0] for row in rows(text, 2)}
    assert listed == set(errors.__all__) - {"MaggyError"}
    for error, base in rows(text, 2):
        assert base in {parent.__name__ for parent in getattr(errors, error).__mro__[1:]}


def test_decisions_are_complete() -> None:
    """Each decision has its number, its three parts, and its place in the index."""
    folder = ROOT / "docs" / "adr"
    pages = sorted(folder.glob("[0-9]*.md"))
    index = (folder / "README.md").read_text()
    for number, page in enumerate(pages, start=1):
        text = page.read_text()
        title = text.split("\n", 1)[0].removeprefix("# ")
        assert page.name.startswith(f"{number:04d}-")
        assert title.startswith(f"{number}. ")
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
            "Context",
            "Decision",
            "Consequences",
        ]
        assert f"{number}. [{title.split('. ', 1)[1]}]({page.name})" in index
