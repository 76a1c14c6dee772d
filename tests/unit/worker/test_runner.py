"""One call of a training function becomes exactly one message."""

from __future__ import annotations

import functools
import gc
import math
import sys
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from maggy.errors import EarlyStopException
from maggy.wire.messages import Failed, Finished, Run, Stopped, decode_from_worker, encode
from maggy.worker.checkpoints import Checkpoints
from maggy.worker.reporter import Reporter
from maggy.worker.runner import describe, run_trial

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

RUN = Run(trial=7, attempt=2, hparams={}, budget=None, seed=1)


class Switch:
    """A sink that can be told to stop."""

    reason: str | None = None

    def report(self, step: int, value: float, others: Mapping[str, float] | None) -> None:
        """Take it."""

    def log(self, text: str) -> None:
        """Take it."""

    def flush(self) -> None:
        """Nothing waits."""

    def saved(self, step: int, size: int) -> None:
        """Take it."""

    def stop_reason(self) -> str | None:
        return self.reason


def run(
    function: Callable[[Reporter], object], sink: Switch | None = None
) -> Finished | Failed | Stopped:
    """The message that comes of a function, after a trip over the wire."""
    reporter = Reporter(sink or Switch())
    call = functools.partial(function, reporter)
    message = run_trial(
        RUN, call, reporter, optimization_key="metric", output=lambda: "last words"
    )
    assert (message.trial, message.attempt) == (7, 2)
    assert decode_from_worker(encode(message)) == message
    return message


def failure(function: Callable[[Reporter], object], sink: Switch | None = None) -> Any:
    """The error of a function that must fail."""
    message = run(function, sink)
    assert isinstance(message, Failed)
    assert message.error.output == "last words"
    return message.error


def finish(function: Callable[[Reporter], object]) -> Finished:
    """The outcome of a function that must succeed."""
    message = run(function)
    assert isinstance(message, Finished)
    return message


@pytest.mark.parametrize("returned", [0.5, np.float32(0.5), np.array(0.5)])
def test_a_number_is_the_metric(returned: object) -> None:
    """A returned number is the trial's value, without further information."""
    message = finish(lambda _: returned)
    assert (message.value, message.info) == (0.5, None)


def test_a_dict_holds_the_metric_and_information() -> None:
    """The entry under the optimization key is the value, the others are kept."""
    message = finish(lambda _: {"metric": np.float64(2), "loss": np.float32(0.5), "x": {1}})
    assert message.value == 2.0
    assert message.info == {"loss": 0.5, "x": "{1}"}
    assert finish(lambda _: {"metric": 1}).info is None


def test_none_after_broadcasts_is_the_last_of_them() -> None:
    """A function that only broadcasts has its last recorded broadcast as its value."""

    def function(reporter: Reporter) -> None:
        reporter.broadcast(0.1)
        reporter.broadcast(0.7)

    assert finish(function).value == 0.7


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        (None, "returned None and broadcast nothing.*'metric'"),
        ("0.9", "returned '0.9' \\(a str\\)"),
        (math.nan, "returned nan, but a metric must be finite"),
        ((0.9, 0.1), "a tuple"),
        ({"accuracy": 1}, "keys \\['accuracy'\\].*expected as 'metric'.*`optimization_key`"),
        ({}, "keys \\[\\]"),
        ({"metric": math.inf}, "returned 'metric' as inf"),
        ({"metric": [1]}, "returned 'metric' as \\[1\\]"),
    ],
)
def test_nonsense_fails_with_a_sentence(returned: object, says: str) -> None:
    """What is no outcome fails the trial: what was returned, what is expected, what to do."""
    error = failure(lambda _: returned)
    assert error.type == "OutcomeError"
    assert error.traceback == ""
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(error.message)


def test_an_exception_is_reported_from_the_users_frames_on() -> None:
    """The traceback begins with the user's function, not with maggy's."""

    def function(_: Reporter) -> None:
        msg = "no gradient"
        raise ValueError(msg)

    error = failure(function)
    assert (error.type, error.message) == ("ValueError", "no gradient")
    first_frame = error.traceback.splitlines()[1]
    assert "test_runner.py" in first_frame
    assert "runner.py" in first_frame
    assert "run_trial" not in error.traceback
    assert error.traceback.rstrip().endswith("ValueError: no gradient")


def test_a_checkpoint_that_cannot_be_written_shows_the_users_line(tmp_path: Path) -> None:
    """What maggy did to write it is left out: the message says what went wrong."""

    def function() -> None:
        reporter.save(Path("/nowhere"), 0)

    reporter = Reporter(Switch(), Checkpoints(tmp_path, 7, 2))
    message = run_trial(RUN, function, reporter, optimization_key="metric", output=str)
    assert isinstance(message, Failed)
    error = message.error
    assert error.type == "CheckpointError"
    assert "reporter.save(Path" in error.traceback
    assert "checkpoints.py" not in error.traceback
    assert "FileNotFoundError" not in error.traceback


def test_a_refused_broadcast_fails_even_if_everything_is_caught() -> None:
    """A NaN that was broadcast fails the trial whatever the function does afterwards."""

    def function(reporter: Reporter) -> float:
        try:
            reporter.broadcast(math.nan, 4)
        except BaseException:  # noqa: BLE001 - a very careless user
            return 0.5
        return 0.6

    error = failure(function)
    assert error.type == "OutcomeError"
    assert "at step 4" in error.message
    assert "reporter.broadcast(math.nan, 4)" in error.traceback
    assert "reporter.py" not in error.traceback
    assert "Refusal" not in error.traceback


