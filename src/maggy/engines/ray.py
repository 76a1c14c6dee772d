"""Agents as Ray actors: one long-lived actor for each slot.

Ray places the actors, shows them their GPUs, and tells which of them are gone; everything else
goes over the agents' own connections.  An actor is never restarted by Ray: another one takes its
slot.  Actors that find no room wait, so nodes that join are used.

A Ray that was started before the run is used and left as it is; without one, a local Ray is
started for the run, or the cluster is joined that ``RAY_ADDRESS`` names, and left afterwards.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from maggy.engines.code import carry, pack
from maggy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import ModuleType

    from maggy.config import OptimizationConfig
    from maggy.engines.launcher import Desk, Invitation

__all__ = ["RayLauncher"]

logger = logging.getLogger(__name__)

_TASK = "maggy.engines.ray_task:serve"
_LOOK = 0.5
"""Seconds between two looks at what the run wants, while no actor ends."""
_BACK_OFF = 0.1
"""Seconds before an actor that ended is replaced; doubles while actors end soon."""
_LONGEST_BACK_OFF = 30.0
_SOON = 30.0
"""Seconds: an actor that lasted longer had a working agent, or waited for room."""
_HOPELESS = 3
"""So many actors in a row that end soon, by an error of Python's, mean that none will work."""
_GRACE = 2.0
"""Seconds that agents which were told to leave get before their actors are killed."""
_MOST = 300
"""The longest reason, characters."""


