"""What goes into a config comes back from its record: each kind of value as it was, or marked as not loaded."""

import io
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path, PurePath
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyexp import HashError, NotLoaded, config_hash, freeze, register_encoder, thaw
from pyexp import results as plain_form
from pyexp.configs import equal
from pyexp.hashing import encode
from pyexp.leaves import named_in
from pyexp.results import MOST_CHARACTERS, config_data, plain, restored
from pyexp.testing.strategies import CONFUSABLE, SAME, Colour, Couple, Point, Right, configs, confusable, first

VALUES = [value for group in (*CONFUSABLE, *SAME) for value in group]
#: What is known by a class, a function or a module of the user's.
NAMED = (Colour, Point, Couple, Right)


def written(value):
    """What is read of a value that was frozen and written as strict JSON."""
    return restored(json.loads(json.dumps(plain(freeze(value)), allow_nan=False)))


def marks(value):
    """Everything in a frozen value that is marked as not loaded."""
    if isinstance(value, NotLoaded):
        return [value]
    inner = value.values() if isinstance(value, Mapping) else value
    return [mark for item in inner for mark in marks(item)] if isinstance(value, (Mapping, list, tuple)) else []


@pytest.mark.parametrize("number", range(len(VALUES)))
def test_a_value_comes_back_as_it_was_or_marked(number):
    """With its type and its hash; where that takes a class, it is no text but a mark."""
    value = VALUES[number]
    frozen, back = freeze({"x": value}), written({"x": value})
    assert bool(marks(back)) == needs_a_class(value), back
    if not marks(back):
        assert encode(back) == encode(frozen)
        assert type(back["x"]) is type(frozen["x"])


def needs_a_class(value):
    """Whether a value cannot be read without a class or function by name."""
    kind = type(value)
    if isinstance(value, np.ndarray) or kind in (int, float, str, bytes, tuple, list, dict, set):
        return False
    return kind.__module__ in ("pyexp.testing.strategies", "functools") or isinstance(value, type) or callable(value)


@given(confusable())
def test_two_marks_are_equal_only_where_the_values_are(pair):
    """Marks of two different values differ; those of one value are equal, have one hash, and come back as they are."""
    left, right = (written([value])[0] for value in pair)
    if isinstance(left, NotLoaded):
        assert not equal(left, right)
        again = written(pair[0])
        assert (left, hash(left), repr(left)) == (again, hash(again), repr(again))
        assert written(left) == left


@given(configs(st.integers(0, len(VALUES) - 1).map(lambda number: VALUES[number]), named=False))
def test_a_config_has_its_hash_after_it_was_written_and_read(config):
    """Unless something in it is marked: then the hash refuses it, and says where."""
    back = restored(json.loads(json.dumps(config_data(freeze(config)))))
    if not marks(back):
        assert config_hash(back) == config_hash(config)
    else:
        with pytest.raises(HashError, match="not loaded>, which stands for a value that was not read"):
            config_hash(back)


@pytest.mark.parametrize("group", SAME, ids=range(len(SAME)))
def test_a_numpy_scalar_is_the_number_that_it_equals(group):
    """Also in the config that an experiment gets, so that a run and its report have one notion of it."""
    for value in group:
        if isinstance(value, np.generic):
            assert type(thaw(freeze({"x": [value]}))["x"][0]) is type(group[0])


def test_the_marks_say_what_is_not_there():
    """In words that no text of a config is mistaken for."""
    shown = {
        Colour.ONE: "<pyexp.testing.strategies.Colour.ONE, not loaded>",
        Right.READ | Right.WRITE: "<pyexp.testing.strategies.Right(3), not loaded>",
        Point(1): '<pyexp.testing.strategies.Point {"x": 1}, not loaded>',
        Couple(1, "a"): "<pyexp.testing.strategies.Couple {",
        first: "<pyexp.testing.strategies.first, not loaded>",
    }
    for value, words in shown.items():
        assert repr(written(value)).startswith(words)
    assert repr(written("x" * 20_000)).startswith("<str of length 20000, digest ")


