"""Laws of freezing and thawing: a frozen config is what was written, and nobody can change it."""

from collections import ChainMap, OrderedDict, UserDict, defaultdict, namedtuple
from copy import deepcopy
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from threading import Lock
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyrsistent import PMap, PSet, PVector, pmap, pset, pvector
from strategies import bad_keys, matches, plain, shuffled, typed, undotted_keys

from pyexp import Config, ConfigError, freeze, thaw
from pyexp.configs import changes, equal, freeze_value, leaves, lookup, parts_of
from pyexp.testing.strategies import (
    CONFUSABLE,
    Colour,
    Pair,
    Size,
    Word,
    configs,
    data_keys,
    maps,
    parts,
    scalars,
    values,
)


def kinds(value):
    """The types of everything in a value."""
    yield type(value)
    if isinstance(value, (dict, PMap)):
        for item in value.values():
            yield from kinds(item)
    elif isinstance(value, (list, tuple, set, PVector, PSet)):
        for item in value:
            yield from kinds(item)


@given(configs(named=False))
def test_thaw_of_freeze_is_what_was_written_with_dotted_keys_expanded(config):
    """The round trip keeps every value and its type; only dotted keys become nested maps."""
    assert typed(thaw(freeze(config))) == typed(plain(config))


@given(configs(named=False))
def test_freeze_of_frozen_is_the_same(config):
    """Freezing twice is freezing once, and so is freezing what was thawed."""
    once = freeze(config)
    assert freeze(once) == once
    assert typed(thaw(freeze(thaw(once)))) == typed(thaw(once))


@given(configs(named=False))
def test_frozen_holds_persistent_collections_only(config):
    """No dict, list or set is left at any depth of a frozen config."""
    assert not {dict, list, set, Config} & set(kinds(freeze(config)))


@given(configs(named=False), st.data())
def test_the_order_of_keys_does_not_matter(config, data):
    """However the keys are ordered, the frozen config is equal and the thawed one lists them sorted."""
    other = shuffled(config, data)
    assert freeze(other) == freeze(config)
    assert list(thaw(freeze(config))) == sorted(plain(config))
    assert repr(thaw(freeze(other))) == repr(thaw(freeze(config)))


class Rows(list):
    """A list of another class."""


class Triple(tuple):
    """A tuple of another class."""

    __slots__ = ()


class Bag(set):
    """A set of another class."""


class Still(frozenset):
    """A frozen set of another class."""

    __slots__ = ()


def in_sets():
    """What may be in a set, nested."""
    flat = st.sampled_from([1, True, 1.0, "1", None, Word.ONE, Size.ONE])
    once = flat | st.tuples(flat, flat) | st.frozensets(flat, max_size=2)
    return once | st.tuples(once, flat) | st.frozensets(once, max_size=2) | st.builds(Pair, once, flat)


def in_kinds(inner):
    """Collections of many kinds. Leaves out what has no fixed form, as a view or an iterator."""
    lists = st.lists(inner, max_size=2)
    sets = st.lists(in_sets(), max_size=3)
    return st.one_of(
        *(lists.map(kind) for kind in (list, Rows, tuple, Triple)),
        *(sets.map(kind) for kind in (set, Bag, frozenset, Still)),
        *(st.dictionaries(data_keys(), inner, max_size=2).map(kind) for kind in (dict, OrderedDict, Config)),
        st.builds(Pair, inner, inner),
    )


def as_arrived(value):
    """The oracle: what an experiment gets for a value, with its type: a subclass of a collection becomes that one."""
    if isinstance(value, dict):
        return (Config, [(key, as_arrived(value[key])) for key in sorted(value)])
    if isinstance(value, Enum):
        return value
    kinds = (list, tuple, set, frozenset)
    kind = next((kind for kind in (Pair, *kinds) if isinstance(value, kind)), None)
    if kind in (set, frozenset):
        return (kind, sorted(repr(as_arrived(item)) for item in value))
    return (type(value), repr(value)) if kind is None else (kind, [as_arrived(item) for item in value])


@given(st.dictionaries(parts(), st.recursive(scalars(), in_kinds, max_leaves=8), max_size=3))
def test_what_an_experiment_gets_is_what_was_written(config):
    """In value and type, at any depth: a frozenset as one, a dot in a key as one."""
    arrived = thaw(freeze(config))
    assert as_arrived(arrived) == as_arrived(config)
    assert kinds_of(arrived) <= {Config, list, tuple, set, frozenset, Pair}


def kinds_of(value):
    """The classes of the collections in a value."""
    if isinstance(value, Enum) or not isinstance(value, (dict, list, tuple, set, frozenset)):
        return set()
    inner = value.values() if isinstance(value, dict) else value
    return {type(value)}.union(*map(kinds_of, inner))


