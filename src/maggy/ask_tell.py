"""A search driven by hand: you run the trials, maggy decides what to run.

The machine and the optimizer are those of ``lagom``; each ``ask`` is a worker that serves once.
Nothing is started, printed or written.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TypeVar

from maggy.core.summary import Summary
from maggy.engines.advisor import InlineAdvisor
from maggy.engines.earlier import read_earlier
from maggy.engines.loop import Loop
from maggy.engines.machines import describe_optimizer, new_machine, search_context
from maggy.engines.seeds import trial_seed
from maggy.errors import MaggyError, OptimizerError, OutcomeError
from maggy.events import (
    ExperimentStarted,
    MetricReported,
    TrialFailed,
    TrialFinished,
    TrialStopped,
    WorkerJoined,
    WorkerLost,
)
from maggy.trial import TrialError
from maggy.views.result import Result
from maggy.worker.values import as_metric, as_step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from maggy.commands import Assign, Interrupt, StopTrial
    from maggy.config import OptimizationConfig
    from maggy.events import Event
    from maggy.trial import Resource, Value
    from maggy.views.recommendation import Recommendation

_Number = TypeVar("_Number", int, float)

__all__ = ["AskedTrial", "Search"]


class AskedTrial:
    """One trial to run by hand.

    Attributes:
        id: Counts from 0.
        hparams: The configuration; a dict of its own.
        budget: The total resource to reach, or None.
        seed: This trial's own int in [0, 2**31).
        stop_reason: Why ``report`` said to stop, or ``""``.
    """

    def __init__(self, command: Assign, seed: int) -> None:
        self.id: int = command.trial
        self.attempt: int = command.attempt
        self.hparams: dict[str, Value] = dict(command.hparams)
        self.budget: Resource | None = command.budget
        self.seed = seed
        self.stop_reason = ""

    def __repr__(self) -> str:
        return f"AskedTrial(id={self.id}, hparams={self.hparams!r})"


class Search:
    """Ask for a trial, run it, tell its value; until ``done``; from any thread.

    Args:
        config: What to search and how; ``num_workers`` says how many trials you run at a time.
        seed: The run's seed.
    """

    def __init__(self, config: OptimizationConfig, *, seed: int) -> None:
        self._seed = seed
        optimizer = config.build_optimizer()
        workers = config.num_workers or 1
        warm = read_earlier(config)
        optimizer.start(search_context(config, workers, seed, earlier=warm.runs))
        machine = new_machine(config, optimizer, None)
        self._summary = Summary()
        self._began = time.monotonic()
        self._asked = 0
        self._running: dict[int, AskedTrial] = {}
        self._assigned: AskedTrial | None = None
        self._waiting = False  # nothing was told since there was nothing to ask for
        self._lock = threading.RLock()
        self._core = Loop(
            machine=machine,
            log=_NoLog(),
            crew=self,
            clock=self._clock,
            watch=self._summary.apply,
        )
        self._core.advise(InlineAdvisor(optimizer, config.space, seed, self._clock))
        described = {
            **config.describe(),
            **describe_optimizer(optimizer, warm, given=config.optimizer),
            "seed": seed,
            "num_workers": workers,
        }
        self._dispatch(ExperimentStarted(at=0.0, config=described))

    def __repr__(self) -> str:
        return f"Search(asked={self._asked}, running={len(self._running)}, done={self.done})"

    @property
    def done(self) -> bool:
        """Whether nothing is left to ask for or to tell."""
        return self._core.machine.finish is not None

    @property
    def result(self) -> Result:
        """What was reached so far."""
        return Result(self._summary)

    def recommend(self) -> Recommendation | None:
        """The told configuration with the best expected value, None before the first."""
        return self.result.recommended

    def ask(self) -> AskedTrial | None:
        """The next trial to run; None when there is none before another one was told.

        Raises:
            OptimizerError: The optimizer raised.
        """
        with self._lock:
            if self.done or self._waiting:
                return None
            worker = f"ask{self._asked}"
            self._asked += 1
            self._dispatch(WorkerJoined(at=self._clock(), worker=worker, once=True))
            trial, self._assigned = self._assigned, None
            if trial is None:
                at = self._clock()
                self._dispatch(WorkerLost(at=at, worker=worker, reason="there was nothing to do"))
                self._waiting = True
                return None
            self._running[trial.id] = trial
            return trial

    def report(self, trial: AskedTrial, step: int, value: float) -> bool:
        """Report an intermediate value; True when the trial should stop now.

        A trial that stops is told without a value: ``search.tell(trial)``.

        Raises:
            OutcomeError: The value is no finite number, or the step no whole one >= 0.
            MaggyError: The trial was told already.
        """
        number, whole = _checked("value", as_metric, value), _checked("step", as_step, step)
        with self._lock:
            self._check_running(trial)
            at = self._clock()
            self._dispatch(
                MetricReported(
                    at=at, trial=trial.id, attempt=trial.attempt, step=whole, value=number
                )
            )
            return bool(trial.stop_reason)

    def tell(
        self,
        trial: AskedTrial,
        value: float | None = None,
        *,
        error: BaseException | str | None = None,
    ) -> None:
        """End a trial: with its value, with its error, or with neither after ``report`` said so.

        Raises:
            OutcomeError: The value is no finite number; pass ``error`` for a failed trial.
            MaggyError: The trial was told already, or has both a value and an error, or neither
                and no reason to stop.
        """
        number = None if value is None else _checked("value", as_metric, value)
        with self._lock:
            self._check_running(trial)
            if value is not None and error is not None:
                msg = (
                    f"trial {trial.id} was told with both {value=} and {error=}: give one of them."
                )
                raise MaggyError(msg)
            event = self._end(trial, number, error)
            del self._running[trial.id]
            self._waiting = False
            self._dispatch(event)

    def _end(
        self, trial: AskedTrial, value: float | None, error: BaseException | str | None
    ) -> TrialFinished | TrialFailed | TrialStopped:
        at = self._clock()
        if error is not None:
            detail = _trial_error(error)
            return TrialFailed(at=at, trial=trial.id, attempt=trial.attempt, error=detail)
        if value is not None:
            return TrialFinished(at=at, trial=trial.id, attempt=trial.attempt, value=value)
        if trial.stop_reason:
            return TrialStopped(at=at, trial=trial.id, attempt=trial.attempt)
        msg = f"trial {trial.id} was told without a value or an error, and was not stopped."
        raise MaggyError(msg)

    def _check_running(self, trial: object) -> None:
        if not isinstance(trial, AskedTrial):
            msg = f"`trial` must be what `ask` returned, but got {trial!r}."
            raise MaggyError(msg)
        if self._running.get(trial.id) is not trial:
            msg = f"trial {trial.id} is not running: it was told already, or by another search."
            raise MaggyError(msg)

    def _dispatch(self, event: Event) -> None:
        self._core.dispatch(event)
        self._core.flush()
        failure = self._core.machine.failure
        if failure is not None:
            msg = f"{failure.error}\n\n{failure.error.traceback}".strip()
            raise OptimizerError(msg)

    def _clock(self) -> float:
        return time.monotonic() - self._began

    # The crew of the loop

    def assign(self, command: Assign) -> None:
        """Hand the trial to the caller of ``ask``."""
        self._assigned = AskedTrial(command, trial_seed(self._seed, command.trial))

    def stop(self, command: StopTrial | Interrupt) -> None:
        """Let ``report`` say so."""
        trial = self._running.get(command.trial)
        if trial is not None:
            trial.stop_reason = command.reason

    def kill(self, worker: str) -> None:
        """There is nobody to kill."""

    def shutdown(self, worker: str) -> None:
        """There is nobody to let go."""


class _NoLog:
    """A search by hand keeps its summary and no log."""

    def append(self, event: Event) -> None:
        """Keep nothing."""

    def commit(self) -> None:
        """Nothing is pending."""

    def read(self, start: int = 0) -> Iterator[Event]:
        """Nothing is kept."""
        return iter(())


def _checked(name: str, check: Callable[[object], _Number], given: object) -> _Number:
    try:
        return check(given)
    except OutcomeError as error:
        msg = f"`{name}` is {error}"
        raise OutcomeError(msg) from None


def _trial_error(error: BaseException | str) -> TrialError:
    if isinstance(error, str):
        return TrialError(type="Error", message=error)
    return TrialError(type=type(error).__name__, message=str(error))
