"""The token of a run: what an agent on another machine needs to trust its driver, and be trusted.

It is as secret as the key inside it, and never shown by ``repr``, an error or a log.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field

from maggy.errors import WireError
from maggy.wire.handshake import KEY_SIZE, new_key

__all__ = ["Token", "fingerprint"]

_PREFIX = "maggy1-"
_PIN_SIZE = hashlib.sha256().digest_size


def fingerprint(certificate: bytes) -> bytes:
    """The SHA-256 digest of a certificate in DER form, 32 bytes."""
    return hashlib.sha256(certificate).digest()


@dataclass(frozen=True, slots=True, repr=False)
class Token:
    """A run's secrets.

    Attributes:
        key: The run's key, 32 bytes.
        pin: The fingerprint of the driver's certificate, 32 bytes; None: the driver speaks
            without encryption.

    Raises:
        ValueError: One of them has another size; the message does not show it.
    """

    key: bytes = field(repr=False)
    pin: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if len(self.key) != KEY_SIZE or (self.pin is not None and len(self.pin) != _PIN_SIZE):
            msg = (
                f"a token must have a key of {KEY_SIZE} bytes and a pin of {_PIN_SIZE} or none, "
                f"but got {len(self.key)} and {0 if self.pin is None else len(self.pin)}."
            )
            raise ValueError(msg)

    def __repr__(self) -> str:
        """Whether it has a pin, and nothing of what it holds."""
        return f"<Token {'without' if self.pin is None else 'with'} a pin>"

    @classmethod
    def new(cls, certificate: bytes | None = None) -> Token:
        """A fresh key, for a driver that shows this certificate.

        Args:
            certificate: In DER form; None: no encryption.
        """
        return cls(new_key(), None if certificate is None else fingerprint(certificate))

    def text(self) -> str:
        """One word of letters, digits, ``-`` and ``_``, for a file or an environment variable."""
        return _PREFIX + base64.urlsafe_b64encode(self.key + (self.pin or b"")).decode().rstrip(
            "="
        )

    @classmethod
    def parse(cls, text: str) -> Token:
        """The token that ``text`` made; space around it is no matter.

        Raises:
            WireError: It is none; the message does not show it.
        """
        word = text.strip()
        try:
            data = _decoded(word)
            return cls(data[:KEY_SIZE], data[KEY_SIZE:] or None)
        except ValueError:  # its text may show the token
            msg = (
                f"a token must be {_PREFIX!r} and the 43 or 86 letters that the driver wrote, but "
                f"got {len(word)} characters of something else. Copy the token whole."
            )
            raise WireError(msg) from None


def _decoded(word: str) -> bytes:
    body = word.removeprefix(_PREFIX)
    if body == word:
        return b""
    return base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
