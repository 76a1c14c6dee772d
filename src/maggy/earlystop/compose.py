"""Policies made of policies: any of them may stop a trial, or all of them together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maggy.contracts import Decision, StoppingPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from maggy.trial import Trial

__all__ = ["AllOf", "AnyOf"]

_GO_ON = Decision(stop=False)


class AnyOf:
    """Stops a trial as soon as one of the policies would; its sentence is the first one's.

    Args:
        policies: One or more.
    """

    def __init__(self, *policies: StoppingPolicy) -> None:
        self.policies = _checked(policies)

    def __repr__(self) -> str:
        return f"AnyOf({', '.join(map(repr, self.policies))})"

    def finished(self, trial: Trial) -> None:
        """Tell every policy."""
        for policy in self.policies:
            policy.finished(trial)

    def decide(self, trial: Trial) -> Decision:
        """Ask every policy, so that each sees every report; the first that stops decides."""
        decisions = [policy.decide(trial) for policy in self.policies]
        return next((decision for decision in decisions if decision.stop), _GO_ON)


class AllOf:
    """Stops a trial when all of the policies would at the same report; tells all their reasons.

    Args:
        policies: One or more.
    """

    def __init__(self, *policies: StoppingPolicy) -> None:
        self.policies = _checked(policies)

    def __repr__(self) -> str:
        return f"AllOf({', '.join(map(repr, self.policies))})"

    def finished(self, trial: Trial) -> None:
        """Tell every policy."""
        for policy in self.policies:
            policy.finished(trial)

    def decide(self, trial: Trial) -> Decision:
        """Ask every policy; the threshold is the one that was easiest to beat."""
        decisions = [policy.decide(trial) for policy in self.policies]
        if not all(decision.stop for decision in decisions):
            return _GO_ON
        reasons: list[str] = []
        losses: dict[str, float] = {}
        for number, decision in enumerate(decisions):
            names = {name: f"{name}_{number}" for name in decision.losses}
            reasons.append(_renamed(decision, names))
            losses |= {names[name]: loss for name, loss in decision.losses.items()}
        reason = "; and ".join(reasons if losses else [each.reason for each in decisions])
        thresholds = [each.threshold for each in decisions if each.threshold is not None]
        return Decision(
            stop=True, reason=reason, threshold=max(thresholds, default=None), losses=losses
        )


def _checked(policies: Sequence[object]) -> tuple[StoppingPolicy, ...]:
    checked = tuple(policy for policy in policies if isinstance(policy, StoppingPolicy))
    if not policies or len(checked) < len(policies):
        msg = (
            f"give one or more policies, objects with `finished(trial)` and `decide(trial)`, but "
            f"got {policies!r}."
        )
        raise TypeError(msg)
    return checked


def _renamed(decision: Decision, names: Mapping[str, str]) -> str:
    """The reason with other names in its braces; one without losses is not filled in later."""
    if not decision.losses:
        return decision.reason.replace("{", "{{").replace("}", "}}")
    return decision.reason.format(**{old: f"{{{new}}}" for old, new in names.items()})
