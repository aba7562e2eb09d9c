"""pyexp: run a function over a grid of configs, each in isolation and once, and slice the results by the grid.

The public names are loaded when they are first used, so that `import pyexp` costs next to nothing.
"""

import sys
import warnings
from typing import TYPE_CHECKING

__version__ = "0.2.0"

if TYPE_CHECKING:
    from types import TracebackType

    from pyexp.axes import Axis
    from pyexp.configs import Config, FrozenConfig, freeze, merge, thaw
    from pyexp.errors import (
        ConfigError,
        ExecutorError,
        ExtraError,
        HashError,
        NoRunError,
        PyexpError,
        ResultError,
        SelectionError,
        StoreError,
        UsageError,
    )
    from pyexp.executors import (
        Executor,
        ExecutorName,
        ForkExecutor,
        FuturesExecutor,
        InlineExecutor,
        Outcome,
        RayExecutor,
        SubprocessExecutor,
        attempt,
        get_executor,
    )
    from pyexp.experiment import Experiment, RunOptions, experiment
    from pyexp.hashing import config_hash
    from pyexp.leaves import NotLoaded, register_encoder
    from pyexp.plan import Action, Mode, Plan, Status, Step
    from pyexp.results import Record, Result
    from pyexp.store.history import load
    from pyexp.sweep import concat, derive, replicate, sample, sweep, zipped
    from pyexp.tables import Results
    from pyexp.tensor import Tensor

_HOME = {
    name: module
    for module, names in {
        "pyexp.axes": "Axis",
        "pyexp.store.history": "load",
        "pyexp.configs": "Config FrozenConfig freeze merge thaw",
        "pyexp.errors": "ConfigError ExecutorError ExtraError HashError NoRunError PyexpError ResultError "
        "SelectionError StoreError UsageError",
        "pyexp.executors": "Executor ExecutorName ForkExecutor FuturesExecutor InlineExecutor Outcome RayExecutor "
        "SubprocessExecutor attempt get_executor",
        "pyexp.experiment": "Experiment RunOptions experiment",
        "pyexp.hashing": "config_hash",
        "pyexp.leaves": "NotLoaded register_encoder",
        "pyexp.plan": "Action Mode Plan Status Step",
        "pyexp.results": "Record Result",
        "pyexp.sweep": "concat derive replicate sample sweep zipped",
        "pyexp.tables": "Results",
        "pyexp.tensor": "Tensor",
    }.items()
    for name in names.split()
}

# Written out, as type checkers do not run code: `_HOME` has the same names.
__all__ = [
    "Action", "Axis", "Config", "ConfigError", "Executor", "ExecutorError", "ExecutorName", "Experiment", "ExtraError",
    "ForkExecutor", "FrozenConfig", "FuturesExecutor", "HashError", "InlineExecutor", "Mode", "NoRunError", "NotLoaded",
    "Outcome", "Plan", "PyexpError", "RayExecutor", "Record", "Result", "ResultError", "Results", "RunOptions",
    "SelectionError", "Status", "Step", "StoreError", "SubprocessExecutor", "Tensor", "UsageError", "__version__",
    "attempt", "concat", "config_hash", "derive", "experiment", "freeze", "get_executor", "load", "merge",
    "register_encoder", "replicate", "sample", "sweep", "thaw", "zipped",
]  # fmt: skip


def __getattr__(name: str) -> object:
    """The public name, loaded from the module it lives in (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'pyexp' has no attribute {name!r}")
    globals()[name] = getattr(_load(_HOME[name]), name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})


def _load(name: str) -> object:
    """The module of this name, which may have dots."""
    __import__(name)
    return sys.modules[name]


#: What the pure modules need of the world, by module: each is given it when it is loaded.
_WORLD: dict[str, dict[str, object]] = {
    "leaves": {"modules": sys.modules, "load": _load},
    "options": {"unwarned": lambda: warnings.catch_warnings(action="ignore")},
    "tables": {"warn": lambda message, stacklevel: warnings.warn(message, stacklevel=stacklevel + 1)},
}


_excepthook = sys.excepthook


def _show_uncaught(kind: type[BaseException], error: BaseException, trace: "TracebackType | None") -> None:
    """Show an uncaught error of pyexp with the frames of the user's code: where it is, and the message says the rest.

    Any other error keeps all frames.
    """
    errors = sys.modules.get("pyexp.errors")
    if errors is not None and isinstance(error, errors.PyexpError) and (users := errors.frames_of_users(trace)):
        error, trace = error.with_traceback(users), users
    _excepthook(kind, error, trace)


sys.excepthook = _show_uncaught


class _Package(type(sys)):  # type: ignore[misc]  # the class of modules, without importing types
    """The package, in which a function wins over the module of the same name.

    Importing `pyexp.sweep` binds the module to that name in its package, where users look for the function. A pure
    module is given what it needs of the world at that moment.
    """

    def __setattr__(self, name: str, value: object) -> None:
        for needed, given in _WORLD.get(name, {}).items():
            setattr(value, needed, given)
        if not (name in _HOME and isinstance(value, type(sys))):
            super().__setattr__(name, value)


_Package.__name__ = "module"  # as Python calls it: 'module' object is not callable
sys.modules[__name__].__class__ = _Package
