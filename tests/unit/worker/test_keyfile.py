"""Key files for workers that are started by hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from maggy.errors import ConfigError, WireError
from maggy.wire.token import Token
from maggy.worker.keyfile import (
    find_key,
    key_path,
    other_drivers,
    parse_key,
    read_key,
    write_key,
)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """A token survives its file, which nobody else can read, and may be written again."""
    path = key_path("node1", 4040, {"XDG_STATE_HOME": str(tmp_path)})
    for token in (Token.new(), Token.new(b"certificate")):
        write_key(path, token)
        assert read_key(path) == token
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["node1-4040.key"]


def test_the_place_is_the_users_state_folder() -> None:
    """Without XDG_STATE_HOME it is below the home folder."""
    path = key_path("10.0.0.5", 4040, {})
    assert path == Path.home() / ".local" / "state" / "maggy" / "keys" / "10.0.0.5-4040.key"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_read_is_refused(tmp_path: Path, mode: int) -> None:
    """As with the keys of ssh."""
    path = tmp_path / "key"
    write_key(path, Token.new())
    path.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_key(path)


def test_a_file_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever wrote it could have the worker run anything."""
    path = tmp_path / "key"
    write_key(path, Token.new())
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(ConfigError, match=rf"belongs to another user \(number {owner}\)"):
        read_key(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """The message names the file and the ways to give the key."""
    with pytest.raises(ConfigError, match=r"gone.*MAGGY_KEY.*--key-file"):
        read_key(tmp_path / "gone")


def test_nonsense_is_told_without_showing_it(tmp_path: Path) -> None:
    """What is in the file may be a secret."""
    path = tmp_path / "key"
    path.write_bytes(b"s3cret\xff")
    path.chmod(0o600)
    with pytest.raises(WireError) as caught:
        read_key(path)
    assert "s3cret" not in str(caught.value)


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """The message says what to set."""
    (tmp_path / "maggy").touch()
    with pytest.raises(ConfigError, match="XDG_STATE_HOME"):
        write_key(key_path("a", 1, {"XDG_STATE_HOME": str(tmp_path)}), Token.new())


def test_another_name_of_the_same_host_will_do(tmp_path: Path) -> None:
    """The port decides where only one file has it; the exact name is best."""
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    assert find_key("node1", 4040, environ) == key_path("node1", 4040, environ)
    written = key_path("10.0.0.5", 4040, environ)
    write_key(written, Token.new())
    assert find_key("node1", 4040, environ) == written
    assert find_key("node1", 4041, environ) == key_path("node1", 4041, environ)
    write_key(key_path("10.0.0.6", 4040, environ), Token.new())
    assert find_key("10.0.0.5", 4040, environ) == written
    with pytest.raises(ConfigError, match="which of these"):
        find_key("node1", 4040, environ)


def test_the_key_files_of_other_drivers_are_named(tmp_path: Path) -> None:
    """Whoever has mistaken the port sees which drivers there are; three of them at most."""
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    missing = key_path("127.0.0.1", 4041, environ)
    assert other_drivers(missing) == ""
    write_key(key_path("127.0.0.1", 4040, environ), Token.new())
    (missing.parent / "unrelated.key").touch()
    assert other_drivers(missing) == "there is one for 127.0.0.1:4040"
    with pytest.raises(
        ConfigError, match=r"No such file.*, but there is one for 127\.0\.0\.1:4040"
    ):
        read_key(missing)
    for port in (4042, 4043, 4044):
        write_key(key_path("node-1", port, environ), Token.new())
    assert other_drivers(missing).endswith("node-1:4042, node-1:4043 and 1 more")
    assert other_drivers(key_path("127.0.0.1", 4040, environ)).startswith(
        "there is one for node-1"
    )
    assert other_drivers(missing.parent / "run.key") == ""


@pytest.mark.parametrize("given", ["abc", "", "maggy1-", "maggy1-????"])
def test_what_is_no_key_is_told_where_it_was_given(given: str) -> None:
    """The user knows of a key and of where it is, not of tokens."""
    with pytest.raises(WireError, match=rf"^MAGGY_KEY must hold .* {len(given)} char") as caught:
        parse_key(given, "MAGGY_KEY")
    assert "token" not in str(caught.value)
