"""What the launcher of Ray actors does when Ray itself fails; without a Ray."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pytest

from maggy import OptimizationConfig, Searchspace
from maggy.engines import ray as module
from maggy.engines.launcher import Invitation
from maggy.engines.ray import RayLauncher
from maggy.wire.token import Token


class Ray:
    """Stands for the module; the cluster fails when an actor is wanted."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def is_initialized(self) -> bool:
        return False

    def init(self, **options: Any) -> None:
        self.calls.append("init")

    def shutdown(self) -> None:
        self.calls.append("shutdown")

    def remote(self, **options: Any) -> Any:
        msg = "the head node does not answer"
        raise RuntimeError(msg)


class Desk:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.told_twice = threading.Event()

    def vanished(self, slot: str, reason: str) -> None:
        raise NotImplementedError

    def hopeless(self, reason: str, output: str = "") -> None:
        self.reasons.append(reason)
        if len(self.reasons) > 1:
            self.told_twice.set()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Ray:
    """In place of the real one."""
    fake = Ray()
    monkeypatch.setattr(module, "_import_ray", lambda: fake)
    monkeypatch.setattr(module, "_LOOK", 0.01)
    return fake


def launcher() -> RayLauncher:
    """As a run makes it."""
    space = Searchspace(x=("DOUBLE", [0.0, 1.0]))
    return RayLauncher(OptimizationConfig(num_trials=1, searchspace=space, engine="ray"))


def test_a_ray_that_fails_is_told_until_the_run_ends(fake: Ray) -> None:
    """Agents that are there may finish; without any the run must not wait for ever."""
    desk, ray = Desk(), launcher()
    token = Token.new()
    ray.open(Invitation(host="127.0.0.1", port=1, token=token, hb_interval=1.0), desk, 2)
    assert desk.told_twice.wait(10)
    assert "the head node does not answer" in desk.reasons[0]
    ray.close()
    assert fake.calls == ["init", "shutdown"]


def test_a_ray_started_for_a_run_that_never_begins_is_left(fake: Ray) -> None:
    """As when the training function cannot be sent."""
    ray = launcher()
    assert fake.calls == ["init"]
    del ray
    gc.collect()
    assert fake.calls == ["init", "shutdown"]
