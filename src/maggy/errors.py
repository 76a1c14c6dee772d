"""Every exception of maggy, in one tree.

::

    MaggyError
    ├── ConfigError (ValueError)          a config, or a training function's signature, is wrong
    │   └── SearchspaceError              a hyperparameter or a search space is wrong
    ├── UnpicklableError (TypeError)      the training function or its data cannot be sent
    ├── OutcomeError (ValueError)         a training function returned or broadcast nonsense
    ├── CheckpointError (OSError)         a checkpoint could not be written or read
    ├── OptimizerError                    an optimizer or a stopping policy raised
    ├── TransitionError                   maggy itself broke its rules: a bug, with the story
    ├── RunError (ValueError)             a run's folder or event log cannot be used
    ├── WireError (ConnectionError)       the peer is not who it should be, or speaks nonsense
    └── ExperimentFailed                  every first trial failed alike; carries ``.result``
    EarlyStopException (BaseException)    leaves a training function that was told to stop
    ExperimentInterrupted (KeyboardInterrupt)   Ctrl-C; carries ``.result``

The last two stand outside the tree because they have to pass through ``except Exception`` in the
code of users.  All of them survive pickling.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "CheckpointError",
    "ConfigError",
    "EarlyStopException",
    "ExperimentFailed",
    "ExperimentInterrupted",
    "MaggyError",
    "OptimizerError",
    "OutcomeError",
    "RunError",
    "SearchspaceError",
    "TransitionError",
    "UnpicklableError",
    "WireError",
]


class MaggyError(Exception):
    """Root of maggy's errors; nothing raises it directly."""


class ConfigError(MaggyError, ValueError):
    """An option is wrong; raised before any worker starts.  Retry after changing the option."""


class SearchspaceError(ConfigError):
    """A hyperparameter or a search space is wrong.  Retry after changing the space."""


class UnpicklableError(MaggyError, TypeError):
    """Something that has to reach the workers cannot be pickled; the message names it."""


class OutcomeError(MaggyError, ValueError):
    """A training function returned or broadcast something that is no metric; fails its trial."""


class CheckpointError(MaggyError, OSError):
    """A checkpoint could not be written or read; fails its trial unless the user catches it."""


class OptimizerError(MaggyError):
    """An optimizer or stopping policy raised; ends the run, whose finished trials are kept."""


class TransitionError(MaggyError):
    """maggy took an illegal step: a bug in maggy.

    Args:
        subject: What was moved, such as ``"trial 3"``.
        state: The state it was in.
        event: The event that does not fit.
        story: The last events that touched the subject, oldest first.
    """

    def __init__(self, subject: str, state: str, event: str, story: tuple[str, ...] = ()) -> None:
        super().__init__(subject, state, event, story)
        self.subject = subject
        self.state = state
        self.event = event
        self.story = story

    def __str__(self) -> str:
        story = "".join(f"\n  {line}" for line in self.story)
        return (
            f"{self.event} does not fit {self.subject}, which is {self.state}. "
            f"This is a bug in maggy; please report it with its story:{story or ' (none)'}"
        )


class RunError(MaggyError, ValueError):
    """A run's folder or its event log is missing, damaged or of another version."""


class WireError(MaggyError, ConnectionError):
    """A peer failed the proof of the key, broke the protocol, or is of another version."""


class ExperimentFailed(MaggyError):
    """All of the first trials failed with the same error, so the run was ended.

    Args:
        message: The one error, whole.
        result: What was reached, as ``experiment.lagom`` would have returned it.
    """

    def __init__(self, message: str, result: Any = None) -> None:
        super().__init__(message, result)
        self.message = message
        self.result = result

    def __str__(self) -> str:
        return self.message


class EarlyStopException(BaseException):
    """Raised by ``reporter.broadcast`` in a trial that was told to stop; do not catch it."""


class ExperimentInterrupted(KeyboardInterrupt):
    """Ctrl-C ended the run.

    Args:
        message: How to load or resume the run.
        result: What was reached, as ``experiment.lagom`` would have returned it.
    """

    def __init__(self, message: str = "", result: Any = None) -> None:
        super().__init__(message, result)
        self.message = message
        self.result = result

    def __str__(self) -> str:
        return self.message
