"""An experiment's function as bytes that a fresh interpreter can run.

Most functions of a script are plain: their code, and the modules, values and other such functions that the code names.
Those travel as `marshal` and `pickle` carry them, and a worker needs no cloudpickle, whose import costs it more than
all the rest. Anything else (a closure, a class of the script's own) travels by cloudpickle.
"""

import marshal
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import _lru_cache_wrapper
from io import BytesIO
from types import CodeType, FunctionType, ModuleType
from typing import Any

from pyexp.errors import ConfigError
from pyexp.executors.worker import function, module_with

#: What a function's globals hold of the module itself, whether or not its code names it.
_OF_THE_MODULE = ("__name__", "__file__", "__package__")


class _NotPlainError(Exception):
    """Raised where plain means do not do."""


def pickled_function(fn: Callable[..., Any]) -> bytes:
    """The function as a pickle, by value where a child could not import it. Raises `ConfigError` if it has none."""
    with suppress(Exception):  # whatever stands in the way, cloudpickle knows more ways
        return _plain(fn)
    from pyexp.byvalue import dumps_function  # only what the plain pickle cannot carry pays for it

    try:
        return dumps_function(fn)
    except Exception as error:
        raise ConfigError(
            f"the experiment {getattr(fn, '__name__', fn)!r} cannot be sent to another process: {error}; "
            "make what it uses inside the function, or run it with executor='inline'"
        ) from error


def _plain(fn: Callable[..., Any]) -> bytes:
    """The function as a plain pickle. Raises `_NotPlainError`, or what pickling raises, if there is none."""
    if not isinstance(fn, FunctionType) or _some_go_by_value():
        raise _NotPlainError
    stream = BytesIO()
    pickler = _Pickler(stream, fn)
    pickler.dump(fn)
    return stream.getvalue()


def _some_go_by_value() -> bool:
    """Whether the program has told cloudpickle of modules that are to travel with what uses them."""
    cloudpickle: Any = sys.modules.get("cloudpickle")
    return cloudpickle is not None and bool(cloudpickle.list_registry_pickle_by_value())


class _Pickler(pickle.Pickler):
    """Writes functions that cannot be imported by their code, with what of their globals the code names."""

    def __init__(self, stream: BytesIO, fn: FunctionType) -> None:
        super().__init__(stream, protocol=5)
        self._globals = fn.__globals__
        self._names = _reached(fn)
        # One dict for all functions of the module, so that what one of them sets, another one sees.
        self._shared = {
            name: fn.__globals__[name] for name in (*_OF_THE_MODULE, *sorted(self._names)) if name in fn.__globals__
        }

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, FunctionType):
            return NotImplemented if _importable(obj) else self._by_code(obj)
        if isinstance(obj, ModuleType):
            return self._by_name(obj)
        if isinstance(obj, (type, _lru_cache_wrapper)) and not _importable(obj):
            raise _NotPlainError
        return NotImplemented

    def _by_code(self, fn: FunctionType) -> Any:
        # A function found inside of some value may name what was not gathered.
        if fn.__closure__ or fn.__globals__ is not self._globals or not set(_names(fn.__code__)) <= self._names:
            raise _NotPlainError
        about = (fn.__name__, fn.__qualname__, fn.__module__, fn.__doc__, fn.__annotations__, fn.__kwdefaults__)
        return function, (marshal.dumps(fn.__code__), self._shared, fn.__defaults__, about, dict(vars(fn)))

    def _by_name(self, module: ModuleType) -> Any:
        name = module.__name__
        if sys.modules.get(name) is not module or name == "__main__":
            raise _NotPlainError
        below = [known for known in sys.modules if known.startswith(f"{name}.")]
        # The code may reach a submodule through its package, which only who imported the submodule can.
        return module_with, (name, [known for known in below if set(known[len(name) + 1 :].split(".")) <= self._names])


def _reached(fn: FunctionType) -> set[str]:
    """The global names in the function's code, and in that of the functions of its module that it reaches by them."""
    found: set[str] = set()
    left = [fn]
    while left:
        for name in _names(left.pop().__code__):
            value = fn.__globals__.get(name)
            if name not in found and isinstance(value, FunctionType) and value.__globals__ is fn.__globals__:
                left.append(value)
            found.add(name)
    return found


def _names(code: CodeType) -> Iterator[str]:
    """The names that a code looks up, globals and attributes alike, in it and in the codes inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _importable(thing: Any) -> bool:
    """Whether the function or class is what its module has under its name, and the module is no script."""
    if thing.__module__ in (None, "__main__"):
        return False
    found: Any = sys.modules.get(thing.__module__)
    for part in thing.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is thing
