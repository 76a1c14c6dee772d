"""Takes the picture of docs/notebooks.md: the demo's search in a notebook, converted to HTML.

Usage: ``.venv/bin/python docs/images/notebook.py``; needs chromium.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import nbclient
import nbconvert
import nbformat

WINDOW = "1000,860"
CELLS = (
    "from maggy import OptimizationConfig, demo, experiment\n\n"
    "train_set, valid_set, test_set = demo.load_digits()\n"
    'config = OptimizationConfig(num_trials=40, searchspace=demo.searchspace, name="digits",\n'
    "                            train_set=train_set, test_set=valid_set, seed=1)\n"
    "result = experiment.lagom(demo.train, config)",
    "result",
)


def main() -> None:
    """Run the notebook, convert it, and take the picture."""
    code: Any = nbformat.v4
    notebook = code.new_notebook(cells=[code.new_code_cell(cell) for cell in CELLS])
    with tempfile.TemporaryDirectory() as folder:
        place: Any = {"metadata": {"path": folder}}
        done = nbclient.NotebookClient(notebook, timeout=300, resources=place).execute()
        exporter: Any = nbconvert.HTMLExporter
        html, _ = exporter().from_notebook_node(done)
        page = Path(folder) / "notebook.html"
        page.write_text(html)
        picture = Path(__file__).parent / "notebook.png"
        command = [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
            *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
            *("--disable-sync", "--hide-scrollbars", f"--user-data-dir={folder}/browser"),
            *(f"--window-size={WINDOW}", f"--screenshot={picture}", page.as_uri()),
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=120)  # noqa: S603 - ours


if __name__ == "__main__":
    main()
