"""The staff of remote engines, and agents that a test plays message by message."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from maggy.engines import agents as module
from maggy.engines.agents import Door, RemoteStaff
from maggy.engines.certificate import new_identity
from maggy.engines.files import Files
from maggy.engines.launcher import Invitation
from maggy.errors import ConfigError
from maggy.trial import TrialError
from maggy.wire.framing import JSON
from maggy.wire.handshake import introduce
from maggy.wire.link import Link, parcel
from maggy.wire.messages import (
    Ack,
    Exited,
    Fire,
    Hire,
    Leave,
    Logged,
    Quit,
    Ready,
    Refused,
    Run,
    Setup,
    SetupFailed,
    Stop,
    Stopped,
    Welcome,
    decode_to_agent,
)
from maggy.wire.token import Token
from maggy.worker.stream import reach

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from maggy.engines.launcher import Desk
    from maggy.wire.messages import FromAgent, FromWorker, ToAgent
    from maggy.worker.stream import Stream

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agents of these tests do not leave when they are told to."""
    monkeypatch.setattr(module, "_LEAVE", 0.2)


RUN = Run(trial=0, attempt=0, hparams={"x": 1.0}, budget=None, seed=5)


class Book:
    """An owner that writes down what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[Any, ...]] = []
        self.news = asyncio.Event()

    def _write(self, *line: Any) -> None:
        self.lines.append(line)
        self.news.set()

    def heard(self, worker: str, message: FromWorker) -> None:
        self._write("heard", worker, message)

    def lost(self, worker: str, reason: str) -> None:
        self._write("lost", worker, reason)

    def unable(self, reason: str, output: str = "") -> None:
        self._write("unable", reason, output)

    def fail(self, error: BaseException) -> None:
        self._write("fail", error)

    async def until(self, count: int) -> list[tuple[Any, ...]]:
        """The lines, once there are so many."""
        while len(self.lines) < count:
            self.news.clear()
            await asyncio.wait_for(self.news.wait(), 10)
        return self.lines


class Nobody:
    """A launcher that starts nothing; the test plays the agents."""

    def __init__(self) -> None:
        self.desk: Desk | None = None
        self.closed = threading.Event()

    def slots(self) -> int:
        return 1

    def notes(self, invitation: Invitation) -> list[str]:
        return []

    def advertise(self) -> tuple[str, str]:
        return "127.0.0.1", "127.0.0.1"

    def open(self, invitation: Invitation, desk: Desk, count: int) -> None:
        self.desk = desk

    def close(self) -> None:
        self.closed.set()


class Scene:
    """A staff that is open, and what belongs to it."""

    def __init__(self, folder: Path, *, tls: bool = False, attended: bool = False) -> None:
        self.book = Book()
        self.launcher = Nobody()
        self.streams: list[Stream] = []
        self.tasks: list[asyncio.Task[None]] = []
        sock = socket.create_server(("127.0.0.1", 0))
        identity = new_identity() if tls else None
        token = Token.new(identity.certificate if identity else None)
        port = sock.getsockname()[1]
        self.invitation = Invitation(host="127.0.0.1", port=port, token=token, hb_interval=0.1)
        self.staff = RemoteStaff(
            self.book,
            setup=Setup(sys_path=[], cwd="/", log_dir=str(folder), hb_interval=0.1, plan={}),
            payload=b"pickle",
            door=Door(
                socket=sock,
                tls=identity.context if identity else None,
                insecure=False,
                invitation=self.invitation,
            ),
            launcher=self.launcher,
            count=1,
            files=Files(data_fd=None, trials=folder, checkpoints=None),
            attended=attended,
        )

    async def agent(self, name: str = "slot.1", **options: Any) -> Player:
        """An agent that has said hello."""
        player = Player(self, name, **options)
        await player.connect()
        return player


class Player:
    """An agent, by hand."""

    def __init__(self, scene: Scene, name: str) -> None:
        self.scene = scene
        self.name = name
        self.link = Link()
        self.incarnation = 0

    async def connect(self, *, incarnation: int | None = None) -> None:
        """Connect and introduce itself, under the next incarnation."""
        invitation = self.scene.invitation
        self.stream = await reach(invitation.host, invitation.port, invitation.token, timeout=10)
        self.scene.streams.append(self.stream)
        self.incarnation = self.incarnation if incarnation is None else incarnation
        hello = introduce(
            self.name, "agent", incarnation=self.incarnation, received=self.link.received
        )
        self.stream.write(parcel(hello))
        self.incarnation += 1

    async def hear(self) -> ToAgent:
        """The next message; raw bytes are skipped."""
        while True:
            frame = await asyncio.wait_for(self.stream.receive(), 10)
            if frame is None:
                raise EOFError
            if frame.kind == JSON:
                message = decode_to_agent(frame.payload)
                if not isinstance(message, Welcome | Refused | Ack):
                    self.link.took()
                return message

    async def expect(self, *kinds: type) -> list[ToAgent]:
        """The next messages, which must be of these kinds."""
        messages = [await self.hear() for _ in kinds]
        assert tuple(type(message) for message in messages) == kinds
        return messages

    def say(self, message: FromAgent, *, lose: bool = False) -> None:
        """Say it; ``lose``: the connection breaks before it leaves."""
        if not isinstance(message, Ack):
            self.link.sent(parcel(message))
        if not lose:
            self.stream.write(parcel(message))

    def hang_up(self) -> None:
        self.stream.abort()


def play(folder: Path, act: Callable[[Scene], Awaitable[None]], **options: bool) -> Scene:
    """Open the staff, let the test act, and close the staff."""

    async def main() -> Scene:
        scene = Scene(folder, **options)
        await scene.staff.open()
        try:
            await act(scene)
        finally:
            await scene.staff.close()
            for stream in scene.streams:
                stream.abort()
        await asyncio.gather(*scene.tasks)
        assert scene.launcher.closed.is_set()
        assert not [line for line in scene.book.lines if line[0] == "fail"]
        return scene

    return asyncio.run(main())


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_hired_worker_gets_an_agent_and_is_heard(tmp_path: Path, *, tls: bool) -> None:
    """Whoever comes first, the worker or the agent; the set-up comes once."""

    async def act(scene: Scene) -> None:
        scene.staff.hire("w0")
        agent = await scene.agent()
        *_, hire = await agent.expect(Welcome, Setup, Hire)
        assert hire == Hire(worker="w0")
        agent.say(Ready())
        assert (await scene.book.until(1)) == [("heard", "w0", Ready())]
        scene.staff.send("w0", RUN)
        assert await agent.expect(Run) == [RUN]
        agent.say(Exited(worker="w0", reason="killed", output="its last words"))
        assert (await scene.book.until(2))[1] == ("lost", "w0", "killed")
        assert scene.staff.last_words("w0") == "its last words"
        scene.staff.hire("w1")
        assert await agent.expect(Hire) == [Hire(worker="w1")]

    play(tmp_path, act, tls=tls)


def test_agents_beyond_need_wait_in_reserve(tmp_path: Path) -> None:
    """A second one takes over as soon as the first is gone."""

    async def act(scene: Scene) -> None:
        scene.staff.hire("w0")
        first = await scene.agent("slot.1")
        await first.expect(Welcome, Setup, Hire)
        second = await scene.agent("slot.2")
        await second.expect(Welcome)
        first.say(Exited(worker="w0", reason="killed", output=""))
        first.hang_up()
        await scene.book.until(1)
        scene.staff.hire("w1")
        scene.staff.hire("w2")
        assert (await second.expect(Setup, Hire))[1] == Hire(worker="w1")

    play(tmp_path, act)


def test_a_broken_connection_loses_nothing(tmp_path: Path) -> None:
    """What either side said while there was none arrives on the next one, once and in order."""

    async def act(scene: Scene) -> None:
        scene.staff.hire("w0")
        agent = await scene.agent()
        await agent.expect(Welcome, Setup, Hire)
        agent.say(Ready())
        await scene.book.until(1)
        agent.hang_up()
        agent.say(Stopped(trial=0, attempt=0), lose=True)
        scene.staff.send("w0", RUN)
        scene.staff.send("w0", Stop(trial=0, attempt=0, reason="enough"))
        await agent.connect()
        (welcome,) = await agent.expect(Welcome)
        assert isinstance(welcome, Welcome)
        for frames in agent.link.resume(welcome.received):
            agent.stream.write(frames)
        await agent.expect(Run, Stop)
        lines = await scene.book.until(2)
        assert [line[2] for line in lines] == [Ready(), Stopped(trial=0, attempt=0)]
        agent.say(Ack(received=agent.link.received))
        assert await agent.expect(Ack) == [Ack(received=2)]

    play(tmp_path, act)


def test_a_newer_connection_replaces_one_that_seems_alive(tmp_path: Path) -> None:
    """As after a link that was cut: the driver has not noticed the end of the older one."""

    async def act(scene: Scene) -> None:
        scene.staff.hire("w0")
        agent = await scene.agent()
        await agent.expect(Welcome, Setup, Hire)
        older = agent.stream
        await agent.connect()
        await agent.expect(Welcome)
        assert await asyncio.wait_for(older.receive(), 10) is None
        agent.say(Ready())
        assert (await scene.book.until(1)) == [("heard", "w0", Ready())]

    play(tmp_path, act)


def test_a_copy_of_an_agent_is_refused(tmp_path: Path) -> None:
    """The one that was there goes on, and the copy may come under another name."""

    async def act(scene: Scene) -> None:
        agent = await scene.agent()
        await agent.expect(Welcome)
        copy = await scene.agent()
        (refused,) = await copy.expect(Refused)
        assert isinstance(refused, Refused)
        assert refused.again
        scene.staff.hire("w0")
        await agent.expect(Setup, Hire)

    play(tmp_path, act)


def test_an_agent_that_does_not_come_back_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker is lost with the reason; if it comes after all it has to join anew."""
    monkeypatch.setattr(module, "_RETURN", 0.1)

    async def act(scene: Scene) -> None:
        scene.staff.hire("w0")
        agent = await scene.agent()
        await agent.expect(Welcome, Setup, Hire)
        agent.hang_up()
        (line,) = await scene.book.until(1)
        assert line[:2] == ("lost", "w0")
        assert "slot.1" in line[2]
        await agent.connect()
        (refused,) = await agent.expect(Refused)
        assert isinstance(refused, Refused)
        assert refused.again

    play(tmp_path, act)


