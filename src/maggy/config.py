"""The configuration of a run: every option, checked when it is built.

Below this border no option is a string mode any more and nothing is checked twice.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import math
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeGuard

from maggy.contracts import MultiFidelityOptimizer
from maggy.earlystop import resolve_policy
from maggy.earlystop.registry import require_direction
from maggy.errors import ConfigError, RunError
from maggy.optimizer.initial import Initial
from maggy.optimizer.registry import resolve
from maggy.searchspace import Searchspace
from maggy.searchspace.naming import did_you_mean
from maggy.searchspace.values import unwrapped
from maggy.store.folder import open_run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from maggy.contracts import Optimizer, StoppingPolicy
    from maggy.trial import Json

__all__ = ["ENGINES", "OptimizationConfig", "address"]

ENGINES = ("local", "inline", "spark", "ray", "manual")
_WHOLE_SPACE = ("gridsearch",)
_NAME_LENGTH = 200
_NUMBERS = (
    "num_trials",
    "es_interval",
    "es_min",
    "hb_interval",
    "seed",
    "num_workers",
    "trial_timeout",
    "time_limit",
)
_RESOURCES = ("cpu", "gpu")
_LAST_PORT = 65535


@dataclass(frozen=True, kw_only=True, eq=False)
class OptimizationConfig:
    """Everything about a search but the training function.

    Args:
        searchspace: The ``Searchspace`` to search.
        num_trials: Distinct configurations to run; grid search takes None for the whole grid and
            a number as an upper bound.
        optimizer: ``"auto"``, ``"randomsearch"``, ``"gridsearch"``, ``"gp"``, ``"tpe"``,
            ``"asha"``, ``"hyperband"`` or an optimizer object.
        optimization_key: Name of the metric in a returned dict.
        direction: ``"max"`` or ``"min"``.
        es_interval: The stopping policy looks at a trial after every so many reports.
        es_min: Trials that must have completed before anything is stopped.
        es_policy: ``"median"``, ``"none"`` or a policy object; not given means ``"median"``, and
            with ASHA and Hyperband, which stop trials themselves, ``"none"``.
        hb_interval: Seconds; the longest silence of a worker.  Delays nothing.
        name: Names the run's folder.
        description: For humans; kept in the log.
        model: A class or a function that builds a model, handed to the training function.
        train_set: Data handed to the training function; any picklable kind.
        test_set: Data handed to the training function; any picklable kind.
        seed: Makes random, Sobol and grid search repeatable bit for bit; drawn when None.
        engine: ``"local"`` (processes on this machine), ``"inline"`` (this process, for
            debuggers), ``"spark"``, ``"ray"`` or ``"manual"`` (workers started by hand).  None:
            Spark where a session of a cluster is active, else local.
        num_workers: Trials at a time; None: usable cores, or what ``resources`` allows, at most
            ``num_trials``.
        resources: What each worker gets to itself: ``{"gpu": 1}``, ``{"gpu": 0.5}``,
            ``{"cpu": 4}`` or both; see ``docs/resources.md``.
        trial_timeout: Seconds that one run of a trial may take: then it fails; None: for ever.
        time_limit: Seconds after which nothing new is started and running trials are stopped,
            with what they have reached; None: never.
        folder: Where runs are kept.
        constraints: Conditions between hyperparameters that every configuration meets: functions
            of the hparams dict, or expressions such as ``"kernel <= pool * 2"``.
        initial: Configurations to try first; what a dict leaves out is its default or sampled.
        warm_start: Earlier runs to learn from: folders, as ``experiment.load`` takes them, or
            results, one or a list; see ``docs/warm-start.md``.  Becomes a tuple of folders.
        quiet: Show nothing.
        listen: ``"HOST:PORT"`` on which workers on other machines reach this process; ``":PORT"``
            fixes the port alone.  None: what the engine finds, on any free port.  Where trials run
            on this machine, this, ``tls`` and ``py_files`` are not used, and a note says so.
        tls: Whether connections from workers on other machines are encrypted; None: unless only
            this machine can reach them.
        checkpoint_dir: A folder for checkpoints under one path on all machines; None: workers on
            other machines send theirs, of 256 MB at most, to the run's folder.
        py_files: Python files, packages and zip archives that workers on other machines need
            beside the modules of the training function, which they get anyway.

    Raises:
        ConfigError: An option is wrong; the message says what was given and what to do.
    """

    searchspace: Searchspace
    num_trials: int | None = None
    optimizer: str | Optimizer = "auto"
    optimization_key: str = "metric"
    direction: str = "max"
    es_interval: int = 1
    es_min: int = 10
    es_policy: str | StoppingPolicy | None = None
    hb_interval: float = 1.0
    name: str = "experiment"
    description: str = ""
    model: Callable[..., Any] | None = None
    train_set: Any = None
    test_set: Any = None
    seed: int | None = None
    engine: str | None = None
    num_workers: int | None = None
    resources: Mapping[str, float] | None = None
    trial_timeout: float | None = None
    time_limit: float | None = None
    folder: str | Path = "maggy-runs"
    constraints: Sequence[str | Callable[[dict[str, Any]], object]] = ()
    initial: Sequence[Mapping[str, Any]] = ()
    warm_start: Any = ()
    quiet: bool = False
    listen: str | None = None
    tls: bool | None = None
    checkpoint_dir: str | Path | None = None
    py_files: Sequence[str | Path] = ()
    space: Searchspace = field(init=False, repr=False)
    """The search space with the constraints in it: what the search uses."""
    __signature__: ClassVar[inspect.Signature]
    """What ``help`` and notebooks show: the options, not what ``__new__`` takes."""

    def __new__(cls, *args: object, **options: object) -> Self:
        """Refuse options that do not exist, with the name that may have been meant."""
        if args:
            msg = "write every option with its name: OptimizationConfig(num_trials=20, ...)."
            raise ConfigError(msg)
        known = [option.name for option in dataclasses.fields(cls) if option.init]
        for name in options:
            if name not in known:
                msg = f"no option is called {name!r}. {did_you_mean(name, known)}"
                raise ConfigError(msg)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for name in _NUMBERS:  # numpy's scalars become Python's
            object.__setattr__(self, name, unwrapped(getattr(self, name)))
        self._check_space()
        self._check_numbers()
        self._check_texts()
        self._check_remote()
        self._check_model()
        runs = _earlier_runs(self.warm_start, self.folder)
        object.__setattr__(self, "warm_start", runs)
        self.build_optimizer()
        require_direction(self.build_policy(), self.direction)

    def build_optimizer(self) -> Optimizer:
        """The optimizer of a new run."""
        optimizer = resolve(self.optimizer)
        if not self.initial:
            return optimizer
        wrap = functools.partial(Initial, self.initial)
        if isinstance(optimizer, MultiFidelityOptimizer):
            return optimizer.with_sampler(wrap)
        return wrap(optimizer)

    def build_policy(self) -> StoppingPolicy | None:
        """The stopping policy of a new run: a copy, since a policy learns from its run."""
        return resolve_policy(copy.deepcopy(self._policy()), es_min=self.es_min)

    def _policy(self) -> str | StoppingPolicy:
        if self.es_policy is not None:
            return self.es_policy
        rungs = isinstance(resolve(self.optimizer), MultiFidelityOptimizer)
        return "none" if rungs else "median"

    def provided(self) -> dict[str, Any]:
        """What the config hands to the training function beside hyperparameters, by name."""
        objects = {"model": self.model, "train_set": self.train_set, "test_set": self.test_set}
        return {name: value for name, value in objects.items() if value is not None}

    def describe(self) -> dict[str, Json]:
        """The options as plain JSON, for the log."""
        return {
            "name": self.name,
            "description": self.description,
            "direction": self.direction,
            "num_trials": self.num_trials,
            "optimizer": _describe(self.optimizer),
            "optimization_key": self.optimization_key,
            "es_policy": _describe(self._policy()),
            "es_min": self.es_min,
            "es_interval": self.es_interval,
            "hb_interval": self.hb_interval,
            "resources": None if self.resources is None else dict(self.resources),
            "trial_timeout": self.trial_timeout,
            "time_limit": self.time_limit,
            "searchspace": self.space.to_json(),
            "initial": [dict(point) for point in self.initial],
            "warm_start": [str(path) for path in self.warm_start],
        }

    def _check_space(self) -> None:
        wanted = "a Searchspace, such as Searchspace(lr=('DOUBLE', [0.001, 0.1]))"
        _check_type("searchspace", self.searchspace, Searchspace, wanted)
        if not self.searchspace:
            msg = "`searchspace` must hold at least one hyperparameter, but it is empty."
            raise ConfigError(msg)
        _check_type("constraints", self.constraints, (list, tuple), "a list")
        _check_type("initial", self.initial, (list, tuple), "a list of dicts")
        clash = [name for name in self.provided() if name in self.searchspace]
        if clash:
            msg = (
                f"`{clash[0]}` is both a hyperparameter and an option of the config. "
                f"Rename the hyperparameter."
            )
            raise ConfigError(msg)
        space = self.searchspace
        if self.constraints:
            space = space.with_constraints(self.constraints)
        object.__setattr__(self, "space", space)

    def _check_numbers(self) -> None:
        if self.num_trials is None:
            if isinstance(self.optimizer, str) and self.optimizer.lower() not in _WHOLE_SPACE:
                msg = (
                    f"`num_trials` is required with optimizer={self.optimizer!r}; only grid "
                    f"search goes without. Write num_trials=100."
                )
                raise ConfigError(msg)
        else:
            _check_whole("num_trials", self.num_trials, least=1)
        _check_whole("es_interval", self.es_interval, least=1)
        _check_whole("es_min", self.es_min, least=0)
        if self.num_workers is not None:
            _check_whole("num_workers", self.num_workers, least=1)
        if self.seed is not None:
            _check_whole("seed", self.seed, least=0)
        _check_seconds("hb_interval", self.hb_interval)
        if self.trial_timeout is not None:
            _check_seconds("trial_timeout", self.trial_timeout)
        if self.time_limit is not None:
            _check_seconds("time_limit", self.time_limit)
        if self.resources is not None:
            _check_resources(self.resources)
        _check_type("quiet", self.quiet, bool, "True or False")

    def _check_texts(self) -> None:
        for name in ("name", "description", "optimization_key"):
            _check_type(name, getattr(self, name), str, "text")
        if not re.search(r"\w", self.name) or len(self.name) > _NAME_LENGTH:
            msg = (
                f"`name` must hold a letter or digit and have at most {_NAME_LENGTH} characters, "
                f"but got {reprlib.repr(self.name)}."
            )
            raise ConfigError(msg)
        _check_choice("direction", self.direction, ("max", "min"))
        if self.engine is not None:
            _check_choice("engine", self.engine, ENGINES)
        _check_type("folder", self.folder, (str, Path), "a path")

    def _check_remote(self) -> None:
        if self.listen is not None:
            _check_type("listen", self.listen, str, 'text such as "0.0.0.0:7777"')
            address(self.listen)
        if self.tls is not None:
            _check_type("tls", self.tls, bool, "True, False or None")
        if self.checkpoint_dir is not None:
            _check_type("checkpoint_dir", self.checkpoint_dir, (str, Path), "a path")
            if not Path(self.checkpoint_dir).is_absolute():
                msg = (
                    "`checkpoint_dir` must be the same on all machines, so an absolute path, but "
                    f"got {str(self.checkpoint_dir)!r}."
                )
                raise ConfigError(msg)
        _check_type("py_files", self.py_files, (list, tuple), "a list of paths")
        for path in self.py_files:
            _check_type("py_files", path, (str, Path), "a list of paths")
            if not Path(path).exists():
                msg = f"`py_files` must name files that exist, but got {str(path)!r}."
                raise ConfigError(msg)

    def _check_model(self) -> None:
        model = self.model
        if model is None or inspect.isclass(model) or inspect.isroutine(model):
            return
        if not isinstance(model, functools.partial):
            msg = (
                f"`model` must be a class or a function that builds a model, but got an instance "
                f"of {type(model).__name__}. Each trial builds its own: pass the class, and give "
                f"its arguments in the training function."
            )
            raise ConfigError(msg)


OptimizationConfig.__signature__ = inspect.Signature(
    list(inspect.signature(OptimizationConfig.__init__).parameters.values())[1:]  # without self
)


def address(text: str) -> tuple[str, int]:
    """Host and port of ``"HOST:PORT"``; an empty host, and port 0, leave it open.

    Raises:
        ConfigError: It is no such text.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")  # IPv6
    if colon and port.isdecimal() and int(port) <= _LAST_PORT and (bracketed or ":" not in host):
        return host.strip("[]"), int(port)
    msg = f'an address must be "HOST:PORT" such as "10.0.0.5:7777", but got {text!r}.'
    raise ConfigError(msg)


