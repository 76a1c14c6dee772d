"""The simulator: a search in virtual time, with the machine, loop and optimizer of a real one.

Workers are entries of a heap of ``(time, tie breaker, what happens)``; nothing sleeps and no clock
is read, so a search of hours takes seconds and the same seed gives the same events, byte for byte.
A simulated worker does what a real one does: it reports without waiting for an answer, hears a
stop at its first report after the stop has arrived, and leaves there.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from maggy.core.summary import Summary
from maggy.engines.advisor import InlineAdvisor
from maggy.engines.conditions import Conditions, Fate
from maggy.engines.earlier import read_earlier
from maggy.engines.job import Job
from maggy.engines.loop import Loop
from maggy.engines.machines import describe_optimizer, new_machine, search_context
from maggy.errors import ConfigError, MaggyError
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
from maggy.worker.injection import Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from maggy.commands import Assign, Interrupt, StopTrial
    from maggy.config import OptimizationConfig
    from maggy.engines.advisor import Answer
    from maggy.engines.workload import Recording, Workload
    from maggy.events import Event, OptimizerFailed
    from maggy.trial import Trial

__all__ = ["Simulated", "Simulator", "simulate"]

_T = TypeVar("_T")

_FEED_EVERY = 10_000
"""Events between two calls of ``feed``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """A search that was simulated.

    Attributes:
        summary: What it came to; ``maggy.views.result.Result`` makes it explorable.
        events: Its whole log.
        seconds: Virtual seconds from the start of the run to its end.
    """

    summary: Summary
    events: Sequence[Event]
    seconds: float


def simulate(
    config: OptimizationConfig,
    workload: Workload,
    *,
    workers: int,
    conditions: Conditions | None = None,
) -> Simulated:
    """Run the search of this config in virtual time.

    Args:
        config: What to search and how; ``engine``, ``folder`` and data sets are not looked at.
            A seed of None counts as 0, so that the same call always gives the same answer.
        workload: What the training function does.
        workers: Trials at a time.
        conditions: Delays, losses and the like; None: a perfect cluster.

    Raises:
        ConfigError: The optimizer cannot search this space, or ``workers`` is wrong.
        MaggyError: The search got stuck: nothing is left to happen, but it has not ended.
    """
    if workers < 1:
        msg = f"`workers >= 1` must hold, but got {workers=}."
        raise ConfigError(msg)
    seed = 0 if config.seed is None else config.seed
    optimizer = config.build_optimizer()
    warm = read_earlier(config)
    optimizer.start(search_context(config, workers, seed, earlier=warm.runs))
    described = {
        **config.describe(),
        **describe_optimizer(optimizer, warm, given=config.optimizer),
        "engine": "simulator",
        "num_workers": workers,
        "seed": seed,
    }
    log = _EventList()
    job = Job(
        machine=new_machine(config, optimizer, workers),
        log=log,
        started=ExperimentStarted(at=0.0, config=described),
        optimizer=optimizer,
        space=config.space,
        seed=seed,
        plan=Plan(names=()),
        optimization_key=config.optimization_key,
        hb_interval=config.hb_interval,
        num_workers=workers,
        trial_logs=Path(),
    )
    summary = Summary()

    def feed(news: Sequence[Event]) -> None:
        for event in news:
            summary.apply(event)

    Simulator(workload, conditions).run(job, feed)
    return Simulated(summary=summary, events=log.events, seconds=summary.now)


class Simulator:
    """An engine in virtual time.

    Args:
        workload: What the training function does.
        conditions: Delays, losses and the like; None: a perfect cluster.
    """

    def __init__(self, workload: Workload, conditions: Conditions | None = None) -> None:
        self._workload = workload
        self._conditions = conditions or Conditions()

    def run(self, job: Job, feed: Callable[[Sequence[Event]], None]) -> None:
        """See ``maggy.engines.job.Engine``; the job's plan and folder are not used.

        Raises:
            MaggyError: The search got stuck: nothing is left to happen, but it has not ended.
        """
        _World(job, self._workload, self._conditions, feed).run()


