"""Hypothesis strategies for what pyexp takes: names, keys, values, configs, variations, sweeps and tensors.

Values are drawn to be *confusable*: near each other in all but type or spelling, since independent draws let a broken
hash or merge pass. Each docstring says what its strategy leaves out. Needs Hypothesis and NumPy.
"""

# ruff: noqa: RUF005  # tables of values are joined from lines, or each value would take a line

import datetime as dt
import string
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from fractions import Fraction
from functools import partial, reduce
from math import prod
from pathlib import PurePosixPath, PureWindowsPath
from types import MappingProxyType
from typing import Any
from uuid import UUID

import numpy as np
from hypothesis import strategies as st

from pyexp.axes import Axis
from pyexp.configs import FrozenConfig
from pyexp.sweep import grid_of, sweep
from pyexp.tensor import Tensor


class Colour(Enum):
    """An enum whose members have confusable names and values."""

    ONE = 1
    TEXT = "1"


class Level(IntEnum):
    """An enum whose members are ints too."""

    ONE = 1


class Word(StrEnum):
    """An enum whose members are strings too."""

    ONE = "1"


class Size(tuple, Enum):  # type: ignore[type-arg]
    """An enum whose members are tuples too."""

    ONE = (1,)


class Right(Flag):
    """A flag, whose members combine."""

    READ = 1
    WRITE = 2


@dataclass(frozen=True)
class Point:
    """A dataclass."""

    x: Any


@dataclass(frozen=True)
class Spot:
    """A dataclass that differs from `Point` in nothing but its name."""

    x: Any


Pair = namedtuple("Pair", "x y")
Couple = namedtuple("Couple", "x y")


class Text(str):
    """A string of another class."""

    __slots__ = ()


def first(x: Any) -> Any:
    """A function with a name."""
    return x


def second(x: Any) -> Any:
    """Another function that does the same."""
    return x


#: Groups of values, each group easily mistaken for one another by a careless hash. No two values of a group are
#: the same config value; those that are (`1` and `numpy.int64(1)`) are in `SAME`.
CONFUSABLE: tuple[tuple[Any, ...], ...] = (
    (1, True, 1.0, "1", b"1", PurePosixPath("1"), 1 + 0j, Decimal(1), Fraction(1), (1,), [1], {1}, {"1": 1}, [[1]])
    + (Colour.ONE, Colour.TEXT, Level.ONE, Word.ONE, Size.ONE, Right.READ, Text("1"), Point(1), Spot(1), range(1, 2))
    + (bytearray(b"1"), np.array(1), np.array([1]), np.array([[1]]), np.array([1.0]), np.array([1], "i2"), ("1",)),
    (0, False, 0.0, -0.0, "0", "", b"", (), [], {}, None, "None", set(), range(0), 0j, complex(0.0, -0.0), Right(0))
    + (complex(-0.0, 0.0), Decimal("-0"), np.array([]), np.array([], "f4"), np.zeros((0, 2)), np.zeros((2, 0))),
    (float("nan"), "nan", float("inf"), -float("inf"), "inf", Decimal("NaN"), complex("nan"), np.array([np.nan]))
    + (np.array([np.inf]), np.array(["nan"]), np.array([np.nan], "f4"), np.array([np.nan], "c16")),
    (10**4300, 10**4300 + 1, -(10**4300), 2**63, 2.0**63, 2**64, "10" * 4300),
    ("a/b", PurePosixPath("a/b"), PurePosixPath("a\\b"), PureWindowsPath("c:/a"), b"a/b", ["a", "b"], ("a", "b"))
    + ({"a": "b"}, {"a", "b"}, "ab", ["ab"], [["a"], "b"], ["a", ["b"]], ["a", []], Pair("a", "b"), Couple("a", "b"))
    + (np.array(["a", "b"]), np.array(["a", "b"], object), np.array([b"a", b"b"]), {"a": {"b": None}}, [("a", "b")]),
    (
        "é",
        "e\u0301",
        "\ud800",
        "\udfff",
        "?",
        "\x00",
        "\x00\x00",
        "\U0001f600",
        "E\u0301",
        b"\xc3\xa9",
        "s1:a",
        "i1:1",
        b"s1:a",
    ),
    (dt.date(2020, 1, 2), dt.datetime(2020, 1, 2), dt.datetime(2020, 1, 2, fold=1), "2020-01-02", dt.time(0))
    + (dt.datetime(2020, 1, 2, tzinfo=dt.UTC), dt.datetime(2020, 1, 2, tzinfo=dt.timezone(dt.timedelta(0), "X")))
    + (dt.timedelta(1), dt.timedelta(seconds=1), dt.timedelta(0, 0, 1), dt.UTC, dt.time(0, tzinfo=dt.UTC))
    + (dt.timezone(dt.timedelta(1, -3600), "X"), dt.timezone(dt.timedelta(0), "X"), np.datetime64("2020-01-02"))
    + (np.datetime64("2020-01-02", "s"), np.array(["2020-01-02"], "M8[D]"), np.timedelta64(1, "D")),
    (UUID(int=1), UUID(int=1).hex, Fraction(1, 2), 0.5, Decimal("0.5"), Decimal("0.50"), "1/2", (1, 2), [1, 2])
    + (range(1, 3), slice(1, 3), slice(1, 3, 1), ..., "...", Pair(1, 2), Couple(1, 2))
    + (np.array([1, 2]), np.array([[1, 2]]), np.array([[1], [2]]), np.array([1, 2], object), {1, 2}, {(1, 2)}, {"1": 2})
    + (np.array((1, 2), [("a", "i4"), ("b", "i4")])[()], np.array((1, 2), [("a", "i4"), ("c", "i4")])[()])
    + (np.array([(1, 2)], [("a", "i4"), ("b", "i4")]), np.array([(1, 2)], [("a", "i4"), ("b", "i8")])),
    (int, float, str, Point, Spot, first, second, len, "builtins.int", np.float32, np.mean, np.sin, np.cos, "numpy.sin")
    + (partial(first, 1), partial(first, x=1), partial(second, 1), partial(first, 2), Colour),
    (Right.READ, Right.WRITE, Right.READ | Right.WRITE, 3),
    ([{"a": {"b": {"c": 1}}}], [{"a": {"b.c": 1}}], [{"a.b": {"c": 1}}], [{"a.b.c": 1}], [{"a": {"b\\": {"c": 1}}}])
    + ([{"a": {"b\\.c": 1}}], [{"a": {"b": {}, "b.c": 1}}], [{"a": {"b": {"c": 1}, "b.c": 1}}]),
    (np.longdouble(1) / 3, np.array([1, 3], "longdouble"), np.array([1, 4], "longdouble"), 1 / 3, np.float32(1) / 3),
)

