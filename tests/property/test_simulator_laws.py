"""Laws of the simulator, whatever the conditions: it ends, repeats, and wastes nobody's time."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from maggy import Double, OptimizationConfig, Searchspace
from maggy.engines.conditions import Conditions
from maggy.engines.simulator import simulate
from maggy.engines.workload import InOrder, Synthetic
from maggy.events import TrialFailed, TrialFinished, TrialStarted, TrialStopped, WorkerLost
from maggy.optimizer import RandomSearch
from maggy.trial import TrialStatus

SPACE = Searchspace(x=Double(0, 1))
delays = st.sampled_from([0.0, 0.01, 0.5])
conditions = st.builds(
    Conditions,
    start=delays,
    assign=delays,
    report=delays,
    stop=delays,
    suggest=delays,
    suggest_growth=st.sampled_from([0.0, 0.01]),
    lost_every=st.sampled_from([None, 0.7, 5.0]),
    slow_share=st.sampled_from([0.0, 0.4]),
    slow_factor=st.sampled_from([1.0, 6.0]),
    checkpoints=st.booleans(),
)


class OneByOne(RandomSearch):
    """Random search that is asked for one trial at a time, so that there is no choice."""

    learns = True


def config(trials: int, policy: str, seed: int, **options: Any) -> OptimizationConfig:
    given = {"optimizer": "randomsearch", "es_policy": policy, "es_min": 3, "seed": seed}
    return OptimizationConfig(searchspace=SPACE, num_trials=trials, **{**given, **options})


@given(
    conditions,
    st.integers(1, 25),
    st.integers(1, 8),
    st.sampled_from(["none", "median", "curve"]),
    st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_it_ends_and_repeats(
    cluster: Any, trials: int, workers: int, policy: str, seed: int
) -> None:
    """Every trial ends, times never run backwards, and the same call gives the same log."""
    runs = [
        simulate(
            config(trials, policy, seed),
            Synthetic(steps=7, seed=seed),
            workers=workers,
            conditions=cluster,
        )
        for _ in range(2)
    ]
    assert repr(runs[0].events) == repr(runs[1].events)
    done = runs[0]
    assert done.summary.finished is not None
    times = [event.at for event in done.events]
    assert times == sorted(times)
    if done.summary.finished.outcome == "completed":
        assert done.summary.ended == len(done.summary.trials) == trials
    assert done.summary.crew.utilisation is None or done.summary.crew.utilisation <= 1.0


@given(conditions, st.integers(1, 8), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_no_trial_is_in_two_places(cluster: Any, workers: int, seed: int) -> None:
    """A worker has one trial at a time, a trial one worker, and lost workers run nothing."""
    done = simulate(
        config(15, "median", seed),
        Synthetic(steps=5, seed=seed),
        workers=workers,
        conditions=cluster,
    )
    at_work: dict[str, int] = {}
    lost: set[str] = set()
    for event in done.events:
        match event:
            case TrialStarted(worker=worker, trial=trial):
                assert worker not in at_work
                assert worker not in lost
                assert trial not in at_work.values()
                at_work[worker] = trial
            case TrialFinished(trial=trial) | TrialFailed(trial=trial) | TrialStopped(trial=trial):
                at_work = {name: other for name, other in at_work.items() if other != trial}
            case WorkerLost(worker=worker):
                at_work.pop(worker, None)
                lost.add(worker)
            case _:
                pass


@given(st.integers(1, 20), st.integers(1, 6), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_a_perfect_cluster_packs_as_a_list(trials: int, workers: int, seed: int) -> None:
    """Without delays and stops, the run is Graham's list scheduling of the durations."""
    recordings = [Synthetic(steps=3, seed=seed).run(n, {}, None) for n in range(trials)]
    wanted = config(trials, "none", seed, optimizer=OneByOne())
    done = simulate(wanted, InOrder(recordings), workers=workers)
    free = [0.0] * workers
    for recording in recordings:
        free.sort()
        free[0] += recording.duration
    assert abs(done.seconds - max(free)) < 1e-9
    assert done.summary.counts[TrialStatus.COMPLETED] == trials
