"""What every event log must do, as tests to inherit; and a short story to fill logs with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maggy.events import (
    CancelRequested,
    CheckpointSaved,
    EngineFailed,
    ExperimentFinished,
    ExperimentStarted,
    LogWritten,
    MetricReported,
    OptimizerFailed,
    SearchExhausted,
    StopDecided,
    Suggested,
    Tick,
    TrialFailed,
    TrialFinished,
    TrialStarted,
    TrialStopped,
    WaitSuggested,
    WorkerJoined,
    WorkerLost,
)
from maggy.trial import TrialError

if TYPE_CHECKING:
    from maggy.contracts import EventLog
    from maggy.events import Event
    from maggy.trial import Json

__all__ = ["EventLogContract", "story"]


class EventLogContract:
    """Inherit it, give ``make_log``, and pytest runs the tests.

    A log that is kept somewhere also gives ``reopen``.
    """

    def make_log(self) -> EventLog:
        """An empty log."""
        raise NotImplementedError

    def reopen(self, log: EventLog) -> EventLog:
        """What another reader sees of this log; by default the log itself."""
        return log

    def test_it_gives_back_what_was_committed(self) -> None:
        """Every kind of event comes back equal and in order."""
        log, events = self.make_log(), story()
        for event in events:
            log.append(event)
        log.commit()
        assert list(self.reopen(log).read()) == events

    def test_an_empty_log_has_no_events(self) -> None:
        """Reading a new log gives nothing."""
        assert list(self.make_log().read()) == []

    def test_commit_without_news_does_nothing(self) -> None:
        """Committing an empty log, or twice, changes nothing."""
        log, events = self.make_log(), story()
        log.commit()
        log.append(events[0])
        log.commit()
        log.commit()
        assert list(log.read()) == events[:1]

    def test_readers_see_only_what_was_committed(self) -> None:
        """Appended events show themselves when they are committed, not before."""
        log, events = self.make_log(), story()
        log.append(events[0])
        log.commit()
        log.append(events[1])
        assert list(log.read()) == events[:1]
        assert list(self.reopen(log).read()) == events[:1]
        log.commit()
        assert list(self.reopen(log).read()) == events[:2]

    def test_reading_starts_where_it_is_told(self) -> None:
        """``read(n)`` skips the first n events, and there may be nothing after them."""
        log, events = self.make_log(), story()
        for event in events:
            log.append(event)
        log.commit()
        assert list(log.read(3)) == events[3:]
        assert list(log.read(len(events))) == []

    def test_it_takes_many_events(self) -> None:
        """Ten thousand events in groups come back, none lost, none twice."""
        log = self.make_log()
        events = [Tick(at=float(i)) for i in range(10_000)]
        for i, event in enumerate(events):
            log.append(event)
            if i % 997 == 0:
                log.commit()
        log.commit()
        assert list(self.reopen(log).read()) == events


_CONFIG: dict[str, Json] = {
    "name": "story",
    "direction": "max",
    "num_trials": 6,
    "optimizer": "randomsearch",
    "optimization_key": "accuracy",
    "num_workers": 2,
    "version": "2.0.0.dev0",
    "seed": 1,
}


def story() -> list[Event]:
    """A short run that holds every kind of event; each call gives an equal, new list.

    Two workers maximise accuracy.  Trial 0 completes, 1 fails, 2 is stopped, 3 loses its worker
    and completes in its second run, 4 is under way when the user interrupts, 5 never starts.
    """
    error = TrialError(
        type="ValueError",
        message="no such unit",
        traceback="Traceback (most recent call last):\n  ...\nValueError: no such unit\n",
        output="epoch 1",
    )
    broken = TrialError(type="RuntimeError", message="no more ideas")
    killed = "killed by signal 9 (SIGKILL)"
    reason = "0.1 at step 1 is below the median 0.55 of 1 trial"
    return [
        ExperimentStarted(at=0.0, config=dict(_CONFIG)),
        WorkerJoined(at=0.5, worker="w0"),
        Suggested(at=0.5, trial=0, hparams={"lr": 0.1, "units": 32, "shape": (3, (4, 5))}),
        TrialStarted(at=0.5, trial=0, attempt=0, worker="w0"),
        WorkerJoined(at=0.5, worker="w1"),
        Suggested(
            at=0.5, trial=1, hparams={"lr": 0.2, "units": 64, "shape": ()}, state={"n": [1]}
        ),
        TrialStarted(at=0.5, trial=1, attempt=0, worker="w1"),
        MetricReported(at=1.0, trial=0, attempt=0, step=0, value=0.5),
        MetricReported(at=1.5, trial=0, attempt=0, step=1, value=0.6, others={"loss": 1.25}),
        LogWritten(at=1.5, trial=0, attempt=0, text="half way, süß"),
        CheckpointSaved(at=1.5, trial=0, attempt=0, step=1, size=5 * 2**32),
        TrialFailed(at=1.5, trial=1, attempt=0, error=error),
        WaitSuggested(at=1.5),
        TrialFinished(at=2.5, trial=0, attempt=0, value=0.625, info={"epochs": 2, "note": None}),
        Suggested(at=2.5, trial=2, hparams={"lr": 0.3, "units": 8, "shape": (1,)}),
        TrialStarted(at=2.5, trial=2, attempt=0, worker="w0"),
        Suggested(at=2.5, trial=3, hparams={"lr": 0.4, "units": 16, "shape": (2,)}, budget=3),
        TrialStarted(at=2.5, trial=3, attempt=0, worker="w1"),
        MetricReported(at=3.0, trial=2, attempt=0, step=0, value=0.25),
        MetricReported(at=3.0, trial=3, attempt=0, step=0, value=0.5),
        MetricReported(at=3.5, trial=2, attempt=0, step=1, value=0.125),
        StopDecided(at=3.5, trial=2, attempt=0, reason=reason, threshold=0.55),
        TrialStopped(at=3.5, trial=2, attempt=0),
        WorkerLost(at=3.5, worker="w1", reason=killed),
        TrialStarted(at=3.5, trial=3, attempt=1, worker="w0"),
        WorkerJoined(at=4.0, worker="w2", once=True),
        Suggested(at=4.0, trial=4, hparams={"lr": 0.5, "units": 4, "shape": (9,)}, budget=1.5),
        TrialStarted(at=4.0, trial=4, attempt=0, worker="w2"),
        MetricReported(at=4.5, trial=3, attempt=1, step=0, value=0.75),
        TrialFinished(at=5.5, trial=3, attempt=1, value=0.875),
        Suggested(at=5.5, trial=5, hparams={"lr": 0.6, "units": 2, "shape": (7,)}),
        SearchExhausted(at=5.5, reason="All 6 configurations were tried."),
        OptimizerFailed(at=5.5, error=broken),
        EngineFailed(at=5.5, error=broken),
        CancelRequested(at=6.0, grace=0.5),
        Tick(at=6.5),
        TrialStopped(at=6.5, trial=4, attempt=0),
        ExperimentFinished(at=6.5, outcome="interrupted", reason="The run was interrupted."),
    ]
