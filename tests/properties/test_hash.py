"""Laws of the hash: the same value has the same one everywhere, another value has another one."""

import datetime as dt
import functools
import io
import json
import os
import re
import struct
import subprocess
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import InitVar, dataclass, field
from decimal import Decimal
from fractions import Fraction
from hashlib import sha256
from importlib.machinery import ModuleSpec
from operator import attrgetter
from pathlib import Path, PurePosixPath
from types import MappingProxyType, ModuleType, SimpleNamespace
from typing import ClassVar
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyrsistent import pmap, pset, pvector
from strategies import shuffled, typed

import pyexp
from pyexp import Config, ConfigError, HashError, config_hash, freeze, register_encoder, thaw
from pyexp.configs import encoders, freeze_value, leaves, lookup
from pyexp.hashing import digest, encode, encoder_of_many
from pyexp.leaves import NotLoaded, has_encoders, script_name
from pyexp.results import plain, restored
from pyexp.testing.strategies import (
    CONFUSABLE,
    SAME,
    Colour,
    Level,
    Pair,
    Point,
    Right,
    Word,
    configs,
    confusable,
    data_keys,
    first,
    keys,
    scalars,
    second,
    values,
)

SEEDS = ("0", "1", "42", "4294967295")
HERE = str(Path(pyexp.__file__).parents[1])

IN_A_FRESH_PROCESS = """
import json
from pyexp.testing.strategies import CONFUSABLE, SAME
from pyexp import config_hash

groups = [*CONFUSABLE, *SAME]
hashes = [[config_hash({"a": value, "b": {"c": [value]}, "name": "x"}) for value in group] for group in groups]
print(json.dumps(hashes))
"""


