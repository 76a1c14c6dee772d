"""The token of a run: one word that holds its secrets and shows none of them by accident."""

from __future__ import annotations

import hashlib
import re
import traceback

import pytest

from maggy.errors import WireError
from maggy.wire.token import Token, fingerprint


@pytest.mark.parametrize("certificate", [None, b"a certificate"])
def test_there_and_back(certificate: bytes | None) -> None:
    """The text of a token is one plain word, from which the same token is read."""
    token = Token.new(certificate)
    assert token.pin == (None if certificate is None else hashlib.sha256(certificate).digest())
    assert re.fullmatch(r"maggy1-[A-Za-z0-9_-]+", token.text())
    assert Token.parse(f"  {token.text()}\n") == token


def test_fresh() -> None:
    """Two runs share no key."""
    assert Token.new().key != Token.new().key


def test_fingerprint() -> None:
    """The pin is the SHA-256 digest of the certificate."""
    assert fingerprint(b"x") == hashlib.sha256(b"x").digest()


@pytest.mark.parametrize("pin", [None, bytes(range(32))])
def test_shows_nothing(pin: bytes | None) -> None:
    """Neither `repr` nor `str` shows a byte of the key or the pin."""
    token = Token(b"k" * 32, pin)
    for shown in (repr(token), str(token), f"{token}"):
        assert shown == f"<Token {'without' if pin is None else 'with'} a pin>"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "maggy1-",
        "maggy1-c2VjcmV0",
        "c2VjcmV0" * 11,
        "maggy2-" + "A" * 43,
        "maggy1-" + "A" * 42,
        "maggy1-" + "A" * 44,
        "maggy1-" + "A" * 85,
        "maggy1-" + "A" * 128,
        "maggy1-" + "A" * 42 + "!",
        "maggy1-" + "é" * 43,
    ],
)
def test_no_token(text: str) -> None:
    """Anything else is refused, and the error shows nothing of what may be most of a secret."""
    with pytest.raises(WireError, match="Copy the token whole") as caught:
        Token.parse(text)
    shown = "".join(traceback.format_exception(caught.value))
    assert text[7:] == "" or text[7:] not in shown


@pytest.mark.parametrize(("key", "pin"), [(b"k" * 31, None), (b"k" * 32, b"p"), (b"", b"p" * 32)])
def test_sizes(key: bytes, pin: bytes | None) -> None:
    """A key or a pin of another size is refused."""
    with pytest.raises(ValueError, match="key of 32 bytes and a pin of 32 or none"):
        Token(key, pin)