def test_a_silent_agent_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though its connection still stands."""
    monkeypatch.setattr(module, "_LEAST_SILENCE", 0.5)

    async def act(scene: Scene) -> None:
        scene.staff.hire("w0")
        agent = await scene.agent()
        await agent.expect(Welcome, Setup, Hire)
        (line,) = await scene.book.until(1)
        assert line[:2] == ("lost", "w0")
        assert "silent" in line[2]

    play(tmp_path, act)


def test_what_the_launcher_knows_is_believed_at_once(tmp_path: Path) -> None:
    """An agent whose process is gone is not waited for."""

    async def act(scene: Scene) -> None:
        scene.staff.hire("w0")
        agent = await scene.agent("slot.1")
        await agent.expect(Welcome, Setup, Hire)
        assert scene.launcher.desk is not None
        scene.launcher.desk.vanished("slot", "killed by the cluster")
        agent.hang_up()
        (line,) = await scene.book.until(1)
        assert "killed by the cluster" in line[2]

    play(tmp_path, act)


def test_without_any_hope_the_run_is_told(tmp_path: Path) -> None:
    """Once, as long as no agent ever joined."""

    async def act(scene: Scene) -> None:
        assert scene.launcher.desk is not None
        scene.launcher.desk.hopeless("No Python there.", "a traceback")
        assert await scene.book.until(1) == [("unable", "No Python there.", "a traceback")]

    play(tmp_path, act)


def test_firing_reaches_the_agent_or_ends_the_wait(tmp_path: Path) -> None:
    """A worker without an agent is forgotten; so are all of them when one is told to quit."""

    async def act(scene: Scene) -> None:
        scene.staff.hire("w0")
        scene.staff.hire("w1")
        scene.staff.fire("w1")
        agent = await scene.agent("slot.1")
        await agent.expect(Welcome, Setup, Hire)
        scene.staff.fire("w0")
        assert await agent.expect(Fire) == [Fire(worker="w0")]
        scene.staff.hire("w2")
        scene.staff.send("w0", Quit())
        await agent.expect(Quit)
        other = await scene.agent("slot.2")
        await other.expect(Welcome)
        scene.staff.hire("w3")
        assert (await other.expect(Setup, Hire))[1] == Hire(worker="w3")

    play(tmp_path, act)


def test_at_the_end_agents_are_told_to_leave(tmp_path: Path) -> None:
    """And nobody is let in any more."""
    told: list[ToAgent] = []

    async def act(scene: Scene) -> None:
        agent = await scene.agent()
        await agent.expect(Welcome)

        async def leave() -> None:
            told.extend(await agent.expect(Leave))
            agent.hang_up()

        scene.tasks.append(asyncio.create_task(leave()))

    play(tmp_path, act)
    assert told == [Leave(reason="the run is over")]


def test_agents_get_their_time_to_leave_after_others_have_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That there was nobody for a while in the middle of the run does not count at its end."""
    monkeypatch.setattr(module, "_LEAVE", 5.0)
    early: list[bool] = []

    async def act(scene: Scene) -> None:
        assert scene.launcher.desk is not None
        scene.staff.hire("w0")
        first = await scene.agent("a.1")
        await first.expect(Welcome, Setup, Hire)
        scene.launcher.desk.vanished("a", "killed")
        first.hang_up()
        await scene.book.until(1)
        second = await scene.agent("b.1")
        await second.expect(Welcome)

        async def leave() -> None:
            await second.expect(Leave)
            await asyncio.sleep(0.1)
            early.append(scene.launcher.closed.is_set())
            second.hang_up()

        scene.tasks.append(asyncio.create_task(leave()))

    play(tmp_path, act)
    assert early == [False]


