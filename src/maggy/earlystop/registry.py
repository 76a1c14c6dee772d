"""The only place that knows stopping policies by name."""

from __future__ import annotations

from maggy.contracts import StoppingPolicy
from maggy.earlystop.median import MedianRule
from maggy.errors import ConfigError
from maggy.searchspace.naming import did_you_mean

__all__ = ["POLICY_NAMES", "resolve_policy"]

POLICY_NAMES = ("median", "none")


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


def _by_name(name: str, es_min: int) -> StoppingPolicy | None:
    match name.lower():
        case "median":
            return MedianRule(min_peers=max(3, es_min // 2))
        case "none":
            return None
        case unknown:
            names = " or ".join(map(repr, POLICY_NAMES))
            hint = did_you_mean(unknown, POLICY_NAMES)
            msg = f"`es_policy` must be {names} or a policy object, but got {name!r}. {hint}"
            raise ConfigError(msg)
