"""The server on real sockets: honest workers are served, everyone else harms nobody."""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct
import threading
import time
from concurrent.futures import Future
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from maggy.engines.server import Server
from maggy.wire.channel import connect
from maggy.wire.framing import JSON, RAW, encode_frame
from maggy.wire.handshake import (
    GREETING_SIZE,
    PROOF_SIZE,
    WorkerHandshake,
    introduce,
    new_key,
)
from maggy.wire.messages import (
    PROTOCOL,
    Heartbeat,
    Hello,
    Logged,
    Quit,
    Ready,
    Refused,
    Report,
    Setup,
    Stop,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from maggy.wire.channel import Channel
    from maggy.wire.messages import FromWorker, ToWorker

pytestmark = pytest.mark.integration

T = TypeVar("T")
SETUP = Setup(sys_path=["/a"], cwd="/", log_dir="/l", hb_interval=1.0, plan={})
BLOB = bytes(range(256)) * 1000
DEADLINE = 30.0


class Driver:
    """A server on a thread of its own, and everything that it was told, in order."""

    def __init__(self, **options: Any) -> None:
        self.key = new_key()
        self.told: list[tuple[Any, ...]] = []
        self.raises: set[str] = set()
        self.unknown: set[str] = set()
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.server = Server(
            key=self.key,
            on_hello=self._hello,
            on_message=lambda worker, message: self._tell("message", worker, message),
            on_gone=lambda worker, reason: self._tell("gone", worker, reason),
            on_error=lambda error: self._tell("error", str(error)),
            **options,
        )

    def start(self, host: str = "127.0.0.1") -> None:
        """Listen."""
        self.host, self.port = asyncio.run_coroutine_threadsafe(
            self.server.start(host), self._loop
        ).result(DEADLINE)

    def stop_serving(self) -> None:
        """Close the server and wait for it."""
        asyncio.run_coroutine_threadsafe(self.server.close(), self._loop).result(DEADLINE)

    def close(self) -> None:
        """Close the server, and end the thread."""
        self.stop_serving()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE)
        self._loop.close()

    def call(self, function: Callable[[], T]) -> T:
        """What `function` returns on the loop's thread."""
        future: Future[T] = Future()
        self._loop.call_soon_threadsafe(lambda: future.set_result(function()))
        return future.result(DEADLINE)

    def send(self, worker: str, message: ToWorker, blob: bytes | None = None) -> bool:
        """The server's `send`, from any thread."""
        return self.call(lambda: self.server.send(worker, message, blob))

    def wait_for(self, *wanted: Any) -> tuple[Any, ...]:
        """The first thing told that begins with `wanted`, waiting for it."""
        with self._changed:
            found: list[tuple[Any, ...]] = []

            def look() -> bool:
                found[:] = [entry for entry in self.told if entry[: len(wanted)] == wanted]
                return bool(found)

            assert self._changed.wait_for(look, DEADLINE), f"{wanted} never came: {self.told}"
            return found[0]

    def of(self, worker: str) -> list[str]:
        """The kinds of calls about this worker, in order."""
        return [entry[0] for entry in self.told if entry[1] == worker]

    def connect(self, worker: str = "w0", **changes: Any) -> Channel:
        """An honest worker's channel."""
        hello = replace(introduce(worker), **changes)
        return connect(self.host, self.port, self.key, hello, timeout=DEADLINE)

    def join(self, worker: str = "w0") -> Channel:
        """An honest worker's channel, past `Setup`."""
        channel = self.connect(worker)
        assert channel.receive() == (SETUP, BLOB)
        return channel

    def stranger(self) -> socket.socket:
        """A connection that has proved nothing."""
        return socket.create_connection((self.host, self.port), DEADLINE)

    def proven(self) -> socket.socket:
        """A connection past the proof that has not said hello."""
        sock = self.stranger()
        handshake = WorkerHandshake(self.key)
        sock.sendall(handshake.answer(sock.recv(GREETING_SIZE, socket.MSG_WAITALL)))
        handshake.verify(sock.recv(PROOF_SIZE, socket.MSG_WAITALL))
        return sock

    def _hello(self, hello: Hello) -> tuple[Setup, bytes] | None:
        self._tell("hello", hello.worker)
        return None if hello.worker in self.unknown else (SETUP, BLOB)

    def _tell(self, *entry: Any) -> None:
        with self._changed:
            self.told.append(entry)
            self._changed.notify_all()
        if entry[0] in self.raises:
            msg = f"{entry[0]} raised"
            raise RuntimeError(msg)


