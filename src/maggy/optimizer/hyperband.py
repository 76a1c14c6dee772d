"""Hyperband (Li et al. 2018), asynchronous: ASHA with one bracket for each rung."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maggy.optimizer.asha import Asha

if TYPE_CHECKING:
    from maggy.contracts import Optimizer
    from maggy.optimizer.asha import Mode

__all__ = ["Hyperband"]


class Hyperband(Asha):
    """Hedges ASHA: some trials start at every rung, the last ones with the largest budget at once.

    It helps where early results mislead, and costs where they do not.  Trials are dealt out to the
    brackets in the proportions of Hyperband, one by one, so nobody waits for a bracket.

    Args:
        reduction_factor: As for ``Asha``.
        resource_min: As for ``Asha``.
        resource_max: As for ``Asha``.
        mode: As for ``Asha``.
        sampler: As for ``Asha``.

    Raises:
        ConfigError: One of them is wrong.
    """

    def __init__(
        self,
        reduction_factor: int = 2,
        resource_min: int = 1,
        resource_max: int = 4,
        *,
        mode: Mode = "auto",
        sampler: Optimizer | str = "randomsearch",
    ) -> None:
        super().__init__(reduction_factor, resource_min, resource_max, mode=mode, sampler=sampler)
        self.brackets = len(self.milestones)

    def __repr__(self) -> str:
        numbers = f"{self.reduction_factor}, {self.resource_min}, {self.resource_max}"
        return f"Hyperband({numbers}, mode={self.mode!r}, sampler={self.sampler!r})"
