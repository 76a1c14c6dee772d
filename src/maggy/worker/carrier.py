"""Brings one worker's checkpoints and output to the driver, and checkpoints back.

What a worker has written here is a copy: what counts is with the driver.  A checkpoint that the
worker has replaced before its turn came is passed over, for a newer one follows it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
from typing import TYPE_CHECKING

from maggy.errors import CheckpointError, EarlyStopException
from maggy.trial import CheckpointName, checkpoints_name, log_name
from maggy.worker.drafts import Draft, list_entries, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from maggy.wire.messages import Saved
    from maggy.worker.transfers import Transfers

__all__ = ["Carrier"]

logger = logging.getLogger(__name__)

_LONGEST_LIST = 2**24


class Carrier:
    """What travels for the workers of one agent.

    Args:
        transfers: To the driver and back.
        folder: The agent's scratch folder.
        limit: The most bytes of a checkpoint; None: checkpoints do not travel.
    """

    def __init__(self, transfers: Transfers, folder: Path, limit: int | None) -> None:
        self._transfers = transfers
        self._limit = limit
        self._outgoing = folder / "outgoing"
        self.checkpoints = folder / "checkpoints"
        self.trials = folder / "trials"

    def brings(self, attempt: int) -> bool:
        """Whether this attempt of a trial may have something to restore that is not here."""
        return self._limit is not None and attempt > 0

    async def bring(self, trial: int, attempt: int) -> None:
        """Have here what this attempt shall restore, and nothing else of its trial.

        Raises:
            OSError: It could not be brought.
        """
        if self._limit is None:
            return
        await self.forget(trial)
        place = f"checkpoints/{checkpoints_name(trial)}"
        found = await self._transfers.fetch_bytes(f"{place}/{attempt:04d}")
        if found is None:
            return
        name = CheckpointName.parse(found.decode(errors="replace"))
        packed = await self._transfers.fetch_bytes(f"{place}/{name}", _LONGEST_LIST)
        if name is None or packed is None:
            msg = f"the driver has no checkpoint {found!r}, though it said so."
            raise CheckpointError(msg)
        entries = unpack(packed, name, self._limit)
        draft = Draft(self.checkpoints, trial, name, entries)
        try:
            for number, entry in enumerate(entries):
                if entry.size > 0:
                    await self._bring_entry(draft, f"{place}/{name}/{number}", number)
            await asyncio.to_thread(draft.finish)
        except EarlyStopException as error:
            raise CheckpointError(str(error)) from error
        finally:
            draft.discard()

    async def take(self, saved: Saved) -> bool:
        """Bring a checkpoint to the driver; False if the worker has replaced it by now.

        Raises:
            OSError: It could not be brought, or the driver does not want it.
        """
        if self._limit is None:
            return True
        name = self._find(saved)
        if name is None:
            return False
        folder = self.checkpoints / checkpoints_name(saved.trial)
        try:
            with self._snapshot(folder / str(name)) as path:
                await self._take(f"checkpoints/{folder.name}/{name}", path)
        except OSError as error:
            if (folder / str(name)).exists():
                raise
            logger.info("%s was replaced before it could be sent: %s", name, error)
            return False
        return True

    async def _take(self, place: str, path: Path) -> None:
        entries = list_entries(path)
        await self._transfers.store(place, pack(entries))
        for number, entry in enumerate(entries):
            if entry.size > 0:
                await self._transfers.store_file(f"{place}/{number}", path / entry.path)
        await self._transfers.store(f"{place}/whole", b"")

    async def take_output(self, trial: int, attempt: int) -> None:
        """Bring what an attempt has printed to the driver, and forget it here.

        Raises:
            OSError: It could not be brought.
        """
        path = self.trials / log_name(trial)
        if path.exists():
            name = f"trials/{checkpoints_name(trial)}/{attempt:04d}"
            try:
                await self._transfers.store_file(name, path)
            finally:
                path.unlink(missing_ok=True)

    async def forget(self, trial: int) -> None:
        """Delete this trial's checkpoints here: the driver has them."""
        folder = self.checkpoints / checkpoints_name(trial)
        if self._limit is not None and folder.exists():
            await asyncio.to_thread(shutil.rmtree, folder)

    async def _bring_entry(self, draft: Draft, name: str, number: int) -> None:
        pieces = await self._transfers.fetch(name)
        if pieces is None:
            msg = f"{name} is gone from the driver's machine."
            raise CheckpointError(msg)
        offset = 0
        async for piece in pieces:
            await asyncio.to_thread(draft.write, number, offset, piece)
            offset += len(piece)

    @contextlib.contextmanager
    def _snapshot(self, checkpoint: Path) -> Iterator[Path]:
        """A place where a checkpoint stays while the worker goes on and replaces it."""
        self._outgoing.mkdir(mode=0o700, exist_ok=True)
        copy = self._outgoing / checkpoint.name
        try:
            yield shutil.copytree(checkpoint, copy, copy_function=os.link)
        finally:
            if copy.exists():
                shutil.rmtree(copy)

    def _find(self, saved: Saved) -> CheckpointName | None:
        """The checkpoint that a message is about, unless it was replaced."""
        folder = self.checkpoints / checkpoints_name(saved.trial)
        try:
            names = [CheckpointName.parse(entry.name) for entry in folder.iterdir()]
        except FileNotFoundError:
            return None
        wanted = (saved.attempt, saved.step, saved.size)
        fitting = [n for n in names if n is not None and (n.attempt, n.step, n.size) == wanted]
        return max(fitting, default=None)