async def logged(caplog: pytest.LogCaptureFixture, text: str) -> None:
    """Wait until this is in the log."""
    async with asyncio.timeout(10):
        while text not in caplog.text:
            await asyncio.sleep(0.01)


def test_who_comes_while_the_run_ends_is_told_to_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A newcomer, and one whose connection had just broken, end as the others do."""
    monkeypatch.setattr(module, "_LEAVE", 5.0)
    monkeypatch.setattr(module, "_RETURN", 5.0)
    caplog.set_level("INFO")
    told: list[list[ToAgent]] = []

    async def act(scene: Scene) -> None:
        there, broken = await scene.agent("a.1"), await scene.agent("b.1")
        await there.expect(Welcome)
        await broken.expect(Welcome)
        broken.hang_up()
        await logged(caplog, "the connection of b.1 ended")
        await asyncio.sleep(0)  # the staff hears of it in the next turn of the loop

        async def come() -> None:
            await there.expect(Leave)
            newcomer = await scene.agent("c.1")
            told.append(await newcomer.expect(Welcome, Leave))
            await broken.connect()
            told.append(await broken.expect(Welcome, Leave))
            there.hang_up()
            broken.hang_up()

        scene.tasks.append(asyncio.create_task(come()))

    play(tmp_path, act)
    assert [answer[1] for answer in told] == [Leave(reason="the run is over")] * 2


def test_a_launcher_that_cannot_begin_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it raised is what the run ends with."""

    def refuse(*_: object) -> None:
        msg = "this cluster has no GPUs."
        raise ConfigError(msg)

    async def main() -> None:
        scene = Scene(tmp_path)
        monkeypatch.setattr(scene.launcher, "open", refuse)
        try:
            with pytest.raises(ConfigError, match="no GPUs"):
                await scene.staff.open()
        finally:
            await scene.staff.close()
        assert scene.launcher.closed.is_set()

    asyncio.run(main())


