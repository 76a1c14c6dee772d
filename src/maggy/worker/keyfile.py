"""Where the token of a run lies whose workers are started by hand.

The driver writes it below the user's state folder, ``~/.local/state/maggy/keys``; a worker on the
same machine, or on one that shares the home folder, finds it there by the driver's address.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from maggy.errors import ConfigError, WireError
from maggy.wire.token import Token

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["find_key", "key_path", "other_drivers", "parse_key", "read_key", "write_key"]

_LONGEST = 1000
_NAME = re.compile(r"(.+)-(\d+)\.key")
_SHOWN = 3
"""So many drivers are named."""


def key_path(host: str, port: int, environ: Mapping[str, str] | None = None) -> Path:
    """The file for the token of the driver that agents reach at this address.

    Args:
        host: As agents are told it.
        port: The driver's.
        environ: The environment: ``XDG_STATE_HOME`` counts if it is set.  None: this process's.
    """
    return _folder(environ) / f"{host.replace('/', '_')}-{port}.key"


def find_key(host: str, port: int, environ: Mapping[str, str] | None = None) -> Path:
    """The file for the driver at this address, under this name of the host or another one.

    It is the one under this name, which may not be there, if there is no other for the port.

    Raises:
        ConfigError: There are several.
    """
    exact = key_path(host, port, environ)
    others = sorted(exact.parent.glob(f"*-{port}.key"))
    if exact in others or not others:
        return exact
    if len(others) == 1:
        return others[0]
    found = ", ".join(str(path) for path in others)
    msg = (
        f"which of these holds the key of the run at {host}:{port}: {found}? Connect to the "
        "address that the driver told, or give the file with --key-file."
    )
    raise ConfigError(msg)


def other_drivers(path: Path) -> str:
    """A clause that names the drivers whose key files lie beside this one; ``""`` if none does."""
    named = [_NAME.fullmatch(file.name) for file in sorted(path.parent.glob("*.key"))]
    found = [f"{match[1]}:{match[2]}" for match in named if match and match.string != path.name]
    if not found or not _NAME.fullmatch(path.name):
        return ""
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"there is one for {', '.join(found[:_SHOWN])}{more}"


def write_key(path: Path, token: Token) -> None:
    """Write a token where only this user can read it, in place of what is there.

    Raises:
        ConfigError: It cannot be written.
    """
    draft = path.with_suffix(f".{os.getpid()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, flags, 0o600), "w", encoding="ascii") as file:
            file.write(token.text() + "\n")
        draft.replace(path)
    except OSError as error:
        msg = (
            f"the run's key could not be written to {path}: {error.strerror}. Set XDG_STATE_HOME "
            "to a folder that this user may write."
        )
        raise ConfigError(msg) from error


def read_key(path: Path) -> Token:
    """The token in this file.

    Raises:
        ConfigError: It cannot be read, belongs to somebody else, or others can read it too.
        WireError: It holds no key.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid != os.geteuid():
                msg = (
                    f"the key file {path} belongs to another user (number {status.st_uid}), who "
                    "could have this worker run anything, so it is not used. Make a copy of your "
                    "own, with mode 600, if you trust it."
                )
                raise ConfigError(msg)
            if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                msg = (
                    f"others may read the key file {path} (mode {stat.S_IMODE(status.st_mode):o})"
                    f", so it is not used. Run `chmod 600 {path}`."
                )
                raise ConfigError(msg)
            text = file.read(_LONGEST)
    except OSError as error:
        others = other_drivers(path) if isinstance(error, FileNotFoundError) else ""
        msg = (
            f"the key file {path} cannot be read: {error.strerror}{others and f', but {others}'}. "
            "Set MAGGY_KEY, or copy the file that the driver named to this machine and give it "
            "with --key-file."
        )
        raise ConfigError(msg) from error
    return parse_key(text.decode("ascii", "replace"), f"the key file {path}")


def parse_key(text: str, where: str) -> Token:
    """The token that was given as a run's key.

    Args:
        text: What was given.
        where: What held it, for the message.

    Raises:
        WireError: It is no key; the message does not show it.
    """
    try:
        return Token.parse(text)
    except WireError:  # which speaks of tokens
        msg = (
            f"{where} must hold the run's key, 'maggy1-' and 43 or 86 letters, but holds "
            f"{len(text.strip())} characters of something else. Copy the driver's key file whole."
        )
        raise WireError(msg) from None


def _folder(environ: Mapping[str, str] | None) -> Path:
    state = (os.environ if environ is None else environ).get("XDG_STATE_HOME")
    return Path(state or Path.home() / ".local" / "state") / "maggy" / "keys"
