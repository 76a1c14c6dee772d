"""Names of hyperparameters, and the nearest known name for one that is not known."""

from __future__ import annotations

import difflib
import keyword
from typing import TYPE_CHECKING

from maggy.errors import SearchspaceError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["check_name", "did_you_mean"]

_RESERVED = {
    "hparams": "hp_set",
    "reporter": "report_kind",
    "budget": "max_epochs",
    "seed": "init_seed",
}
"""What maggy injects into training functions, and a name to use instead."""


def check_name(name: object) -> str:
    """The name, if a training function could have a parameter of this name.

    Raises:
        SearchspaceError: It is no identifier, a keyword, or a name that maggy itself injects.
    """
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
        msg = (
            "a hyperparameter's name must be a Python identifier and no keyword, "
            f"but got {name!r}. Use letters, digits and underscores, such as 'learning_rate'."
        )
        raise SearchspaceError(msg)
    if name in _RESERVED:
        msg = (
            f"{name!r} cannot name a hyperparameter: training functions receive something else "
            f"under this name. Call it {_RESERVED[name]!r}, for example."
        )
        raise SearchspaceError(msg)
    return name


def did_you_mean(given: object, known: Iterable[str]) -> str:
    """A sentence that offers the nearest known name, or else lists the known names."""
    names = list(known)
    by_lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(str(given).lower(), by_lower, n=1)
    if close:
        return f"Did you mean {by_lower[close[0]]!r}?"
    return f"Known: {', '.join(map(repr, names))}." if names else "None is known."