def test_a_launcher_that_does_not_end_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A cluster that does not answer any more cannot hold the end of a run up."""
    monkeypatch.setattr(module, "_FORCE", 0.1)
    answers = threading.Event()

    async def main() -> None:
        scene = Scene(tmp_path)
        monkeypatch.setattr(scene.launcher, "close", answers.wait)
        await scene.staff.open()
        await asyncio.wait_for(scene.staff.close(), 10)

    try:
        asyncio.run(main())
        assert "was not ended within" in caplog.text
    finally:
        answers.set()


def test_a_launcher_that_fails_at_the_end_costs_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged; the run has all that it wanted."""

    def fail() -> None:
        msg = "the cluster is gone"
        raise RuntimeError(msg)

    async def main() -> None:
        scene = Scene(tmp_path)
        monkeypatch.setattr(scene.launcher, "close", fail)
        await scene.staff.open()
        await scene.staff.close()

    asyncio.run(main())
    assert "the cluster is gone" in caplog.text


def test_that_nobody_is_there_is_said_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Before the first agent has come, and again when all of them are gone."""
    monkeypatch.setattr(module, "_LONELY", 0.05)
    monkeypatch.setattr(module, "_RETURN", 0.05)

    async def act(scene: Scene) -> None:
        await logged(caplog, "no worker has joined yet")
        agent = await scene.agent()
        await agent.expect(Welcome)
        agent.hang_up()
        await logged(caplog, "no worker is left")

    play(tmp_path, act)


def test_an_error_of_the_owner_is_not_lost_in_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever calls it: here the timer of an agent that does not come back."""
    monkeypatch.setattr(module, "_RETURN", 0.05)

    async def main() -> None:
        scene = Scene(tmp_path)
        await scene.staff.open()
        try:
            monkeypatch.setattr(scene.book, "lost", lambda *_: 1 / 0)
            scene.staff.hire("w0")
            agent = await scene.agent()
            await agent.expect(Welcome, Setup, Hire)
            agent.hang_up()
            ((what, error),) = await scene.book.until(1)
            assert what == "fail"
            assert isinstance(error, ZeroDivisionError)
        finally:
            await scene.staff.close()

    asyncio.run(main())


