"""How far an earlier run is to be trusted: as far as it ranks the new trials rightly.

Ranks, not values: losses of two data sets are on different scales (Bardenet et al. 2013; Feurer et
al. 2018, arXiv 1802.02219).  The trust is Kendall's tau between what the run's model expects of
the new trials and their losses (after Wistuba et al. 2016, two-stage transfer surrogates), drawn
towards a prior: ``w = max(0, (n0 w0 + n tau) / (n0 + n))`` after ``n`` trials.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from maggy.optimizer.encoding import Array

__all__ = ["PRIOR_TRIALS", "PRIOR_TRUST", "agreement", "latest"]

PRIOR_TRUST = 0.5
"""``w0``: before there is evidence."""

PRIOR_TRIALS = 4.0
"""``n0``: so many trials weigh as much as the prior."""

_LATEST = 200


def latest(count: int) -> slice:
    """Which of so many trials are compared: the latest 200."""
    return slice(max(count - _LATEST, 0), count)


def agreement(expected: Array, losses: Array) -> float:
    """The trust in whoever expected these losses, in [0, 1]; ties count half for, half against.

    Args:
        expected: On any scale, shape (n,); n may be 0.
        losses: On any scale, finite, shape (n,).
    """
    n = len(losses)
    tau = 0.0
    if n > 1:
        pairs = np.triu_indices(n, 1)
        signs = np.sign(np.subtract.outer(expected, expected)[pairs])
        tau = float(np.mean(signs * np.sign(np.subtract.outer(losses, losses)[pairs])))
    trust = (PRIOR_TRIALS * PRIOR_TRUST + n * tau) / (PRIOR_TRIALS + n)
    return max(trust, 0.0)