def started(arguments, seed="random", folder=None):
    """A process of this Python that knows pyexp, its output piped."""
    world = {**os.environ, "PYTHONPATH": HERE, "PYTHONHASHSEED": seed}
    command = [sys.executable, *arguments]
    return subprocess.Popen(
        command, env=world, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def output(process, stdin=""):
    """What the process prints. It has to end well."""
    out, err = process.communicate(stdin)
    assert process.returncode == 0, err
    return out


def test_hashes_are_the_same_in_every_process():
    """Every kind of value has the same hash in fresh processes under four PYTHONHASHSEEDs, and here."""
    processes = [started(["-c", IN_A_FRESH_PROCESS], seed) for seed in SEEDS]
    groups = [*CONFUSABLE, *SAME]
    here = [[config_hash({"a": value, "b": {"c": [value]}, "name": "x"}) for value in group] for group in groups]
    assert [json.loads(output(process)) for process in processes] == [here] * len(SEEDS)


@pytest.mark.parametrize("group", CONFUSABLE, ids=range(len(CONFUSABLE)))
def test_confusable_values_have_different_hashes(group):
    """No two values that look alike share an encoding; a value shares it with its own copy."""
    encoded = {}
    for value in group:
        code = encode(freeze(value))
        assert code not in encoded, (value, encoded.get(code))
        encoded[code] = value
        assert encode(freeze(deepcopy(value))) == code


WRAPS = (
    lambda value: [value],
    lambda value: (1, value),
    lambda value: {"k": value, "a": 0},
    lambda value: {"k": [value]},
    Point,
)


@given(confusable(), st.lists(st.sampled_from(WRAPS), max_size=3))
def test_confusable_values_differ_wherever_they_stand(pair, wraps):
    """In lists, tuples, maps and dataclasses, at any depth, two values that differ make configs that differ."""
    left, right = pair
    for wrap in wraps:
        left, right = wrap(left), wrap(right)
    assert config_hash({"a": left}) != config_hash({"a": right})


@pytest.mark.parametrize("group", SAME, ids=range(len(SAME)))
def test_spellings_of_one_value_have_one_hash(group):
    """A NumPy scalar is the number it equals, an array its content, a range its numbers, a set its elements."""
    assert len({config_hash({"a": value, "l": [value]}) for value in group}) == 1


def decoded(code):
    """The typed tree that an encoding of plain values stands for, and what follows it: encoding read backwards."""
    tag, size, rest = re.fullmatch(rb"(.)(\d+):(.*)", code, re.DOTALL).groups()
    content, rest = rest[: int(size)], rest[int(size) :]
    if tag in b"mtlS":
        items = []
        while content:
            item, content = decoded(content)
            items.append(item)
        return {
            b"m": lambda: ("dict", {key: item for (_, key), item in zip(items[::2], items[1::2], strict=True)}),
            b"t": lambda: ("tuple", items),
            b"l": lambda: ("list", items),
            b"S": lambda: ("set", items),
        }[tag](), rest
    return {
        b"s": lambda: ("str", content.decode("utf-8", "surrogatepass")),
        b"i": lambda: ("int", int(content, 16)),
        b"f": lambda: ("float", content.decode()),
        b"b": lambda: ("bool", content == b"True"),
        b"n": lambda: ("NoneType", None),
        b"y": lambda: ("bytes", content),
    }[tag](), rest


def tree(value):
    """The typed tree of a plain value, as `decoded` gives it."""
    if isinstance(value, dict):
        return ("dict", {key: tree(item) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return (type(value).__name__, [tree(item) for item in value])
    if isinstance(value, (set, frozenset)):
        return ("set", [tree(item) for item in sorted(value, key=encode)])
    return (type(value).__name__, value.hex() if isinstance(value, float) else value)


@given(configs(named=False))
def test_an_encoding_can_be_read_back(config):
    """What was encoded can be decoded, types and all: no two plain configs share an encoding."""
    frozen = freeze(config)
    assert decoded(encode(frozen)) == (tree(thaw(frozen)), b"")


SMALL = st.sampled_from([0, 1, True, 1.0, "1", "", None, b"1"])


@given(values(SMALL), values(SMALL))
def test_two_values_share_an_encoding_only_if_they_are_of_one_type_and_equal(left, right):
    """Encodings are equal exactly where the typed values are."""
    left, right = thaw(freeze_value(left)), thaw(freeze_value(right))
    assert (encode(left) == encode(right)) == (tree(left) == tree(right))
    assert (typed(left) == typed(right)) <= (encode(left) == encode(right))


@given(configs(named=False), st.data())
def test_neither_the_order_of_keys_nor_the_form_matters(config, data):
    """Shuffled, frozen, thawed, as a Config, with its keys dotted: the hash is that of the value."""
    expected = config_hash(config)
    frozen = freeze(config)
    for same in (shuffled(config, data), frozen, thaw(frozen), Config(config), pmap(thaw(frozen))):
        assert config_hash(same) == expected
    assert digest(encode(frozen)) == expected
    assert re.fullmatch("[0-9a-f]{12}", expected)


@given(configs(named=False), values())
def test_out_is_no_part_of_a_config_and_the_name_is(config, value):
    """`out` is added by pyexp for the experiment; two Unicode spellings of a name are two names."""
    assert config_hash({**config, "out": value}) == config_hash(config)
    assert config_hash({**config, "a.out": 1}) != config_hash({**config, "a.out": 2})
    spellings = [config_hash({**config, "name": name}) for name in ("Run", "run", "é", "e\u0301", "", None)]
    assert len(set(spellings)) == len(spellings)


GOLDEN = [
    ({}, "7f9cc8668c8c"),
    ({"name": "exp_lr0.1", "lr": 0.1}, "fb5389c06d42"),
    ({"mlp": {"width": 64, "depth": 2}, "layers": [1, 2, 3], "pair": (1, 2), "set": {1, 2}}, "44c0f125a696"),
    ({"mlp.width": 64, "mlp.depth": 2}, "7d6aac2b7dc4"),
    ({"a": [1, True, 1.0, "1", b"1", None, "None", 1j]}, "6b1d73c1449f"),
    ({"a": [0.0, -0.0, float("nan"), float("inf"), -1, 10**20]}, "2329178c8bed"),
    ({"a": "é\U0001f600"}, "f908090afe7e"),
    ({"a": PurePosixPath("data/train.csv")}, "b31514c08705"),
    ({"a": [Decimal("1.50"), Fraction(1, 3), UUID(int=1), range(0, 10, 3), slice(1, None), ...]}, "b34a23b1dbd9"),
    (
        {"a": [dt.date(2020, 1, 2), dt.time(3, 4), dt.timedelta(1, 2, 3), dt.datetime(2020, 1, 2, 3, 4, 5, 6, dt.UTC)]},
        "d368684aea24",
    ),
    ({"a": [Colour.ONE, Level.ONE, Right.READ | Right.WRITE]}, "b810f33935b7"),
    ({"a": [Point(1), Pair(1, 2), first, int, len, functools.partial(first, 1, k=2)]}, "2d4b0cbb26f1"),
    ({"a": np.arange(6, dtype="i4").reshape(2, 3)}, "b01ddcd902b8"),
    ({"a": np.array([1.5, np.nan, -0.0])}, "5650753fd3e9"),
    (
        {"a": [np.array(["a", "bc"]), np.array([True]), np.array(["2020-01-02"], "M8[D]"), np.array([1, "a"], object)]},
        "8197e805cd0b",
    ),
    ({"a": np.array([(1, 0.5)], [("x", "i4"), ("y", "f8", (1,))])}, "88342231b1f7"),
    ({"a": np.datetime64("2020-01-02", "s")}, "518c5e8829c5"),
]


@pytest.mark.parametrize(("config", "expected"), GOLDEN)
def test_golden_hashes(config, expected, monkeypatch):
    """The scheme does not change under the feet of those who have results: another encoding needs another version."""
    for named in (Colour, Level, Right, Point, Pair, first):  # their module is part of the hash, and had this name
        monkeypatch.setattr(named, "__module__", "strategies")
    assert config_hash(config) == expected


def test_golden_encoding():
    """What another tool has to write: type, length, colon, content; maps in the order of their encoded keys."""
    assert encode({"lr": 0.5, "a": [1, True, None], "t": (b"x", -255)}) == (
        b"m73:s1:al18:i1:1b4:Truen4:Nones1:tt10:y1:xi3:-ffs2:lrf20:0x1.0000000000000p-1"
    )
    assert digest(b"m0:") == config_hash({}) == sha256(b"pyexp1m0:").hexdigest()[:12]


# Kinds of objects


@attrs.define
class Attrs:
    """A class of attrs."""

    x: object
    _hidden: int = 0


@attrs.frozen
class FrozenAttrs:
    """A frozen class of attrs."""

    x: object


@dataclass
class Full:
    """A dataclass with everything a dataclass may have."""

    x: object
    shared: ClassVar[object] = object()
    given: InitVar[object] = None
    items: list = field(default_factory=lambda: [1])
    late: int = field(init=False, default=3, repr=False, compare=False)

    def __post_init__(self, given):
        self.cache = object()


@dataclass(slots=True)
class Slotted:
    """A dataclass with slots."""

    x: object


@dataclass(frozen=True, slots=True)
class FrozenSlotted:
    """A frozen dataclass with slots."""

    x: object


class Heir(Point):
    """A class that inherits the fields of a dataclass."""


class Heavy(float):
    """A float with a unit."""

    __slots__ = ("unit",)

    def __new__(cls, value, unit):
        self = super().__new__(cls, value)
        self.unit = unit
        return self


class Spoken(str):
    """A string with a state."""

    def __new__(cls, value, voice):
        self = super().__new__(cls, value)
        self.voice = voice
        return self


class Bare(str):
    """A string that may have a state, and has none."""


class Items(list):
    """A list of another class."""


class Posix(PurePosixPath):
    """A path of another class."""


class Plain:
    """An object whose content nobody declares."""

    def __init__(self, x=None):
        self.x = x

    def method(self):
        """A method."""

    @classmethod
    def make(cls):
        """A method of the class."""

    def __call__(self):
        """It can be called, too."""


class Turn:
    """A foreign class with an encoder."""

    def __init__(self, degrees):
        self.degrees = degrees


class SharpTurn(Turn):
    """A subclass of it, without one."""


register_encoder(Turn, lambda turn: turn.degrees)


@pytest.mark.parametrize("kind", [Point, Attrs, FrozenAttrs, Full, Slotted, FrozenSlotted, Heir, Turn, SharpTurn])
def test_instances_are_their_class_and_fields(kind):
    """Two instances share a hash exactly where class and fields agree."""
    assert encode(kind([1])) == encode(kind([1]))
    codes = {encode(kind(x)) for x in (1, True, "1", [1], (1,), {"a": 1}, Point(1), Colour.ONE)}
    assert len(codes) == 8
    others = (Point, Attrs, FrozenAttrs, Full, Slotted, FrozenSlotted, Heir, Turn, SharpTurn)
    assert len({encode(other(1)) for other in others}) == len(others)


def test_every_field_counts_and_nothing_else():
    """Fields that are left out of `==`, `repr` or `__init__` count; class variables and later attributes do not."""
    full, other = Full(1), Full(1)
    assert encode(full) == encode(other)
    other.late = 4
    assert encode(full) != encode(other)
    assert encode(Attrs(1, 2)) != encode(Attrs(1, 3))


class Tagged(Point):
    """A subclass that is not decorated, with state beside the fields."""

    def __init__(self, x, tag):
        super().__init__(x)
        self.tag = tag

    @functools.cached_property
    def size(self):
        return 1


class SlotTagged(FrozenSlotted):
    """The same with slots."""

    __slots__ = ("__weakref__", "tag")


def test_a_subclass_that_adds_attributes_to_the_fields_is_refused():
    """Two of its instances would share a hash. What is cached is no state, nor is an empty slot."""
    for value in (Tagged(1, 2), SlotTagged(1)):
        object.__setattr__(value, "tag", 2)
        with pytest.raises(
            HashError, match=r"a subclass of a dataclass, whose 'tag' is not a field; decorate it too, or"
        ):
            config_hash({"x": value})
        object.__delattr__(value, "tag")
        assert getattr(value, "size", 1) == 1
        assert encode(value) != encode(type(value).__base__(1))


def test_an_encoder_may_be_replaced_and_has_to_be_for_a_class():
    """The newest encoder counts; anything but a class is refused."""

    class Local:
        x = 1

    register_encoder(Local, lambda value: value.x)
    before = encode(Local())
    register_encoder(Local, lambda value: [value.x])
    assert encode(Local()) != before
    with pytest.raises(HashError, match=r"^'Local' is not a class; register_encoder takes the class"):
        register_encoder("Local", str)
    for kind in (int, dict, Config, object):  # it would have no effect on values, but on subclasses
        with pytest.raises(HashError, match=r"^the encoding of \w+ is fixed; register_encoder takes a class of its"):
            register_encoder(kind, str)
    with pytest.raises(HashError, match=r"^the encoder of Local is 3; it has to be a function"):
        register_encoder(Local, 3)


def test_whether_there_are_encoders_is_known():
    """There are none until one is registered."""
    assert has_encoders()
    assert output(started(["-c", "from pyexp.leaves import has_encoders; print(has_encoders())"])) == "False\n"


def test_an_encoder_wins_over_what_pyexp_would_do():
    """A registered dataclass, and a registered float, are what their encoders say."""

    class Free(float):
        pass

    free = Free(1)
    free.state = 5
    register_encoder(Free, lambda value: value.state)
    assert encode([free]) == encode([free])
    free.state = 6
    other = Free(2)
    other.state = 6
    assert encode([free]) == encode([other])


def test_an_encoder_that_raises_is_named_with_the_path_of_its_value():
    """What it raised is the cause, with its traceback."""

    class Broken:
        pass

    register_encoder(Broken, lambda value: value.nothing)
    with pytest.raises(
        HashError, match=r"^config\.a\[1\] is a .*Broken, whose registered encoder raised Attr"
    ) as refused:
        config_hash({"a": [0, Broken()]})
    assert isinstance(refused.value.__cause__, AttributeError)


def test_members_of_flags_are_their_values_and_members_of_enums_their_names():
    """A flag of several members has no name of its own; an IntEnum is no int."""
    codes = {encode(Right(value)) for value in range(4)}
    assert len(codes) == 4
    assert encode(Right.READ | Right.WRITE) == encode(Right.WRITE | Right.READ)
    assert encode(Level.ONE) != encode(1)


def test_subclasses_without_a_state_of_their_own_are_other_values():
    """They are encoded as what they are made of, under their own name."""
    for usual, special in [("a", Bare("a")), ([1], Items([1])), (PurePosixPath("a"), Posix("a"))]:
        assert encode(special) == encode(deepcopy(special))
        assert encode(special) != encode(usual)
    assert encode([Items([1])]) != encode([Items([2])])
    spans = [pd.Timedelta(0), pd.Timedelta(1, "ns"), pd.Timedelta(1, "us"), pd.Timedelta(1, "D"), dt.timedelta(1)]
    assert len({encode(span) for span in spans}) == len(spans)
    assert encode(spans[3]) == encode(spans[3]) == encode(pd.Timedelta(24, "h"))  # pandas keeps what it was asked for


def test_the_flavour_of_a_path_is_that_of_the_system():
    """A path has the same hash as the path that another system would make of it."""
    assert encode(Path("a/b")) == encode(PurePosixPath("a/b")) != encode(PurePosixPath("a/c"))


def zone(key):
    """A time zone of the given name that was read from a file."""
    head = b"TZif" + bytes(16) + struct.pack(">6l", 0, 0, 0, 0, 1, 4)
    return ZoneInfo.from_file(io.BytesIO(head + struct.pack(">lbb", 0, 0, 0) + b"UTC\0"), key=key)


def test_moments_are_their_digits_fold_and_zone():
    """Zones of one offset with different names differ, and so do folds."""
    moments = [dt.datetime(2020, 1, 1, tzinfo=tz) for tz in (None, dt.UTC, zone("A"), zone("B"))]
    moments += [moments[1].replace(fold=1), zone("A"), zone("B"), dt.time(1, tzinfo=zone("A")), dt.time(1)]
    assert len({encode(moment) for moment in moments}) == len(moments)
    assert encode(zone("A")) == encode(zone("A"))


def test_long_strings_in_arrays_are_hashed_by_content():
    """NumPy's variable-width strings and objects are read, not their addresses."""
    if hasattr(np.dtypes, "StringDType"):
        texts = [np.array([letter * 100], dtype=np.dtypes.StringDType()) for letter in "aab"]
        assert encode(texts[0]) == encode(texts[1]) != encode(texts[2])
    objects = [np.array([10**30, "x", [1]], object) for _ in range(2)]
    assert encode(objects[0]) == encode(objects[1])
    assert encode(objects[0]) != encode(np.array([10**30, "x", [True]], object))


@pytest.mark.parametrize(
    "dtype", ["?", "i1", "u8", "f2", "f4", "f8", "c8", "c16", "longdouble", "clongdouble", "M8[s]"]
)
@pytest.mark.parametrize("shape", [(), (0,), (6,), (2, 3)])
def test_arrays_are_their_type_shape_and_content(dtype, shape):
    """Layout, byte order and strides in memory do not matter; the array is not changed by being hashed."""
    array = np.arange(int(np.prod(shape))).astype(dtype).reshape(shape) if dtype != "?" else np.ones(shape, bool)
    code = encode(array)
    readonly = array.copy()
    readonly.flags.writeable = False
    laid_out = [array.astype(array.dtype.newbyteorder(">")), readonly, array.copy(order="F")]
    if shape:
        laid_out += [np.repeat(array, 2, axis=0)[::2], array[..., ::-1].copy()[..., ::-1]]
    assert {encode(same) for same in laid_out} == {code}
    assert encode(array.reshape((1, *shape))) != code
    assert encode(array.astype("S20")) != code
    if array.size:
        other = array.copy()
        other.ravel()[:1] = 0 if array.ravel()[0] else 1
        if not np.array_equal(other, array):
            assert encode(other) != code


# Names of classes and functions


def test_functions_and_classes_are_their_names():
    """By module and qualified name, also those written in C."""
    named = [first, second, len, np.sin, np.cos, np.mean, int, dict, Point, Plain.method, json.dumps]
    named += [cached, decorated, struct.pack, functools.partial(first, 1), functools.partial(first, x=1)]
    assert len({encode(thing) for thing in named}) == len(named)
    assert b"pyexp.testing.strategies.first" in encode(first)
    assert b"builtins.len" in encode(len)


def repeated(times):
    """A decorator with a state, whose wrapper takes over the name of what it wraps."""

    def decorate(function):
        @functools.wraps(function)
        def wrapper(*args):
            return [function(*args) for _ in range(times)]

        return wrapper

    return decorate


@functools.cache
def cached(x):
    """A function with a cache around it."""
    return x


@repeated(2)
def decorated(x):
    """A function with a wrapper around it."""
    return x


def test_a_wrapper_is_hashed_only_where_its_name_leads_to_it():
    """Two wrappers of one function bear its name; their hash would be the same, and they are not."""
    assert encode(decorated) != encode(cached)
    for wrapper in (repeated(2)(first), repeated(3)(first), functools.cache(first)):
        with pytest.raises(
            HashError, match=r"calls itself 'pyexp.testing.strategies.first' and is not what stands there; use the func"
        ):
            encode(wrapper)
    lost = functools.cache(first)
    lost.__module__ = "no.such.module"
    with pytest.raises(HashError, match=r"calls itself 'no.such.module.first' and is not what stands there"):
        encode(lost)


SCRIPT = """
from dataclasses import dataclass
from enum import Enum
from functools import cache, partial
from pyexp import config_hash, register_encoder

def function(x): return x

@cache
def cached(x): return x

@dataclass
class Point:
    x: int

class Colour(Enum):
    RED = 1

class Foreign: pass

register_encoder(Foreign, lambda value: 1)

def show():
    values = [function, cached, Point, Point(1), Colour.RED, Foreign(), partial(function, 1)]
    print([config_hash({"a": value}) for value in values])

if __name__ == "__main__":
    show()
"""


def test_what_a_script_defines_is_called_after_the_script(tmp_path):
    """Run as a script, with -m, or imported by another one, its functions and classes have one hash."""
    (tmp_path / "my.script.py").write_text(SCRIPT)
    (tmp_path / "train.py").write_text(SCRIPT)
    runs = [
        started(["train.py"], folder=tmp_path),
        started([str(tmp_path / "train.py")]),
        started(["-m", "train"], folder=tmp_path),
        started(["-c", "import sys; sys.path.insert(0, ''); import train; train.show()"], folder=tmp_path),
        started(["my.script.py"], folder=tmp_path),
        started(["-"], folder=tmp_path),
    ]
    *same, other, piped = [output(run, SCRIPT) for run in runs]
    assert len(set(same)) == 1
    assert len({same[0], other, piped}) == 3


def test_a_script_is_named_by_its_spec_or_its_file():
    """A package run with -m is itself; a prompt or a pipe has no file."""
    by_spec = ModuleType("__main__")
    by_spec.__spec__ = ModuleSpec("package.__main__", None)
    assert script_name(by_spec) == "package"
    by_spec.__spec__ = ModuleSpec("package.module", None)
    assert script_name(by_spec) == "package.module"
    for file, name in [("/x/train.py", "train"), ("<stdin>", "__main__"), (None, "__main__"), ("", "__main__")]:
        by_file = ModuleType("__main__")
        by_file.__file__ = file
        assert script_name(by_file) == name
    by_folder = ModuleType("__main__")
    by_folder.__spec__ = ModuleSpec("__main__", None)
    for file, name in {
        "/a/study/__main__.py": "study",
        "/a/study.v2/__main__.py": "study_v2",
        "/a/study.pyz/__main__.py": "study",
        "/a/study.exe/__main__.py": "study",
    }.items():
        by_folder.__file__ = file
        assert script_name(by_folder) == name
    assert script_name(ModuleType("__main__")) == "__main__"


def test_main_is_replaced_wherever_a_name_is_written(monkeypatch):
    """Also under the name that multiprocessing gives the script in its children."""
    script = ModuleType("__main__")
    script.__file__ = "/x/train.py"  # what runs these tests may be no script
    monkeypatch.setitem(sys.modules, "__main__", script)
    Mine, Childs = (type("Mine", (), {"__module__": module}) for module in ("__main__", "__mp_main__"))
    assert encode(Mine) == encode(Childs)
    assert b"__m" not in encode(Mine)


# Refusals


def local():
    """A function and a class that nobody else can find."""

    def inner():
        pass

    class Inner:
        pass

    return inner, Inner


class Zone(dt.tzinfo):
    """A time zone of one's own."""

    def utcoffset(self, moment):
        return dt.timedelta(0)


def unfinished():
    """A dataclass with slots, one of which was never filled."""
    slotted = Slotted(1)
    del slotted.x
    return slotted


REFUSED = {
    "object": object(),
    "instance": Plain(),
    "lambda": lambda: 0,
    "local function": local()[0],
    "local class": local()[1],
    "bound method": Plain().method,
    "class method": Plain.make,
    "method of a list": [].append,
    "method of C": str.lower,
    "class method of C": dict.fromkeys,
    "generator": (i for i in ()),
    "module": json,
    "lock": threading.Lock(),
    "deque": deque([1]),
    "memoryview": memoryview(b"a"),
    "namespace": SimpleNamespace(a=1),
    "pattern": re.compile("a"),
    "float with state": Heavy(1, "kg"),
    "string with state": Spoken("a", "low"),
    "masked array": np.ma.array([1], mask=[True]),
    "foreign zone": Zone(),
    "nameless zone": zone(None),
    "getter": attrgetter("a"),
    "unfinished": unfinished(),
    "dtype": np.dtype("f4"),
}


@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED.keys())
def test_a_value_without_stable_content_is_refused_with_its_path(value):
    """The message names path and type and says how to register an encoder; nothing is guessed."""
    with pytest.raises(HashError, match=r"^config\.a\.b\[1\] is .*which has no stable hash; use .*register.*encoder"):
        config_hash({"a": {"b": [1, value]}, "c": Colour.ONE, "d": Point})
    assert isinstance(HashError(), (ValueError, TypeError))


@pytest.mark.parametrize(
    ("make", "where"),
    [
        (lambda bad: {"a": {"b": bad}}, "config.a.b is"),
        (lambda bad: {"a": [0, [1, bad]]}, "config.a[1][1] is"),
        (lambda bad: {"a": (0, bad)}, "config.a[1] is"),
        (lambda bad: {"a": {bad}}, "an element of config.a is"),
        (lambda bad: {"a": Point(bad)}, "config.a.x is"),
        (lambda bad: {"a": Slotted([bad])}, "config.a.x[0] is"),
        (lambda bad: {"a": Attrs({"k": bad})}, "config.a.x.k is"),
        (lambda bad: {"a": Turn(bad)}, "config.a holds"),
        (lambda bad: {"a": functools.partial(first, bad)}, "config.a holds"),
        (lambda bad: {"a": np.array([bad, None], object)}, "config.a holds"),
        (lambda bad: {"a": Point({bad: 1})}, "config.a.x holds"),
        (lambda bad: {"colour": Colour.ONE, "level": Plain, "z": bad, "zz": bad}, "config.z is"),
    ],
)
def test_the_path_of_a_refused_value_leads_to_it(make, where):
    """As far as a path can be written; beyond, the value that holds it is named."""
    with pytest.raises(HashError) as refused:
        config_hash(make(Plain()))
    assert str(refused.value).startswith(f"{where} a test_hash.Plain, which has no stable hash")


def test_a_lambda_is_called_so():
    """The message of the design."""
    with pytest.raises(HashError) as refused:
        config_hash({"optimizer": {"schedule": lambda step: step}})
    assert str(refused.value) == (
        "config.optimizer.schedule is a lambda, which has no stable hash; use a named function or class from the top "
        "level of a module, a string, or register an encoder with pyexp.register_encoder"
    )
    with pytest.raises(HashError, match=r"^config.a is 'inner', defined inside a function, which has no stable hash"):
        config_hash({"a": local()[0]})


def test_a_value_that_contains_itself_is_refused():
    """Also where only the hash can see it."""
    point = Full(None)
    point.x = point
    with pytest.raises(HashError, match=r"^config contains itself, or nests too deep to be hashed$"):
        config_hash({"a": point})
    looped = {"z": object()}
    looped["a"] = looped
    point.x = looped
    with pytest.raises(HashError, match=r"^config contains itself"):
        config_hash({"a": point})


@pytest.mark.parametrize("value", [None, [], "a", 5, [("a", 1)]])
def test_what_is_no_config_is_refused(value):
    """Only mappings are configs."""
    with pytest.raises(ConfigError, match=f"^config is .*, of type {type(value).__name__}; it has to be a mapping"):
        config_hash(value)


def test_uuids_are_their_number():
    """However they are written."""
    number = UUID(int=5)
    assert encode(number) == encode(UUID(str(number).upper())) != encode(UUID(int=6))


# One hash, whatever the way to it


class Rows(list):
    """A list of another class."""


class Columns(dict):
    """A dict of another class."""


class Bag(set):
    """A set of another class."""


class Triple(tuple):
    """A tuple of another class."""

    __slots__ = ()


def containers(inner):
    """What is frozen in its own way: subclasses, foreign and persistent collections."""
    hashable = st.sampled_from([1, True, 1.0, "1", (1,), np.int64(1), frozenset([1])])
    maps = st.dictionaries(data_keys() | st.sampled_from([Word.ONE, np.str_("n")]), inner, max_size=2)
    lists = st.lists(inner, max_size=2)
    return st.one_of(
        *(maps.map(kind) for kind in (dict, Columns, OrderedDict, MappingProxyType, Config, pmap, freeze_value)),
        *(lists.map(kind) for kind in (list, Rows, tuple, Triple, pvector, freeze_value)),
        st.tuples(inner, inner).map(lambda both: Pair(*both)),
        *(st.lists(hashable, max_size=2).map(kind) for kind in (set, Bag, frozenset, pset)),
    )


def any_configs():
    """Configs of any values that have a hash, in any collections. Leaves out bad keys."""
    odd = [value for group in (*CONFUSABLE, *SAME) for value in group if not isinstance(value, int) or value < 1 << 70]
    leaves = st.integers(0, len(odd) - 1).map(lambda number: odd[number])
    return st.dictionaries(keys() | st.just("out"), st.recursive(leaves | scalars(), containers), max_size=3)


@given(any_configs(), st.sampled_from([dict, Config, Columns, OrderedDict, MappingProxyType, pmap]))
@example({"a": pvector([Rows()])}, dict)
def test_the_hash_of_a_config_is_that_of_its_frozen_form(config, kind):
    """However it is encoded: plain parts are not frozen first."""
    frozen = freeze(config)
    expected = digest(encode({key: frozen[key] for key in frozen if key != "out"}))
    assert config_hash(kind(config)) == config_hash(frozen) == expected
    assert encoder_of_many()(freeze({key: config[key] for key in config if key != "out"})) == encode(
        {key: frozen[key] for key in frozen if key != "out"}
    )


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({1: 2}, "a key of config is 1, of type int"),
        ({"a": {1: 2}}, "a key of config.a is 1, of type int"),
        ({"a": [{"": 2}]}, "a key of config.a[0] is ''"),
        ({"": 2}, "a key of config is ''"),
        (Config({"a": Config({2: 1})}), "a key of config.a is 2, of type int"),
    ],
)
def test_what_is_wrong_with_a_config_is_said_by_the_hash_too(bad, words):
    """In the words of freeze, with the path."""
    with pytest.raises(ConfigError, match=re.escape(words)):
        config_hash(bad)