def test_an_agent_where_no_worker_can_be_set_up_is_sent_away(tmp_path: Path) -> None:
    """When its worker is fired; it hears why, and the next worker goes to another agent."""

    async def act(scene: Scene) -> None:
        scene.staff.hire("w0")
        agent = await scene.agent("a.1")
        await agent.expect(Welcome, Setup, Hire)
        failed = SetupFailed(error=TrialError(type="ImportError", message="no numpy"))
        agent.say(failed)
        assert await scene.book.until(1) == [("heard", "w0", failed)]
        scene.staff.fire("w0")
        (refused,) = await agent.expect(Refused)
        assert isinstance(refused, Refused)
        assert "ImportError: no numpy" in refused.reason
        assert not refused.again
        lost = (await scene.book.until(2))[1]
        assert lost[:2] == ("lost", "w0")
        assert "no numpy" in lost[2]
        scene.staff.hire("w1")
        other = await scene.agent("b.1")
        await other.expect(Welcome, Setup, Hire)

    play(tmp_path, act)


def test_an_agent_whose_worker_died_waits_behind_the_others(tmp_path: Path) -> None:
    """So a machine on which workers die does not get all of them, while a better one is free."""

    async def act(scene: Scene) -> None:
        scene.staff.hire("w0")
        bad = await scene.agent("a.1")
        await bad.expect(Welcome, Setup, Hire)
        good = await scene.agent("b.1")
        await good.expect(Welcome)
        bad.say(Exited(worker="w0", reason="killed", output=""))
        await scene.book.until(1)
        scene.staff.hire("w1")
        assert (await good.expect(Setup, Hire))[1] == Hire(worker="w1")

    play(tmp_path, act)


@pytest.mark.parametrize("attended", [True, False])
def test_an_agent_where_no_worker_could_be_set_up_hears_why_at_the_end(
    tmp_path: Path, *, attended: bool
) -> None:
    """If users see it; a cluster would only write a failed task into its log."""
    told: list[ToAgent] = []

    async def act(scene: Scene) -> None:
        scene.staff.hire("w0")
        bad = await scene.agent("a.1")
        await bad.expect(Welcome, Setup, Hire)
        good = await scene.agent("b.1")
        await good.expect(Welcome)
        bad.say(SetupFailed(error=TrialError(type="ImportError", message="no numpy")))
        await scene.book.until(1)

        async def leave() -> None:
            told.extend([await bad.hear(), *await good.expect(Leave)])
            bad.hang_up()
            good.hang_up()

        scene.tasks.append(asyncio.create_task(leave()))

    play(tmp_path, act, attended=attended)
    reason = "the training function cannot be loaded here: ImportError: no numpy"
    assert told[0] == (Refused(reason=reason) if attended else Leave(reason="the run is over"))


def test_an_agent_that_breaks_off_in_a_long_message_has_its_time_to_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes count as a sign of life, also those of a message that never became whole."""
    monkeypatch.setattr(module, "_LEAST_SILENCE", 0.6)
    monkeypatch.setattr(module, "_RETURN", 30.0)

    async def act(scene: Scene) -> None:
        scene.staff.hire("w0")
        agent = await scene.agent()
        await agent.expect(Welcome, Setup, Hire)
        frames = parcel(Logged(trial=0, attempt=0, text="x" * 100))
        for place in range(len(frames) - 1):
            if place % 12 == 0:
                await asyncio.sleep(0.1)
            agent.stream.write(frames[place : place + 1])
        await asyncio.sleep(0.02)
        agent.hang_up()
        await asyncio.sleep(0.2)
        assert scene.book.lines == []
        await agent.connect()
        await agent.expect(Welcome)

    play(tmp_path, act)
