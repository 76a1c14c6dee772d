"""Seeds the generators that training functions draw from."""

from __future__ import annotations

import importlib
import random
import sys

__all__ = ["seed_everything"]


def seed_everything(seed: int) -> None:
    """Seed ``random``, and NumPy's and torch's global generators where they are imported.

    Nothing is imported for it.  A library that a training function imports only while it runs
    seeds itself, for the first trial of a worker: import it at the top of the script.

    Args:
        seed: In [0, 2**31), which every one of these generators takes.
    """
    random.seed(seed)
    if "numpy" in sys.modules:  # numpy itself imports numpy.random late
        importlib.import_module("numpy.random").seed(seed)
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "manual_seed"):  # not while it is being imported
        torch.manual_seed(seed)
