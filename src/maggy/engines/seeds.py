"""Every random draw of a run, derived from its one seed: the only place that derives."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy.random import Generator

__all__ = ["draw_seed", "generator", "trial_seed"]

_BITS = 31


def draw_seed() -> int:
    """A fresh seed for a run that was given none, in [0, 2**31)."""
    return secrets.randbits(_BITS)


def generator(seed: int, number: int) -> Generator:
    """The generator of suggestion ``number``; independent of the order in which trials end."""
    from numpy.random import default_rng

    return default_rng([seed, number])


def trial_seed(seed: int, number: int) -> int:
    """The int in [0, 2**31) that the training function of trial ``number`` gets as ``seed``."""
    digest = hashlib.blake2b(f"{seed}/{number}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> (32 - _BITS)
