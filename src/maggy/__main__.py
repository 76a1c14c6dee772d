"""``python -m maggy``: the command line."""

from __future__ import annotations

from maggy.cli import main

if __name__ == "__main__":
    main(prog_name="maggy")