def scribble(value):
    """Change everything in a value that can be changed."""
    if isinstance(value, dict):
        for item in list(value.values()):
            scribble(item)
        value["scribble"] = value.clear()
    elif isinstance(value, (list, tuple)):
        for item in value:
            scribble(item)
        if isinstance(value, list):
            value.append("scribble")
    elif isinstance(value, (set, bytearray)):
        value.clear()
    elif isinstance(value, np.ndarray):
        value[...] = 99


def changeable():
    """Leaves that can change, made anew for each draw."""
    return st.builds(bytearray, st.just(b"ab")) | st.builds(np.arange, st.just(3))


@given(configs(changeable(), named=False))
def test_freeze_aliases_nothing_that_the_caller_may_change(config):
    """Whatever is done to the config afterwards, its frozen form stays as it was."""
    frozen, twin = freeze(config), freeze(deepcopy(config))
    scribble(config)
    assert equal(frozen, twin)


@given(configs(changeable(), named=False))
def test_thaw_gives_a_private_copy(config):
    """Whatever an experiment does to its config, the frozen one and the next copy do not notice."""
    frozen = freeze(config)
    before = thaw(frozen)
    scribble(thaw(frozen))
    assert equal(thaw(frozen), before)


@pytest.mark.parametrize(
    "array", [np.arange(3), np.ones((2, 2)), np.array([None], object), np.array([(1, 2)], "i4,i4")]
)
def test_an_array_in_a_frozen_config_cannot_be_changed(array):
    """All cells of a grid share it. The caller's own array, and that of an experiment, can be changed."""
    frozen = freeze({"a": array, "b": [(array,)], "c": {"d": array}})
    for shared in (frozen["a"], frozen["b"][0][0], frozen["c"]["d"]):
        with pytest.raises(ValueError, match="read-only"):
            shared[:] = array
    own = thaw(frozen)
    assert array.flags.writeable
    assert own["a"].flags.writeable
    assert own["b"][0][0].flags.writeable


@dataclass(frozen=True)
class Holder:
    """Frozen in name, but what it holds can change."""

    items: list = field(default_factory=list)


class Model:
    """An object with an identity and a state, as a model of another library is."""

    def __init__(self):
        self.state = [1]


@pytest.mark.parametrize("make", [lambda: Holder([1]), lambda: bytearray(b"a"), lambda: (np.ones(2), [bytearray()])])
def test_a_leaf_that_can_change_is_copied_in_and_out(make):
    """A leaf without a hash is copied on the way in and on the way out."""
    leaf = make()
    frozen = freeze({"a": leaf})
    assert frozen["a"] is not leaf
    assert thaw(frozen)["a"] is not frozen["a"]


def test_an_object_that_is_equal_only_to_itself_stays_itself_inside_and_is_copied_for_the_experiment():
    """A copy of an identity would be another value: freeze keeps it, and thaw gives each experiment its own."""
    model = Model()
    frozen = freeze({"a": model, "b": {model}, "c": partial(max, [1])})
    assert frozen["a"] is model
    thawed = thaw(frozen)
    thawed["a"].state.append(2)
    next(iter(thawed["b"])).state.append(3)
    thawed["c"].args[0].append(4)
    assert model.state == [1]
    assert frozen["c"].args == ([1],)


def test_a_leaf_that_cannot_be_copied_is_left():
    """Hashing will refuse it with its path; freezing has no better answer."""

    class Unhashable:
        __hash__ = None

        def __init__(self):
            self.lock = Lock()

    leaf = Unhashable()
    assert freeze({"a": leaf})["a"] is leaf
    assert thaw(freeze({"a": leaf}))["a"] is leaf


@pytest.mark.parametrize(
    "mapping",
    [
        OrderedDict(b=1, a=[2]),
        defaultdict(list, b=1, a=[2]),
        MappingProxyType({"b": 1, "a": [2]}),
        UserDict(b=1, a=[2]),
        ChainMap({"b": 1}, {"a": [2], "b": 3}),
        Config(b=1, a=[2]),
        pmap({"b": 1, "a": [2]}),
        pmap({"b": 1, "a": pvector([2])}),
    ],
    ids=lambda mapping: type(mapping).__name__,
)
def test_every_mapping_is_a_map(mapping):
    """Subclasses of dict and foreign mappings freeze like a dict, also when nested."""
    assert freeze(mapping) == pmap({"a": pvector([2]), "b": 1})
    assert freeze([{"x": mapping}]) == pvector([pmap({"x": pmap({"a": pvector([2]), "b": 1})})])