def test_a_registered_type_is_marked_with_what_its_encoder_gives():
    """The encoder says how to take a value apart, and nothing says how to put it together."""

    class Angle:
        def __init__(self, degrees):
            self.degrees = degrees

    register_encoder(Angle, lambda angle: angle.degrees)
    one, other, text = (written(Angle(degrees)) for degrees in (1, 2, "1"))
    assert one == written(Angle(1)) != other != text != one
    assert (one.kind, one.text) == ("registered", "1")


LONG = [
    lambda n: list(range(n)), lambda n: tuple(range(n)), lambda n: set(range(n)),
    lambda n: {str(i): i for i in range(n)},
    lambda n: "x" * 10 * n, lambda n: b"x" * 10 * n, lambda n: bytearray(10 * n), lambda n: 1 << 40 * n,
    np.arange, lambda n: np.arange(n).astype(object),
]  # fmt: skip


@pytest.mark.parametrize("make", LONG)
def test_what_is_long_is_cut_and_still_told_from_others(make):
    """Its length and a digest stand for it; what is shorter is whole."""
    long = {"name": "n" * 5000, "x": make(5000)}
    record = config_data(freeze(long))
    assert len(json.dumps(record)) < MOST_CHARACTERS
    back = restored(record)
    assert back["name"] == long["name"]
    assert back["x"].kind == "cut"
    assert back == restored(config_data(freeze(long)))
    assert back["x"] != restored(config_data(freeze({**long, "x": make(5001)})))["x"]
    short = freeze({"x": make(500)})
    assert encode(restored(config_data(short))) == encode(short)


def test_a_long_value_that_cells_share_is_read_once():
    """And for as long as it lives; so a grid with a data set in each config is written as fast as one without."""
    plain_form._digests.clear()
    frozen = freeze({"x": np.arange(5000)})
    first = config_data(frozen)
    (known,) = plain_form._digests.values()
    assert config_data(frozen) == first
    assert list(plain_form._digests.values()) == [known]
    del frozen
    assert not plain_form._digests


def test_a_long_coordinate_that_has_no_hash_is_cut_too():
    """No config need be made of it."""
    assert repr(restored(plain(freeze([lambda: 1] * 2000)))) == "<list of length 2000, digest , not loaded>"


def test_a_config_of_many_keys_is_whole():
    """Its own keys are never cut."""
    config = freeze({f"key{i}": i for i in range(5000)})
    assert restored(config_data(config)) == config


def test_a_numpy_scalar_within_a_leaf_is_a_number_too():
    """In a dataclass, and in an array of objects."""
    assert written(Point(np.float64(0.5))) == written(Point(0.5))
    assert type(written(np.array([np.float64(0.5)], object))[0]) is float
    assert encode(Point(np.float64(0.5))) == encode(Point(0.5))


def test_two_arrays_that_differ_in_one_element_do_not_look_the_same():
    """As they did in print, where most of an array is left out."""
    left, right = np.zeros(5000), np.zeros(5000)
    right[2500] = 1e-9
    assert written(left) != written(right)
    assert "dtype float64, shape [5000]" in repr(written(left))


def test_many_parts_that_are_long_together_are_cut_too():
    """A record stays small, whatever the number of its parts."""
    config = freeze({f"k{i}": [j / 7 for j in range(900)] for i in range(100)})
    data = config_data(config)
    assert len(json.dumps(data)) < MOST_CHARACTERS
    assert len(set(marks(restored(data)))) == 1


@pytest.mark.parametrize("nest", [list, tuple, lambda items: {f"k{i}": item for i, item in enumerate(items)}])
def test_short_parts_that_nest_deep_are_cut_too(nest):
    """What is short beside them is whole."""
    deep = 1
    for _ in range(5):
        deep = nest([deep] * 7)
    config = freeze({"name": "n" * 300, "deep": deep, "model": "a name of some length", "seed": 2**62})
    data = config_data(config)
    assert len(json.dumps(data)) < MOST_CHARACTERS
    assert len(marks(restored(data))) == 1
    assert {**restored(data), "deep": 0} == {**config, "deep": 0}


