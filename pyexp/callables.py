"""Which callables can be an experiment: those that return a result when they are called with one config.

Knows what can be seen of a callable without calling it.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import Any

from pyexp.errors import ConfigError

#: Functions whose call returns no result: what they are, and what to do about it.
_FRUITLESS: tuple[tuple[Callable[[Any], bool], str, str], ...] = (
    (
        inspect.iscoroutinefunction,
        "an async function, and calling it runs nothing",
        "decorate a plain function that runs it: return asyncio.run(work(config))",
    ),
    (
        inspect.isasyncgenfunction,
        "an async generator function, and calling it runs nothing",
        "decorate a plain function that runs it, and return what it yields as a list",
    ),
    (
        inspect.isgeneratorfunction,
        "a generator function, and calling it runs nothing",
        "return the result, where it has a yield",
    ),
    (
        lambda fn: isinstance(fn, functools._lru_cache_wrapper),
        "cached by functools, which takes no config, as one can change",
        "leave out that cache: pyexp keeps each result on disk",
    ),
)


def refuse_unfit(fn: Any) -> None:
    """Raise `ConfigError` for what cannot be called with one config and return a result. What cannot be seen may pass.

    >>> refuse_unfit(lambda config, verbose=False: config)
    """
    if isinstance(fn, type):
        raise ConfigError(
            f"an experiment is a function of a config, and {fn.__name__!r} is a class; "
            f"decorate a function that makes one and returns its result: def experiment(config): {fn.__name__}(config)…"
        )
    if not callable(fn):
        raise ConfigError(f"an experiment is a function of a config, not {fn!r}")
    name = getattr(fn, "__name__", type(fn).__name__)
    called = _called(fn)
    for is_kind, kind, remedy in _FRUITLESS:
        if is_kind(called):
            raise ConfigError(f"the experiment {name!r} is {kind}; {remedy}")
    _refuse_signature(name, fn)


def _refuse_signature(name: str, fn: Any) -> None:
    while (inner := _behind(fn)) is not None:
        fn = inner
    try:
        signature = inspect.signature(fn, follow_wrapped=False)  # a wrapper may fill in what its function takes
        parameters = list(signature.parameters.values())
    except Exception:  # it is written in C, or hides what it takes
        return
    try:
        signature.bind(None)
    except TypeError as error:
        remedy = (
            "give it a parameter: def experiment(config)" if not parameters else
            "decorate a function, or make one of a bound method: pyexp.experiment(Class().method)"
            if parameters[0].name == "self" else
            "give it one parameter, the config, and take the rest from there, or bind the rest by functools.partial"
        )  # fmt: skip
        raise ConfigError(
            f"the experiment {name!r} is called with one config, and takes {signature}: {error}; {remedy}"
        ) from None


def _called(fn: Any) -> Any:
    """The function whose body a call runs."""
    while True:
        if isinstance(fn, functools.partial):
            fn = fn.func
        elif inspect.ismethod(fn):
            fn = fn.__func__
        elif (inner := _behind(fn)) is not None:
            fn = inner
        elif inspect.isfunction(call := getattr(type(fn), "__call__", None)):  # noqa: B004  # of an object's class
            fn = call
        else:
            return fn


def _behind(fn: Any) -> Any:
    """The function to which a wrapper of the standard library hands all arguments; None if it is none of these."""
    if isinstance(fn, staticmethod):
        return fn.__func__
    return getattr(fn, "__wrapped__", None) if getattr(fn, "__globals__", None) is vars(contextlib) else None
