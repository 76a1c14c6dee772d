"""How long messages wait while the Gaussian process fits beside the driver's event loop.

A thread tells the model 1,000 trials of 10 hyperparameters and asks it for suggestions; the main
thread runs an event loop that wants to wake every millisecond and notes how late it is.
"""

from __future__ import annotations

import asyncio
import statistics
import threading
import time

from setting import arguments, describe, table

from maggy import Double, Searchspace
from maggy.contracts import SearchContext
from maggy.engines.advisor import InlineAdvisor, ThreadedAdvisor
from maggy.optimizer import GP
from maggy.trial import Trial, TrialStatus

GOAL = 50.0
"""Milliseconds for the 99th percentile."""


def told(trials: int) -> GP:
    """A process that knows so many trials."""
    space = Searchspace(**{f"x{i}": Double(0.0, 1.0) for i in range(10)})
    optimizer = GP()
    context = SearchContext(searchspace=space, num_trials=None, num_workers=8, seed=1)
    optimizer.start(context)
    import numpy as np

    rng = np.random.default_rng(0)
    for number in range(trials):
        hparams = space.sample(rng)
        point = np.array(list(hparams.values()), dtype=float)
        loss = float(((point - 0.3) ** 2).sum())
        status = TrialStatus.COMPLETED
        optimizer.tell(Trial(id=number, hparams=hparams, status=status, loss=loss))
    return optimizer


async def lateness(busy: threading.Event) -> list[float]:
    """Milliseconds by which the loop woke too late, while the model was busy."""
    late = []
    while not busy.is_set():
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        late.append((time.perf_counter() - began - 0.001) * 1e3)
    return late


def measure(trials: int, asks: int) -> tuple[list[float], float]:
    """The latenesses during so many asks, and the seconds they took."""
    optimizer = told(trials)
    done = threading.Event()
    answers: list[object] = []

    def deliver(answer: object) -> None:
        answers.append(answer)
        if len(answers) == asks:
            done.set()

    space = optimizer._space  # noqa: SLF001 - the one that it was started with
    advisor = ThreadedAdvisor(InlineAdvisor(optimizer, space, 1, time.perf_counter), deliver)
    began = time.perf_counter()
    for number in range(asks):
        advisor.suggest(trials + number, [])
    late = asyncio.run(lateness(done))
    advisor.close()
    return late, time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    quick = arguments(__doc__ or "").quick
    rows = []
    for trials in (200,) if quick else (200, 1000):
        late, seconds = measure(trials, 3)
        centiles = statistics.quantiles(late, n=100)
        rows.append(
            [f"{trials:,}", f"{seconds / 3:.2f}", f"{centiles[49]:.2f}", f"{centiles[98]:.2f}"]
        )
    describe(f"Waiting for the driver while a model fits (goal: 99 % under {GOAL:.0f} ms)")
    table(["trials", "seconds an ask", "median late, ms", "99th percentile, ms"], rows)


if __name__ == "__main__":
    main()
