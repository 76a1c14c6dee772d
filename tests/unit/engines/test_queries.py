"""Workers that are places in line: each trial is one query."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from maggy.engines import queries
from maggy.engines.queries import QueryStaff
from maggy.engines.query_task import LOG, MESSAGE, Errand
from maggy.wire.messages import Finished, Quit, Ready, Run, Stop, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

LIMIT = 20.0
RUN = Run(trial=2, attempt=1, hparams={}, budget=None, seed=0)
DONE = Finished(trial=2, attempt=1, value=3.0, info=None)


class Fake:
    """Answers as told, or not before it is interrupted."""

    reason = "nobody can be reached"

    def __init__(self, answer: Sequence[tuple[str, bytes]] | Exception | None) -> None:
        self.answer = answer
        self.interrupted = threading.Event()
        self.asked = threading.Event()

    def ask(self, worker: str, errand: Errand) -> Sequence[tuple[str, bytes]]:
        self.asked.set()
        if self.answer is None:
            self.interrupted.wait(LIMIT)
            msg = "interrupted"
            raise RuntimeError(msg)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def interrupt(self, worker: str) -> None:
        self.interrupted.set()

    def inheriting(self) -> Callable[[Callable[[], None]], None]:
        return lambda call: call()


class Owner:
    """Remembers what it was told, and wakes who waits for it."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.news = asyncio.Event()

    def heard(self, worker: str, message: Any) -> None:
        self._note((worker, message))

    def lost(self, worker: str, reason: str) -> None:
        self._note((worker, reason))

    def unable(self, reason: str, output: str = "") -> None:
        self._note(reason)

    def fail(self, error: BaseException) -> None:
        self._note(error)

    def _note(self, what: Any) -> None:
        self.told.append(what)
        self.news.set()

    async def until(self, count: int) -> list[Any]:
        """Everything, once it is so much."""
        async with asyncio.timeout(LIMIT):
            while len(self.told) < count:
                self.news.clear()
                await self.news.wait()
        return self.told


def play(
    cluster: Fake, logs: Path, act: Callable[[QueryStaff, Owner], Coroutine[Any, Any, None]]
) -> None:
    """Let somebody act on a staff that has one worker, which is ready."""

    async def scene() -> None:
        owner = Owner()
        errand = Errand(b"", b"", None, b"", None)
        staff = QueryStaff(owner, cluster, lambda _: errand, logs)
        await staff.open()
        staff.hire("w0")
        assert await owner.until(1) == [("w0", Ready())]
        try:
            await act(staff, owner)
        finally:
            await staff.close()

    asyncio.run(scene())
    assert not [t for t in threading.enumerate() if t.name.startswith("maggy-query")]


def test_what_a_trial_said_arrives_when_it_has_ended(tmp_path: Path) -> None:
    """And its output is in the trial's file."""

    async def act(staff: QueryStaff, owner: Owner) -> None:
        staff.send("w0", RUN)
        assert (await owner.until(2))[1] == ("w0", DONE)
        staff.send("w0", RUN)
        await owner.until(3)

    play(Fake([(LOG, b"hello\n"), (MESSAGE, encode(DONE))]), tmp_path, act)
    assert (tmp_path / "000002.log").read_bytes() == b"hello\n" * 2


def test_a_query_that_fails_loses_its_worker(tmp_path: Path) -> None:
    """So its trial is run again; with the cluster's reason."""

    async def act(staff: QueryStaff, owner: Owner) -> None:
        staff.send("w0", RUN)
        assert (await owner.until(2))[1] == ("w0", "no room")
        staff.send("w0", RUN)  # nobody any more

    play(Fake(OSError("no room")), tmp_path, act)


def test_a_worker_leaves_at_once_or_after_its_trial(tmp_path: Path) -> None:
    """Whichever comes first."""

    async def act(staff: QueryStaff, owner: Owner) -> None:
        staff.send("w0", RUN)
        staff.send("w0", Stop(trial=2, attempt=1, reason="hopeless"))
        staff.send("w0", Quit())
        assert (await owner.until(3))[1:] == [("w0", DONE), ("w0", "it has left")]
        staff.hire("w1")
        staff.send("w1", Quit())
        assert (await owner.until(5))[4] == ("w1", "it has left")

    play(Fake([(MESSAGE, encode(DONE))]), tmp_path, act)


def test_a_worker_that_is_fired_is_lost_at_once(tmp_path: Path) -> None:
    """Its query is interrupted, and what it still says is not heard."""
    cluster = Fake(None)

    async def act(staff: QueryStaff, owner: Owner) -> None:
        staff.send("w0", RUN)
        assert await asyncio.to_thread(cluster.asked.wait, LIMIT)
        staff.fire("w0")
        assert (await owner.until(2))[1] == ("w0", "ended by maggy")
        assert await asyncio.to_thread(cluster.interrupted.wait, LIMIT)

    play(cluster, tmp_path, act)


def test_close_interrupts_what_runs(tmp_path: Path) -> None:
    """And nobody is told anything afterwards."""
    cluster = Fake(None)
    told: list[Any] = []

    async def act(staff: QueryStaff, owner: Owner) -> None:
        told.append(owner)
        staff.send("w0", RUN)

    play(cluster, tmp_path, act)
    assert cluster.interrupted.is_set()
    assert len(told[0].told) == 1


def test_close_does_not_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """For a query that cannot be interrupted there is a warning."""
    cluster = Fake(None)
    monkeypatch.setattr(queries, "_PATIENCE", 0.05)
    monkeypatch.setattr(cluster, "interrupt", lambda worker: 1 / 0)

    async def act(staff: QueryStaff, owner: Owner) -> None:
        staff.send("w0", RUN)

    with pytest.raises(AssertionError):
        play(cluster, tmp_path, act)
    assert "has not ended" in caplog.text
    cluster.interrupted.set()


def test_nonsense_ends_the_run(tmp_path: Path) -> None:
    """With its error, like any other of the staff's own."""

    async def act(staff: QueryStaff, owner: Owner) -> None:
        staff.send("w0", RUN)
        (error,) = (await owner.until(2))[1:]
        assert isinstance(error, ConnectionError)

    play(Fake([(MESSAGE, b"{}")]), tmp_path, act)
