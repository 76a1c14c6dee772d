"""Reaching a driver through TLS: who does not show the run's certificate gets not a byte."""

from __future__ import annotations

import socket
import ssl
import threading
from typing import TYPE_CHECKING

import pytest

from maggy.engines.certificate import new_identity
from maggy.errors import WireError
from maggy.wire.dialing import check_pin, dial, keep_alive, pinned_context
from maggy.wire.handshake import ANSWER_SIZE, GREETING_SIZE, DriverHandshake
from maggy.wire.token import Token, fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from maggy.engines.certificate import Identity

DEADLINE = 20.0


@pytest.fixture(scope="module")
def identity() -> Identity:
    """The driver's certificate."""
    return new_identity()


class _Driver:
    """Runs a script on the first connection."""

    def __init__(self, script: Callable[[socket.socket], None]) -> None:
        self._script = script
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with self._listening:
            peer, _ = self._listening.accept()
            with peer:
                peer.settimeout(DEADLINE)
                self._script(peer)

    def join(self) -> None:
        """Wait for the end of the script."""
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()


@pytest.fixture
def drive() -> Iterator[Callable[[Callable[[socket.socket], None]], _Driver]]:
    """Starts drivers, and waits for them."""
    drivers: list[_Driver] = []

    def start(script: Callable[[socket.socket], None]) -> _Driver:
        drivers.append(_Driver(script))
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.join()


def _prove(peer: socket.socket, key: bytes) -> None:
    handshake = DriverHandshake(key)
    peer.sendall(handshake.greeting)
    answer = b""
    while len(answer) < ANSWER_SIZE:
        answer += peer.recv(ANSWER_SIZE - len(answer))
    peer.sendall(handshake.verify(answer))


def test_dial(
    drive: Callable[[Callable[[socket.socket], None]], _Driver], identity: Identity
) -> None:
    """Where certificate and key are the run's, bytes go both ways, encrypted by TLS 1.3."""
    token = Token.new(identity.certificate)

    def script(peer: socket.socket) -> None:
        with identity.context.wrap_socket(peer, server_side=True) as encrypted:
            _prove(encrypted, token.key)
            encrypted.sendall(encrypted.recv(100).upper())

    with dial("127.0.0.1", drive(script).port, token, DEADLINE) as sock:
        assert isinstance(sock, ssl.SSLSocket)
        assert sock.version() == "TLSv1.3"
        assert sock.gettimeout() is None
        sock.sendall(b"hello")
        assert sock.recv(100) == b"HELLO"


def test_another_certificate(
    drive: Callable[[Callable[[socket.socket], None]], _Driver], identity: Identity
) -> None:
    """Whoever shows another certificate, even with the key, gets not a byte of ours."""
    token = Token.new(identity.certificate)
    got: list[bytes] = []

    def script(peer: socket.socket) -> None:
        with new_identity().context.wrap_socket(
            peer, server_side=True, suppress_ragged_eofs=True
        ) as encrypted:
            try:
                encrypted.sendall(DriverHandshake(token.key).greeting)
                got.append(encrypted.recv(100))
            except OSError:  # reset: there was nothing to read
                got.append(b"")

    with pytest.raises(WireError, match="does not have this run's certificate"):
        dial("127.0.0.1", (driver := drive(script)).port, token, DEADLINE)
    driver.join()
    assert got == [b""]


def test_another_key(
    drive: Callable[[Callable[[socket.socket], None]], _Driver], identity: Identity
) -> None:
    """A driver that has the certificate but not the key is left."""

    def script(peer: socket.socket) -> None:
        with identity.context.wrap_socket(peer, server_side=True) as encrypted:
            encrypted.sendall(bytes(GREETING_SIZE))
            assert encrypted.recv(100) == b""

    with pytest.raises(WireError, match="check host and port"):
        dial("127.0.0.1", drive(script).port, Token.new(identity.certificate), DEADLINE)


def test_not_encrypted(
    drive: Callable[[Callable[[socket.socket], None]], _Driver], identity: Identity
) -> None:
    """A driver without TLS is left where the token says that it has a certificate."""

    def script(peer: socket.socket) -> None:
        peer.sendall(DriverHandshake(bytes(32)).greeting)

    with pytest.raises(WireError, match="did not complete the TLS handshake"):
        dial("127.0.0.1", drive(script).port, Token.new(identity.certificate), DEADLINE)


def test_silent(
    drive: Callable[[Callable[[socket.socket], None]], _Driver], identity: Identity
) -> None:
    """A driver that never answers the first message of TLS costs `timeout` seconds."""
    released = threading.Event()

    def script(_: socket.socket) -> None:
        assert released.wait(DEADLINE)

    with pytest.raises(WireError, match="did not complete the TLS handshake"):
        dial("127.0.0.1", drive(script).port, Token.new(identity.certificate), 0.1)
    released.set()


def test_client_context() -> None:
    """The client asks for TLS 1.3, and leaves the certificate to its fingerprint."""
    context = pinned_context()
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3
    assert context.verify_mode == ssl.CERT_NONE


def test_check_pin() -> None:
    """The fingerprint decides, and no certificate is no certificate."""
    check_pin(b"der", fingerprint(b"der"))
    for certificate in (b"other", b"", None):
        with pytest.raises(WireError, match="this run's certificate"):
            check_pin(certificate, fingerprint(b"der"))


def test_keep_alive() -> None:
    """The system probes a silent peer after 10 s, thrice in 15 s."""
    with socket.socket() as sock:
        keep_alive(sock)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        values = [sock.getsockopt(socket.IPPROTO_TCP, option) for option in options]
        assert values == [10, 5, 3]
