"""The display and the result in a real kernel, and what becomes of them in other formats."""

from __future__ import annotations

import asyncio
import copy
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import nbclient
import nbconvert
import nbformat
import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

PRELUDE = """
import time
from maggy import ExperimentInterrupted, OptimizationConfig, Searchspace, experiment
space = Searchspace(x=("DOUBLE", [0, 1]))
def config(**options):
    options = {"num_trials": 8, "searchspace": space, "name": "<i>book</i>"} | options
    options = {"optimizer": "randomsearch"} | options
    return OptimizationConfig(num_workers=2, seed=1, es_min=2, **options)
def train(x, reporter):
    if x > 0.95:
        raise ValueError("<script>alert(1)</script>")
    for step in range(6):
        time.sleep(0.02)
        reporter.broadcast(x * step, step=step)
"""


def run(folder: Path, *cells: str) -> Any:
    """Execute a notebook with these cells in a kernel of its own."""
    return nbclient.NotebookClient(
        notebook(*cells),
        timeout=90,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    ).execute()


def notebook(*cells: str) -> Any:
    """A notebook with these cells."""
    code: Any = nbformat.v4
    return code.new_notebook(cells=[code.new_code_cell(cell) for cell in cells])


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A notebook with a search in its second cell and the result in its third."""
    search = "result = experiment.lagom(train, config(num_trials=60))"
    return run(tmp_path_factory.mktemp("notebook"), PRELUDE, search, "result")


def test_one_output_that_is_replaced(searched: Any) -> None:
    """The cell keeps a single display, which shows the end; nothing is printed."""
    (output,) = searched.cells[1].outputs
    assert output["output_type"] == "display_data"
    html, plain = output["data"]["text/html"], output["data"]["text/plain"]
    assert '<span class="maggy-completed">completed</span>' in html
    assert "progressbar" not in html
    assert "<svg" in html
    assert plain.splitlines()[0].startswith("<i>book</i> completed after")
    assert "experiment.load('maggy-runs/i-book-i/" in plain


def test_a_result_is_shown_as_html(searched: Any) -> None:
    """With curves and failures, and as text for front ends without HTML."""
    (output,) = searched.cells[2].outputs
    assert output["output_type"] == "execute_result"
    html = output["data"]["text/html"]
    assert html.count("<svg") == 22
    assert "failed: ValueError: &lt;script&gt;" in html
    assert output["data"]["text/plain"].startswith("Result of <i>book</i>: completed")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_converted_notebook_keeps_the_last_state(searched: Any, theme: str) -> None:
    """In a page of HTML, without a script, a download or a tag of ours or of the user's."""
    exporter: Any = nbconvert.HTMLExporter
    page, _ = exporter(theme=theme).from_notebook_node(searched)
    ours = [part.split("</style>")[1] for part in page.split('<div class="maggy">')[1:]]
    assert len(ours) == 2
    assert "<b>&lt;i&gt;book&lt;/i&gt;</b>" in ours[0]
    assert '<span class="maggy-completed">completed</span>' in ours[0]
    assert "<script>alert" not in page
    assert not re.search(r"<i>book|src=|href=|http", ours[0])


def test_text_for_those_without_html(searched: Any) -> None:
    """Converted to Markdown, the last state is there as text."""
    without = copy.deepcopy(searched)
    for cell in without.cells:
        for output in cell.outputs:
            del output["data"]["text/html"]
    exporter: Any = nbconvert.MarkdownExporter
    page, _ = exporter().from_notebook_node(without)
    assert re.search(r"\d+ completed", page)
    assert "experiment.load(" in page


def test_quiet_shows_nothing_and_inline_shows_the_same(tmp_path: Path) -> None:
    """Not even an empty output; trials in the kernel itself do not disturb the display."""
    quiet = "result = experiment.lagom(train, config(quiet=True))"
    inline = "result = experiment.lagom(train, config(engine='inline'))"
    done = run(tmp_path, PRELUDE, quiet, inline)
    assert done.cells[1].outputs == []
    (output,) = done.cells[2].outputs
    assert '<span class="maggy-completed">completed</span>' in output["data"]["text/html"]


def test_an_interrupted_kernel_leaves_a_clean_state(tmp_path: Path) -> None:
    """The search ends with its exception, the display with what was reached, the kernel lives."""
    cells = (
        PRELUDE + "def slow(x, reporter):\n"
        "    for step in range(10**6):\n"
        "        time.sleep(0.02)\n"
        "        reporter.broadcast(x, step=step)\n",
        "try:\n    experiment.lagom(slow, config())\n"
        "except ExperimentInterrupted as interruption:\n    result = interruption.result",
        "result.outcome",
    )
    done = asyncio.run(_interrupted(tmp_path, *cells))
    html = done.cells[1].outputs[0]["data"]["text/html"]
    assert len(done.cells[1].outputs) == 1
    assert '<span class="maggy-stopped">interrupted</span>' in html
    assert "2 unfinished" in html
    assert done.cells[2].outputs[0]["data"]["text/plain"] == "'interrupted'"


async def _interrupted(folder: Path, *cells: str) -> Any:
    """Execute the cells, and interrupt the kernel when its second one shows running trials."""
    place = {"metadata": {"path": str(folder)}}
    made = notebook(*cells)
    client = nbclient.NotebookClient(made, timeout=90, kernel_name="python3", resources=place)
    async with client.async_setup_kernel():
        kernel: Any = client.km
        await client.async_execute_cell(made.cells[0], 0)
        searching = asyncio.create_task(client.async_execute_cell(made.cells[1], 1))
        while not any("2 running" in str(output) for output in made.cells[1].get("outputs", [])):
            assert not searching.done()
            await asyncio.sleep(0.05)
        await kernel.signal_kernel(signal.SIGINT)
        await searching
        await client.async_execute_cell(made.cells[2], 2)
    return made


def test_ipython_in_a_terminal_is_no_notebook(tmp_path: Path) -> None:
    """It gets the terminal's display, or lines where its output goes to a file."""
    (tmp_path / "train.py").write_text(PRELUDE + "experiment.lagom(train, config())\n")
    command = [sys.executable, "-m", "IPython", "--no-banner", "train.py"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={"IPYTHONDIR": str(tmp_path / "ipython"), "HOME": str(tmp_path), "PATH": "/bin"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    assert "<i>book</i> completed after" in done.stderr
    assert "<div" not in done.stdout + done.stderr