@dataclass(slots=True, kw_only=True)
class _Run:
    """One run of a trial on a simulated worker."""

    worker: str
    trial: int
    attempt: int
    recording: Recording
    position: int
    pace: float
    stop_at: float = math.inf

    @property
    def key(self) -> tuple[int, int]:
        return self.trial, self.attempt


class _World:
    """One search: the heap of what will happen, and the crew of the loop."""

    def __init__(
        self,
        job: Job,
        workload: Workload,
        conditions: Conditions,
        feed: Callable[[Sequence[Event]], None],
    ) -> None:
        self._job = job
        self._workload = workload
        self._conditions = conditions
        self._report_delay = conditions.report
        self._feed = feed
        self._news: list[Event] = []
        self._now = 0.0
        self._heap: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self._ties = count()
        self._hired = count()
        self._fates: dict[str, Fate] = {}
        self._runs: dict[str, _Run] = {}
        self._loop = Loop(
            machine=job.machine,
            log=job.log,
            crew=self,
            clock=self._clock,
            watch=self._news.append,
        )
        inner = InlineAdvisor(job.optimizer, job.space, job.seed, self._clock)
        self._loop.advise(_CostlyAdvisor(inner, conditions, self._clock, self._deliver))

    def run(self) -> None:
        """Let things happen, in the order of their times, until the machine has finished."""
        machine = self._job.machine
        self._dispatch(self._job.started)
        for _ in range(self._job.num_workers):
            self._hire()
        while machine.finish is None:
            wake = machine.wake_at()
            if wake is not None and not (self._heap and self._heap[0][0] < wake):
                self._now = max(self._now, wake)
                self._loop.tick()
                self._loop.flush()
            elif self._heap:
                self._now, _, happen, what = heapq.heappop(self._heap)
                happen(what)
            else:
                msg = "the simulated search is stuck: no event is left, but it has not ended."
                raise MaggyError(msg)
            if len(self._news) >= _FEED_EVERY:
                self._show()
        self._show()

    def _show(self) -> None:
        news = self._news.copy()
        self._news.clear()
        self._feed(news)

    def _clock(self) -> float:
        return self._now

    def _after(self, delay: float, happen: Callable[[_T], None], what: _T) -> None:
        heapq.heappush(self._heap, (self._now + delay, next(self._ties), happen, what))

    def _dispatch(self, event: Event) -> None:
        self._loop.dispatch(event)
        self._loop.flush()

    def _deliver(self, delay: float, event: Event) -> None:
        self._after(delay, self._dispatch, event)

    # Workers

    def _hire(self) -> None:
        number = next(self._hired)
        worker = f"w{number}"
        self._fates[worker] = self._conditions.fate(self._job.seed, number)
        self._after(self._conditions.start, self._join, worker)

    def _join(self, worker: str) -> None:
        life = self._fates[worker].life
        if math.isfinite(life):
            self._after(life, self._lose, (worker, "it crashed (simulated)"))
        self._dispatch(WorkerJoined(at=self._now, worker=worker))

    def _lose(self, loss: tuple[str, str]) -> None:
        worker, reason = loss
        if self._fates.pop(worker, None) is None:
            return  # it has left, or was lost before
        self._runs.pop(worker, None)
        self._dispatch(WorkerLost(at=self._now, worker=worker, reason=reason))
        self._hire()

    # The crew of the loop

    def assign(self, command: Assign) -> None:
        """Let the worker begin."""
        fate = self._fates.get(command.worker)
        if fate is None:
            return  # its loss is on the way
        recording = self._workload.run(command.trial, command.hparams, command.budget)
        run = self._runs[command.worker] = _Run(
            worker=command.worker,
            trial=command.trial,
            attempt=command.attempt,
            recording=recording,
            position=self._position(recording, command.trial),
            pace=fate.pace,
        )
        self._train(run, self._conditions.assign)

    def _position(self, recording: Recording, trial: int) -> int:
        """The first report of a run: where a checkpoint of the last one leads, or the start."""
        reported = self._job.machine.trials[trial].steps
        if not self._conditions.checkpoints or not reported:
            return 0
        return sum(step <= reported[-1] for step in recording.steps)

    def stop(self, command: StopTrial | Interrupt) -> None:
        """Let the run leave at its first report after the stop has arrived."""
        run = self._runs.get(command.worker)
        if run is not None and run.key == (command.trial, command.attempt):
            run.stop_at = min(run.stop_at, self._now + self._conditions.stop)

    def kill(self, worker: str) -> None:
        """The worker is gone at once."""
        self._after(0.0, self._lose, (worker, "it was killed"))

    def shutdown(self, worker: str) -> None:
        """The worker leaves."""
        self._fates.pop(worker, None)

    # Trainings

    def _train(self, run: _Run, delay: float) -> None:
        """Go on to the next report, or to the return."""
        recording, position = run.recording, run.position
        if position < len(recording.steps):
            delay += recording.seconds[position] * run.pace
            self._after(delay, self._report, run)
        elif recording.closing or delay:
            self._after(delay + recording.closing * run.pace, self._return, run)
        else:
            self._return(run)

    def _report(self, run: _Run) -> None:
        if self._runs.get(run.worker) is not run:
            return  # its worker is gone
        at, trial, attempt = self._now + self._report_delay, run.trial, run.attempt
        if run.stop_at <= self._now:
            self._leave(run, TrialStopped(at=at, trial=trial, attempt=attempt))
            return
        recording, position = run.recording, run.position
        step, value = recording.steps[position], recording.values[position]
        if not math.isfinite(value):
            self._fail(run, f"the metric at step {step} is {value}")
            return
        run.position += 1
        self._tell(MetricReported(at=at, trial=trial, attempt=attempt, step=step, value=value))
        self._train(run, 0.0)

    def _return(self, run: _Run) -> None:
        if self._runs.get(run.worker) is not run:
            return
        value = run.recording.final
        if not math.isfinite(value):
            self._fail(run, f"the returned metric is {value}")
            return
        at = self._now + self._report_delay
        trial, attempt = run.key
        self._leave(run, TrialFinished(at=at, trial=trial, attempt=attempt, value=value))

    def _fail(self, run: _Run, message: str) -> None:
        at = self._now + self._report_delay
        error = TrialError(type="OutcomeError", message=message)
        trial, attempt = run.key
        self._leave(run, TrialFailed(at=at, trial=trial, attempt=attempt, error=error))

    def _leave(self, run: _Run, event: TrialFinished | TrialFailed | TrialStopped) -> None:
        del self._runs[run.worker]
        self._tell(event)

    def _tell(self, event: Event) -> None:
        """Send what a worker has to say."""
        if self._report_delay:
            self._deliver(self._report_delay, event)
        else:
            self._loop.dispatch(event)
            self._loop.flush()


