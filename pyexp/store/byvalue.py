"""Pickles that contain the script's own classes and functions.

A class of the script's `__main__` is written twice: by name and by value. When the same script loads it, it is the
script's class again, and `isinstance` holds. Any other program gets the class from the value.
"""

import functools
import pickle
import sys
from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from io import BytesIO
from types import CodeType, FunctionType, ModuleType
from typing import Any, NewType, ParamSpec, TypeVar, TypeVarTuple

import cloudpickle

from pyexp.store.pickling import MAIN

#: The former name of this module, which older results contain.
FORMER = "pyexp.byvalue"
sys.modules.setdefault(FORMER, sys.modules[__name__])


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Cloudpickle, extended to more of what scripts consist of."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, CodeType) and obj.co_filename != _NO_FILE:  # cloudpickle would lose the file name
            return _code_of, (obj.replace(co_filename=_NO_FILE), obj.co_filename, _PYTHON)
        if isinstance(obj, ModuleType) and sys.modules.get(obj.__name__) is obj:  # also of a subclass of modules
            return import_module, (obj.__name__,)
        if isinstance(obj, functools.cached_property):  # has a lock, up to Python 3.11
            return functools.cached_property, (obj.func,), {"attrname": obj.attrname}
        if isinstance(obj, functools._lru_cache_wrapper) and obj.__module__ in MAIN:
            return _cached, (obj.__wrapped__, obj.cache_parameters())
        if isinstance(obj, FunctionType) and obj.__module__ in MAIN and hasattr(obj, "dispatch"):
            implementations = getattr(obj, "registry", None)
            if isinstance(implementations, Mapping):
                return _dispatching, (tuple(implementations.items()),)
        reduced = super().reducer_override(obj)
        if isinstance(obj, type) and isinstance(reduced, tuple) and len(reduced) > 2:
            reduced[2][0]["__qualname__"] = obj.__qualname__  # cloudpickle loses that of a nested class
        return reduced


#: The file name of code whose real file name is written beside it.
_NO_FILE = "<dynamic-code>"


_PYTHON = "{}.{}".format(*sys.version_info)


def _code_of(code: CodeType, file: str, python: str = _PYTHON) -> CodeType:
    """The code with its file name, so that tracebacks show its lines.

    Code of another Python would run here as other instructions. In its place stands code that raises.
    """
    if python == _PYTHON:
        return code.replace(co_filename=file)
    words = f"{code.co_qualname} was pickled by Python {python} and cannot be called by Python {_PYTHON}"
    scope: dict[str, Any] = {}
    exec(f"def refuse(*args, **kwargs): raise RuntimeError({words!r})", scope)
    refusing: CodeType = scope["refuse"].__code__
    return refusing.replace(co_name=code.co_name, co_qualname=code.co_qualname, co_freevars=code.co_freevars)


def _cached(fn: Callable[..., Any], about: dict[str, Any]) -> Any:
    """The function wrapped by `functools.lru_cache`, with an empty cache."""
    return functools.lru_cache(**about)(fn)


def _dispatching(registered: tuple[tuple[type, Callable[..., Any]], ...]) -> Any:
    """The `functools.singledispatch` function with these implementations."""
    made = functools.singledispatch(dict(registered)[object])
    for kind, fn in registered:
        made.register(kind, fn)
    return made


class _ResultPickler(Pickler):
    """A Pickler for results: when a class of `__main__` is loaded, a class of that name is tried first.

    `only` limits this to some classes: within a class that is written by value, its bases.
    """

    def __init__(self, stream: BytesIO, only: Collection[type] | None) -> None:
        super().__init__(stream, protocol=5)
        self._only = only

    def reducer_override(self, obj: Any) -> Any:
        is_named = isinstance(obj, type) and obj.__module__ in MAIN and "<" not in obj.__qualname__
        if is_named and (self._only is None or obj in self._only):
            return class_of_main, (obj.__qualname__, dumps_by_value(obj, only=obj.__mro__[1:]))
        if isinstance(obj, _TYPING) and obj.__module__ in MAIN:  # they would be pickled by the name of that module
            return typing_of_main, (type(obj), obj.__name__, *_arguments(obj))
        return super().reducer_override(obj)


_TYPING = (TypeVar, ParamSpec, TypeVarTuple, NewType)


def _arguments(obj: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What makes a type variable or a NewType again, besides its name."""
    if isinstance(obj, NewType):
        return (obj.__supertype__,), {}
    if not isinstance(obj, TypeVar):
        return (), {}
    named = {"bound": obj.__bound__, "covariant": obj.__covariant__, "contravariant": obj.__contravariant__}
    return obj.__constraints__, named


def dumps_by_value(value: Any, only: Collection[type] | None = None) -> bytes:
    """The value as a pickle that another process can load without the script. Raises what pickling raises."""
    stream = BytesIO()
    _ResultPickler(stream, only).dump(value)
    return stream.getvalue()


def class_of_main(qualname: str, by_value: bytes) -> Any:
    """The class of that name in this process's `__main__`; if it is missing, the one that was written by value."""
    found: Any = sys.modules.get("__main__")
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) and found.__module__ in MAIN else pickle.loads(by_value)


def typing_of_main(kind: type, name: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """The type variable or NewType of that name in this process's `__main__`; a new one if it is missing."""
    found = getattr(sys.modules.get("__main__"), name, None)
    return found if isinstance(found, kind) else kind(name, *arguments, **named)


def faulty_part(value: Any, path: str, attempt: Callable[[Any], Any]) -> tuple[Any, str]:
    """The innermost part of a value for which the attempt raises, as it does for the value, and its path."""
    if isinstance(value, dict):
        inside = [(item, f"{path}[{key!r}]") for key, item in value.items()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        inside = [(item, f"{path}[{i}]") for i, item in enumerate(value)]
    else:
        inside = [(item, f"{path}.{key}") for key, item in getattr(value, "__dict__", {}).items()]
    for item, where in inside:
        try:
            attempt(item)
        except (Exception, SystemExit):  # user code
            return faulty_part(item, where, attempt)
    return value, path