@pytest.mark.parametrize("value", [{"a": 1}, [1, {"b": 2}]])
def test_collections_in_a_leaf_are_encoded_by_what_they_hold(value):
    """A field of a dataclass is not frozen, and may hold a persistent or foreign map."""
    foreign = MappingProxyType(value) if isinstance(value, dict) else pvector([1, pmap({"b": 2})])
    assert encode(Point(foreign)) == encode(Point(value)) == encode(Point(freeze(value)))


# Registered types that look like collections


class Space(Mapping):
    """A foreign mapping with a state besides its items."""

    def __init__(self, items, scale):
        self.items_, self.scale = items, scale

    def __getitem__(self, key):
        return self.items_[key]

    def __iter__(self):
        return iter(self.items_)

    def __len__(self):
        return len(self.items_)


@pytest.mark.parametrize("base", [dict, list, set, tuple, frozenset, OrderedDict, Space])
def test_a_registered_type_is_a_leaf_also_where_it_is_a_collection(base, monkeypatch):
    """It reaches the experiment as what it is; it had become a map or a list."""
    kind = type("Foreign", (base,), {"__module__": "foreign"})
    monkeypatch.setitem(encoders, kind, lambda value: [sorted(value), getattr(value, "scale", None)])
    value = kind({"a": 1}, 2) if base is Space else kind({"a": 1})
    for config in ({"x": value}, {"x": [value]}, {"x": (value,)}, {"x": {"y": value}}):
        frozen = freeze(config)
        for made in (thaw(frozen), Config(config), Config(frozen)):
            (found,) = [each for each in walked(made) if type(each) is kind]
            assert list(found) == list(value)
        assert config_hash(config) == config_hash(frozen)
        assert b"registered" in encode(frozen)
    assert [path for path, _ in leaves(freeze({"x": value}))] == ["x"]
    assert lookup(freeze({"x": value}), "x.a") is None
    assert type(restored(plain(freeze({"x": value})))["x"]) is NotLoaded
    if base in (tuple, frozenset):
        assert {type(each) for each in thaw(freeze({"x": {value}}))["x"]} == {kind}


