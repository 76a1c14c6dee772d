"""The worker's end of the wire, against a driver that is scripted byte by byte."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from maggy.errors import WireError
from maggy.wire.channel import Channel, connect, inherit
from maggy.wire.framing import JSON, LIMIT, RAW, FrameDecoder, encode_frame
from maggy.wire.handshake import ANSWER_SIZE, DriverHandshake, introduce, new_key
from maggy.wire.messages import (
    Heartbeat,
    Logged,
    Quit,
    Ready,
    Setup,
    Stop,
    decode_from_worker,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from maggy.wire.messages import FromWorker

KEY = new_key()
SETUP = Setup(sys_path=[], cwd="/", log_dir="/tmp", hb_interval=1.0, plan={})


@pytest.fixture
def pair() -> Iterator[tuple[Channel, socket.socket]]:
    """A channel and the driver's end of it, past the handshake."""
    driver, worker = socket.socketpair()
    driver.settimeout(10)
    channel = Channel(worker)
    yield channel, driver
    channel.close()
    driver.close()


def _serve(script: Callable[[socket.socket], None]) -> tuple[int, threading.Thread]:
    """Run `script` on the first connection; the port, and the thread to join."""
    listening = socket.create_server(("127.0.0.1", 0))
    port: int = listening.getsockname()[1]

    def run() -> None:
        with listening:
            peer, _ = listening.accept()
            with peer:
                peer.settimeout(10)
                script(peer)

    thread = threading.Thread(target=run)
    thread.start()
    return port, thread


def _prove(peer: socket.socket, key: bytes) -> None:
    handshake = DriverHandshake(key)
    peer.sendall(handshake.greeting)
    peer.sendall(handshake.verify(peer.recv(ANSWER_SIZE, socket.MSG_WAITALL)))


def test_connect() -> None:
    """A worker that proved itself and the driver says hello, and messages flow."""
    heard: list[bytes] = []

    def script(peer: socket.socket) -> None:
        _prove(peer, KEY)
        decoder = FrameDecoder()
        while not heard:
            heard.extend(frame.payload for frame in decoder.feed(peer.recv(1000)))
        peer.sendall(encode_frame(JSON, encode(Quit())))

    port, thread = _serve(script)
    hello = introduce("w0")
    channel = connect("127.0.0.1", port, KEY, hello)
    assert channel.receive() == (Quit(), None)
    assert channel.receive() is None
    channel.close()
    thread.join()
    assert [decode_from_worker(payload) for payload in heard] == [hello]


def test_wrong_driver() -> None:
    """A worker leaves a driver that cannot prove the key, before it says hello."""
    rest: list[bytes] = []

    def script(peer: socket.socket) -> None:
        peer.sendall(DriverHandshake(KEY).greeting)
        peer.recv(ANSWER_SIZE, socket.MSG_WAITALL)
        peer.sendall(bytes(32))
        rest.append(peer.recv(100))

    port, thread = _serve(script)
    with pytest.raises(WireError, match="the driver does not hold this run's key"):
        connect("127.0.0.1", port, KEY, introduce("w0"))
    thread.join()
    assert rest == [b""]


def test_not_a_driver() -> None:
    """A worker that reached a web server says so."""
    port, thread = _serve(lambda peer: peer.sendall(b"HTTP/1.1 400 Bad Request\r\n" * 3))
    with pytest.raises(WireError, match="check host and port"):
        connect("127.0.0.1", port, KEY, introduce("w0"))
    thread.join()


def test_closed_before_the_proof() -> None:
    """A driver that hangs up during the handshake is explained."""
    port, thread = _serve(lambda peer: peer.sendall(DriverHandshake(KEY).greeting[:5]))
    with pytest.raises(WireError, match="closed the connection before it proved the key"):
        connect("127.0.0.1", port, KEY, introduce("w0"))
    thread.join()


def test_silent_driver() -> None:
    """A driver that says nothing, or drips, costs `timeout` seconds in all."""
    released = threading.Event()

    def script(peer: socket.socket) -> None:
        peer.sendall(b"maggy1")
        assert released.wait(10)

    port, thread = _serve(script)
    with pytest.raises(WireError, match="did not complete the proof of the key: timed out"):
        connect("127.0.0.1", port, KEY, introduce("w0"), timeout=0.1)
    released.set()
    thread.join()


def test_nobody_there() -> None:
    """Where nobody listens, the error of the system comes through."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        connect("127.0.0.1", port, KEY, introduce("w0"))


def test_send_several(pair: tuple[Channel, socket.socket]) -> None:
    """Several messages leave in order, in one piece."""
    channel, driver = pair
    messages: list[FromWorker] = [Ready(), Logged(trial=0, attempt=0, text="x"), Heartbeat()]
    channel.send(*messages)
    frames = list(FrameDecoder().feed(driver.recv(10_000)))
    assert [decode_from_worker(frame.payload) for frame in frames] == messages


def test_threads_do_not_mix_frames(pair: tuple[Channel, socket.socket]) -> None:
    """Frames sent by many threads at once stay whole, and each thread's stay in order."""
    channel, driver = pair

    def talk(trial: int) -> None:
        for attempt in range(100):
            channel.send(Logged(trial=trial, attempt=attempt, text="x" * 5000))

    threads = [threading.Thread(target=talk, args=(trial,)) for trial in range(4)]
    for thread in threads:
        thread.start()
    decoder = FrameDecoder()
    heard: list[FromWorker] = []
    while len(heard) < 400:
        heard += [decode_from_worker(f.payload) for f in decoder.feed(driver.recv(2**16))]
    for thread in threads:
        thread.join()
    for trial in range(4):
        mine = [m.attempt for m in heard if isinstance(m, Logged) and m.trial == trial]
        assert mine == list(range(100))


