"""Every engine keeps the contract of engines."""

from __future__ import annotations

from maggy.testing.engines import EngineContract


class TestInline(EngineContract):
    """Trials in this process."""

    engine = "inline"


class TestLocal(EngineContract):
    """Trials in worker processes."""

    engine = "local"
