"""The certificate of one run: what it says, and that its key is nowhere."""

from __future__ import annotations

import ssl
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import load_der_x509_certificate

from maggy.engines.certificate import new_identity
from maggy.errors import ConfigError


def test_what_it_says() -> None:
    """It is on the curve P-256, signed by itself, and valid from yesterday for ten years."""
    identity = new_identity()
    certificate = load_der_x509_certificate(identity.certificate)
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    certificate.verify_directly_issued_by(certificate)
    now = datetime.now(UTC)
    assert timedelta(hours=23) < now - certificate.not_valid_before_utc < timedelta(hours=25)
    assert certificate.not_valid_after_utc - now > timedelta(days=3649)


def test_fresh() -> None:
    """Two runs share neither key nor certificate."""
    first, second = (load_der_x509_certificate(new_identity().certificate) for _ in range(2))
    assert first.public_key() != second.public_key()
    assert first.serial_number != second.serial_number


def test_tls() -> None:
    """A server with it speaks TLS 1.3 and nothing older, and keeps no sessions."""
    context = new_identity().context
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3
    assert context.num_tickets == 0


def test_key_is_nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The file that TLS reads is its owner's, holds the key encrypted, and is gone afterwards."""
    seen: list[tuple[int, bytes]] = []

    load = ssl.SSLContext.load_cert_chain

    def spy(context: ssl.SSLContext, file: str, password: bytes) -> None:
        seen.append((Path(file).stat().st_mode & 0o777, Path(file).read_bytes()))
        load(context, file, password=password)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", spy)
    new_identity()
    ((mode, content),) = seen
    assert mode == 0o600
    assert b"ENCRYPTED PRIVATE KEY" in content
    assert b"BEGIN PRIVATE KEY" not in content
    assert list(tmp_path.iterdir()) == []


def test_without_cryptography(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package is missing, the error says how to get it and how to do without."""
    for name in [name for name in sys.modules if name.split(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(ConfigError, match="pip install cryptography") as caught:
        new_identity()
    assert "maggy[cluster]" in str(caught.value)
    assert "tls=False" in str(caught.value)
