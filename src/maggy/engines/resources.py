"""What each worker of this machine gets to itself: GPUs and cores.

A worker is held to its GPUs by the environment variables that every framework respects, set before
it starts.  GPUs are found without a vendor's tool.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from maggy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from maggy.trial import Json

__all__ = ["Allotment", "Gpus", "Shares", "allot", "find_gpus"]

_CUDA, _HIP, _ROCR = "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"
_NAMES = ("GPU-", "MIG-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """The GPUs that this process may use.

    Attributes:
        devices: Their names as the variables take them: indices, UUIDs or MIG names.
        variables: The environment variables that hide the others from a process.
        source: How they were found, or looked for; a clause.
    """

    devices: tuple[str, ...]
    variables: tuple[str, ...]
    source: str


def find_gpus(environ: Mapping[str, str] | None = None, *, root: Path = Path("/")) -> Gpus:
    """Look for GPUs: in the variables that name them, else in what the drivers show.

    Args:
        environ: The environment to look at; None means this process's.
        root: Where ``dev``, ``proc`` and ``sys`` are mounted.
    """
    environ = os.environ if environ is None else environ
    count = _count_nvidia(root)
    variables: tuple[str, ...] = (_CUDA,)
    if not count and (_count_amd(root) or _HIP in environ or _ROCR in environ):
        # ROCR hides GPUs below HIP, which counts the others anew; HIP reads CUDA's variable too
        count, variables = _count_amd(root), (_HIP, _CUDA)
        if _ROCR in environ:
            count = len(_listed(environ[_ROCR], count))
    for name in variables:
        if name in environ:
            devices = _listed(environ[name], count)
            source = f"{name} is {environ[name]!r}"
            if count and len(devices) < len(environ[name].split(",")):
                source += f", and the driver shows {count}"
            return Gpus(devices=devices, variables=variables, source=source)
    source = (
        "CUDA_VISIBLE_DEVICES is not set, and /proc/driver/nvidia/gpus, /dev/nvidia[0-9]* and "
        f"/sys/class/kfd show {count or 'none'}"
    )
    devices = tuple(str(index) for index in range(count))
    return Gpus(devices=devices, variables=variables, source=source)


def _listed(text: str, count: int) -> tuple[str, ...]:
    """The devices of such a variable: as the drivers do, up to the first that is none.

    Args:
        text: The variable's value.
        count: How many GPUs there are; 0: not known.
    """
    devices: dict[str, None] = {}
    for entry in map(str.strip, text.split(",")):
        index = int(entry) if entry.isascii() and entry.isdecimal() else None
        if index is None and not entry.startswith(_NAMES):
            break
        if index is not None and count and index >= count:
            break
        devices[entry] = None
    return tuple(devices)


def _count_nvidia(root: Path) -> int:
    """In a container the driver may show GPUs that have no device file here, and none of those."""
    shown = len(list((root / "proc/driver/nvidia/gpus").glob("*")))
    files = len(list((root / "dev").glob("nvidia[0-9]*")))
    return min(shown, files) if shown and files else max(shown, files)


def _count_amd(root: Path) -> int:
    """The nodes of the compute driver that are GPUs, as far as they have a device file here."""
    if not (root / "dev/kfd").exists():
        return 0
    found = 0
    for node in (root / "sys/class/kfd/kfd/topology/nodes").glob("*/gpu_id"):
        try:
            found += node.read_text().strip() not in ("", "0")
        except OSError:  # a GPU that was given to another container
            continue
    files = len(list((root / "dev/dri").glob("renderD*")))
    return min(found, files) if files else found


@dataclass(frozen=True, slots=True, kw_only=True)
class Allotment:
    """What the workers of a run get; without arguments: all of them everything.

    Attributes:
        asked: The config's ``resources``.
        limit: How many workers have room at a time, or None.
        shares: The GPUs of each of them; empty if none were asked for.
        variables: The environment variables that hide the other GPUs.
        threads: How many threads each worker computes with, or None.
        source: How the GPUs were found.
    """

    asked: Mapping[str, float] = field(default_factory=dict)
    limit: int | None = None
    shares: Sequence[tuple[str, ...]] = ()
    variables: tuple[str, ...] = ()
    threads: int | None = None
    source: str = ""

    def workers(self, wanted: int | None, default: int) -> int:
        """How many workers a run may have.

        Args:
            wanted: The config's ``num_workers``.
            default: How many it is without that, if all have room.

        Raises:
            ConfigError: More are wanted than have room.
        """
        if self.limit is None:
            return default if wanted is None else wanted
        if wanted is not None and wanted > self.limit:
            msg = (
                f"`num_workers` is {wanted}, but `resources={dict(self.asked)!r}` has room for "
                f"{self.limit} here. Leave `num_workers` out, or ask for less for each."
            )
            raise ConfigError(msg)
        return min(default, self.limit) if wanted is None else wanted

    def describe(self, workers: int) -> Mapping[str, Json] | None:
        """For the log: what was asked for, and the GPUs that each of so many workers got."""
        if not self.asked:
            return None
        shares = [list(share) for share in self.shares[:workers]]
        return {**self.asked, **({"gpus": shares, "found": self.source} if shares else {})}

    def notes(self, workers: int) -> list[str]:
        """The same for people; sentences without a full stop."""
        if not self.shares:
            return []
        shares = self.shares[:workers]
        if self.asked["gpu"] >= 1:
            names = "; ".join(" and ".join(share) for share in shares)
            return [f"GPUs, one worker's after the other's: {names}"]
        devices = dict.fromkeys(device for share in shares for device in share)
        most = round(1 / self.asked["gpu"])
        return [f"GPUs, each for up to {most} workers: {'; '.join(devices)}"]


def allot(
    resources: Mapping[str, float] | None, *, cores: int, gpus: Gpus | None = None
) -> Allotment:
    """Share out this machine.

    Args:
        resources: The config's option, checked.
        cores: Cores that this process may use.
        gpus: Its GPUs; None: they are looked for, if any are asked for.

    Raises:
        ConfigError: Not even one worker has room.
    """
    if resources is None:
        return Allotment()
    threads = int(resources["cpu"]) if "cpu" in resources else None
    limits = [] if threads is None else [cores // threads]
    if limits == [0]:
        msg = (
            f"`resources` asks for {threads} cores for each worker, but this process may use "
            f"{cores}: its affinity and its container's quota count. Ask for less."
        )
        raise ConfigError(msg)
    if "gpu" not in resources:
        return Allotment(asked=resources, limit=limits[0], threads=threads)
    gpus = find_gpus() if gpus is None else gpus
    shares = _shares(gpus, resources["gpu"])
    return Allotment(
        asked=resources,
        limit=min([*limits, len(shares)]),
        shares=shares,
        variables=gpus.variables,
        threads=threads,
        source=gpus.source,
    )


def _shares(gpus: Gpus, amount: float) -> list[tuple[str, ...]]:
    """The GPUs of each worker that has room; few workers on shared GPUs are spread out."""
    devices, each = gpus.devices, max(1, int(amount))
    if len(devices) < each:
        found = f"{len(devices)} was" if len(devices) == 1 else f"{len(devices) or 'none'} were"
        msg = (
            f"`resources` asks for {amount:g} GPUs for each worker, but {found} found: "
            f"{gpus.source}. If there are more, name them in {_CUDA}, such as "
            f"{_CUDA}=0,1; or ask for less."
        )
        raise ConfigError(msg)
    if amount < 1:
        return [(device,) for _ in range(round(1 / amount)) for device in devices]
    starts = range(0, len(devices) - each + 1, each)
    return [devices[start : start + each] for start in starts]


class Shares:
    """Who has which share; a worker that replaces a lost one gets what that one had.

    Safe to use from any thread.
    """

    def __init__(self, allotment: Allotment) -> None:
        self._allotment = allotment
        self._lock = threading.Lock()
        self._taken: dict[str, int] = {}

    def take(self, worker: str) -> dict[str, str]:
        """The environment variables of a new worker, who gets the first share that is free."""
        if not self._allotment.shares:
            return {}
        with self._lock:
            taken = set(self._taken.values())
            free = (i for i in range(len(self._allotment.shares)) if i not in taken)
            share = self._taken[worker] = next(free)
        devices = ",".join(self._allotment.shares[share])
        return dict.fromkeys(self._allotment.variables, devices)

    def give_back(self, worker: str) -> None:
        """This worker's process is gone."""
        with self._lock:
            self._taken.pop(worker, None)
