"""The reporter that training functions talk to."""

from __future__ import annotations

import threading
import warnings
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from maggy.errors import CheckpointError, EarlyStopException, OutcomeError
from maggy.worker.values import as_metric, as_step, clean, shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from maggy.worker.checkpoints import Checkpoint, Checkpoints

__all__ = ["Refusal", "Reporter", "Sink"]

_MAX_TEXT = 100_000
_MAX_OTHERS = 1000
_USER = 4  # stack level of the line that called broadcast, seen from warnings.warn


class Sink(Protocol):
    """Where the reports of one attempt go; called from any thread; only ``flush`` may block."""

    def report(self, step: int, value: float, others: Mapping[str, float] | None) -> None:
        """Take one point; steps ascend."""
        ...

    def log(self, text: str) -> None:
        """Take one text of the user's."""
        ...

    def flush(self) -> None:
        """Return when what was taken will arrive, even if this process is killed now."""
        ...

    def saved(self, step: int, size: int) -> None:
        """Take the news that a checkpoint of so many bytes was saved."""
        ...

    def stop_reason(self) -> str | None:
        """Why the training function has to leave, or None while it may go on."""
        ...


class Refusal(BaseException):
    """Carries an ``OutcomeError`` past ``except Exception`` in users' code, up to the runner."""

    def __init__(self, error: OutcomeError) -> None:
        super().__init__(str(error))
        self.error = error