def test_unsendable(pair: tuple[Channel, socket.socket]) -> None:
    """A message too long for the driver is refused before a byte leaves; the channel lives on."""
    channel, driver = pair
    with pytest.raises(ValueError, match=rf"at most {LIMIT} bytes, but Logged has"):
        channel.send(Ready(), Logged(trial=0, attempt=0, text="x" * LIMIT))
    channel.send(Heartbeat())
    assert driver.recv(1000) == encode_frame(JSON, encode(Heartbeat()))


def test_interrupted_send(pair: tuple[Channel, socket.socket]) -> None:
    """A send that was interrupted ends the channel, since half a frame may be out."""
    channel, driver = pair

    class _Interrupted:
        def sendall(self, data: bytes) -> None:
            driver.setblocking(False)
            raise KeyboardInterrupt

        def shutdown(self, how: int) -> None:
            sock.shutdown(how)

        def close(self) -> None:
            sock.close()

    sock = channel._sock
    channel._sock = _Interrupted()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        channel.send(Ready())
    assert driver.recv(100) == b""


def test_setup_comes_with_its_payload(pair: tuple[Channel, socket.socket]) -> None:
    """`Setup` is returned with the raw frame that follows, other messages with None."""
    channel, driver = pair
    blob = bytes(range(256)) * 300
    stop = Stop(trial=1, attempt=0, reason="worse")
    data = encode_frame(JSON, encode(SETUP)) + encode_frame(RAW, blob)
    driver.sendall(data + encode_frame(JSON, encode(stop)))
    assert channel.receive() == (SETUP, blob)
    assert channel.receive() == (stop, None)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (encode_frame(RAW, b"abc"), "the driver sent 3 raw bytes"),
        (encode_frame(JSON, encode(SETUP)) + encode_frame(JSON, b"{}"), "raw bytes were due"),
        (encode_frame(JSON, b"{}"), "kind `t`"),
        (b"HTTP/1.1 200 OK\r\n", "must be of kind"),
    ],
)
def test_nonsense(pair: tuple[Channel, socket.socket], data: bytes, match: str) -> None:
    """A driver that breaks the protocol is a WireError."""
    channel, driver = pair
    driver.sendall(data)
    with pytest.raises(WireError, match=match):
        channel.receive()


@pytest.mark.parametrize("size", [0, 3, 20])
def test_driver_gone(pair: tuple[Channel, socket.socket], size: int) -> None:
    """A driver that leaves, even in the middle of a frame, is None, and sending is an OSError."""
    channel, driver = pair
    driver.sendall(encode_frame(JSON, encode(SETUP))[:size])
    driver.close()
    assert channel.receive() is None
    with pytest.raises(OSError, match=r"Broken pipe|reset"):
        channel.send(Heartbeat())


def test_gone_before_the_payload(pair: tuple[Channel, socket.socket]) -> None:
    """A driver that leaves between `Setup` and its payload is gone, not half there."""
    channel, driver = pair
    driver.sendall(encode_frame(JSON, encode(SETUP)))
    driver.shutdown(socket.SHUT_WR)
    assert channel.receive() is None


def test_close_wakes_the_receiver(pair: tuple[Channel, socket.socket]) -> None:
    """Closing ends a `receive` that waits in another thread; closing again does nothing."""
    channel, _ = pair
    heard: list[object] = []
    thread = threading.Thread(target=lambda: heard.append(channel.receive()))
    thread.start()
    channel.close()
    thread.join(10)
    assert heard == [None]
    channel.close()
    assert channel.receive() is None
    with pytest.raises(OSError, match="Bad file descriptor"):
        channel.send(Heartbeat())


def test_inherit() -> None:
    """A worker's channel to its agent is a descriptor; no child of the worker inherits it."""
    agent, worker = socket.socketpair()
    worker.setblocking(False)
    os.set_inheritable(worker.fileno(), True)
    with agent, closing(inherit(worker.detach())) as channel:
        assert not os.get_inheritable(channel._sock.fileno())
        agent.sendall(encode_frame(JSON, encode(Quit())))
        assert channel.receive() == (Quit(), None)
        channel.send(Ready())
        assert agent.recv(100) == encode_frame(JSON, encode(Ready()))


def test_inherit_nothing() -> None:
    """A descriptor that is not open is an OSError."""
    with pytest.raises(OSError, match="Bad file descriptor"):
        inherit(987)


def test_light() -> None:
    """The wire needs only the standard library, without asyncio."""
    code = (
        "import sys, maggy.wire.channel; "
        "heavy = {'asyncio', 'numpy', 'scipy', 'rich', 'click', 'cloudpickle', 'pickle', 'ssl'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
