"""An agent under one name: what the driver says is acted on, one worker after the other."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from maggy.errors import WireError
from maggy.wire.messages import Fire, Hire, Leave, Quit, Run, Setup, Stop
from maggy.worker.carrier import Carrier
from maggy.worker.conversation import Conversation, End
from maggy.worker.employment import ENDED, Employment, Workplace
from maggy.worker.shared_data import fetch_data
from maggy.worker.transfers import Transfers

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from maggy.wire.messages import ToAgent
    from maggy.worker.children import Children
    from maggy.worker.stream import Stream

__all__ = ["Membership"]

logger = logging.getLogger(__name__)

_IN_ORDER = 3.0
"""Seconds for the last worker to be reaped and its last output to be sent."""
_LEFT = "it was told to leave"


class Membership:
    """One agent from its ``Hello`` until it leaves, is given up, or gives up.

    Args:
        slot: The beginning of its name.
        dial: Connects to the driver, within so many seconds.
        folder: Its scratch folder.
        shared: The folder of this run that all agents of the machine hold.
        children: Starts the workers.
        patience: Seconds to try to reach the driver for.
        tell: Called with one line when something changes.
    """

    def __init__(
        self,
        slot: str,
        dial: Callable[[float], Coroutine[None, None, Stream]],
        folder: Path,
        shared: Path,
        children: Children,
        *,
        patience: float,
        tell: Callable[[str], None],
    ) -> None:
        self._conversation = Conversation(
            slot, dial=dial, take=self._take, silent=self._fire, tell=tell, patience=patience
        )
        self._transfers = Transfers(self._conversation.name, dial, patience=patience)
        self._folder = folder
        self._shared = shared
        self._children = children
        self._tell = tell
        self._setup: tuple[Setup, bytes] | None = None
        self._hired: asyncio.Queue[Employment] = asyncio.Queue()
        self._employments: list[Employment] = []  # not over; all but the first wait for it
        self._idle = asyncio.Event()
        self._idle.set()
        self._told = asyncio.Event()

    async def serve(self, stopping: asyncio.Event) -> End:
        """Do what the driver says; no worker is left when this returns.

        Args:
            stopping: Set to leave before the driver says so.

        Raises:
            WireError: The driver refuses this agent for good, speaks nonsense, or was never
                reached.
        """
        holding = asyncio.create_task(self._conversation.hold())
        employing = asyncio.create_task(self._employ())
        told = asyncio.create_task(self._told.wait())
        stop = asyncio.create_task(stopping.wait())
        tasks: list[asyncio.Task[Any]] = [holding, employing, told, stop]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if holding.done():
                return holding.result()
            if employing.done():
                await employing  # raises
            if not told.done():
                self._fire(why=_LEFT)
            await self._dismiss()
            await self._conversation.close()
            return End.TOLD if told.done() else End.STOPPED
        finally:
            await self._dismiss()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._transfers.close()

    async def _employ(self) -> None:
        while True:
            employment = await self._hired.get()
            self._tell(f"working as {employment.worker}")
            await employment.run()
            self._employments.remove(employment)
            if not self._employments:
                self._idle.set()

    async def _dismiss(self) -> None:
        """End the workers, and wait until they are gone and the driver was told."""
        self._fire()
        try:
            async with asyncio.timeout(_IN_ORDER):
                await self._idle.wait()
        except TimeoutError:
            logger.warning("a worker has not ended %s s after it was killed", _IN_ORDER)

    def _take(self, message: ToAgent, payload: bytes, blob: bytes | None) -> None:
        """Act on one message of the driver."""
        match message:
            case Setup():
                assert blob is not None
                self._setup = message, blob
            case Hire():
                self._hire(message.worker)
            case Fire():
                self._fire(message.worker)
            case Leave():
                logger.info("leaving: %s", message.reason)
                self._told.set()
            case Run() | Stop() | Quit():
                if self._employments:  # else it is gone, and the driver is about to hear that
                    self._employments[-1].order(message, payload)
            case _:
                msg = f"`{type(message).__name__}` does not fit in here."
                raise WireError(msg)

    def _hire(self, worker: str) -> None:
        if self._setup is None:
            msg = "`Setup` must come before the first `Hire`."
            raise WireError(msg)
        setup, payload = self._setup
        limit = None if setup.checkpoint_dir is None else setup.checkpoint_limit
        place = Workplace(
            folder=self._folder,
            children=self._children,
            carrier=Carrier(self._transfers, self._folder, limit),
            fetch_data=partial(fetch_data, self._transfers, self._shared),
            post=self._conversation.post,
            full=lambda: self._conversation.full,
            room=self._conversation.room,
        )
        employment = Employment(worker, setup, payload, place)
        self._employments.append(employment)
        self._idle.clear()
        self._hired.put_nowait(employment)

    def _fire(self, *workers: str, why: str = ENDED) -> None:
        """End these workers; of none: all."""
        for employment in self._employments:
            if not workers or employment.worker in workers:
                employment.fire(why)
