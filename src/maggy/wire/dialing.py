"""Reaching a driver with blocking sockets: TLS where the token says so, then the proof of the key.

The driver's certificate is made for one run and signed by nobody, so what is checked is its
fingerprint, which the token holds, and nothing else: before a byte of ours is sent.
"""

from __future__ import annotations

import hmac
import socket
import time
from typing import TYPE_CHECKING

from maggy.errors import WireError
from maggy.wire.handshake import GREETING_SIZE, PROOF_SIZE, WorkerHandshake
from maggy.wire.token import fingerprint

if TYPE_CHECKING:
    import ssl

    from maggy.wire.token import Token

__all__ = ["check_pin", "dial", "keep_alive", "pinned_context"]

_KEEP_ALIVE = {
    "TCP_KEEPIDLE": 10,  # seconds of silence before the first probe
    "TCP_KEEPALIVE": 10,  # the same, as macOS calls it
    "TCP_KEEPINTVL": 5,  # seconds between two
    "TCP_KEEPCNT": 3,  # so many without an answer end the connection
}


def dial(host: str, port: int, token: Token, timeout: float) -> socket.socket:
    """A connection to the driver, both sides proven; nothing was said on it yet.

    Args:
        host: Where the driver listens.
        port: Its port.
        token: The run's.
        timeout: Seconds for all of it.

    Raises:
        WireError: Whoever listens there is not this run's driver, or did not take this token, or
            took too long.
        OSError: Nobody can be reached there.
    """
    deadline = time.monotonic() + timeout
    sock = socket.create_connection((host, port), timeout)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        keep_alive(sock)
        if token.pin is not None:
            sock = _encrypted(sock, token.pin, deadline)
        handshake = WorkerHandshake(token.key)
        sock.sendall(handshake.answer(_read_exactly(sock, GREETING_SIZE, deadline)))
        handshake.verify(_read_exactly(sock, PROOF_SIZE, deadline))
        sock.settimeout(None)
    except BaseException:
        sock.close()
        raise
    return sock


def pinned_context() -> ssl.SSLContext:
    """TLS for a client that checks the certificate by itself: see ``check_pin``."""
    import ssl  # 10 ms that local workers do not need

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def check_pin(certificate: bytes | None, pin: bytes) -> None:
    """Make sure that the peer showed the certificate of this run; before a byte is sent.

    Args:
        certificate: What it showed, in DER form (``getpeercert(binary_form=True)``).
        pin: The token's.

    Raises:
        WireError: It is another one.
    """
    if certificate is None or not hmac.compare_digest(fingerprint(certificate), pin):
        msg = (
            "whoever listens there does not have this run's certificate; check host, port and "
            "key. Another run may have taken the port, or somebody listens in between."
        )
        raise WireError(msg)


def keep_alive(sock: socket.socket) -> None:
    """Have the system notice within 25 seconds that the other machine is gone."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _encrypted(sock: socket.socket, pin: bytes, deadline: float) -> socket.socket:
    sock.settimeout(max(deadline - time.monotonic(), 1e-3))
    try:
        encrypted = pinned_context().wrap_socket(sock)
    except OSError as error:  # ssl.SSLError is one
        msg = f"the driver did not complete the TLS handshake: {error}; check host and port."
        raise WireError(msg) from error
    try:
        check_pin(encrypted.getpeercert(binary_form=True), pin)
    except BaseException:
        encrypted.close()
        raise
    return encrypted


def _read_exactly(sock: socket.socket, size: int, deadline: float) -> bytes:
    data = b""
    while len(data) < size:
        try:
            sock.settimeout(max(deadline - time.monotonic(), 1e-3))
            part = sock.recv(size - len(data))
        except OSError as error:
            msg = f"the driver did not complete the proof of the key: {error}."
            raise WireError(msg) from error
        if not part:
            msg = (
                "the driver closed the connection before it proved the key. "
                "It belongs to another run, or has too many unproven connections."
            )
            raise WireError(msg)
        data += part
    return data
