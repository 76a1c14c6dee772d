"""Ctrl-C is a message, and is never lost."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from maggy import OptimizationConfig, Searchspace, experiment
from maggy.engines.interrupts import interrupts
from maggy.errors import ExperimentInterrupted
from maggy.optimizer import RandomSearch

if TYPE_CHECKING:
    from pathlib import Path


def test_each_interruption_is_delivered_and_the_handler_put_back() -> None:
    """Within the block nothing is raised; afterwards Python's own handling is back."""
    before = signal.getsignal(signal.SIGINT)
    came = []
    with interrupts(lambda: came.append(1), heeded=lambda: True):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert came == [1, 1]
    assert signal.getsignal(signal.SIGINT) is before


def test_sigterm_is_delivered_as_well() -> None:
    """It is how clusters and services end a process; afterwards it ends this one again."""
    came = []
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # other libraries may have set one
    try:
        with interrupts(lambda: came.append(1), heeded=lambda: True):
            signal.raise_signal(signal.SIGTERM)
        assert came == [1]
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_somebodys_own_handling_of_sigterm_stays() -> None:
    """Whoever set a handler, or ignores the signal, knows better."""
    own: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: own.append(number))
    try:
        with interrupts(lambda: own.append(-1), heeded=lambda: True):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert own == [signal.SIGTERM] * 2
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with interrupts(lambda: own.append(-1), heeded=lambda: True):
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_an_interruption_that_changed_nothing_is_raised_at_the_end() -> None:
    """Whoever presses Ctrl-C wants the program to stop, even if this block was done."""
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interrupts(lambda: None, heeded=lambda: False):
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_without_an_interruption_nobody_is_asked() -> None:
    """A block that ends by itself raises nothing."""
    with interrupts(lambda: None, heeded=lambda: False):
        pass


def test_an_error_of_the_block_outranks_the_interruption() -> None:
    """What went wrong is what the user wants to know."""

    @interrupts(lambda: None, heeded=lambda: False)
    def fail() -> None:
        signal.raise_signal(signal.SIGINT)
        msg = "wrong"
        raise ValueError(msg)

    with pytest.raises(ValueError, match="wrong"):
        fail()


def test_another_thread_keeps_the_handler() -> None:
    """Only the main thread may set one."""
    before, seen = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with interrupts(lambda: None, heeded=lambda: True):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


class InterruptsAtTheEnd(RandomSearch):
    """Presses Ctrl-C when the last trial is told."""

    def tell(self, trial: Any) -> None:
        super().tell(trial)
        if trial.id == 1:
            signal.raise_signal(signal.SIGINT)


def test_a_search_that_was_done_is_interrupted_with_its_whole_result(tmp_path: Path) -> None:
    """The program stops, and nothing of the run is missing."""
    config = OptimizationConfig(
        num_trials=2,
        searchspace=Searchspace(x=("DOUBLE", [0.0, 1.0])),
        optimizer=InterruptsAtTheEnd(),
        engine="inline",
        folder=tmp_path,
        quiet=True,
    )
    with pytest.raises(ExperimentInterrupted, match="had ended") as caught:
        experiment.lagom(lambda x: x, config)
    assert caught.value.result["num_trials"] == 2
    assert {trial.status for trial in caught.value.result.trials} == {"completed"}