def walked(value):
    """Everything in Configs, lists and tuples."""
    yield value
    for item in value.values() if type(value) is Config else value if type(value) in (list, tuple) else ():
        yield from walked(item)


def test_a_config_of_omegaconf_is_refused_with_the_remedy():
    """Its values resolve where they are asked for: half of it would be lost."""
    for base in (Space, object):
        kind = type("DictConfig", (base,), {"__module__": "omegaconf.dictconfig"})
        value = kind({"a": 1}, 2) if base is Space else kind()
        for config in ({"x": value}, {"x": [value]}, *([value] if base is Space else [])):
            with pytest.raises(ConfigError, match=r"OmegaConf; give OmegaConf.to_container\(config, resolve=True\)"):
                config_hash(config)


# Names

PACKAGE = {
    "lib/__init__.py": "from lib._new import Net, fit\nfrom lib._new import Net as _Net\n",
    "lib/_new.py": "class Net:\n    class Inner: pass\ndef fit(): pass\nclass Hidden: pass\n",
    "lib/public.py": "class Open: pass\n",
    "lazy/__init__.py": "__all__ = ['Net']\ndef __getattr__(name):\n    from lazy._new import Net\n    return Net\n",
    "lazy/_new.py": "class Net: pass\n",
    "deep/__init__.py": "",
    "deep/parts/__init__.py": "from deep.parts._a.b import Net\n",
    "deep/parts/_a/__init__.py": "",
    "deep/parts/_a/b.py": "class Net: pass\n",
    "_solo.py": "class Net: pass\n",
    "solo.py": "from _solo import Net\n",
    "other/__init__.py": "class Net: pass\n",
    "other/_new.py": "class Net: pass\n",
    "broken/__init__.py": "__all__ = ['Net']\ndef __getattr__(name):\n    raise RuntimeError(name)\n",
    "broken/_new.py": "class Net: pass\n",
}


@pytest.mark.parametrize(
    ("module", "name", "expected"),
    [
        ("lib._new", "Net", "lib.Net"),
        ("lib._new", "Net.Inner", "lib.Net.Inner"),
        ("lib._new", "fit", "lib.fit"),
        ("lib._new", "Hidden", "lib._new.Hidden"),
        ("lib.public", "Open", "lib.public.Open"),
        ("lazy._new", "Net", "lazy.Net"),
        ("deep.parts._a.b", "Net", "deep.parts.Net"),
        ("solo", "Net", "solo.Net"),
        ("other._new", "Net", "other._new.Net"),
        ("broken._new", "Net", "broken._new.Net"),
        ("pathlib", "PurePosixPath", "pathlib.PurePosixPath"),
        ("io", "StringIO", "io.StringIO"),
        ("operator", "add", "operator.add"),
    ],
)
def test_a_class_is_named_by_the_public_place_where_it_is_found(module, name, expected, tmp_path):
    """Wherever a library keeps it in private; the public module that a thing names is taken by its word."""
    for path, text in PACKAGE.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    code = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, *{HERE.split(os.pathsep)!r}]; import {module}; "
        f"from pyexp.leaves import qualified; print(qualified({module}.{name}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected
