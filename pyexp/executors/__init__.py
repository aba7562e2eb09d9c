"""Where cells run: in this process, in a clean one, in a fork, on a Ray cluster, or wherever yours puts them.

The executors are loaded when they are first used: a run that is finished needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyexp.executors.attempts import attempt
    from pyexp.executors.base import Executor, ExecutorName
    from pyexp.executors.fork import ForkExecutor
    from pyexp.executors.futures import FuturesExecutor
    from pyexp.executors.inline import InlineExecutor
    from pyexp.executors.processes import SubprocessExecutor
    from pyexp.executors.ray.executor import RayExecutor
    from pyexp.executors.threads import Outcome

__all__ = [
    "Executor", "ExecutorName", "ForkExecutor", "FuturesExecutor", "InlineExecutor", "Outcome", "RayExecutor",
    "SubprocessExecutor", "attempt", "get_executor",
]  # fmt: skip

_HOME = {"Executor": "base", "ExecutorName": "base", "InlineExecutor": "inline", "SubprocessExecutor": "processes"}
_HOME |= {"ForkExecutor": "fork", "FuturesExecutor": "futures", "RayExecutor": "ray.executor"}
_HOME |= {"Outcome": "threads", "attempt": "attempts"}
_NAMED = {"inline": "InlineExecutor", "subprocess": "SubprocessExecutor", "fork": "ForkExecutor", "ray": "RayExecutor"}


def __getattr__(name: str) -> Any:
    """The executor, loaded from its module (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'pyexp.executors' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"pyexp.executors.{_HOME[name]}"), name)


def get_executor(name: str | Executor) -> Executor:
    """The executor of that name (`inline`, `subprocess`, `fork`, `ray`, an address `ray://…`), or the instance itself.

    >>> type(get_executor("inline")).__name__
    'InlineExecutor'

    Raises `UsageError` for anything else. The message lists the names.
    """
    validate_executor(name)
    if not isinstance(name, str):
        return name
    if name.startswith("ray://"):
        from pyexp.executors.ray.executor import RayExecutor

        return RayExecutor(address=name)
    made: Executor = __getattr__(_NAMED[name])()
    return made


def validate_executor(name: Any) -> None:
    """Raise `UsageError` for anything but an executor or its name. The message lists the names."""
    if isinstance(name, str) and (name in _NAMED or name.startswith("ray://")):
        return
    from pyexp.errors import UsageError, nearest
    from pyexp.executors.base import Executor

    if isinstance(name, Executor):
        return
    if isinstance(name, str):
        raise UsageError(f"there is no executor {name!r}; {nearest(name, _NAMED, 'the executors are')}")
    hint = f": {name.__name__}()" if isinstance(name, type) else ""
    raise UsageError(
        f"executor is {name!r}; give a name ({', '.join(_NAMED)}) or an instance of a subclass of pyexp.Executor{hint}"
    )
