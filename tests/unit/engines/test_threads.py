"""The threads of numerical libraries, which belong to the whole process."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np  # loads the library whose threads are counted
from threadpoolctl import threadpool_info, threadpool_limits

from maggy.engines.threads import SingleThreaded


def counts() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info()]


def test_two_runs_that_overlap_leave_what_they_found() -> None:
    """One thread until both are done, then as many as before."""
    assert np.__version__
    with threadpool_limits(limits=2):
        before = counts()
        single = SingleThreaded()
        first, second = ExitStack(), ExitStack()
        first.enter_context(single)
        second.enter_context(single)
        assert set(counts()) <= {1}
        first.close()
        assert set(counts()) <= {1}
        second.close()
        assert counts() == before


def test_it_can_be_wanted_again() -> None:
    """The next run finds what the user has set meanwhile, and puts that back."""
    single = SingleThreaded()
    for limit in (2, 3):
        with threadpool_limits(limits=limit):
            before = counts()
            with single:
                assert set(counts()) <= {1}
            assert counts() == before
