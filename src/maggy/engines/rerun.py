"""What-if questions about a run's own log: the same trainings, simulated under another search.

What it can know: the curves and durations of the configurations that the run tried.  A
configuration that another optimizer proposes trains like the nearest one that was tried, so the
best value can never be better than the run's own; compare times, epochs and how soon the best was
found.  A trial that the run stopped goes on with its last value, at its own pace, to the median
length of the completed ones: nobody knows how it would have ended.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from maggy.config import OptimizationConfig
from maggy.engines.simulator import simulate
from maggy.engines.workload import InOrder, Nearest, Recording
from maggy.errors import ConfigError
from maggy.events import (
    ExperimentStarted,
    MetricReported,
    StopDecided,
    Suggested,
    TrialFailed,
    TrialFinished,
    TrialStarted,
)
from maggy.searchspace import Searchspace
from maggy.trial import Exhausted, Suggestion

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np

    from maggy.contracts import Optimizer, SearchContext, StoppingPolicy
    from maggy.engines.conditions import Conditions
    from maggy.engines.simulator import Simulated
    from maggy.events import Event
    from maggy.trial import Hparams, Json, Trial

__all__ = ["Given", "RecordedRun", "record_run", "simulate_run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRun:
    """The trainings in a run's log.

    Attributes:
        config: What the log says of the run.
        recordings: One for each trial that ended, by id.
        continued: How many of them the run had stopped, so that their ends are made up.
        failed: How many of them fail.
    """

    config: Mapping[str, Json]
    recordings: Sequence[Recording]
    continued: int
    failed: int


def record_run(events: Iterable[Event]) -> RecordedRun:
    """The trainings in a run's log; of a trial that ran more than once, the last run.

    Raises:
        ConfigError: No trial has ended.
    """
    config: Mapping[str, Json] = {}
    trials: dict[int, _Tape] = {}
    for event in events:
        if isinstance(event, ExperimentStarted):
            config = event.config
        elif isinstance(event, Suggested):
            trials.setdefault(event.trial, _Tape(event.hparams))
        elif (number := getattr(event, "trial", None)) in trials:
            trials[number].record(event)
    whole = [tape.recording() for tape in trials.values() if tape.result is not None]
    stopped = [tape for tape in trials.values() if tape.stopped and tape.steps]
    lengths = [recording.steps for recording in whole if recording.steps]
    horizon = round(statistics.median([steps[-1] for steps in lengths])) if lengths else 0
    numbered = {
        number: tape.continued(horizon) if tape.stopped else tape.recording()
        for number, tape in sorted(trials.items())
        if tape.result is not None or (tape.stopped and tape.steps)
    }
    if not numbered:
        msg = "this run has no trial that ended, so there is nothing to simulate."
        raise ConfigError(msg)
    return RecordedRun(
        config=config,
        recordings=list(numbered.values()),
        continued=len(stopped),
        failed=sum(recording.final != recording.final for recording in numbered.values()),
    )


def simulate_run(
    run: RecordedRun,
    *,
    workers: int,
    optimizer: str | Optimizer | None = None,
    num_trials: int | None = None,
    es_policy: str | StoppingPolicy = "none",
    es_min: int = 10,
    seed: int = 0,
    conditions: Conditions | None = None,
) -> Simulated:
    """Simulate another search over the trainings of a run.

    Args:
        run: The trainings.
        workers: Trials at a time.
        optimizer: Proposes configurations; None: those of the run, in its order.
        num_trials: Configurations to try; None: as many as the run has recorded.
        es_policy: As in the config.
        es_min: As in the config.
        seed: Of the simulated search.
        conditions: Delays and the like; None: a perfect cluster.

    Raises:
        ConfigError: An option is wrong, or the run's search space cannot be rebuilt from its log.
    """
    space = Searchspace.from_json(run.config.get("searchspace"))
    if optimizer is None:
        recorded = [recording.hparams for recording in run.recordings]
        config = _config(run, space, Given(recorded), num_trials, es_policy, es_min, seed)
        return simulate(config, InOrder(run.recordings), workers=workers, conditions=conditions)
    config = _config(run, space, optimizer, num_trials, es_policy, es_min, seed)
    workload = Nearest(run.recordings, space)
    return simulate(config, workload, workers=workers, conditions=conditions)


def _config(
    run: RecordedRun,
    space: Searchspace,
    optimizer: str | Optimizer,
    num_trials: int | None,
    es_policy: str | StoppingPolicy,
    es_min: int,
    seed: int,
) -> OptimizationConfig:
    return OptimizationConfig(
        searchspace=space,
        num_trials=num_trials or len(run.recordings),
        optimizer=optimizer,
        direction=str(run.config.get("direction", "max")),
        es_policy=es_policy,
        es_min=es_min,
        name=str(run.config.get("name", "experiment")),
        seed=seed,
        quiet=True,
    )


@dataclass(slots=True)
class _Tape:
    """One trial's last run, while its events go by."""

    hparams: Hparams
    began: float = 0.0
    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    result: float | None = None
    ended: float = 0.0
    stopped: bool = False

    def record(self, event: Event) -> None:
        """Take in an event of this trial."""
        match event:
            case TrialStarted(at=at):
                self.began, self.result, self.stopped = at, None, False
                self.steps, self.values, self.times = [], [], []
            case MetricReported(at=at, step=step, value=value):
                if not self.stopped and (not self.steps or step > self.steps[-1]):
                    self.steps.append(step)
                    self.values.append(value)
                    self.times.append(at)
            case StopDecided():
                self.stopped = True
            case TrialFinished(at=at, value=value):
                self.result, self.ended, self.stopped = value, at, False
            case TrialFailed(at=at):
                self.result, self.ended, self.stopped = float("nan"), at, False
            case _:
                pass

    def recording(self) -> Recording:
        """The run as it was."""
        starts = [self.began, *self.times[:-1]]
        last = self.times[-1] if self.times else self.began
        return Recording(
            hparams=self.hparams,
            steps=self.steps,
            values=self.values,
            seconds=[max(0.0, b - a) for a, b in zip(starts, self.times, strict=False)],
            result=self.result,
            closing=max(0.0, self.ended - last) if self.result is not None else 0.0,
        )

    def continued(self, horizon: int) -> Recording:
        """A stopped run, with its last value to the horizon; its steps go on as they came."""
        recording = self.recording()
        count = len(self.steps)
        stride = max(1, (self.steps[-1] - self.steps[0]) // max(1, count - 1))
        more = range(self.steps[-1] + stride, horizon + 1, stride)
        pace = sum(recording.seconds) / count
        return replace(
            recording,
            steps=[*self.steps, *more],
            values=[*self.values, *(self.values[-1] for _ in more)],
            seconds=[*recording.seconds, *(pace for _ in more)],
        )


class Given:
    """Proposes given configurations in their order."""

    suggests_inline = True
    learns = False

    def __init__(self, configurations: Sequence[Hparams]) -> None:
        self._configurations = configurations

    def __repr__(self) -> str:
        return f"Given({len(self._configurations)} configurations)"

    def start(self, context: SearchContext) -> None:
        """Nothing to prepare."""

    def ask(
        self, number: int, pending: Sequence[Trial], rng: np.random.Generator
    ) -> Suggestion | Exhausted:
        """The configuration of this number."""
        if number < len(self._configurations):
            return Suggestion(hparams=self._configurations[number])
        return Exhausted("All given configurations were tried.")

    def tell(self, trial: Trial) -> None:
        """Nothing to learn."""
