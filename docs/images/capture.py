"""Takes the README's picture: runs the demo in a terminal (tmux) and draws two of its screens.

Usage: ``.venv/bin/python docs/images/capture.py``; needs tmux.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH, HEIGHT = 120, 40
DEADLINE = 120.0
LATE_ENOUGH = 40
"""Trials that have ended on the first of the two screens."""


def tmux(*arguments: str) -> str:
    """Run a command of a tmux server of our own."""
    command = ["tmux", "-L", "maggy-capture", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - tmux
    return done.stdout


def screens(folder: Path) -> tuple[str, str]:
    """What the terminal shows in the middle of the demo, and when it has ended, with colours."""
    demo = f"{sys.executable} -m maggy demo; touch {folder}/ended; sleep 60"
    size = ("-x", str(WIDTH), "-y", str(HEIGHT))
    tmux("-f", "/dev/null", "new-session", "-d", "-c", str(folder), *size, demo)
    middle = ""
    ends = time.monotonic() + DEADLINE
    try:
        while not (folder / "ended").exists():
            if time.monotonic() > ends:
                sys.exit(f"the demo has not ended after {DEADLINE:.0f} s")
            shown = tmux("capture-pane", "-e", "-p")
            progress = re.search(r"(\d+)\S* of \S*60", shown)
            if not middle and progress and int(progress[1]) >= LATE_ENOUGH:
                middle = shown
            time.sleep(0.1)
        time.sleep(0.5)  # for tmux to draw the last line
        return middle, tmux("capture-pane", "-e", "-p")
    finally:
        tmux("kill-server")


def main() -> None:
    """Capture and draw."""
    with tempfile.TemporaryDirectory() as folder:
        middle, end = screens(Path(folder))
    if not middle:
        sys.exit(f"the demo was never seen after {LATE_ENOUGH} of its trials")
    shown = f"$ maggy demo\n{middle.rstrip()}\n\n  ⋮\n\n{end.strip()}"
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(shown))
    svg = console.export_svg(title="maggy demo", unique_id="demo")
    fonts = re.compile(r"@font-face \{.*?\}", re.DOTALL)  # they would be fetched from elsewhere
    (Path(__file__).parent / "demo.svg").write_text(fonts.sub("", svg))


if __name__ == "__main__":
    main()
