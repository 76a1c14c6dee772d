"""The proof of the key, and the comparison of versions."""

from __future__ import annotations

import hmac
import os
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import maggy
from maggy.errors import WireError
from maggy.wire.handshake import (
    ANSWER_SIZE,
    GREETING_SIZE,
    PROOF_SIZE,
    DriverHandshake,
    WorkerHandshake,
    introduce,
    new_key,
    refusal,
)
from maggy.wire.messages import PROTOCOL

if TYPE_CHECKING:
    from maggy.wire.fields import Role

KEY = bytes(range(32))


def test_new_key() -> None:
    """Keys have 32 bytes and do not repeat."""
    keys = {new_key() for _ in range(50)}
    assert len(keys) == 50
    assert {len(key) for key in keys} == {32}


def test_both_hold_the_key() -> None:
    """Two sides with one key convince each other, with messages of the promised sizes."""
    driver, worker = DriverHandshake(KEY), WorkerHandshake(KEY)
    assert len(driver.greeting) == GREETING_SIZE == 38
    answer = worker.answer(driver.greeting)
    assert len(answer) == ANSWER_SIZE == 64
    proof = driver.verify(answer)
    assert len(proof) == PROOF_SIZE == 32
    worker.verify(proof)


def test_proofs_are_hmac_over_role_and_nonces() -> None:
    """The proofs are what the protocol says, so that others can speak it."""
    driver, worker = DriverHandshake(KEY), WorkerHandshake(KEY)
    answer = worker.answer(driver.greeting)
    assert driver.greeting[:6] == b"maggy1"
    theirs, mine = driver.greeting[6:], answer[:32]
    assert answer[32:] == hmac.digest(KEY, b"worker" + theirs + mine, "sha256")
    assert driver.verify(answer) == hmac.digest(KEY, b"driver" + mine + theirs, "sha256")


def test_worker_with_a_wrong_key() -> None:
    """A driver refuses a worker that has another key."""
    driver = DriverHandshake(KEY)
    answer = WorkerHandshake(new_key()).answer(driver.greeting)
    with pytest.raises(WireError, match="does not hold this run's key"):
        driver.verify(answer)


def test_driver_with_a_wrong_key() -> None:
    """A worker refuses a driver that cannot prove the key."""
    worker = WorkerHandshake(KEY)
    worker.answer(DriverHandshake(KEY).greeting)
    with pytest.raises(WireError, match="the driver does not hold this run's key"):
        worker.verify(os.urandom(PROOF_SIZE))


def test_replayed_answer() -> None:
    """An answer recorded from one connection is worth nothing on the next."""
    first, second = DriverHandshake(KEY), DriverHandshake(KEY)
    answer = WorkerHandshake(KEY).answer(first.greeting)
    first.verify(answer)
    with pytest.raises(WireError):
        second.verify(answer)


def test_reflected_proof() -> None:
    """A worker's own proof, sent back, does not prove the driver."""
    worker = WorkerHandshake(KEY)
    answer = worker.answer(DriverHandshake(KEY).greeting)
    with pytest.raises(WireError):
        worker.verify(answer[32:])


@pytest.mark.parametrize("answer", [b"", b"x" * 10, b"\x00" * 64, b"x" * 200])
def test_answers_of_any_size(answer: bytes) -> None:
    """An answer of a wrong size is refused like any other."""
    with pytest.raises(WireError):
        DriverHandshake(KEY).verify(answer)


def test_not_a_driver() -> None:
    """A worker that reached something else says so before it answers."""
    with pytest.raises(WireError, match="check host and port"):
        WorkerHandshake(KEY).answer(b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n"[:GREETING_SIZE])


@pytest.mark.parametrize("side", [DriverHandshake, WorkerHandshake])
def test_short_key(side: type[DriverHandshake] | type[WorkerHandshake]) -> None:
    """A key of a wrong length is refused on either side, not used."""
    with pytest.raises(ValueError, match="must have 32 bytes, but got 5"):
        side(b"short")


def test_introduce() -> None:
    """A process says who it is in the terms that are compared."""
    hello = introduce("w3")
    assert (hello.worker, hello.pid) == ("w3", os.getpid())
    assert hello.python == "{}.{}.{}".format(*sys.version_info[:3])
    assert (hello.version, hello.protocol) == (maggy.__version__, PROTOCOL)
    assert hello.host


def test_introduce_an_agent() -> None:
    """An agent says how often it came before, and what it has had."""
    hello = introduce("a.0", "agent", incarnation=2, received=7)
    assert (hello.role, hello.incarnation, hello.received) == ("agent", 2, 7)
    assert introduce("w0").role == "worker"


@pytest.mark.parametrize("role", ["agent", "files"])
def test_other_agent(role: Role) -> None:
    """An agent of another version is called one, and told to be installed where it runs."""
    here = introduce("driver")
    text = refusal(replace(introduce("a.0", role), version="1.0"), here)
    assert text is not None
    assert text.startswith("agent 'a.0' on")
    assert text.endswith("where the agent runs.")


def test_version_is_the_projects() -> None:
    """The version compared on the wire is the one the project is built with."""
    project = tomllib.loads(Path(__file__).parents[3].joinpath("pyproject.toml").read_text())
    assert maggy.__version__ == project["project"]["version"]


def test_same_versions() -> None:
    """Equal versions are not refused, and the last part of Python's version does not matter."""
    here = introduce("driver")
    other = ".".join(here.python.split(".")[:2]) + ".99"
    assert refusal(introduce("w0"), here) is None
    assert refusal(replace(here, python=other), here) is None


def test_other_python() -> None:
    """Another minor version of Python is refused, naming both and the way out."""
    here = replace(introduce("driver"), python="3.11.7")
    text = refusal(replace(here, worker="w0", host="node7", python="3.1.7"), here)
    assert text is not None
    assert "'w0' on node7" in text
    assert "3.1.7" in text
    assert "3.11.7" in text
    assert text.endswith("Start the worker with Python 3.11.")


def test_other_maggy() -> None:
    """Another version of maggy is refused, naming both and the way out."""
    here = replace(introduce("driver"), version="2.1.0")
    text = refusal(replace(here, version="2.0.0"), here)
    assert text is not None
    assert "has maggy 2.0.0" in text
    assert text.endswith("Install maggy 2.1.0 where the worker runs.")


def test_other_protocol() -> None:
    """Another protocol is refused even where the versions are called the same."""
    here = introduce("driver")
    text = refusal(replace(here, protocol=PROTOCOL + 1), here)
    assert text is not None
    assert f"protocol {PROTOCOL + 1}" in text
    assert f"speaks {PROTOCOL}" in text
