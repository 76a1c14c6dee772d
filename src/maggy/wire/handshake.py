"""The proof of the key, and whether two versions of maggy may work together.

Before a driver parses anything, both sides prove with HMAC-SHA256 that they hold the run's key::

    driver -> worker   magic, nonce of the driver
    worker -> driver   nonce of the worker, HMAC(key, "worker", driver's nonce, worker's nonce)
    driver -> worker   HMAC(key, "driver", worker's nonce, driver's nonce)

Each of these has a fixed size, the nonces are fresh, and the roles keep one side's proof from
being sent back as the other's.  Then frames follow, the first one the worker's ``Hello``.  Nothing
here touches a socket.
"""

from __future__ import annotations

import hmac
import os
import socket
import sys
from typing import TYPE_CHECKING

from maggy.errors import WireError
from maggy.version import VERSION
from maggy.wire.messages import PROTOCOL, Hello

if TYPE_CHECKING:
    from maggy.wire.fields import Role

__all__ = [
    "ANSWER_SIZE",
    "GREETING_SIZE",
    "KEY_SIZE",
    "PROOF_SIZE",
    "DriverHandshake",
    "WorkerHandshake",
    "introduce",
    "new_key",
    "refusal",
]

_MAGIC = b"maggy1"
_NONCE_SIZE = 32

KEY_SIZE = 32
"""Bytes of a run's key."""

PROOF_SIZE = 32
"""Bytes of a proof."""

GREETING_SIZE = len(_MAGIC) + _NONCE_SIZE
"""Bytes that a driver sends first."""

ANSWER_SIZE = _NONCE_SIZE + PROOF_SIZE
"""Bytes that a worker answers; a driver reads no more than these before it has the proof."""


def new_key() -> bytes:
    """A fresh secret for one run."""
    return os.urandom(KEY_SIZE)


class DriverHandshake:
    """The driver's half: send ``greeting``, then check the answer.

    Raises:
        ValueError: The key has not 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._key = _checked(key)
        self._nonce = os.urandom(_NONCE_SIZE)

    @property
    def greeting(self) -> bytes:
        """What to send first."""
        return _MAGIC + self._nonce

    def verify(self, answer: bytes) -> bytes:
        """The driver's own proof, to be sent.

        Args:
            answer: ``ANSWER_SIZE`` bytes from the peer.

        Raises:
            WireError: The peer does not hold the key.
        """
        nonce, proof = answer[:_NONCE_SIZE], answer[_NONCE_SIZE:]
        if not hmac.compare_digest(proof, _proof(self._key, b"worker", self._nonce, nonce)):
            msg = "the peer does not hold this run's key."
            raise WireError(msg)
        return _proof(self._key, b"driver", nonce, self._nonce)


class WorkerHandshake:
    """The worker's half: answer the greeting, then check the driver's proof.

    Raises:
        ValueError: The key has not 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._key = _checked(key)
        self._nonce = os.urandom(_NONCE_SIZE)
        self._driver_nonce = b""

    def answer(self, greeting: bytes) -> bytes:
        """What to send back.

        Args:
            greeting: ``GREETING_SIZE`` bytes from the peer.

        Raises:
            WireError: The peer is no driver of maggy.
        """
        if not greeting.startswith(_MAGIC):
            msg = "no maggy driver of this version listens there; check host and port."
            raise WireError(msg)
        self._driver_nonce = greeting[len(_MAGIC) :]
        return self._nonce + _proof(self._key, b"worker", self._driver_nonce, self._nonce)

    def verify(self, proof: bytes) -> None:
        """Make sure that the peer holds the key; call after ``answer``.

        Raises:
            WireError: It does not.
        """
        if not hmac.compare_digest(
            proof, _proof(self._key, b"driver", self._nonce, self._driver_nonce)
        ):
            msg = "the driver does not hold this run's key; check host and port."
            raise WireError(msg)


def introduce(
    worker: str, role: Role = "worker", *, incarnation: int = 0, received: int = 0
) -> Hello:
    """The ``Hello`` of this process, under the name ``worker``; see there for the rest."""
    return Hello(
        worker=worker,
        pid=os.getpid(),
        host=socket.gethostname(),
        python=".".join(str(part) for part in sys.version_info[:3]),
        version=VERSION,
        protocol=PROTOCOL,
        role=role,
        incarnation=incarnation,
        received=received,
    )


def refusal(worker: Hello, driver: Hello) -> str | None:
    """Why the two cannot work together, a sentence that says what to do; None if they can."""
    what = "worker" if worker.role == "worker" else "agent"
    who = f"{what} {worker.worker!r} on {worker.host}"
    if _minor(worker.python) != _minor(driver.python):
        return (
            f"{who} runs Python {worker.python}, but the driver runs Python {driver.python}, and "
            "functions cannot be sent between Python versions. "
            f"Start the {what} with Python {_minor(driver.python)}."
        )
    if worker.version != driver.version:
        return (
            f"{who} has maggy {worker.version}, but the driver has maggy {driver.version}. "
            f"Install maggy {driver.version} where the {what} runs."
        )
    if worker.protocol != driver.protocol:
        return (
            f"{who} speaks protocol {worker.protocol}, but the driver speaks {driver.protocol}, "
            f"although both call themselves maggy {driver.version}. "
            f"Install the driver's maggy where the {what} runs."
        )
    return None


def _checked(key: bytes) -> bytes:
    if len(key) != KEY_SIZE:
        msg = f"a run's key must have {KEY_SIZE} bytes, but got {len(key)}; use `new_key()`."
        raise ValueError(msg)
    return key


def _proof(key: bytes, role: bytes, theirs: bytes, ours: bytes) -> bytes:
    return hmac.digest(key, role + theirs + ours, "sha256")


def _minor(python: str) -> str:
    return ".".join(python.split(".")[:2])