@pytest.mark.parametrize("given_set", [{1, 2}, frozenset([1, 2]), pset([1, 2]), {1: 0, 2: 0}.keys()])
def test_every_set_is_a_set(given_set):
    """Sets, persistent ones and views of keys thaw to a set, frozen sets to frozen sets."""
    assert freeze({"a": given_set}) == pmap({"a": pset([1, 2])})
    kind = frozenset if type(given_set) is frozenset else set
    assert typed(thaw(freeze({"a": given_set}))) == typed({"a": kind([1, 2])})


def test_sets_within_sets_stay_hashable():
    """A set of sets and tuples thaws to a set of frozensets and tuples, and persistent elements stay."""
    nested = {frozenset([1, frozenset([2])]), (3, frozenset([4])), Pair(5, 6), pmap({"a": 1}), pvector([1]), Size.ONE}
    assert thaw(freeze({"a": nested}))["a"] == nested


def test_named_tuples_keep_their_names_and_other_tuples_become_plain():
    """What is in them is frozen and thawed."""
    frozen = freeze({"a": Pair([1], {"b.c": 2})})["a"]
    assert type(frozen) is Pair
    assert frozen == Pair(pvector([1]), pmap({"b.c": 2}))
    assert thaw(frozen) == Pair([1], Config({"b.c": 2}))
    assert type(freeze(type("Other", (tuple,), {})([1]))) is tuple
    rename = namedtuple("rename", "x", rename=True)
    assert thaw(freeze(rename([1]))) == rename([1])


@pytest.mark.parametrize("member", [Size.ONE, Word.ONE, Colour.ONE])
def test_members_of_enums_stay_members(member):
    """Also where the enum is made of tuples or strings."""
    assert freeze(member) is member
    assert thaw(freeze([member]))[0] is member


def test_keys_that_are_kinds_of_strings_become_strings():
    """A member of a StrEnum, or NumPy's string, is a key like the text it holds."""
    frozen = freeze({Word.ONE: 1, np.str_("a.b"): 2})
    assert frozen == pmap({"1": 1, "a": pmap({"b": 2})})
    assert {type(key) for key in frozen} == {str}


@given(bad_keys(), st.lists(parts(), max_size=2))
def test_a_bad_key_is_refused_with_its_path(key, path):
    """A key that is no string or is empty is named with the place where it stands."""
    config = {key: 1}
    for part in reversed(path):
        config = {part: config}
    with pytest.raises(ConfigError) as refused:
        freeze({"top": [config]})
    assert f"a key of {'.'.join(['config.top[0]', *path])} is {key!r}" in str(refused.value)


def test_a_bad_key_says_what_would_be_right():
    """The message offers the string, or the form of a dotted key."""
    with pytest.raises(ConfigError, match=r"a key of config is 1, of type int; keys are strings: use '1'"):
        freeze({1: 2})
    with pytest.raises(ConfigError, match=r"a key of config is 'b..c', which has an empty part; write it like"):
        freeze({"b..c": 2})
    with pytest.raises(ConfigError, match=r"a key of config.a is '', which has an empty part; a key has"):
        freeze({"a": {"": 2}})
    with pytest.raises(ConfigError, match=r"a key with a dot goes into a map, as in {'files': {'b.c': …}}"):
        freeze({r"b\.c": 2})


@given(undotted_keys())
def test_what_is_no_dotted_name_is_a_key_inside_of_a_config_only(key):
    """There a dot is part of a key; of a config's own keys it is syntax."""
    assert thaw(freeze({"a": {key: 1}})) == {"a": {key: 1}}
    with pytest.raises(ConfigError, match=r"^a key of config is "):
        freeze({key: 1})


def test_a_config_that_contains_itself_is_refused():
    """Cycles end in one clear line, not in a RecursionError, whichever way they enter."""
    loop = {}
    loop["a"] = [loop]
    deep = value = {}
    for _ in range(100_000):
        value["a"] = value = {}
    for bad in (loop, deep):
        for enter in (freeze, changes):
            with pytest.raises(ConfigError, match=r"^config contains itself, or nests too deep to be a config$"):
                enter(bad)
        with pytest.raises(ConfigError, match=r"^config contains itself, or nests too deep to be a config$"):
            freeze([bad])


@pytest.mark.parametrize("value", [None, 5, "a", [("a", 1)]])
def test_changes_of_what_is_no_mapping_are_refused(value):
    """A config that is no mapping is named with its value and type."""
    with pytest.raises(ConfigError, match=f"config is .*, of type {type(value).__name__}; it has to be a mapping"):
        changes(value)


# Comparing and looking up


@given(values(), st.data())
def test_a_value_equals_its_frozen_form(value, data):
    """Whatever the form, plain, shuffled, frozen or thawed, it is the same value."""
    assert equal(value, freeze_value(value))
    assert equal(freeze_value(value), shuffled(value, data))
    assert equal(thaw(freeze_value(value)), value)