class Reporter:
    """Sends what a training function measures, and brings it the order to stop.

    It works in every thread of the process that runs the training function, and in no other
    process.

    Args:
        sink: Where the reports go.
        checkpoints: Keeps what the trial saves; None where nothing can be kept.
    """

    def __init__(self, sink: Sink, checkpoints: Checkpoints | None = None) -> None:
        self._sink = sink
        self._checkpoints = checkpoints
        self._lock = threading.RLock()  # a signal handler may broadcast as well
        self._next = 0  # the step that comes next by itself
        self._least = 0  # the first one that is not late
        self._warned: set[str] = set()
        self._last: float | None = None
        self._refusal: Refusal | None = None
        self._stopped = False

    def broadcast(self, metric: Any, step: Any = None, **others: Any) -> None:
        """Report ``metric``, now, without waiting for the network.

        Args:
            metric: Whatever ``float()`` takes, and finite; a bool counts as 0 or 1.
            step: A whole number, ascending from call to call.  Left out, it is one more than the
                last recorded or restored step, and 0 at first.  A repeated or earlier step is
                dropped, with one warning a trial.
            others: Further numbers to record; what is no finite number is dropped, with one
                warning a trial, and so are those beyond 1,000.

        Raises:
            EarlyStopException: The trial has to stop, or is over; raised again at each further
                call, and before ``metric`` is recorded.  Do not catch it.
        """
        self._leave_if_stopped()
        try:
            value = as_metric(metric)
        except OutcomeError as error:
            self._refuse(f"`metric` at step {self._next if step is None else shown(step)}", error)
        try:
            number = None if step is None else as_step(step)
        except OutcomeError as error:
            self._refuse("`step`", error)
        extras = self._recordable(others) if others else None
        with self._lock:
            number = self._next if number is None else number
            late = number < self._least
            if not late:
                self._sink.report(number, value, extras)
                self._next = self._least = number + 1
                self._last = value
        if late:
            self._warn_late(number)

    def log(self, text: object) -> None:
        """Send ``str(text)`` to the run's log; more than 100,000 characters are cut.

        Raises:
            EarlyStopException: The trial has to stop, or is over.
        """
        self._leave_if_stopped()
        self._sink.log(clean(text if isinstance(text, str) else str(text), _MAX_TEXT))

    def save(self, data: bytes | Path, step: Any) -> None:
        """Keep ``data`` for the next run of this trial, in place of what was saved before.

        It is on disk when this returns.  Another run of the trial, after a lost worker or a
        promotion, gets it from ``restore``.

        Args:
            data: Bytes, or the path of a file or folder, which is copied.
            step: A whole number: the step up to which the trial has trained, as in ``broadcast``.

        Raises:
            CheckpointError: It cannot be kept; what was saved before still is.  Uncaught, it
                fails the trial.
            EarlyStopException: The trial has to stop, or is over.
            OutcomeError: ``step`` is no whole number.
            TypeError: ``data`` is neither bytes nor a path.
        """
        self._leave_if_stopped()
        try:
            number = as_step(step)
        except OutcomeError as error:
            msg = f"`step` of save() is {error}"
            raise OutcomeError(msg) from None
        if self._checkpoints is None:
            msg = (
                "this engine has no place for checkpoints, so save() can keep nothing. Catch "
                "this error to go on without."
            )
            raise CheckpointError(msg)
        self._sink.flush()  # so that a next run never begins behind a report that was lost
        try:
            size = self._checkpoints.save(data, number)
        except EarlyStopException:
            self._stopped = True
            raise
        self._sink.saved(number, size)

    def restore(self) -> Checkpoint | None:
        """What an earlier run of this trial, or this one, saved last; None if there is nothing.

        A damaged checkpoint is passed over, with a warning.  A ``broadcast`` without a step
        goes on behind the restored one.

        Raises:
            CheckpointError: It cannot be told whether there is a checkpoint.
            EarlyStopException: The trial has to stop, or is over.
        """
        self._leave_if_stopped()
        if self._checkpoints is None:
            return None
        troubles: list[str] = []
        found = self._checkpoints.restore(troubles.append)
        for text in troubles:
            self._warn_once("damaged", text, stacklevel=_USER - 1)
        if found is not None:
            with self._lock:
                self._next = max(self._next, found.step + 1)
        return found

    @property
    def last(self) -> float | None:
        """The metric recorded last, None before the first."""
        return self._last

    @property
    def refusal(self) -> Refusal | None:
        """The first broadcast that was no metric: the trial has failed, whatever it returns."""
        return self._refusal

    @property
    def stopped(self) -> bool:
        """True once the training function was told to stop by an ``EarlyStopException``."""
        return self._stopped

    def __reduce__(self) -> NoReturn:
        msg = (
            "The reporter cannot be sent to another process: it works only in the process that "
            "runs the training function. Return the metric from there and broadcast it here."
        )
        raise TypeError(msg)

    def _leave_if_stopped(self) -> None:
        if self._refusal is not None:
            raise Refusal(self._refusal.error)
        reason = self._sink.stop_reason()
        if reason is not None:
            self._stopped = True
            raise EarlyStopException(reason)

    def _refuse(self, subject: str, error: OutcomeError) -> NoReturn:
        self._refusal = Refusal(OutcomeError(f"{subject} of broadcast() is {error}"))
        raise self._refusal from None

    def _recordable(self, others: Mapping[str, Any]) -> dict[str, float]:
        numbers: dict[str, float] = {}
        for name, entry in list(others.items())[:_MAX_OTHERS]:
            try:
                numbers[clean(name, 200)] = as_metric(entry)
            except OutcomeError as error:
                self._warn_once("others", f"broadcast({name}=...) is not recorded: it is {error}")
        if len(others) > _MAX_OTHERS:
            self._warn_once("many", f"broadcast() records at most {_MAX_OTHERS} further numbers.")
        return numbers

    def _warn_late(self, step: int) -> None:
        text = (
            f"broadcast(step={step}) is not recorded: the next step must be {self._least} or "
            "more. Count steps up, once each; further ones like it are dropped silently."
        )
        self._warn_once("late", text)

    def _warn_once(self, topic: str, text: str, *, stacklevel: int = _USER) -> None:
        if topic not in self._warned:
            self._warned.add(topic)
            warnings.warn(text, UserWarning, stacklevel=stacklevel)
