"""Files of an agent take turns."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from maggy.worker.transfers import Transfers

if TYPE_CHECKING:
    from maggy.worker.stream import Stream

PATIENCE = 0.3


def test_waiting_for_its_turn_costs_a_request_nothing() -> None:
    """Each request has all its patience, however long those before it have taken theirs."""
    given: list[float] = []

    async def dial(timeout: float) -> Stream:
        given.append(timeout)
        await asyncio.sleep(timeout)
        raise TimeoutError

    async def main() -> None:
        transfers = Transfers("a.0", dial, patience=PATIENCE)
        requests = [asyncio.create_task(transfers.store(name, b"x")) for name in "abc"]
        for request in requests:
            with pytest.raises(TimeoutError):
                await request

    asyncio.run(asyncio.wait_for(main(), 20.0))
    assert len(given) == 3
    assert min(given) > 0.9 * PATIENCE