@pytest.fixture
def driver(request: pytest.FixtureRequest) -> Iterator[Driver]:
    """A driver that listens; indirect parameters are options of its server."""
    driver = Driver(**getattr(request, "param", {}))
    driver.start()
    yield driver
    driver.close()


def _with(**options: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("driver", [options], indirect=True)


def _frame(message: FromWorker) -> bytes:
    return encode_frame(JSON, encode(message))


def _read_to_end(sock: socket.socket) -> bytes:
    """Everything until the other side closes, however it does."""
    data = b""
    try:
        while part := sock.recv(2**16):
            data += part
    except ConnectionResetError:
        return data
    return data


def _assert_served(driver: Driver, worker: str = "honest") -> float:
    """An honest worker is served; the seconds that it took."""
    start = time.monotonic()
    with closing(driver.join(worker)) as channel:
        channel.send(Ready())
        driver.wait_for("message", worker, Ready())
        assert driver.send(worker, Stop(trial=1, attempt=0, reason="worse"))
        assert channel.receive() == (Stop(trial=1, attempt=0, reason="worse"), None)
        return time.monotonic() - start


def test_life_of_a_worker(driver: Driver) -> None:
    """A worker is greeted, its messages come in order without heartbeats, its end comes once."""
    report = Report(trial=0, attempt=0, points=[(0, 0.5, None)])
    channel = driver.join()
    channel.send(Ready(), Heartbeat(), report)
    channel.send(Logged(trial=0, attempt=0, text="bye"))
    driver.wait_for("message", "w0", Logged(trial=0, attempt=0, text="bye"))
    channel.close()
    driver.wait_for("gone", "w0", "it closed the connection")
    driver.stop_serving()
    assert driver.told == [
        ("hello", "w0"),
        ("message", "w0", Ready()),
        ("message", "w0", report),
        ("message", "w0", Logged(trial=0, attempt=0, text="bye")),
        ("gone", "w0", "it closed the connection"),
    ]


def test_sends_arrive_in_order(driver: Driver) -> None:
    """What is sent arrives in order, raw bytes right after their message."""
    with closing(driver.join()) as channel:
        stops = [Stop(trial=i, attempt=0, reason="r") for i in range(100)]
        driver.call(lambda: [driver.server.send("w0", stop) for stop in stops])
        driver.send("w0", SETUP, b"again")
        assert [channel.receive() for _ in stops] == [(stop, None) for stop in stops]
        assert channel.receive() == (SETUP, b"again")


class _Attack:
    """Unpickling this leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (encode_frame(JSON, b"{"), "is no message"),
        (encode_frame(JSON, b'{"t":"Quit"}'), "must be one of"),
        (encode_frame(JSON, b"[" * 100_000), "is no message"),
        (encode_frame(RAW, b"abc"), "messages only, but got 3 raw bytes"),
        (struct.pack("!Ic", 16 * 2**20 + 1, JSON), "one announces 16777217"),
        (b"GET / HTTP/1.1\r\n\r\n", "must be of kind"),
        (_frame(introduce("w0")), "`Hello` comes once"),
    ],
)
def test_broken_protocol(driver: Driver, data: bytes, reason: str) -> None:
    """A worker that sends nonsense is cut off with a reason, after its good messages; no other."""
    with closing(driver.join("other")) as other, closing(driver.join("bad")) as bad:
        bad._sock.sendall(_frame(Ready()) + data + _frame(Ready()))
        _, _, why = driver.wait_for("gone", "bad")
        assert why.startswith("it broke the protocol: ")
        assert reason in why
        assert bad.receive() is None
        assert driver.of("bad") == ["hello", "message", "gone"]
        other.send(Ready())
        driver.wait_for("message", "other", Ready())


@_with(limit=1000)
def test_limit(driver: Driver) -> None:
    """The limit of the server decides, to the byte."""
    with closing(driver.join()) as channel:
        room = 1000 - len(encode(Logged(trial=0, attempt=0, text="")))
        channel.send(Logged(trial=0, attempt=0, text="x" * room))
        driver.wait_for("message", "w0")
        channel.send(Logged(trial=0, attempt=0, text="x" * (room + 1)))
        assert "at most 1000 bytes" in driver.wait_for("gone", "w0")[2]


def test_half_a_frame(driver: Driver) -> None:
    """A worker that dies in the middle of a message is gone, and the half is not delivered."""
    with closing(driver.join()) as channel:
        channel._sock.sendall(_frame(Ready())[:-1])
        channel._sock.shutdown(socket.SHUT_WR)
        driver.wait_for("gone", "w0", "it closed the connection in the middle of a message")
        assert driver.of("w0") == ["hello", "gone"]


def test_reset(driver: Driver) -> None:
    """A connection that is reset, as by a killed process, ends with a reason."""
    channel = driver.join()
    channel._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    channel._sock.close()
    assert "reset" in driver.wait_for("gone", "w0")[2]


@_with(handshake_timeout=600.0)
def test_silent_strangers(driver: Driver) -> None:
    """Two hundred silent strangers take bounded room, and an honest worker is served promptly."""
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(driver.stranger())
        assert _assert_served(driver) < 10  # measured: 0.3 s
        assert driver.call(lambda: len(driver.server._listener._strangers)) <= 128


@_with(handshake_timeout=0.05)
def test_handshake_timeout(driver: Driver) -> None:
    """Who proves nothing, or says no hello after the proof, is dropped in time."""
    with driver.stranger() as sock:
        assert len(_read_to_end(sock)) == GREETING_SIZE
    with driver.proven() as sock:
        assert _read_to_end(sock) == b""
    assert driver.told == []


def test_malicious_pickle(driver: Driver, tmp_path: Path) -> None:
    """A pickle is executed nowhere: not as proof, hello, message or raw bytes."""
    attack = pickle.dumps(_Attack(tmp_path / "mark"))
    with driver.stranger() as sock:
        sock.sendall(attack.ljust(64, b"."))
        _read_to_end(sock)
    for kind in (JSON, RAW):
        with driver.proven() as sock:
            sock.sendall(encode_frame(kind, attack))
            _read_to_end(sock)
        with closing(driver.join("evil")) as channel:
            channel._sock.sendall(encode_frame(kind, attack))
            assert channel.receive() is None
    assert _assert_served(driver) < 10
    assert not (tmp_path / "mark").exists()
    assert {entry[0] for entry in driver.told if entry[1] == "evil"} == {"hello", "gone"}
    pickle.loads(attack)
    assert (tmp_path / "mark").exists()  # the attack would have worked


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"python": "3.1.0"}, "runs Python 3.1.0, but the driver runs Python 3."),
        ({"version": "1.1.2"}, "has maggy 1.1.2, but the driver has maggy 2."),
        ({"protocol": PROTOCOL + 1}, f"speaks protocol {PROTOCOL + 1}"),
    ],
)
def test_other_versions(driver: Driver, changes: dict[str, Any], sentence: str) -> None:
    """A worker of another version is refused with a sentence and never reaches the owner."""
    with closing(driver.connect(**changes)) as channel:
        answer = channel.receive()
        assert answer is not None
        assert isinstance(answer[0], Refused)
        assert sentence in answer[0].reason
        assert channel.receive() is None
    assert driver.told == []


def test_hello_from_the_future(driver: Driver) -> None:
    """A hello that cannot be understood is answered with what to install."""
    with driver.proven() as sock:
        sock.sendall(encode_frame(JSON, b'{"t":"Hello","worker":"w0","moons":2}'))
        assert b"Refused" in (answer := _read_to_end(sock))
        assert b"Install maggy" in answer


def test_first_words(driver: Driver) -> None:
    """A worker that says anything before hello is cut off."""
    with driver.proven() as sock:
        sock.sendall(_frame(Ready()))
        assert _read_to_end(sock) == b""
    assert driver.told == []


def test_unknown_worker(driver: Driver) -> None:
    """A worker that the owner does not want is refused by name, and is never said to be gone."""
    driver.unknown.add("w7")
    with closing(driver.connect("w7")) as channel:
        answer = channel.receive()
        assert answer is not None
        assert isinstance(answer[0], Refused)
        assert "expects no worker 'w7'" in answer[0].reason
        assert channel.receive() is None
    assert not driver.send("w7", Quit())
    assert driver.told == [("hello", "w7")]


def test_connects_again(driver: Driver) -> None:
    """A second connection under one name replaces the first, which is never said to be gone."""
    with closing(driver.join()) as first, closing(driver.join()) as second:
        assert first.receive() is None
        assert driver.send("w0", Quit())
        assert second.receive() == (Quit(), None)
    driver.wait_for("gone", "w0", "it closed the connection")
    assert driver.of("w0") == ["hello", "hello", "gone"]


@_with(silence_limit=0.3)
def test_silence(driver: Driver) -> None:
    """A worker that sends nothing is gone after the limit, one that sends heartbeats is not."""
    with closing(driver.join("silent")) as silent, closing(driver.join("lively")) as lively:
        over = threading.Event()

        def beat() -> None:
            while not over.wait(0.02):
                lively.send(Heartbeat())

        thread = threading.Thread(target=beat)
        thread.start()
        _, _, reason = driver.wait_for("gone", "silent")
        assert silent.receive() is None
        assert driver.send("lively", Quit())
        over.set()
        thread.join()
    assert reason.startswith("silent for 0.")


def test_send_to_nobody(driver: Driver) -> None:
    """Sending to a worker that never came, or is gone, is False and no error."""
    assert not driver.send("w0", Quit())
    driver.join().close()
    driver.wait_for("gone", "w0")
    assert not driver.send("w0", Quit())
    driver.call(lambda: driver.server.disconnect("w0", "no matter"))
    assert driver.of("w0").count("gone") == 1


def test_unsendable(driver: Driver) -> None:
    """A message that is no JSON is the sender's error, and the worker stays."""
    with closing(driver.join()) as channel:
        bad = replace(SETUP, hb_interval=float("nan"))

        def attempt() -> str:
            with pytest.raises(ValueError, match="not JSON compliant") as caught:
                driver.server.send("w0", bad)
            return str(caught.value)

        assert driver.call(attempt)
        assert driver.send("w0", Quit())
        assert channel.receive() == (Quit(), None)


def test_disconnect(driver: Driver) -> None:
    """A disconnected worker gets what was sent before, nothing after; its end has that reason."""

    def part() -> tuple[bool, bool, int]:
        before = driver.server.send("w0", Quit())
        driver.server.disconnect("w0", "it was told to go")
        driver.server.disconnect("w0", "twice")
        return before, driver.server.send("w0", Quit()), len(driver.told)

    with closing(driver.join()) as channel:
        assert driver.call(part) == (True, False, 1)  # on_gone is not called from within
        assert channel.receive() == (Quit(), None)
        assert channel.receive() is None
        driver.wait_for("gone", "w0", "it was told to go")
    driver.stop_serving()
    assert driver.of("w0") == ["hello", "gone"]


def test_callbacks_that_raise(driver: Driver) -> None:
    """What a callback raises reaches `on_error`, and the server goes on."""
    driver.raises |= {"message", "gone"}
    with closing(driver.join()) as channel:
        channel.send(Ready(), Logged(trial=0, attempt=0, text="next"))
        driver.wait_for("error", "message raised")
        driver.wait_for("message", "w0", Logged(trial=0, attempt=0, text="next"))
    driver.wait_for("error", "gone raised")
    driver.raises.clear()
    _assert_served(driver)


def test_hello_that_raises(driver: Driver) -> None:
    """A worker whose hello made the owner fail is refused, and the owner hears of it."""
    driver.raises.add("hello")
    with closing(driver.connect()) as channel:
        answer = channel.receive()
        assert answer is not None
        assert isinstance(answer[0], Refused)
        assert "driver failed" in answer[0].reason
    driver.wait_for("error", "hello raised")
    assert "gone" not in driver.of("w0")


def test_close(driver: Driver) -> None:
    """Closing lets out what was sent, drops everybody, calls nobody, and stops listening."""
    with closing(driver.join()) as channel, driver.stranger() as stranger, driver.proven() as mute:
        stranger.recv(GREETING_SIZE, socket.MSG_WAITALL)
        driver.send("w0", Quit())
        driver.stop_serving()
        assert channel.receive() == (Quit(), None)
        assert channel.receive() is None
        assert _read_to_end(stranger) == b""
        assert _read_to_end(mute) == b""
    assert driver.told == [("hello", "w0")]
    with pytest.raises(ConnectionRefusedError):
        driver.stranger()


def test_close_does_not_wait_for_ever(driver: Driver) -> None:
    """A worker that does not read delays the end by about a second."""
    with closing(driver.join()):
        driver.send("w0", SETUP, bytes(50 * 2**20))
        start = time.monotonic()
        driver.stop_serving()
        assert time.monotonic() - start < 10