def _describe(option: object) -> str:
    return option.lower() if isinstance(option, str) else repr(option)


def _check_type(name: str, value: object, kind: type | tuple[type, ...], wanted: str) -> None:
    if not isinstance(value, kind):
        msg = f"`{name}` must be {wanted}, but got {value!r}."
        raise ConfigError(msg)


def _check_whole(name: str, value: object, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        msg = f"`{name}` must be a whole number >= {least}, but got {value!r}."
        raise ConfigError(msg)


def _check_seconds(name: str, value: object) -> None:
    if not _is_number(value) or not 0 < value < math.inf:
        msg = f"`{name} > 0` seconds must hold, but got {value!r}."
        raise ConfigError(msg)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_resources(resources: object) -> None:
    wanted = "a dict such as {'gpu': 1} or {'cpu': 4}"
    if not isinstance(resources, Mapping) or not resources:
        msg = f"`resources` must be {wanted}, but got {resources!r}."
        raise ConfigError(msg)
    for kind, amount in resources.items():
        if kind not in _RESOURCES:
            hint = did_you_mean(kind, _RESOURCES)
            msg = f"`resources` must be {wanted}, but it asks for {kind!r}. {hint}".rstrip()
            raise ConfigError(msg)
        if not _is_number(amount) or not 0 < amount < math.inf:
            msg = (
                f"`resources[{kind!r}]` must be a number > 0, but got {amount!r}. Leave {kind!r} "
                f"out to ask for none."
            )
            raise ConfigError(msg)
        _check_share(kind, amount)


def _earlier_runs(given: object, folder: str | Path) -> tuple[Path, ...]:
    """The folders of these runs."""
    listed = given if isinstance(given, (list, tuple)) else [given]
    return tuple(dict.fromkeys(_earlier_run(item, folder) for item in listed))


def _earlier_run(given: object, folder: str | Path) -> Path:
    path = given if isinstance(given, (str, Path)) else getattr(given, "path", None)
    if not isinstance(path, (str, Path)):
        hint = "This result has no folder: it comes from a search by hand, which keeps none."
        if not hasattr(given, "path"):
            hint = "Write warm_start=['maggy-runs/digits'] for the latest run of that name."
        what = type(given).__name__
        msg = f"`warm_start` must name runs by their folders or results, but got {what}. {hint}"
        raise ConfigError(msg)
    try:
        return open_run(path, folder=folder).path
    except RunError as error:
        msg = f"`warm_start` must name runs that exist, but {error}"
        raise ConfigError(msg) from None


def _check_share(kind: str, amount: float) -> None:
    """Whole cores; whole GPUs, or a GPU for a whole number of workers."""
    if float(amount).is_integer():
        return
    if kind == "gpu" and amount < 1:
        workers = round(1 / amount)
        if math.isclose(amount * workers, 1, rel_tol=1e-9):
            return
        msg = (
            f"`resources['gpu']` below 1 must be a GPU shared by a whole number of workers, such "
            f"as 0.5 or 1/3, but got {amount!r}. Write 1/{workers}."
        )
        raise ConfigError(msg)
    msg = f"`resources[{kind!r}]` must be a whole number, but got {amount!r}."
    raise ConfigError(msg)


def _check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value in choices:
        return
    longer = [choice for choice in choices if str(value).lower().startswith(choice)]  # "maximize"
    hint = did_you_mean(longer[0] if longer else value, choices)
    *others, last = map(repr, choices)
    msg = f"`{name}` must be {', '.join(others)} or {last}, but got {value!r}."
    if not hint.startswith("Known"):
        msg = f"{msg} {hint}"
    raise ConfigError(msg)
