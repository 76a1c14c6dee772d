"""Where the kernel's control groups (versions 1 and 2) keep the limits of this process."""

from __future__ import annotations

from pathlib import Path

__all__ = ["own_groups", "read_number"]


def own_groups(controller: str, *, root: Path = Path("/")) -> list[Path]:
    """The folders whose limits apply to this process, innermost first; empty where unknown.

    Every ancestor's limit applies too, and inside a container the innermost folder may be
    invisible; so this lists what exists from the own group up to the controller's mount.

    Args:
        controller: ``"cpu"`` or ``"memory"``.
        root: Where ``proc`` and ``sys`` are mounted.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    groups: list[Path] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / controllers
        own = Path(path.lstrip("/"))
        groups += [mount / folder for folder in (own, *own.parents) if (mount / folder).is_dir()]
    return list(dict.fromkeys(groups))


def read_number(path: Path) -> int | None:
    """The number in this file; None when there is no file or it says ``max`` (no limit)."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.lstrip("-").isdigit() else None
