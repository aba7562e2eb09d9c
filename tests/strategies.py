"""Strategies of what pyexp refuses, and oracles: what the tests have besides the strategies of `pyexp.testing`."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from hypothesis import strategies as st

from pyexp.configs import NOTHING, agreeing, lookup
from pyexp.tensor import Tensor
from pyexp.testing.strategies import Colour


def bad_keys() -> st.SearchStrategy[Any]:
    """Keys that no config can have. Leaves out keys that have no hash, which no dict can have."""
    return st.sampled_from(["", 1, 1.0, None, True, b"a", ("a",), Colour.ONE, PurePosixPath("a")])


def undotted_keys() -> st.SearchStrategy[str]:
    """Keys that a config cannot have itself, as they are no dotted name; they are data in a map inside of it."""
    return st.sampled_from([".", "a.", ".a", "a..b", "...", r"a\.b", r"\.", r"a\.b.c"])


def numbered(shape: tuple[int, ...]) -> Tensor[int]:
    """The tensor of that shape whose items are their flat positions."""
    return Tensor(range(int(np.prod(shape, dtype=int))), shape)


def plain(value: Any) -> Any:
    """The oracle of freezing: the dotted keys of a config expanded, by plain dicts and loops; a value as it is."""
    return laid({}, value) if isinstance(value, dict) else value


def laid(base: dict[str, Any], update: dict[str, Any]) -> dict[str, Any]:
    """The oracle of merging: `base`, whose own keys have no dots, with `update` laid over it, by dicts and loops."""
    result = deepcopy(base)
    for key in sorted(update, key=lambda key: key.count(".")):
        *path, last = key.split(".")
        inner = result
        for part in path:
            if not isinstance(inner.get(part), dict):
                inner[part] = {}
            inner = inner[part]
        inner[last] = deepcopy(update[key])
    return result


def matches(item: Any, query: Mapping[str, Any]) -> bool:
    """The oracle of selecting: whether one item has an equal value, or a sub-map, at every path of the query."""
    return all(agreeing([lookup(item, path, NOTHING)], wanted) for path, wanted in query.items())


def typed(value: Any) -> Any:
    """The value with the type of everything in it, so that `==` tells `1` from `True`, and a list from a tuple."""
    if isinstance(value, dict):
        return ("dict", {key: typed(item) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return (type(value).__name__, [typed(item) for item in value])
    if isinstance(value, (set, frozenset)):
        return (type(value).__name__, sorted(repr(typed(item)) for item in value))
    return (type(value).__name__, hex(value) if type(value) is int else repr(value))


def shuffled(value: Any, data: st.DataObject) -> Any:
    """The same value with the keys of every dict in it in another order."""
    if isinstance(value, Mapping):
        return {key: shuffled(value[key], data) for key in data.draw(st.permutations(list(value)))}
    if type(value) in (list, tuple):
        return type(value)(shuffled(item, data) for item in value)
    return value
