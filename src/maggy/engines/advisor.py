"""Where the optimizer runs: on the driver's own thread, or beside it.

Both kinds turn what an optimizer answers, or raises, into one event; neither judges it.
"""

from __future__ import annotations

import importlib
import itertools
import json
import math
import queue
import threading
import traceback
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from maggy.engines.seeds import Draws
from maggy.engines.threads import SINGLE
from maggy.errors import OptimizerError
from maggy.events import OptimizerFailed, SearchExhausted, Suggested, WaitSuggested
from maggy.trial import Exhausted, Suggestion, TrialError, Wait

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from maggy.contracts import Optimizer
    from maggy.searchspace import Searchspace
    from maggy.trial import Trial

    Answer = Suggested | WaitSuggested | SearchExhausted | OptimizerFailed

__all__ = ["Advisor", "InlineAdvisor", "ThreadedAdvisor"]

_JOBS_BEFORE_LOADING = 2
"""The first is asked ahead, the second when a worker has taken that: workers have started."""


class Advisor(Protocol):
    """What the loop needs of an optimizer."""

    def suggest(self, number: int, pending: Sequence[Trial]) -> Answer | None:
        """The answer, or None when it will be delivered later."""
        ...

    def tell(self, trial: Trial) -> OptimizerFailed | None:
        """Pass on that a run of a trial ended; what went wrong, if it is known at once."""
        ...

    def close(self) -> None:
        """Let go of what the advisor holds; no answer is delivered afterwards."""
        ...


class InlineAdvisor:
    """Asks on the calling thread, for optimizers that answer at once.

    Args:
        optimizer: A started optimizer.
        space: What its suggestions must be members of.
        seed: The run's seed.
        clock: Seconds of the run's active time.
    """

    def __init__(
        self, optimizer: Optimizer, space: Searchspace, seed: int, clock: Callable[[], float]
    ) -> None:
        self._optimizer = optimizer
        self._space = space
        self._seed = seed
        self._clock = clock

    @cached_property
    def _draws(self) -> Draws:
        return Draws(self._seed)  # loads numpy, which workers do not wait for

    def suggest(self, number: int, pending: Sequence[Trial]) -> Answer:
        """Ask, and turn the answer into an event."""
        try:
            rng = self._draws.generator(number)
            answer = self._optimizer.ask(number, pending, rng)
            return self._event(number, answer)
        except Exception as error:  # noqa: BLE001 - a user's optimizer: it ends the run, said whole
            return self.failed(error)

    def tell(self, trial: Trial) -> OptimizerFailed | None:
        """Tell, and turn an exception into an event."""
        try:
            self._optimizer.tell(trial)
        except Exception as error:  # noqa: BLE001 - as above
            return self.failed(error)
        return None

    def close(self) -> None:
        """Nothing is held."""

    def failed(self, error: BaseException) -> OptimizerFailed:
        """The event that says what the optimizer raised, whole."""
        detail = TrialError(
            type=type(error).__name__,
            message=str(error),
            traceback="".join(traceback.format_exception(error)),
        )
        return OptimizerFailed(at=self._clock(), error=detail)

    def _event(self, number: int, answer: object) -> Answer:
        at = self._clock()
        match answer:
            case Suggestion(continues=None | int()):
                self._check(answer)
                return Suggested(
                    at=at,
                    trial=number if answer.continues is None else answer.continues,
                    hparams=answer.hparams,
                    budget=answer.budget,
                    state=answer.state,
                )
            case Wait():
                return WaitSuggested(at=at)
            case Exhausted(reason=str(reason)):
                return SearchExhausted(at=at, reason=reason)
            case _:
                msg = (
                    f"`ask` must return a Suggestion, Wait() or Exhausted(reason), but got "
                    f"{answer!r}."
                )
                raise OptimizerError(msg)

    def _check(self, suggestion: Suggestion) -> None:
        """Refuse what a worker could not run, or the log not hold."""
        if suggestion.continues is None and not self._space.allows(suggestion.hparams):
            msg = f"{dict(suggestion.hparams)!r} was suggested, which is not in the search space."
            raise OptimizerError(msg)
        budget = suggestion.budget
        if budget is not None and not _is_resource(budget):
            msg = f"`budget` must be a finite int or float > 0, or None, but got {budget!r}."
            raise OptimizerError(msg)
        if suggestion.state is not None:
            json.dumps(suggestion.state, allow_nan=False)


def _is_resource(budget: object) -> bool:
    if isinstance(budget, bool) or not isinstance(budget, (int, float)):
        return False
    return 0 < budget < math.inf


class ThreadedAdvisor:
    """Asks on a thread of its own, so that messages never wait for a model.

    Args:
        inner: Does the asking.
        deliver: Called on the advisor's thread with each answer.
        preload: Modules to load beside it, as soon as the first workers have something to do.
    """

    def __init__(
        self,
        inner: InlineAdvisor,
        deliver: Callable[[Answer], None],
        preload: Sequence[str] = (),
    ) -> None:
        self._inner = inner
        self._deliver = deliver
        self._preload = preload
        self._jobs: queue.SimpleQueue[tuple[int, Sequence[Trial]] | Trial | None]
        self._jobs = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="maggy-optimizer", daemon=True)
        self._thread.start()

    def suggest(self, number: int, pending: Sequence[Trial]) -> None:
        """Put the question in line; the answer is delivered."""
        self._jobs.put((number, [trial.snapshot() for trial in pending]))

    def tell(self, trial: Trial) -> None:
        """Put the news in line, before any later question."""
        self._jobs.put(trial.snapshot())

    def close(self) -> None:
        """Forget what is in line and deliver nothing more; a running fit is left to its end."""
        self._closed = True
        self._jobs.put(None)

    def _work(self) -> None:
        try:
            with SINGLE:
                for done in itertools.count():
                    if done == _JOBS_BEFORE_LOADING:
                        threading.Thread(target=self._load, daemon=True).start()
                    if (job := self._jobs.get()) is None or self._closed:
                        return
                    self._pass_on(self._do(job))
        except BaseException as error:  # noqa: BLE001 - a run must not wait for a dead thread
            self._pass_on(self._inner.failed(error))

    def _load(self) -> None:
        for name in self._preload:
            importlib.import_module(name)

    def _do(self, job: tuple[int, Sequence[Trial]] | Trial) -> Answer | None:
        return self._inner.suggest(*job) if isinstance(job, tuple) else self._inner.tell(job)

    def _pass_on(self, event: Answer | None) -> None:
        if event is not None and not self._closed:
            self._deliver(event)