class _CostlyAdvisor:
    """Answers after the modelled cost of a suggestion; what is told meanwhile comes later."""

    def __init__(
        self,
        inner: InlineAdvisor,
        conditions: Conditions,
        clock: Callable[[], float],
        deliver: Callable[[float, Event], None],
    ) -> None:
        self._inner = inner
        self._conditions = conditions
        self._clock = clock
        self._deliver = deliver
        self._told = 0

    def suggest(self, number: int, pending: Sequence[Trial]) -> Answer | None:
        """Ask now; the answer comes when the modelled cost has passed."""
        answer = self._inner.suggest(number, pending)
        cost = self._conditions.suggest + self._conditions.suggest_growth * self._told
        if cost <= 0:
            return answer
        self._deliver(cost, replace(answer, at=self._clock() + cost))
        return None

    def tell(self, trial: Trial) -> OptimizerFailed | None:
        """Tell at once."""
        self._told += 1
        return self._inner.tell(trial)

    def close(self) -> None:
        """Nothing is held."""


class _EventList:
    """An event log in a list."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def append(self, event: Event) -> None:
        """Keep the event."""
        self.events.append(event)

    def commit(self) -> None:
        """Nothing is pending."""

    def read(self, start: int = 0) -> Iterator[Event]:
        """The events from number ``start``."""
        return iter(self.events[start:])
