"""The driver's end of the process that kills the workers when the driver is gone."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import threading

from maggy.worker import supervisor

__all__ = ["Supervisor"]

_log = logging.getLogger(__name__)

_RESTARTS = 10
"""How often a supervisor that died is replaced in one run."""

_UNGUARDED = "if the driver is killed now, workers may be left over"


class Supervisor:
    """The driver's end of the supervisor process, which is replaced when it dies.

    Every method may be called from any thread.

    Args:
        python: The interpreter to run it with.
        grace: Seconds that ``close`` gives it to leave by itself.

    Raises:
        OSError: It could not be started.
    """

    def __init__(self, python: str, *, grace: float = 10.0) -> None:
        self._grace = grace
        self._command = (python, "-S", "-P", supervisor.__file__, str(os.getpid()))
        self._lock = threading.Lock()
        self._groups: set[int] = set()
        self._closed = False
        self._restarts = 0
        self._thread = threading.Thread(
            target=self._keep_alive, name="maggy-supervisor", daemon=True
        )
        self._process = self._launch()
        self._thread.start()

    @property
    def pid(self) -> int:
        """The process id of the supervisor that watches now."""
        with self._lock:
            return self._process.pid

    def add(self, pgid: int) -> None:
        """Have this process group killed when the driver is gone."""
        with self._lock:
            self._groups.add(pgid)
            self._write(f"+{pgid}\n")

    def remove(self, pgid: int) -> None:
        """Forget a process group that was killed and not yet reaped."""
        with self._lock:
            self._groups.discard(pgid)
            self._write(f"-{pgid}\n")

    def close(self) -> None:
        """End the supervisor and reap it; may be called twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._write("quit\n")
        self._thread.join(self._grace)
        if self._thread.is_alive():  # somebody stopped it
            self._process.kill()
            self._thread.join()

    def _write(self, line: str) -> None:
        # A dead supervisor leaves a broken pipe; its successor is told everything.
        with contextlib.suppress(BrokenPipeError, ValueError):
            assert self._process.stdin is not None
            self._process.stdin.write(line.encode())

    def _launch(self) -> subprocess.Popen[bytes]:
        env = {
            k: v for k, v in os.environ.items() if not k.startswith("PYTHON") or k == "PYTHONHOME"
        }
        return subprocess.Popen(  # noqa: S603  our own interpreter
            self._command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=env,
            start_new_session=True,
        )

    def _keep_alive(self) -> None:
        while True:
            status = self._process.wait()
            with self._lock:
                assert self._process.stdin is not None
                self._process.stdin.close()
                if self._closed:
                    return
                if self._restarts == _RESTARTS:
                    _log.error(
                        "the supervisor of the workers died %d times (now with status %d): %s",
                        _RESTARTS + 1, status, _UNGUARDED,
                    )  # fmt: skip
                    return
                self._restarts += 1
                try:
                    self._process = self._launch()
                except OSError:
                    _log.exception(
                        "the supervisor of the workers cannot be replaced: %s", _UNGUARDED
                    )
                    return
                self._write("".join(f"+{pgid}\n" for pgid in self._groups))
                _log.warning(
                    "the supervisor of the workers died (status %d); another took over", status
                )
