"""The certificate of one run, for drivers that other machines reach.

Nobody signs it but itself: who connects knows its fingerprint from the run's token, and checks
nothing else (``wire.dialing.check_pin``).  Its key lives in memory only, and ends with the run.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from maggy.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate

__all__ = ["Identity", "new_identity"]

_NAME = "maggy run"
_EARLIER = timedelta(days=1)
_YEARS = timedelta(days=3650)


class Identity(NamedTuple):
    """What a driver shows.

    Attributes:
        context: TLS 1.3 for the driver's side, with the certificate and its key.
        certificate: In DER form, for ``Token.new``.
    """

    context: ssl.SSLContext
    certificate: bytes


def new_identity() -> Identity:
    """A fresh key on the curve P-256, and a certificate for it.

    It is valid from yesterday, because clocks differ between machines, and for ten years.

    Raises:
        ConfigError: The package cryptography is not installed.
        OSError: The folder for temporary files cannot be written.
    """
    try:
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import Encoding
    except ImportError as error:
        msg = (
            "`engine`: workers on other machines need the extra `maggy[cluster]`, or the package "
            f"cryptography alone ({error}): pip install cryptography. Without it, tls=False sends "
            "everything unencrypted: only where nobody else can reach the network."
        )
        raise ConfigError(msg) from error
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _signed(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # nobody comes back with one
    _load(context, key, certificate)
    return Identity(context, certificate.public_bytes(Encoding.DER))


def _signed(key: EllipticCurvePrivateKey) -> Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.x509.oid import NameOID

    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _NAME)])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + _YEARS)
        .sign(key, SHA256())
    )


def _load(context: ssl.SSLContext, key: EllipticCurvePrivateKey, certificate: Certificate) -> None:
    """Hand both to TLS, which reads files only; the key is encrypted while it is in one."""
    from cryptography.hazmat.primitives import serialization

    secret = os.urandom(32).hex().encode()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(secret),
    )
    public = certificate.public_bytes(serialization.Encoding.PEM)
    with tempfile.NamedTemporaryFile(prefix="maggy-", suffix=".pem") as file:  # of mode 0600
        file.write(private + public)
        file.flush()
        context.load_cert_chain(file.name, password=secret)
