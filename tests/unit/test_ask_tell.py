"""A search driven by hand gives what ``lagom`` gives, and keeps its rules."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from maggy import OptimizationConfig, Searchspace, experiment
from maggy.errors import ConfigError, MaggyError, OptimizerError, OutcomeError
from maggy.trial import Exhausted, Suggestion, Wait


def config(**options: Any) -> OptimizationConfig:
    space = Searchspace(x=("DOUBLE", [0.0, 1.0]), n=("INTEGER", [1, 4]))
    defaults = {"num_trials": 5, "searchspace": space, "direction": "min", "seed": 3}
    defaults["optimizer"] = "randomsearch"
    return OptimizationConfig(**{**defaults, **options})


def _seeded(seed: int) -> float:
    return float(seed)


def test_it_gives_the_trials_of_lagom(tmp_path: Any) -> None:
    """The same seed: the same configurations, ids and seeds."""
    search = experiment.ask_tell(config())
    asked = []
    while (trial := search.ask()) is not None:
        asked.append((trial.id, trial.hparams, float(trial.seed)))
        search.tell(trial, float(trial.seed))
    result = experiment.lagom(_seeded, config(engine="inline", folder=tmp_path, quiet=True))
    assert asked == [(t.id, t.hparams, t.value) for t in result.trials]
    assert search.done
    assert search.result["best_val"] == result["best_val"]
    assert search.result.outcome == "completed"


def test_several_trials_may_be_open_and_told_in_any_order() -> None:
    """None means: tell one first; after the last one the search is done."""
    search = experiment.ask_tell(config(num_trials=3))
    trials = [search.ask() for _ in range(4)]
    assert trials[3] is None
    done_before = search.done
    assert not done_before
    for trial in (trials[2], trials[0], trials[1]):
        assert trial is not None
        search.tell(trial, trial.hparams["x"])  # type: ignore[arg-type]
    assert search.done
    assert search.ask() is None
    assert search.result["num_trials"] == 3


def test_a_trial_is_told_once() -> None:
    """Twice, or to another search, is refused with the trial's number."""
    search, other = experiment.ask_tell(config()), experiment.ask_tell(config())
    trial = search.ask()
    assert trial is not None
    with pytest.raises(MaggyError, match="trial 0 is not running"):
        other.tell(trial, 1.0)
    search.tell(trial, 1.0)
    with pytest.raises(MaggyError, match="trial 0 is not running"):
        search.tell(trial, 1.0)


def test_errors_are_results() -> None:
    """Failed trials are counted; a value that is no number is refused and changes nothing."""
    search = experiment.ask_tell(config(num_trials=3))
    for error in (ValueError("bad"), "out of memory"):
        trial = search.ask()
        assert trial is not None
        search.tell(trial, error=error)
    trial = search.ask()
    assert trial is not None
    with pytest.raises(OutcomeError, match="finite"):
        search.tell(trial, math.nan)
    with pytest.raises(MaggyError, match="without a value or an error"):
        search.tell(trial)
    search.tell(trial, 2.0)
    result = search.result
    assert (result["failed"], result["best_val"]) == (2, 2.0)
    assert [str(t.error) for t in result.trials[:2]] == ["ValueError: bad", "Error: out of memory"]


def test_wrong_arguments_are_named() -> None:
    """A step that is none, something that is no trial: refused, and nothing changes."""
    search = experiment.ask_tell(config())
    trial = search.ask()
    assert trial is not None
    for step in ("a", 1.5, -1):
        with pytest.raises(OutcomeError, match="`step` is "):
            search.report(trial, step, 1.0)  # type: ignore[arg-type]
    with pytest.raises(OutcomeError, match="`value` is 'a'"):
        search.report(trial, 0, "a")  # type: ignore[arg-type]
    with pytest.raises(MaggyError, match="must be what `ask` returned, but got 0"):
        search.tell(0, 1.0)  # type: ignore[arg-type]
    assert search.result.trials[0].curve.steps == []
    assert repr(search) == "Search(asked=1, running=1, done=False)"


