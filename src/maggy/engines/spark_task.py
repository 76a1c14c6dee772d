"""What a Spark task of ours does, on the executor: be an agent in the slot that Spark gave it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from maggy.worker.agent import run_agent
from maggy.worker.processes import INSIDE_A_WORKER, thread_env

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from maggy.trial import Json

__all__ = ["environment", "given", "serve"]

_CUDA, _HIP = "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"


def serve(bootstrap: Mapping[str, Json], threads: int | None = None) -> None:
    """Serve the run with what Spark has given to this task, until it is over.

    Args:
        bootstrap: For ``run_agent``.
        threads: How many threads a trial computes with; None: as many as the task has cores.

    Raises:
        OSError: The driver cannot be reached any more, or does not want this agent: so the task
            fails.  Where it is a copy of another task, its success would end that one.
    """
    cores, gpus = given()
    count = threads or cores
    if not run_agent(bootstrap, environ=environment(count, gpus, os.environ)):
        msg = f"the driver at {bootstrap['host']} was not heard for too long."
        raise ConnectionError(msg)


def given() -> tuple[int, list[str]]:
    """How many cores Spark gave to this task, and the addresses of its GPUs."""
    from pyspark import TaskContext

    context = TaskContext.get()
    assert context is not None
    found = context.resources().get("gpu")
    return context.cpus(), [] if found is None else list(found.addresses)


def environment(threads: int, gpus: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """The environment variables that hold a worker to its share.

    Args:
        threads: How many threads it computes with.
        gpus: The addresses that Spark gave, which are what its discovery script printed; none: it
            sees the GPUs that this process sees.
        environ: This process's environment.
    """
    shares = {**thread_env(threads, 1, {}), INSIDE_A_WORKER: "1"}
    if not gpus:
        return shares
    names = [name for name in (_CUDA, _HIP) if name in environ] or [_CUDA]
    return {**shares, **{name: ",".join(_visible(gpus, environ.get(name))) for name in names}}


def _visible(gpus: Sequence[str], listed: str | None) -> Sequence[str]:
    """These GPUs as the variable names them.

    Where the variable hides some already, the addresses either are names in it, or count them.
    """
    if listed is None:
        return gpus
    names = [name.strip() for name in listed.split(",")]
    if all(gpu in names for gpu in gpus):
        return gpus
    if all(gpu.isdecimal() and int(gpu) < len(names) for gpu in gpus):
        return [names[int(gpu)] for gpu in gpus]
    return gpus
