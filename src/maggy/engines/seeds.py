"""Every random draw of a run, derived from its one seed: the only place that derives."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy.random import Generator

__all__ = ["Draws", "draw_seed", "trial_seed"]

_BITS = 31


def draw_seed() -> int:
    """A fresh seed for a run that was given none, in [0, 2**31)."""
    return secrets.randbits(_BITS)


class Draws:
    """The generators of a run's suggestions, one for each number.

    A counter-based generator (Philox, Salmon et al. 2011) is set to a stream of its own for each
    number, which costs a tenth of making a new generator.

    Args:
        seed: The run's seed.
    """

    def __init__(self, seed: int) -> None:
        from numpy.random import Generator, Philox, SeedSequence

        self._bits = Philox(SeedSequence(seed))
        self._generator = Generator(self._bits)
        self._state = self._bits.state

    def generator(self, number: int) -> Generator:
        """The generator of suggestion ``number``, whatever was drawn before.

        It is the same object each time, set anew: use it up before the next call.
        """
        self._state["state"]["counter"][3] = number
        self._bits.state = self._state
        return self._generator


def trial_seed(seed: int, number: int) -> int:
    """The int in [0, 2**31) that the training function of trial ``number`` gets as ``seed``."""
    digest = hashlib.blake2b(f"{seed}/{number}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> (32 - _BITS)