#: Groups of values that are one config value: they have one hash.
SAME: tuple[tuple[Any, ...], ...] = (
    (1, np.int64(1), np.int8(1), np.uint64(1)),
    (True, np.True_),
    (0.5, np.float64(0.5), np.float32(0.5), np.float16(0.5)),
    (1j, np.complex128(1j), np.complex64(1j)),
    ("a", np.str_("a")),
    (b"a", np.bytes_(b"a")),
    (float("nan"), -float("nan"), np.float64("nan"), np.float32("nan")),
    (np.arange(6).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3)))
    + (np.arange(6).reshape(2, 3).astype(">i8"), np.arange(12).reshape(2, 6)[:, ::2] // 2),
    (np.array([np.nan]), np.array([-np.nan]), np.frombuffer(b"\x01\x00\x00\x00\x00\x00\xf8\x7f", "f8")),
    (range(0, 3, 2), range(0, 4, 2)),
    (range(0), range(3, 1), range(5, 5, -1)),
    (range(1, 2), range(1, 9, 8)),
    ({1, 2}, frozenset([2, 1])),
    (
        OrderedDict(b={"c.d": 2}, a=1),
        {"a": 1, "b": {"c.d": 2}},
        MappingProxyType({"b": OrderedDict({"c.d": 2}), "a": 1}),
    ),
    (dt.UTC, dt.UTC, dt.timezone(dt.timedelta(0))),
    (np.array([(1, 2)], [("a", "<i4"), ("b", "<i4")]), np.array([(1, 2)], [("a", ">i4"), ("b", ">i4")]))
    + (np.array([(1, 2)], np.dtype({"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [4, 0]})),),
)


def confusable() -> st.SearchStrategy[tuple[Any, Any]]:
    """Two different values out of one confusable group. Leaves out values from different groups, which differ more."""
    return st.sampled_from(CONFUSABLE).flatmap(
        lambda group: st.permutations(range(len(group))).map(lambda order: (group[order[0]], group[order[1]]))
    )


def names() -> st.SearchStrategy[str]:
    """Names of configs: plain ones, globs, slashes, dots, empty, any other text. Leaves out no string."""
    plain = st.text(string.ascii_lowercase + string.digits + "_.-", max_size=8)
    return plain | st.text(st.sampled_from("[]*?!a1/\\. "), max_size=6) | st.text(max_size=8)


def parts() -> st.SearchStrategy[str]:
    """Keys without a dot, few, so that draws collide; among them methods of dict. Leaves out `name` and `out`."""
    return st.sampled_from(["a", "b", "c", "items", "copy", "frozen", "é", "x y", "0", "__class__"])


def keys() -> st.SearchStrategy[str]:
    """Keys as a user may write them, with up to three parts. Leaves out bad keys: those are in `bad_keys`."""
    return st.lists(parts(), min_size=1, max_size=3).map(".".join)


def data_keys() -> st.SearchStrategy[str]:
    """Keys in a map inside a config, where dots and backslashes are data. Leaves out the empty key."""
    confusable = [
        "a.b",
        "a.b.c",
        "b.c",
        "a\\",
        "a\\.b",
        "a\\\\.b",
        ".",
        "..",
        ".a",
        "a.",
        "!",
        "train.csv",
        "gpt-4",
        "gpt-4.1",
    ]
    return parts() | st.sampled_from(confusable)


def scalars() -> st.SearchStrategy[Any]:
    """Leaves that JSON could nearly hold, of small confusable numbers and texts. Leaves out NaN, arrays and classes."""
    small = st.sampled_from([0, 1, 2, True, False, 0.0, -0.0, 1.0, 0.5, None, "", "0", "1", "a", "None", b"1", 10**20])
    return small | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4)


def values(leaves: st.SearchStrategy[Any] | None = None) -> st.SearchStrategy[Any]:
    """Values of a config: leaves, lists, tuples, sets and dicts, nested. Leaves out what `leaves` does, and cycles."""
    hashable = scalars()
    return st.recursive(
        scalars() if leaves is None else leaves,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.lists(inner, max_size=3).map(tuple)
            | st.sets(hashable | st.tuples(hashable, hashable), max_size=3)
            | st.frozensets(hashable | st.frozensets(hashable, max_size=2), max_size=3)
            | st.dictionaries(data_keys(), inner, max_size=3)
        ),
        max_leaves=8,
    )


def maps(leaves: st.SearchStrategy[Any] | None = None) -> st.SearchStrategy[dict[str, Any]]:
    """Configs or updates without a name, dotted keys among them. Leaves out bad keys, and what `leaves` does."""
    return st.dictionaries(keys(), values(leaves), max_size=4)


def configs(leaves: st.SearchStrategy[Any] | None = None, *, named: bool = True) -> st.SearchStrategy[dict[str, Any]]:
    """Configs as a user writes them, each with a name. Leaves out what `maps` does, and names that are not strings.

    Without `named`, some have no name, or None.
    """
    optional = st.fixed_dictionaries({}, optional={"name": names() | st.none()})
    name = st.fixed_dictionaries({"name": names()}) if named else optional
    return st.tuples(name, maps(leaves)).map(lambda both: both[0] | both[1])


def variations(max_size: int = 3, *, named: bool = True) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Lists of configs: the configs of an experiment, or the variations of a sweep. Leaves out the empty list.

    Two of them may be the same config.
    """
    return st.lists(configs(named=named), min_size=1, max_size=max_size)


def sweeps(max_dims: int = 3, max_side: int = 3) -> st.SearchStrategy[Tensor[FrozenConfig]]:
    """Grids as `sweep` makes them, of one to `max_dims` axes. Leaves out empty grids.

    Two of the cells may be the same config.
    """
    return st.lists(variations(max_side), min_size=1, max_size=max_dims).map(
        lambda listed: reduce(sweep, listed[1:], grid_of(listed[0]))
    )


def shapes(max_dims: int = 3, max_side: int = 4, min_side: int = 0) -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes of tensors, empty ones and () among them. Leaves out more than four positions along an axis."""
    return st.lists(st.integers(min_side, max_side), max_size=max_dims).map(tuple)


#: Coordinates that are easily taken for each other, repeated ones among them, and such that have no hash.
COORDS = st.sampled_from([0, 1, True, 1.0, "1", None, float("nan"), (1,), "a", 2, 0.5, [1]])


@st.composite
def tensors(
    draw: st.DrawFn, items: st.SearchStrategy[Any] | None = None, min_dims: int = 0, max_dims: int = 3
) -> Tensor[Any]:
    """Tensors with named axes and confusable coordinates. Leaves out axes without positions.

    Without `items`, the items are their flat positions.
    """
    shape = draw(shapes(max_dims, max_side=3, min_side=1).filter(lambda shape: len(shape) >= min_dims))
    called = ("lr", "mlp.width", *(f"axis_{i}" for i in range(max_dims)))
    axes = [Axis(called[i], draw(st.lists(COORDS, min_size=size, max_size=size))) for i, size in enumerate(shape)]
    size = prod(shape)
    drawn = range(size) if items is None else draw(st.lists(items, min_size=size, max_size=size))
    return Tensor(drawn, shape, axes)
