"""What Spark says about a job that failed, in a clause."""

from __future__ import annotations

import re

__all__ = ["explain", "was_lost"]

_MOST = 500
_TRACEBACK = "Traceback (most recent call last):"
_STACK = re.compile(r"^\s+at [\w.$]+\(", re.MULTILINE)
_FRAME = re.compile(r"^( |\t|at )")
_JAVA_CLASS = re.compile(r"^(?:\w+\.)+[\w$]+(?:Exception|Error): ")
_HINT = re.compile(r"\.? Consider setting 'spark.*", re.DOTALL)
_STATE = re.compile(r" SQLSTATE: \w+$")
_LOST = re.compile(
    r"exited unexpectedly|ExecutorLostFailure|Executor heartbeat timed out|Remote RPC client|"
    r"Connection reset|Broken pipe|Worker lost|decommission|FetchFailed"
)
_LAST_FAILURE = re.compile(r"Lost task .*?: (.*)", re.DOTALL)


def explain(error: Exception) -> str:
    """The one thing to know, a clause without a full stop.

    An exception of Python's on an executor comes as the end of its traceback; anything else as
    Spark's own reason, without the JVM's stack.
    """
    text = str(error)
    java = getattr(error, "java_exception", None)
    if java is not None:
        text = str(java.toString())
    inner = _python_part(text)
    if inner is None:
        inner = _STACK.split(_last_failure(text))[0]
    inner = " ".join(inner.split())
    for noise in (_JAVA_CLASS, _HINT, _STATE):
        inner = noise.sub("", inner)
    inner = inner.rstrip(".")
    return inner if len(inner) <= _MOST else inner[:_MOST] + " ..."


def was_lost(error: Exception) -> bool:
    """True when a signal or the loss of a machine ended the task, rather than an error of its own.

    Such a job is worth another try; an error will come again.
    """
    text = str(error)
    return _TRACEBACK not in text and _LOST.search(text) is not None


def _last_failure(text: str) -> str:
    found = _LAST_FAILURE.search(text)
    return found[1] if found else text


def _python_part(text: str) -> str | None:
    """The last line of the last traceback, with the lines that belong to it."""
    _, found, rest = text.rpartition(_TRACEBACK)
    if not found:
        return None
    lines = _STACK.split(rest)[0].strip("\n").splitlines()
    begin = [number for number, line in enumerate(lines) if line and not _FRAME.match(line)]
    return "\n".join(lines[begin[0] :]) if begin else None