def test_reports_are_judged() -> None:
    """``report`` says when to stop; the trial is then told without a value."""
    search = experiment.ask_tell(config(num_trials=8, es_min=3))
    for value in (1.0, 2.0, 3.0):
        trial = search.ask()
        assert trial is not None
        assert not search.report(trial, 0, value)
        search.tell(trial, value)
    trial = search.ask()
    assert trial is not None
    assert search.report(trial, 0, 9.0)
    assert "worse than 2" in trial.stop_reason
    search.tell(trial)
    assert search.result["early_stopped"] == 1
    assert search.result.trials[3].value == 9.0


class Stubborn:
    """Answers what it is told to."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def start(self, context: Any) -> None:
        """Nothing to do."""

    def ask(self, number: int, pending: Any, rng: Any) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def tell(self, trial: Any) -> None:
        """Nothing to learn."""


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (RuntimeError("no idea"), "RuntimeError: no idea"),
        ({"x": 1.0}, "must return a Suggestion"),
        (Wait(), "no trial is unfinished"),
    ],
)
def test_an_optimizer_that_fails_is_an_error(answer: Any, message: str) -> None:
    """What it raised, or what it answered instead of a suggestion, is said whole."""
    search = experiment.ask_tell(config(optimizer=Stubborn(answer)))
    with pytest.raises(OptimizerError, match=message):
        search.ask()


def test_a_suggestion_outside_the_space_is_an_error() -> None:
    """A user's optimizer cannot slip in what the space does not hold."""
    from maggy.trial import Suggestion

    outside = Suggestion(hparams={"x": 7.0, "n": 1})
    search = experiment.ask_tell(config(optimizer=Stubborn(outside)))
    with pytest.raises(OptimizerError, match="not in the search space"):
        search.ask()


def test_exhaustion_ends_it_with_a_sentence() -> None:
    """A finite space is finished, not repeated."""
    search = experiment.ask_tell(config(optimizer=Stubborn(Exhausted("All were tried."))))
    assert search.ask() is None
    assert search.done
    assert (search.result.outcome, search.result.reason) == ("exhausted", "All were tried.")


def test_something_else_than_a_config_is_refused() -> None:
    """With what to write."""
    with pytest.raises(ConfigError, match="Write OptimizationConfig"):
        experiment.ask_tell({"num_trials": 3})  # type: ignore[arg-type]


def test_a_value_and_an_error_contradict_each_other() -> None:
    """Neither is silently ignored, and the trial is still there to be told."""
    search = experiment.ask_tell(config())
    trial = search.ask()
    assert trial is not None
    with pytest.raises(MaggyError, match="with both"):
        search.tell(trial, 0.5, error="no")
    search.tell(trial, 0.5)
    assert search.result.trials[0].value == 0.5


def test_asking_in_vain_leaves_nothing_behind() -> None:
    """Whoever polls while all trials are out costs nothing, and gets one after the next tell."""

    class OneAtATime:
        asked = 0

        def start(self, context: Any) -> None:
            pass

        def ask(self, number: int, pending: Any, rng: Any) -> Any:
            self.asked += 1
            return Wait() if pending else Suggestion(hparams={"x": 0.5, "n": 1})

        def tell(self, trial: Any) -> None:
            pass

    optimizer = OneAtATime()
    search = experiment.ask_tell(config(optimizer=optimizer))
    trial = search.ask()
    assert trial is not None
    assert not any(search.ask() for _ in range(100))
    assert optimizer.asked == 2
    assert len(search._summary.crew.lost) == 1
    search.tell(trial, 0.1)
    assert search.ask() is not None


def test_threads_may_share_a_search() -> None:
    """Each trial is handed out once and told once, whoever asks when."""
    search = experiment.ask_tell(config(num_trials=200, num_workers=4))
    seen: list[int] = []

    def work() -> None:
        while not search.done:
            trial = search.ask()
            if trial is not None:
                search.report(trial, 0, trial.seed)
                search.tell(trial, None if trial.stop_reason else trial.seed)
                seen.append(trial.id)

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(work) for _ in range(4)]:
            future.result(timeout=60)
    assert sorted(seen) == list(range(200))
    assert search.result["num_trials"] == 200
