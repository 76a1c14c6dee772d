"""The training function of every tool: it sleeps for a millisecond and notes when it ran."""

from __future__ import annotations

import os
import time

__all__ = ["train"]


def train(x: float, k: int) -> float:
    """One trial.  Monotonic seconds of its start and end go to the notes, in one line."""
    began = time.monotonic()
    time.sleep(0.001)
    note = f"{began} {time.monotonic()}\n".encode()
    notes = os.open(os.environ["PEERS_NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(notes, note)
    finally:
        os.close(notes)
    return x + k
