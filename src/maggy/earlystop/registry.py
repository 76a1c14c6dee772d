"""The only place that knows stopping policies by name."""

from __future__ import annotations

from maggy.contracts import StoppingPolicy
from maggy.earlystop.curve import CurveRule
from maggy.earlystop.median import MedianRule
from maggy.earlystop.patience import PatienceRule
from maggy.earlystop.percentile import PercentileRule
from maggy.errors import ConfigError
from maggy.searchspace.naming import did_you_mean

__all__ = ["POLICY_NAMES", "require_direction", "resolve_policy"]

POLICY_NAMES = ("median", "percentile", "patience", "curve", "none")


def resolve_policy(policy: object, *, es_min: int) -> StoppingPolicy | None:
    """The policy of that name, the object itself, or None for ``"none"``.

    Args:
        policy: A name of ``POLICY_NAMES`` in any case, or an object with ``finished`` and
            ``decide``.
        es_min: Trials that must have completed before anything is stopped.

    Raises:
        ConfigError: No such name, or the object lacks a method.
    """
    if isinstance(policy, str):
        return _by_name(policy, es_min)
    if isinstance(policy, type):
        msg = (
            f"`es_policy` must be a policy object, but got the class {policy.__name__}. "
            f"Write {policy.__name__}() with its options."
        )
        raise ConfigError(msg)
    if not isinstance(policy, StoppingPolicy):
        msg = (
            f"`es_policy` must have the methods `finished(trial)` and `decide(trial)`, but got "
            f"{policy!r}."
        )
        raise ConfigError(msg)
    return policy


def require_direction(policy: object, direction: str) -> None:
    """Refuse a policy whose bar is meant for the other direction of search.

    Args:
        policy: Any policy; only those with a ``direction``, and those made of them, are checked.
        direction: ``"max"`` or ``"min"``.

    Raises:
        ConfigError: It does not fit.
    """
    for part in getattr(policy, "policies", ()):
        require_direction(part, direction)
    wanted = getattr(policy, "direction", direction)
    if wanted != direction:
        msg = (
            f"{policy!r} is made for direction={wanted!r}, but the search has {direction=}. Give "
            f"`at_least` for a metric to be maximised, `at_most` for one to be minimised."
        )
        raise ConfigError(msg)


def _by_name(name: str, es_min: int) -> StoppingPolicy | None:
    peers = max(3, es_min // 2)
    match name.lower():
        case "median":
            return MedianRule(min_peers=peers)
        case "percentile":
            return PercentileRule(min_peers=peers)
        case "patience":
            return PatienceRule()
        case "curve":
            return CurveRule(min_peers=peers)
        case "none":
            return None
        case "threshold":
            msg = (
                "`es_policy='threshold'` does not say which value must be reached, and when. "
                "Write es_policy=ThresholdRule(step=10, at_least=0.5), or at_most for a metric "
                "to be minimised; from maggy.earlystop import ThresholdRule."
            )
            raise ConfigError(msg)
        case unknown:
            names = ", ".join(map(repr, POLICY_NAMES))
            hint = did_you_mean(unknown, POLICY_NAMES)
            msg = (
                f"`es_policy` must be one of {names}, or a policy object, but got {name!r}. {hint}"
            )
            raise ConfigError(msg)