@pytest.mark.parametrize(
    ("leave", "type_", "says"),
    [
        (functools.partial(sys.exit, 3), "SystemExit", "called sys.exit(3)"),
        (functools.partial(sys.exit, "bye"), "SystemExit", "sys.exit('bye')"),
    ],
)
def test_sys_exit_is_a_failure(leave: Callable[[], object], type_: str, says: str) -> None:
    """``sys.exit`` ends the trial as failed, with its code, and not the worker."""
    error = failure(lambda _: leave())
    assert error.type == type_
    assert says in error.message


@pytest.mark.parametrize("kind", [KeyboardInterrupt, MemoryError, GeneratorExit, StopIteration])
def test_no_exception_gets_past_the_runner(kind: type[BaseException]) -> None:
    """Exceptions outside of ``Exception`` are failures as well."""

    def function(_: Reporter) -> None:
        raise kind

    assert failure(function).type == kind.__name__


def test_endless_recursion_is_a_failure_of_bounded_size() -> None:
    """A stack that ran over is reported within the limits of a message."""

    def even(n: int) -> int:
        return odd(n + 1)

    def odd(n: int) -> int:
        return even(n + 1)

    error = failure(lambda _: even(0))
    assert error.type == "RecursionError"
    assert len(error.traceback) <= 50_000


def test_a_broken_exception_is_a_failure() -> None:
    """An exception that cannot even be shown does not hurt the worker."""

    class BrokenError(Exception):
        def __str__(self) -> str:
            msg = "no text"
            raise RuntimeError(msg)

        __repr__ = __str__

    def function(_: Reporter) -> None:
        raise BrokenError

    error = failure(function)
    assert error.type == "BrokenError"
    assert "raised RuntimeError" in error.message


def test_describe_never_raises() -> None:
    """If even the output cannot be had, the error's type is still reported."""

    def output() -> str:
        raise MemoryError

    error = describe(ValueError("x"), output)
    assert (error.type, error.message) == ("ValueError", "(it cannot be shown: MemoryError)")


def leave(reporter: Reporter) -> None:
    """Let the stop pass."""
    reporter.broadcast(1.0)


def leave_with_another_error(reporter: Reporter) -> None:
    """Turn the stop into an error that names it as its cause."""
    try:
        reporter.broadcast(1.0)
    except EarlyStopException as stop:
        msg = "training ended"
        raise RuntimeError(msg) from stop


def leave_in_a_group(reporter: Reporter) -> None:
    """Let the stop pass as a task group does."""
    try:
        reporter.broadcast(1.0)
    except EarlyStopException as stop:
        msg = "tasks"
        raise BaseExceptionGroup(msg, [stop]) from None


def leave_with_a_value(reporter: Reporter) -> float:
    """Catch the stop and return something."""
    try:
        reporter.broadcast(1.0)
    except EarlyStopException:
        return 0.3
    return 0.4


@pytest.mark.parametrize(
    "function", [leave, leave_with_another_error, leave_in_a_group, leave_with_a_value]
)
def test_a_stop_that_leaves_the_function_is_a_stopped_trial(
    function: Callable[[Reporter], object],
) -> None:
    """The early stop itself, an exception raised from it, a group of it: all stopped."""
    sink = Switch()
    sink.reason = "hopeless"
    assert isinstance(run(function, sink), Stopped)


def test_a_function_that_never_noticed_the_stop_has_finished() -> None:
    """A stop that comes too late changes nothing about the outcome."""
    sink = Switch()
    sink.reason = "hopeless"
    assert isinstance(run(lambda _: 0.5, sink), Finished)


def test_an_error_on_the_way_out_is_a_failure() -> None:
    """Cleaning up that fails after a stop is told, not hidden behind the stop."""
    sink = Switch()
    sink.reason = "hopeless"

    def function(reporter: Reporter) -> None:
        try:
            reporter.broadcast(1.0)
        finally:
            msg = "disk full"
            raise OSError(msg)

    assert failure(function, sink).type == "OSError"


def test_an_early_stop_of_the_users_own_is_a_failure() -> None:
    """Without a stop from maggy the exception is the user's mistake, and explained."""

    def function(_: Reporter) -> None:
        msg = "good enough"
        raise EarlyStopException(msg)

    error = failure(function)
    assert error.type == "EarlyStopException"
    assert "good enough" in error.message
    assert "had not stopped" in error.message


def test_a_failed_trial_frees_what_its_frames_held() -> None:
    """A diverged trial leaves no reference to its model behind in the reporter."""

    class Model:
        """Something large."""

    kept: list[weakref.ref[Model]] = []

    def function(reporter: Reporter) -> None:
        model = Model()
        kept.append(weakref.ref(model))
        reporter.broadcast(math.nan)

    reporter = Reporter(Switch())
    run_trial(
        RUN, functools.partial(function, reporter), reporter, optimization_key="m", output=str
    )
    gc.collect()
    assert kept[0]() is None
    assert reporter.refusal is not None