@pytest.mark.parametrize("group", CONFUSABLE, ids=range(len(CONFUSABLE)))
def test_every_value_equals_itself_and_its_copy(group):
    """Also NaN and arrays that hold it; and comparing any two never fails."""
    for value in group:
        if not isinstance(value, partial):  # which is equal to nothing but itself
            assert equal(value, deepcopy(value)), value
        for other in group:
            assert equal(value, other) is equal(other, value)


def test_equal_is_equality_of_content():
    """A list matches a tuple, an array only an array of its shape, sets whatever form the sets in them have."""
    ones = np.ones((2, 2))
    assert equal(ones, ones.copy())
    assert not equal(ones, np.ones((4,)))
    assert not equal(np.ones(2), [1, 1])
    assert not equal(np.array([1, 2]), np.array([1, 3]))
    for number in (np.array(1), np.datetime64("2020"), np.longdouble(1)):
        for several in (range(0), range(1, 2), [], [1], {1}):
            assert not equal(number, several)
            assert not equal(several, number)
    assert equal(np.array([1, np.nan]), np.array([1, np.nan]))
    assert equal(np.float64("nan"), float("nan"))
    assert equal(np.float64(1), 1)
    assert equal([np.ones(2), (1,)], (np.ones(2), [1]))
    assert not equal([1, 2], [1])
    assert not equal({"a": 1}, {"b": 1})
    assert not equal({"a": 1}, {"a": 1, "b": 1})
    assert equal({frozenset([1, frozenset()])}, freeze({frozenset([1, frozenset()])}))
    assert not equal({1}, [1])
    assert not equal({1}, {pmap({1: 1})})

    class Anything:
        shape = ()

        def __eq__(self, other):
            return True

        __hash__ = None

    assert equal(Anything(), 5)


def test_a_value_that_cannot_be_compared_is_not_equal():
    """An error in a foreign `__eq__` is no match, and no crash."""

    class Broken:
        def __eq__(self, other):
            raise RuntimeError

        __hash__ = None

    assert not equal(Broken(), 1)
    assert not equal(np.ones(1), Broken())


@given(maps())
def test_lookup_finds_every_leaf_by_its_path(config):
    """`leaves` lists the dotted paths of what is no filled map, and `lookup` leads back."""
    frozen = freeze(config)
    found = list(leaves(frozen))
    assert [path for path, _ in found] == sorted({path for path, _ in found}, key=parts_of)
    assert all(lookup(frozen, path) is value for path, value in found)
    assert freeze(dict(found)) == frozen
    assert matches(frozen, dict(found))


def test_lookup_finds_whole_keys_first_and_defaults_where_there_is_nothing():
    """An experiment's output may have dots in its name; a path through what is no map leads nowhere."""
    item = {"a.b": 1, "a": {"b": 2, "c": {"d.e": 3}}, "frozen": 4}
    assert lookup(item, "a.b") == 1
    assert lookup(item, "a.c.d.e") == 3
    assert lookup(item, "a.b.c", "default") == "default"
    assert lookup(item, "x.y", "default") == "default"
    assert lookup(item, "x", "default") == "default"
    assert lookup(item, 1, "default") == "default"
    assert lookup(5, "a", "default") == "default"


def test_lookup_looks_at_what_a_class_shows_as_frozen_not_at_a_key_of_that_name():
    """A config may have a key called `frozen`."""

    class Shown:
        frozen = pmap({"a": 1})

    assert lookup(Shown(), "a") == 1
    assert lookup(pmap({"frozen": True, "name": "x"}), "name") == "x"
    assert lookup(Config(frozen={"name": "y"}, name="x"), "name") == "x"


def test_a_query_is_a_part_of_the_item():
    """Paths may be dotted or nested; a nested query is a sub-map; a list may be written as in the config."""
    item = freeze({"config": {"mlp": {"width": 8, "depth": 2}, "layers": [{"conv.size": 3}], "lr": float("nan")}})
    assert matches(item, {})
    assert matches(item, {"config.mlp.width": 8, "config": {"mlp": {"depth": 2}}})
    assert not matches(item, {"config": {"mlp.width": 8}})
    assert matches(item, {"config.layers": ({"conv.size": 3},)})
    assert matches(item, {"config.lr": float("nan")})
    assert not matches(item, {"config.layers": [{"conv": {"size": 3}}]})
    assert not matches(item, {"config.mlp.width": 9})
    assert not matches(item, {"config.mlp": 9})
    assert not matches(item, {"config.lr": {"a": 1}})
    assert not matches(item, {"config.nothing": None})
    assert not matches(item, {1: 2})
