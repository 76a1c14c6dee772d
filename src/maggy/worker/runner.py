"""Runs a training function once and turns whatever comes of it into exactly one message."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from maggy.errors import CheckpointError, EarlyStopException, OutcomeError
from maggy.trial import TrialError
from maggy.wire.messages import Failed, Finished, Stopped
from maggy.worker.reporter import Refusal
from maggy.worker.values import as_info, as_metric, clean, shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from maggy.trial import Json
    from maggy.wire.messages import Run
    from maggy.worker.reporter import Reporter

__all__ = ["Outcome", "describe", "run_trial", "unsendable"]

Outcome: TypeAlias = "Finished | Failed | Stopped"

_MAX_MESSAGE = 10_000
_MAX_TRACEBACK = 50_000
_OWN_FOLDER = Path(__file__).parent
_OWN_FOLDERS = (_OWN_FOLDER, _OWN_FOLDER.parent / "engines")


def run_trial(
    run: Run,
    call: Callable[[], object],
    reporter: Reporter,
    *,
    optimization_key: str,
    output: Callable[[], str],
) -> Outcome:
    """Call the training function; nothing it does but ending the process gets past this.

    A function that was told to stop by a broadcast has stopped, whether the exception left it or
    was caught and it returned.  One that raised something else on its way out has failed.

    Args:
        run: Which trial and attempt this is.
        call: Calls the training function with everything it asked for.
        reporter: The reporter that it was given.
        optimization_key: The metric's name in a returned dict.
        output: Gives the last lines that the trial has written; asked only if it failed.
    """
    ids = {"trial": run.trial, "attempt": run.attempt}
    try:
        returned = call()
        if reporter.refusal is None and reporter.stopped:
            return Stopped(**ids)
        value, info = _outcome(returned, reporter, optimization_key)
        return Finished(**ids, value=value, info=info)
    except BaseException as error:  # noqa: BLE001 - whatever leaves users' code is an outcome
        if reporter.refusal is None and reporter.stopped and _caused_by_stop(error):
            return Stopped(**ids)
        failed = Failed(**ids, error=describe(reporter.refusal or error, output))
        if reporter.refusal is not None:  # let go of the frames, which hold models
            reporter.refusal.__context__ = None
            reporter.refusal.with_traceback(None)
        return failed


def unsendable(outcome: Outcome, error: ValueError) -> Failed:
    """What becomes of a trial whose outcome no message can hold, because of ``error``."""
    message = (
        f"what the training function came to cannot be sent to the driver: {error} Return the "
        "metric and a few plain numbers and texts; save large data to a file."
    )
    failure = TrialError(type="OutcomeError", message=clean(message, _MAX_MESSAGE))
    return Failed(trial=outcome.trial, attempt=outcome.attempt, error=failure)


def _outcome(
    returned: object, reporter: Reporter, key: str
) -> tuple[float, Mapping[str, Json] | None]:
    if reporter.refusal is not None:
        raise reporter.refusal
    if returned is None:
        if reporter.last is None:
            msg = (
                "the training function returned None and broadcast nothing. Return the metric, "
                f"a dict with the metric as {key!r}, or call reporter.broadcast(metric)."
            )
            raise OutcomeError(msg)
        return reporter.last, None
    if isinstance(returned, Mapping):
        return _outcome_of_dict(returned, key)
    return _metric(returned, "the training function returned"), None


def _outcome_of_dict(
    returned: Mapping[object, object], key: str
) -> tuple[float, Mapping[str, Json] | None]:
    if key not in returned:
        msg = (
            f"the training function returned a dict with the keys {shown(list(returned))}, but "
            f"the metric is expected as {key!r}. Return it under that key, or set "
            "`optimization_key` in the config."
        )
        raise OutcomeError(msg)
    value = _metric(returned[key], f"the training function returned {key!r} as")
    others = {name: entry for name, entry in returned.items() if name != key}
    return value, as_info(others) if others else None


def _metric(value: object, origin: str) -> float:
    try:
        return as_metric(value)
    except OutcomeError as error:
        msg = f"{origin} {error}"
        raise OutcomeError(msg) from None


def _caused_by_stop(error: BaseException) -> bool:
    """True for the early stop itself, raised ``from`` it, or a group of nothing else."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, EarlyStopException):
            return True
        if isinstance(cause, BaseExceptionGroup) and cause.split(EarlyStopException)[1] is None:
            return True
        cause = cause.__cause__
    return False


def describe(error: BaseException, output: Callable[[], str] = str) -> TrialError:
    """What is to be known of an exception, within the limits of a message; never raises.

    The frames of maggy's own worker are left out of the traceback's top.
    """
    text = ""
    try:
        text = output()
        shown_error = error.error if isinstance(error, Refusal) else error
        return TrialError(
            type=type(shown_error).__name__,
            message=clean(_message(shown_error), _MAX_MESSAGE),
            traceback=clean(_traceback(shown_error, error), _MAX_TRACEBACK),
            output=text,
        )
    except Exception as trouble:  # noqa: BLE001 - out of memory, or an exception that is broken
        message = f"(it cannot be shown: {type(trouble).__name__})"
        return TrialError(type=type(error).__name__, message=message, output=text)


def _message(error: BaseException) -> str:
    if isinstance(error, EarlyStopException):
        return (
            f"{_text(error)} (raised by the training function itself: maggy had not stopped this "
            "trial. Return the metric to end a trial early.)"
        ).strip()
    if isinstance(error, SystemExit):
        return (
            f"the training function called sys.exit({shown(error.code)}). Return the metric "
            "instead, or raise an exception that says what went wrong."
        )
    return _text(error)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as trouble:  # noqa: BLE001 - a user's __str__ may raise anything
        return f"<its str() raised {type(trouble).__name__}>"


def _traceback(error: BaseException, raised: BaseException) -> str:
    """The traceback that ``raised`` collected, told of ``error``; empty without users' frames."""
    frames = traceback.TracebackException(type(error), error, raised.__traceback__)
    stack = list(frames.stack)
    while stack and Path(stack[0].filename).parent in _OWN_FOLDERS:
        del stack[0]
    if raised is not error or isinstance(error, CheckpointError):  # users care for their own line
        stack = [frame for frame in stack if Path(frame.filename).parent != _OWN_FOLDER]
        frames.__cause__ = frames.__context__ = None
    if not stack and isinstance(error, OutcomeError):
        return ""
    frames.stack = traceback.StackSummary.from_list(stack)
    return "".join(frames.format())
