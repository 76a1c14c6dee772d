"""Reads the earlier runs that a search starts from, and says in a sentence what it took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from maggy.core.earlier import adapt, to_json
from maggy.core.summary import Summary
from maggy.errors import ConfigError
from maggy.store.folder import RunFolder
from maggy.store.sqlite import SqliteLog

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from maggy.config import OptimizationConfig
    from maggy.contracts import EarlierRun
    from maggy.core.earlier import Adapted
    from maggy.trial import Json

__all__ = ["WarmStart", "read_earlier"]

_MOST = 256
"""Trials kept of one run."""
_MOST_TOGETHER = 1024
"""Trials kept of all runs together, an equal part of each; 4 at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmStart:
    """What a search knows of earlier runs.

    Attributes:
        runs: In terms of the new space; those of which nothing fits are not among them.
        evidence: The same for the log (``core.earlier.to_json``).
        notes: One sentence on what was taken from which run, and what was not; or none.
    """

    runs: Sequence[EarlierRun] = ()
    evidence: Sequence[Json] = ()
    notes: Sequence[str] = ()


def read_earlier(config: OptimizationConfig) -> WarmStart:
    """What the earlier runs of a config say about its search space.

    Raises:
        ConfigError: A run was searched in the other direction.
        SearchspaceError: A constraint raised.
        RunError: A run's log is damaged.
    """
    if not config.warm_start:
        return WarmStart()
    most = max(min(_MOST, _MOST_TOGETHER // len(config.warm_start)), 4)
    parts, runs = [], []
    for path in config.warm_start:
        summary, name = _fold(path)
        _check_direction(summary, name, config.direction)
        adapted = adapt(summary, name, config.space, config.direction, most)
        parts.append(_told(adapted, summary, config.optimization_key))
        if adapted.run.trials:
            runs.append(adapted.run)
    return WarmStart(
        runs=runs,
        evidence=to_json(runs, config.direction),
        notes=[f"Warm start from {'; '.join(parts)}."],
    )


def _fold(path: Path) -> tuple[Summary, str]:
    """The run and its name; of each learning curve only the ends are read."""
    folder = RunFolder(path)
    summary = Summary()
    with SqliteLog.open(folder.database) as log:
        for event in log.outline():
            summary.apply(event)
    return summary, f"{folder.name}/{folder.id}"


def _check_direction(summary: Summary, name: str, direction: str) -> None:
    earlier = summary.config.get("direction", direction)
    if earlier != direction:
        msg = (
            f"`warm_start` must name runs of the same direction, but {name} was searched with "
            f"direction={earlier!r} and this search has {direction!r}: what was best there would "
            f"count as worst here. Leave the run out, or search with direction={earlier!r} and "
            f"return the metric with that sign."
        )
        raise ConfigError(msg)


def _told(adapted: Adapted, summary: Summary, key: str) -> str:
    """A clause on one run: how many of its trials are used, and why others are not."""
    told = f"{adapted.run.name}: {len(adapted.run.trials)} of {adapted.trials} trials"
    reasons = [f"{count} {reason}" for reason, count in sorted(adapted.left_out.items())]
    details = [f"left out: {', '.join(reasons)}"] if reasons else []
    details += [
        f"{name!r} is new, {'with its default' if default else 'its values spread evenly'}"
        for name, default in adapted.new.items()
    ]
    metric = summary.config.get("optimization_key", key)
    if metric != key:
        details.append(f"its metric is {metric!r}, not {key!r}")
    return f"{told} ({'; '.join(details)})" if details else told
