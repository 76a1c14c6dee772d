"""The inline engine: the same search in this very process, for debuggers and tests.

Breakpoints work and output goes where it always goes.  One trial runs at a time, on the calling
thread; what it broadcasts is judged before ``broadcast`` returns.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from maggy.engines.advisor import InlineAdvisor
from maggy.engines.interrupts import interrupts
from maggy.engines.loop import Loop
from maggy.engines.retention import Retention
from maggy.engines.seeds import trial_seed
from maggy.engines.translate import events_of
from maggy.events import CancelRequested, Tick, TrialStopped, WorkerJoined
from maggy.wire.messages import Logged, Report, Run, Saved
from maggy.worker.checkpoints import Checkpoints
from maggy.worker.reporter import Reporter
from maggy.worker.runner import run_trial
from maggy.worker.seeding import seed_everything

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from maggy.commands import Assign, Interrupt, StopTrial
    from maggy.engines.job import Job
    from maggy.events import Event
    from maggy.wire.messages import FromWorker

__all__ = ["InlineEngine"]

_WORKER = "inline"
_FEED_INTERVAL = 0.1


class InlineEngine:
    """Runs one trial after the other on the calling thread.

    Args:
        train_fn: The training function.
        provided: model, train_set and test_set, as far as given.
    """

    notes = ()

    def __init__(self, train_fn: Callable[..., Any], provided: Mapping[str, Any]) -> None:
        self._train_fn = train_fn
        self._provided = provided

    def run(self, job: Job, feed: Callable[[Sequence[Event]], None]) -> None:
        """See ``maggy.engines.job.Engine``."""
        session = _Inline(job, self._train_fn, self._provided, feed)
        with interrupts(session.interrupt, heeded=lambda: job.ended_early):
            session.run()


class _Inline:
    """One run; also its own crew, and the sink of each trial's reporter."""

    def __init__(
        self,
        job: Job,
        train_fn: Callable[..., Any],
        provided: Mapping[str, Any],
        feed: Callable[[Sequence[Event]], None],
    ) -> None:
        self._job = job
        self._train_fn = train_fn
        self._provided = provided
        self._feed = feed
        self._fed = 0.0
        self._news: list[Event] = []
        self._began = time.monotonic()
        self._assigned: Assign | None = None
        self._stops: dict[tuple[int, int], str] = {}
        self._current = (-1, -1)
        self._in_user_code = False
        self._interrupted = False
        self._error: BaseException | None = None
        self._core = Loop(
            machine=job.machine, log=job.log, crew=self, clock=self._clock, watch=self._watch
        )
        self._retention = Retention(job)
        advisor = InlineAdvisor(job.optimizer, job.space, job.seed, self._clock)
        self._core.advise(self._retention.listen(advisor))

    def run(self) -> None:
        """Run trials until the machine has finished."""
        try:
            self._dispatch(self._job.started)
            self._dispatch(WorkerJoined(at=self._clock(), worker=_WORKER))
            while self._assigned is not None:
                assigned, self._assigned = self._assigned, None
                self._run_trial(assigned)
        finally:
            self._retention.close()
        self._show()

    def interrupt(self) -> None:
        """Ctrl-C: raised in the user's code, remembered in ours."""
        self._interrupted = True
        if self._in_user_code:
            raise KeyboardInterrupt

    def _run_trial(self, command: Assign) -> None:
        job = self._job
        run = Run(
            trial=command.trial,
            attempt=command.attempt,
            hparams=command.hparams,
            budget=command.budget,
            seed=trial_seed(job.seed, command.trial),
        )
        self._current = (run.trial, run.attempt)
        reporter = Reporter(self, self._checkpoints(run))
        seed_everything(run.seed)

        def call() -> object:
            self._in_user_code = True
            if self._interrupted:
                raise KeyboardInterrupt
            return job.plan.call(
                self._train_fn,
                hparams=dict(run.hparams),
                reporter=reporter,
                budget=run.budget,
                seed=run.seed,
                provided=self._provided,
            )

        try:
            outcome = run_trial(
                run, call, reporter, optimization_key=job.optimization_key, output=str
            )
        finally:
            self._in_user_code = False
        if self._error is not None:
            raise self._error
        if self._interrupted:
            at = self._clock()
            self._dispatch(CancelRequested(at=at, grace=0.0))
            self._dispatch(TrialStopped(at=at, trial=run.trial, attempt=run.attempt))
        else:
            self._send(outcome)

    def _checkpoints(self, run: Run) -> Checkpoints | None:
        folder = self._job.checkpoints
        return None if folder is None else Checkpoints(folder, run.trial, run.attempt)

    def _send(self, message: FromWorker) -> None:
        for event in events_of(_WORKER, message, self._clock()):
            self._dispatch(event)

    def _dispatch(self, event: Event) -> None:
        self._core.dispatch(event)
        self._core.flush()
        self._retention.settle()
        if self._clock() - self._fed >= _FEED_INTERVAL:
            self._show()

    def _watch(self, event: Event) -> None:
        self._news.append(event)
        self._retention.watch(event)

    def _show(self) -> None:
        self._fed = self._clock()
        news = self._news.copy()
        self._news.clear()
        self._feed(news)

    def _clock(self) -> float:
        return time.monotonic() - self._began

    # The sink of the reporter

    def report(self, step: int, value: float, others: Mapping[str, float] | None) -> None:
        """Judge the report before the training function goes on."""
        trial, attempt = self._current
        report = Report(trial=trial, attempt=attempt, points=[(step, value, others)])
        self._from_user(lambda: self._send(report))

    def log(self, text: str) -> None:
        """Record the text."""
        trial, attempt = self._current
        self._from_user(lambda: self._send(Logged(trial=trial, attempt=attempt, text=text)))

    def flush(self) -> None:
        """Every report has arrived when it was made."""

    def saved(self, step: int, size: int) -> None:
        """Record that a checkpoint was saved."""
        trial, attempt = self._current
        saved = Saved(trial=trial, attempt=attempt, step=step, size=size)
        self._from_user(lambda: self._send(saved))

    def stop_reason(self) -> str | None:
        """Why the current trial has to leave; its time may be up."""
        wake = self._job.machine.wake_at()
        if wake is not None and wake <= self._clock():
            self._from_user(lambda: self._dispatch(Tick(at=self._clock())))
        return self._stops.get(self._current)

    def _from_user(self, call: Callable[[], None]) -> None:
        """Do this on behalf of the training function, where Ctrl-C must not cut it short.

        What it raises is no failure of the trial, such as a full disk: it ends the run, whatever
        the training function makes of it.
        """
        self._in_user_code = False
        try:
            call()
        except BaseException as error:
            self._error = self._error or error
            raise
        finally:
            self._in_user_code = True
        if self._interrupted:
            raise KeyboardInterrupt

    # The crew of the loop

    def assign(self, command: Assign) -> None:
        """Run this next."""
        self._assigned = command

    def stop(self, command: StopTrial | Interrupt) -> None:
        """Let the next broadcast raise."""
        self._stops[command.trial, command.attempt] = command.reason

    def kill(self, worker: str) -> None:
        """This process is not killed: the trial leaves by itself."""

    def shutdown(self, worker: str) -> None:
        """There is nobody to let go."""