def test_a_frozenset_stays_one():
    """In the config of an experiment and in the record, also within another set; its hash is that of a set."""
    value = {"a": frozenset({1, frozenset({2})}), "b": {1, 2}, "c": [frozenset()]}
    for frozen in (freeze(value), written(value)):
        thawed = thaw(frozen)
        assert thawed == value
        assert [type(item) for item in (thawed["a"], thawed["b"], thawed["c"][0])] == [frozenset, set, frozenset]
    assert config_hash({"a": frozenset({1})}) == config_hash({"a": {1}})


def test_a_path_is_a_path_of_the_system_that_reads_it():
    """A pure path stays pure."""
    assert type(written(Path("a"))) is type(Path("a"))
    for value in VALUES:
        if isinstance(value, PurePath):
            assert type(written(value)) is type(value)


def test_a_time_zone_that_is_not_known_here_is_marked():
    """With the moment that it is part of."""
    head = b"TZif" + bytes(16) + struct.pack(">6l", 0, 0, 0, 0, 1, 4)
    zone = ZoneInfo.from_file(io.BytesIO(head + struct.pack(">lbb", 0, 0, 0) + b"UTC\0"), key="No/Where")
    assert written(ZoneInfo("Europe/Berlin")) is ZoneInfo("Europe/Berlin")
    assert written(zone) == NotLoaded("zoneinfo.ZoneInfo", "", '"No/Where"')
    assert isinstance(written(datetime(2020, 1, 2, tzinfo=zone)), NotLoaded)


def test_a_number_of_which_numpy_reads_fewer_digits_is_marked():
    """A complex number of two wide floats; a wide float itself comes back."""
    wide = np.longdouble(1) / 3
    assert written(wide) == wide
    for value in (np.clongdouble(1 + 2j) / 3, np.array([1, 2j], "clongdouble") / 3):
        assert type(written(value)) is NotLoaded
        assert written(value) == written(value.copy()) != written(value * 2)


def test_a_damaged_leaf_is_marked():
    """Whatever stands in its place."""
    for tag in ("numpy.ndarray", "datetime.date", "builtins.range", "nothing", "numpy.generic:numpy.x"):
        for content in (None, "x", [None], {"!": "tuple", "value": ["<f8", [9**9], []]}):
            assert isinstance(restored({"!": tag, "value": content}), NotLoaded)


@given(st.data())
def test_what_a_config_names_is_found_wherever_it_stands(data):
    """A function, a class, and the classes of objects; the rest of the config names the same as without them."""
    config = data.draw(configs())
    thing, named = data.draw(
        st.sampled_from([(first, {first}), (Couple, {Couple}), (Colour.ONE, {Colour}), (Point(1), {Point})])
    )
    for _ in range(data.draw(st.integers(0, 4))):
        wrap = data.draw(
            st.sampled_from([lambda x: {"a": x}, lambda x: [1, x], lambda x: (x, 2.0), lambda x: partial(len, x)])
        )
        thing = wrap(thing)
    found = {*named_in(freeze({**config, "planted": thing}))}
    assert found - {len} == {*named_in(freeze(config))} - {len} | named
    assert {*named_in(freeze({"x": Point([first, {"b": Colour.ONE}])}))} == {Point, first, Colour}


def test_what_a_registered_type_names_is_what_its_encoder_gives():
    """Its fields may refer to itself."""

    @dataclass
    class Node:
        loss: object
        parent: object = None

    register_encoder(Node, lambda node: node.loss)
    node = Node(first)
    node.parent = node
    assert {*named_in(freeze({"x": node}))} == {Node, first}
    shared = (Colour.ONE, first)
    for _ in range(40):
        shared = (shared, shared)
    assert {*named_in(shared)} == {Colour, first}


def test_a_dict_inside_an_object_may_have_keys_of_any_kind():
    value = {Colour.ONE: 1, 1: "b", "1": 3, (2, None): first}
    one, other = (written({"x": Point(each)})["x"] for each in (value, {**value, 1: "c"}))
    assert isinstance(one, NotLoaded)
    assert one == written({"x": Point(dict(reversed(value.items())))})["x"]
    assert one != other