class RayLauncher:
    """See ``maggy.engines.launcher.Launcher``.

    Args:
        config: The options of the run.

    Raises:
        ConfigError: Ray is not installed, or cannot be reached.
    """

    def __init__(self, config: OptimizationConfig) -> None:
        self._ray = _import_ray()
        asked = config.resources or {}
        self._cpus, self._gpus = int(asked.get("cpu", 1)), float(asked.get("gpu", 0))
        self._serve = carry(pack(config.py_files), _TASK)
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._leave_ray: Callable[[], object] = bool
        self._started_ray = not self._ray.is_initialized()
        if self._started_ray:
            self._start_ray()
            self._leave_ray = weakref.finalize(self, self._ray.shutdown)  # if no run begins, too

    def slots(self) -> int:
        """How many actors the cluster has room for, were it idle.

        Raises:
            ConfigError: No node has what one worker asks for.
        """
        per_node = [self._fit(node["Resources"]) for node in self._ray.nodes() if node["Alive"]]
        if sum(per_node):
            return sum(per_node)
        self._leave_ray()
        wanted = f"{self._cpus} cores" + (f" and {self._gpus:g} GPUs" if self._gpus else "")
        msg = (
            f"each worker asks for {wanted}, and none of the {len(per_node)} nodes of this Ray "
            "cluster has that. Ask for less in `resources`, or start Ray with more."
        )
        raise ConfigError(msg)

    def notes(self, invitation: Invitation) -> list[str]:
        """Nothing that the run's other news do not say."""
        return []

    def advertise(self) -> tuple[str, str]:
        """This node's address in the cluster; with a Ray of our own, nobody else need know."""
        if self._started_ray and len(self._ray.nodes()) == 1:
            return "127.0.0.1", "127.0.0.1"
        host = str(self._ray.util.get_node_ip_address())
        return host, host

    def open(self, invitation: Invitation, desk: Desk, count: int) -> None:
        """Have so many actors started."""
        self._thread = threading.Thread(
            target=self._oversee, args=(invitation, desk, count), name="maggy-ray", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Kill the actors that have not ended by themselves."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        self._leave_ray()

    def _start_ray(self) -> None:
        address = os.environ.get("RAY_ADDRESS")
        try:
            self._ray.init(
                address=address or "local",
                log_to_driver=False,
                include_dashboard=None if address else False,
                logging_level=logging.WARNING,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            msg = f"Ray cannot be started: {error}. Call ray.init() before, as you need it."
            raise ConfigError(msg) from error

    def _fit(self, resources: dict[str, float]) -> int:
        cpus = int(resources.get("CPU", 0)) // self._cpus
        if not self._gpus:
            return cpus
        gpus = resources.get("GPU", 0.0)
        whole = self._gpus >= 1
        return min(cpus, int(gpus / self._gpus) if whole else int(gpus) * round(1 / self._gpus))

    def _oversee(self, invitation: Invitation, desk: Desk, count: int) -> None:
        """Keep the actors going, until ``close``; on a thread of its own."""
        try:
            self._keep_going(invitation, desk, count)
        except Exception as error:
            logger.exception("Ray starts no more actors: it failed")
            reason = f"Ray failed, and starts no more actors: {type(error).__name__}: {error}."
            while not self._closing.wait(_LOOK):  # those that are there may go on to the end
                desk.hopeless(reason)

    def _keep_going(self, invitation: Invitation, desk: Desk, count: int) -> None:
        actor = _actor_class(self._ray, self._serve, self._cpus, self._gpus)
        slots = [_Slot(f"ray-{number}") for number in range(count)]
        failures = 0
        while not self._closing.is_set():
            now = time.monotonic()
            for slot in slots:
                if slot.run is None and now >= slot.due:
                    slot.start(actor, invitation, self._cpus, now)
            for slot in self._ended(slots):
                failure = _outcome(self._ray, slot)
                late = time.monotonic() - slot.began > _SOON
                failures = 0 if late else failures + failure.raised
                slot.rest(late=late)
                desk.vanished(slot.name, failure.reason)
                if failures >= _HOPELESS:
                    desk.hopeless(f"Ray could not run any agent: {failure.reason}.")
        self._end(slots)

    def _ended(self, slots: Sequence[_Slot]) -> Iterator[_Slot]:
        """The slots whose actor has ended; waits a moment for the first one."""
        running = {slot.run: slot for slot in slots if slot.run is not None}
        if not running:
            self._closing.wait(_BACK_OFF)
            return
        done, _ = self._ray.wait(list(running), num_returns=1, timeout=_LOOK)
        for run in done:
            yield running[run]

    def _end(self, slots: Sequence[_Slot]) -> None:
        runs = [slot.run for slot in slots if slot.run is not None]
        if runs:
            self._ray.wait(runs, num_returns=len(runs), timeout=_GRACE)
        for slot in slots:
            if slot.actor is not None:
                with contextlib.suppress(ValueError):  # the actor is gone
                    self._ray.kill(slot.actor)


@dataclass(frozen=True, slots=True)
class _Failure:
    """How an actor ended; ``raised``: by an error of Python's."""

    reason: str
    raised: bool = False


class _Slot:
    """One place for an actor, and the actor in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.actor: Any = None
        self.run: Any = None
        self.began = 0.0
        self.due = 0.0
        self._delay = _BACK_OFF

    def start(self, actor: Any, invitation: Invitation, threads: int, now: float) -> None:
        """Have an actor started here, as soon as there is room."""
        self.actor = actor.remote()
        self.run = self.actor.serve.remote(invitation.bootstrap(self.name), threads)
        self.began = now

    def rest(self, *, late: bool) -> None:
        """The actor is gone: wait before the next one, the longer the more of them end soon."""
        self.actor = self.run = None
        self._delay = _BACK_OFF if late else self._delay
        self.due = time.monotonic() + self._delay
        self._delay = min(2 * self._delay, _LONGEST_BACK_OFF)


def _actor_class(ray: ModuleType, serve: Callable[..., Any], cpus: int, gpus: float) -> Any:
    """The actor, sent by value: maggy need not be installed where it runs."""

    class MaggyAgent:
        def serve(self, bootstrap: dict[str, Any], threads: int) -> None:
            serve(bootstrap, threads)

    options = {"num_cpus": cpus, "num_gpus": gpus, "max_restarts": 0, "max_task_retries": 0}
    return ray.remote(**options)(MaggyAgent)


def _outcome(ray: ModuleType, slot: _Slot) -> _Failure:
    try:
        ray.get(slot.run)
    except ray.exceptions.RayTaskError as error:  # what the agent raised
        cause = str(error.cause or error).strip().splitlines()
        return _Failure((cause[-1] if cause else type(error).__name__)[:_MOST], raised=True)
    except ray.exceptions.RayError as error:
        first = str(error).strip().splitlines()
        return _Failure((first[0] if first else type(error).__name__).rstrip(".")[:_MOST])
    return _Failure("its Ray actor ended")


def _import_ray() -> ModuleType:
    try:
        import ray
    except ImportError as error:
        msg = "engine='ray' needs Ray, which is not installed. Install maggy[ray]."
        raise ConfigError(msg) from error
    module: ModuleType = ray
    return module
