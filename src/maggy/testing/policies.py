"""The tests that every stopping policy passes; subclass ``PolicyContract`` to inherit them."""

from __future__ import annotations

import copy
import math
import pickle

from maggy.contracts import Decision, StoppingPolicy
from maggy.trial import Trial, TrialStatus

__all__ = ["PolicyContract"]


class PolicyContract:
    """What a policy must do, whatever it looks at.

    Subclass it in a test module and say how a policy is made::

        class TestMyPolicy(PolicyContract):
            def policy(self):
                return MyPolicy()
    """

    def policy(self) -> StoppingPolicy:
        """A new policy."""
        raise NotImplementedError

    def test_it_is_a_policy(self) -> None:
        """It has the methods of the contract."""
        assert isinstance(self.policy(), StoppingPolicy)

    def test_it_judges_before_anything_has_finished(self) -> None:
        """Without a peer it answers, and stops nothing without a reason."""
        self._check(self.policy().decide(_running([0.5])))

    def test_it_takes_every_kind_of_end(self) -> None:
        """Completed, stopped and failed trials, with a curve and without."""
        policy = self.policy()
        for number, (status, losses) in enumerate(
            [
                (TrialStatus.COMPLETED, [3.0, 2.0]),
                (TrialStatus.COMPLETED, []),
                (TrialStatus.STOPPED, [9.0]),
                (TrialStatus.FAILED, []),
                (TrialStatus.FAILED, [4.0]),
            ]
        ):
            policy.finished(_ended(number, losses, status))
        self._check(policy.decide(_running([1.0])))

    def test_it_survives_huge_and_equal_losses(self) -> None:
        """Sums that overflow and curves without a difference raise nothing."""
        policy = self.policy()
        for number in range(12):
            policy.finished(_ended(number, [1e308] * 5, TrialStatus.COMPLETED))
        for losses in ([1e308], [1e308] * 5, [-1e308, 1e308]):
            self._check(policy.decide(_running(losses)))

    def test_it_never_stops_a_trial_that_leads_from_its_first_report(self) -> None:
        """The best trial so far, at every step, always goes on."""
        policy = self.policy()
        for number in range(12):
            policy.finished(_ended(number, [5.0, 4.0, 3.0 + number], TrialStatus.COMPLETED))
        for length in (1, 2, 3):
            assert not policy.decide(_running([2.0, 1.0, 0.0][:length])).stop

    def test_it_changes_nothing_that_it_is_shown(self) -> None:
        """Trials belong to the core."""
        policy = self.policy()
        ended, running = _ended(0, [2.0, 1.0], TrialStatus.COMPLETED), _running([9.0, 9.0])
        before = copy.deepcopy((ended, running))
        policy.finished(ended)
        policy.decide(running)
        assert (ended, running) == before

    def test_the_same_story_gives_the_same_decisions(self) -> None:
        """A policy is a fold: replay rebuilds it, and so does a copy."""
        first, second = self.policy(), self.policy()
        for number in range(15):
            trial = _ended(number, [float(number % 4), float(number % 7)], TrialStatus.COMPLETED)
            first.finished(trial)
            second.finished(trial)
            running = _running([number / 3.0, number / 4.0])
            assert first.decide(running) == second.decide(running)
        copied = pickle.loads(pickle.dumps(first))  # noqa: S301 - our own bytes
        assert copied.decide(_running([6.0])) == first.decide(_running([6.0]))

    @staticmethod
    def _check(decision: Decision) -> None:
        assert isinstance(decision, Decision)
        assert decision.reason.format(**decision.losses) or not decision.stop
        assert decision.threshold is None or not math.isnan(decision.threshold)


def _running(losses: list[float]) -> Trial:
    steps = list(range(len(losses)))
    return Trial(id=99, hparams={"x": 1.0}, status=TrialStatus.RUNNING, steps=steps, losses=losses)


def _ended(number: int, losses: list[float], status: TrialStatus) -> Trial:
    loss = (losses[-1] if losses else 1.0) if status is TrialStatus.COMPLETED else None
    return Trial(
        id=number,
        hparams={"x": float(number)},
        status=status,
        steps=list(range(len(losses))),
        losses=losses,
        loss=loss,
    )
