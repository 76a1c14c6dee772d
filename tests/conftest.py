"""What every test may use: ``@pytest.mark.needs("command")``.

A test that needs a command which this machine lacks is skipped, with its reason; where
``MAGGY_REQUIRE_ALL=1`` is set, as in ``.ci/run``, it fails, so that nothing is skipped unseen.
"""

from __future__ import annotations

import os
import shutil

import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or fail, a test whose ``needs`` marker names a missing command."""
    wanted = [command for mark in item.iter_markers("needs") for command in mark.args]
    missing = [command for command in wanted if shutil.which(command) is None]
    if missing:
        without(f"needs {', '.join(missing)} on the PATH")


def without(reason: str) -> None:
    """Skip the running test for ``reason``; fail it where nothing may be skipped."""
    if os.environ.get("MAGGY_REQUIRE_ALL") == "1":
        pytest.fail(f"{reason}, and MAGGY_REQUIRE_ALL=1 forbids to skip", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(name="without")
def without_fixture() -> object:
    """The function ``without(reason)``, for tests that find out themselves what is missing."""
    return without
