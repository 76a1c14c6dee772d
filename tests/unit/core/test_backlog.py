"""Which trial is next: in order, until a long one becomes critical."""

from __future__ import annotations

import heapq
import random
from typing import Any

import pytest

from maggy import Double, Searchspace
from maggy.core.backlog import Backlog
from maggy.core.durations import Durations
from maggy.trial import Trial, TrialStatus

SPACE = Searchspace(x=Double(0, 1))


def trial(number: int, x: float = 0.5, status: Any = TrialStatus.PENDING) -> Trial:
    return Trial(id=number, hparams={"x": x}, status=status)


def seconds(x: float) -> float:
    return float(100**x)


def taught() -> Backlog:
    """A backlog that has seen twenty trials; the mean of their durations is about 21 s."""
    backlog = Backlog(SPACE.encode)
    for number in range(20):
        backlog.add(trial(number, number / 19))
        run = backlog.take(unsuggested=100, workers=1, at=0.0)
        run.status = TrialStatus.COMPLETED
        backlog.ended(run, seconds(number / 19))
    return backlog


def take(backlog: Backlog, unsuggested: int = 0, workers: int = 2) -> int:
    return backlog.take(unsuggested=unsuggested, workers=workers, at=0.0).id


def test_without_knowledge_it_is_a_queue() -> None:
    """In order of suggestion, with lost ones in front; also where nothing is ever learned."""
    for backlog in (Backlog(), Backlog(SPACE.encode)):
        for number in range(4):
            backlog.add(trial(number, number / 4))
        backlog.add_first(trial(9))
        assert len(backlog) == 5
        assert [take(backlog) for _ in range(5)] == [9, 0, 1, 2, 3]
        assert len(backlog) == 0


def test_near_the_end_the_longest_is_first() -> None:
    """With little left, trials go from the longest to the shortest."""
    backlog = taught()
    for number, x in enumerate((0.1, 0.9, 0.6, 1.0), start=20):
        backlog.add(trial(number, x))
    assert [take(backlog) for _ in range(4)] == [23, 21, 22, 20]


def test_far_from_the_end_the_order_stays() -> None:
    """While much is left nothing is critical, and a long one comes when its turn is."""
    backlog = taught()
    for number, x in enumerate((0.1, 0.9, 0.5, 1.0), start=20):
        backlog.add(trial(number, x))
    assert [take(backlog, unsuggested=10_000) for _ in range(4)] == [20, 21, 22, 23]


def test_one_worker_keeps_the_order() -> None:
    """Nobody else would have to wait for it."""
    backlog = taught()
    for number, x in enumerate((0.1, 1.0), start=20):
        backlog.add(trial(number, x))
    assert [take(backlog, workers=1) for _ in range(2)] == [20, 21]


def test_a_trial_that_lost_its_worker_is_first() -> None:
    """It has waited long enough, whatever is critical."""
    backlog = taught()
    backlog.add(trial(20, 1.0))
    backlog.add_first(trial(5, 0.0))
    assert [take(backlog) for _ in range(2)] == [5, 20]


def test_runs_that_never_began_here_teach_nothing() -> None:
    """The end of a trial that was not taken from here is ignored."""
    backlog = Backlog(SPACE.encode)
    backlog.ended(trial(3, 0.5, TrialStatus.COMPLETED), 7.0)
    backlog.add(trial(4))
    assert take(backlog) == 4


def pack(backlog: Backlog, lengths: Any, workers: int) -> float:
    """The makespan when workers take from a backlog that holds up to 8 trials for each."""
    ahead = iter(range(len(lengths)))
    waiting = 0
    free: list[Any] = [(0.0, worker, None) for worker in range(workers)]
    now = 0.0
    while free:
        now, worker, ended = heapq.heappop(free)
        if ended is not None:
            ended.status = TrialStatus.COMPLETED
            backlog.ended(ended, now)
        while len(backlog) < 8 * workers and (number := next(ahead, None)) is not None:
            backlog.add(trial(number, lengths[number]))
            waiting = number + 1
        if len(backlog):
            run = backlog.take(unsuggested=len(lengths) - waiting, workers=workers, at=now)
            heapq.heappush(free, (now + seconds(lengths[run.id]), worker, run))
    return now


@pytest.mark.parametrize("workers", [2, 8, 64])
def test_the_tail_is_short(workers: int) -> None:
    """Close to perfect packing, and clearly closer than a plain queue where it matters."""
    total: dict[str, float] = {"plain": 0.0, "learned": 0.0, "perfect": 0.0}
    for seed in range(6):
        rng = random.Random(seed)
        lengths = [rng.random() for _ in range(max(100, 10 * workers))]
        work = [seconds(x) for x in lengths]
        total["plain"] += pack(Backlog(), lengths, workers)
        total["learned"] += pack(Backlog(SPACE.encode), lengths, workers)
        total["perfect"] += max(sum(work) / workers, *work)
    assert total["perfect"] <= total["learned"] < 1.06 * total["perfect"]
    assert total["learned"] - total["perfect"] < 0.5 * (total["plain"] - total["perfect"])


class Plain:
    """The rule in its plainest form: everything that waits is ranked at every take."""

    def __init__(self) -> None:
        self.durations = Durations(SPACE.encode)
        self.waiting: list[Trial] = []
        self.again = 0

    def take(self, unsuggested: int, workers: int) -> int:
        waiting = self.waiting
        share = (unsuggested + len(waiting)) * self.durations.mean_spent / workers
        ranked = [(-self.durations.expected(each.hparams), each.id) for each in waiting]
        expected, longest = min(ranked)
        critical = self.durations.known and not self.again and workers > 1
        index = 0
        if critical and 2 * -expected >= share:
            index = [each.id for each in waiting].index(longest)
        self.again -= self.again > 0
        return waiting.pop(index).id


@pytest.mark.parametrize("seed", range(20))
def test_it_ranks_as_if_it_always_ranked(seed: int) -> None:
    """Ranking only when it can matter takes the same trials as ranking every time."""
    rng = random.Random(seed)
    backlog, plain = Backlog(SPACE.encode), Plain()
    running: list[tuple[Trial, float]] = []
    workers, total, at, made = rng.choice([1, 2, 5]), rng.choice([40, 150]), 0.0, 0
    while made < total or len(backlog) or running:
        at += 1.0
        ahead = rng.randrange(1, 30)
        while made < total and len(backlog) < ahead:
            new = trial(made, rng.random())
            backlog.add(new)
            plain.waiting.append(new)
            made += 1
        while len(backlog) and len(running) < workers:
            run = backlog.take(unsuggested=total - made, workers=workers, at=at)
            assert run.id == plain.take(total - made, workers)
            running.append((run, at))
        run, began = running.pop(rng.randrange(len(running)))
        if rng.random() < 0.1:
            backlog.add_first(run)
            plain.waiting.insert(0, run)
            plain.again += 1
            continue
        at += seconds(float(run.hparams["x"]))  # type: ignore[arg-type]
        run.status = TrialStatus.COMPLETED
        backlog.ended(run, at)
        plain.durations.learn(run, at - began)
