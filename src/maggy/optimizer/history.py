"""What was proposed before: which configurations are taken, and what is next in a sequence."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from maggy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence, Set

    from maggy.contracts import SearchContext
    from maggy.searchspace import Searchspace
    from maggy.trial import Hparams, Trial, Value

__all__ = ["Tried", "Untried", "require_hyperparameters"]


def require_hyperparameters(context: SearchContext) -> Searchspace:
    """The space to search.

    Raises:
        ConfigError: It is empty.
    """
    if not context.searchspace:
        msg = "the search space is empty. Declare a hyperparameter: Searchspace(lr=Double(0, 1))."
        raise ConfigError(msg)
    return context.searchspace


class Tried:
    """The keys of all trials, ended and pending.

    The same set whatever the order in which trials end, which makes what is drawn from it
    independent of that order.  Costs O(1) per ``tell``, and a look O(trials that are new).
    """

    def __init__(self, space: Searchspace) -> None:
        self._space = space
        self._ended: set[Hashable] = set()
        self._pending: dict[int, Hashable] = {}
        self._keys: Counter[Hashable] = Counter()

    @property
    def ended(self) -> Set[Hashable]:
        """The keys of the trials that ended."""
        return self._ended

    def tell(self, trial: Trial) -> None:
        """A trial ended; telling it again changes nothing."""
        key = self._forget(trial.id)
        self._ended.add(self._space.key(trial.hparams) if key is None else key)

    def pending(self, trials: Sequence[Trial]) -> Set[Hashable]:
        """The keys of these pending trials, oldest first.

        New trials come last and old ones leave by ``tell``, so it is enough to look from the end
        until the numbers agree; where they never do, trials have vanished untold.
        """
        known = self._pending
        for trial in reversed(trials):
            if trial.id not in known:
                key = known[trial.id] = self._space.key(trial.hparams)
                self._keys[key] += 1
            if len(known) == len(trials):
                break
        if len(known) > len(trials):
            there = {trial.id for trial in trials}
            for number in [number for number in known if number not in there]:
                self._forget(number)
        return self._keys.keys()

    def _forget(self, number: int) -> Hashable | None:
        key = self._pending.pop(number, None)
        if key is not None:
            self._keys[key] -= 1
            if not self._keys[key]:
                del self._keys[key]
        return key


class Untried:
    """Walks a fixed sequence of configurations and offers the first that nobody has tried.

    What the constraints forbid, and what the sequence had before, is no part of it.  The sequence
    ends for good when ``patience`` entries in a row were of this sort.

    Args:
        space: Whose constraints and keys count.
        sequence: Configurations of the space, possibly repeated, possibly without end.
        patience: Entries without use in a row that end the walk.
    """

    def __init__(
        self, space: Searchspace, sequence: Iterator[dict[str, Value]], patience: int
    ) -> None:
        self._space = space
        self._sequence = sequence
        self._patience = patience
        self._known: set[Hashable] = set()
        self._ahead: list[tuple[Hashable, Hparams]] = []
        self._gave_up = False

    @property
    def found(self) -> int:
        """How many distinct configurations that the constraints allow were met so far."""
        return len(self._known)

    @property
    def gave_up(self) -> bool:
        """Whether the walk ended because its patience did."""
        return self._gave_up

    def first(self, ended: Set[Hashable], pending: Set[Hashable]) -> Hparams | None:
        """The first configuration that is in neither set, or None at the end.

        Entries that ended are forgotten; pending ones are kept in case they vanish untold.
        """
        self._ahead = [entry for entry in self._ahead if entry[0] not in ended]
        for key, hparams in self._ahead:
            if key not in pending:
                return hparams
        while (entry := self._pull()) is not None:
            if entry[0] in ended:
                continue
            self._ahead.append(entry)
            if entry[0] not in pending:
                return entry[1]
        return None

    def _pull(self) -> tuple[Hashable, Hparams] | None:
        if self._gave_up:
            return None
        for useless, hparams in enumerate(self._sequence, start=1):
            key = self._space.key(hparams)
            if key not in self._known and self._space.satisfies(hparams):
                self._known.add(key)
                return key, hparams
            if useless >= self._patience:
                self._gave_up = True
                break
        return None
