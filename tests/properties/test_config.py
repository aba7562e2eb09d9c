"""Laws of `Config`: a dict in every way, with dots."""

import copy
import json
import pickle
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyrsistent import pmap, pset, pvector
from strategies import bad_keys, plain, typed

from pyexp import Config, ConfigError, FrozenConfig, config_hash, freeze, merge, sweep, thaw
from pyexp.configs import FrozenList, FrozenSet, equal, split
from pyexp.errors import PyexpError, listing, nearest
from pyexp.testing.strategies import Pair, Size, configs, maps, parts, scalars, values


def dotted(value):
    """Whether every dict in a value, through lists and tuples, is a Config."""
    if isinstance(value, dict):
        return type(value) is Config and all(map(dotted, value.values()))
    return not isinstance(value, (list, tuple)) or all(map(dotted, value))


@given(maps())
def test_a_config_is_the_dict_it_is_made_of(mapping):
    """Equal in content and types, its nested dicts Configs, also those in lists and tuples."""
    config = Config(mapping)
    assert config == mapping
    assert typed(config) == typed(mapping)
    assert dotted(config)
    assert dict(**config) == mapping
    assert list(config) == list(mapping)
    assert repr(config).replace("Config(", "(") == f"({dict.__repr__(config)})".replace("Config(", "(")


@given(maps())
def test_a_config_does_not_change_the_dict_it_is_made_of(mapping):
    """Nested dicts are copied, never turned over."""
    before = copy.deepcopy(mapping)
    config = Config(mapping)
    config["new"] = 1
    for value in config.values():
        if isinstance(value, dict):
            value["new"] = 1
    assert typed(mapping) == typed(before)


@given(st.dictionaries(parts(), values(), max_size=3))
def test_copies_are_configs_of_their_own(mapping):
    """pickle in every protocol, copy, deepcopy and copy() give an equal Config that is another one."""
    config = Config(mapping)
    dumped = [pickle.loads(pickle.dumps(config, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for other in [*dumped, copy.copy(config), copy.deepcopy(config), dict.copy(config), config.copy(), Config(config)]:
        if type(other) is not dict:
            assert dotted(other)
        assert typed(other) == typed(config)
        other["new"] = 1
        assert "new" not in config


def test_deepcopy_and_pickle_share_nothing():
    """A change deep inside the copy does not reach the original."""
    config = Config(a={"b": [{"c": 1}]})
    for other in (copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        other.a.b[0].c = 2
        assert config.a.b[0].c == 1


@given(maps(), maps())
def test_union_is_dicts_union(left, right):
    """`|` and `|=` give what they give for dicts, as a Config, whichever side the Config is on."""
    expected = typed(left | right)
    for result in (Config(left) | Config(right), Config(left) | right, left | Config(right)):
        assert typed(result) == expected
        assert dotted(result)
    updated = config = Config(left)
    updated |= right
    assert updated is config
    assert typed(config) == expected
    assert dotted(config)


def test_union_with_other_mappings_and_with_what_is_none():
    """Any mapping joins; anything else is a TypeError, as for dicts."""
    assert Config(a=1) | MappingProxyType({"b": 2}) == {"a": 1, "b": 2}
    assert type(MappingProxyType({"b": 2}) | Config(a=1)) is Config
    with pytest.raises(TypeError):
        Config() | 5
    with pytest.raises(TypeError):
        5 | Config()


@given(st.dictionaries(st.text("abc_", min_size=1), scalars(), max_size=4))
def test_every_key_that_is_a_name_is_an_attribute(mapping):
    """Reading, writing and deleting an attribute is reading, writing and deleting the key; tab completion knows it."""
    config = Config()
    for key, value in mapping.items():
        setattr(config, key, value)
    assert typed(config) == typed(mapping)
    for key, value in mapping.items():
        assert getattr(config, key) is value
        assert key in dir(config)
        delattr(config, key)
        assert key not in config


def test_what_is_set_becomes_a_config():
    """Whichever way a nested dict comes in, it has dots."""
    config = Config([("a", {"x": 1})], b={"x": 1})
    config.c = {"x": [{"y": ({"z": 1},)}]}
    config["d"] = {"x": 1}
    config.update({"e": {"x": 1}}, f={"x": 1})
    config.update([("g", {"x": 1})])
    assert config.setdefault("h", {"x": 1}).x == 1
    assert config.setdefault("h", 5).x == 1
    assert config.setdefault("i") is None
    assert dotted(config)
    assert config.c.x[0].y[0].z == 1
    assert dotted(Config.fromkeys(["a", "b"], {"x": 1}))
    assert Config.fromkeys("ab") == {"a": None, "b": None}


def test_plain_lists_are_kept_as_they_are():
    """As in a dict: only a list that holds dicts is made anew."""
    items, inner = [1, 2], Config(a=1)
    config = Config(items=items, inner=inner, nested=[[1], (2,)], pair=(1, 2))
    assert config["items"] is items
    assert config.inner is inner
    assert config.nested == [[1], (2,)]
    assert config.pair == (1, 2)


def test_a_missing_attribute_is_an_attribute_error_with_help():
    """The nearest key, or what there is."""
    config = Config(learning_rate=0.1, epochs=3)
    with pytest.raises(
        AttributeError, match=r"^Config has no attribute 'lerning_rate'; did you mean 'learning_rate'\?$"
    ):
        config.lerning_rate
    with pytest.raises(AttributeError, match=r"no attribute 'x'; there is 'learning_rate', 'epochs'$"):
        config.x
    with pytest.raises(AttributeError, match=r"no attribute 'epoch'; did you mean 'epochs'\?$"):
        del config.epoch
    with pytest.raises(AttributeError, match=r"no attribute 'x'; there is nothing$"):
        Config().x
    assert not hasattr(config, "x")
    assert getattr(config, "x", 5) == 5


def test_protocols_that_probe_for_names_get_a_short_answer():
    """A name with double underscores was no key."""
    with pytest.raises(AttributeError, match=r"^__wrapped__$"):
        Config().__wrapped__
    assert Config({"__key__": 1}).__key__ == 1


@pytest.mark.parametrize("name", ["items", "keys", "copy", "update", "get", "pop", "__class__"])
def test_a_key_named_like_a_method_is_reached_with_brackets(name):
    """The method stays, and setting the attribute says what to do."""
    config = Config({name: 1})
    assert config[name] == 1
    assert not isinstance(getattr(config, name), int)
    with pytest.raises(
        AttributeError, match=rf"'{name}' is a method of Config; set the key with config\['{name}'\] = …"
    ):
        setattr(config, name, 2)
    assert config == {name: 1}
    assert pickle.loads(pickle.dumps(config)) == copy.deepcopy(config) == config


@given(st.dictionaries(parts(), values(scalars().filter(lambda value: not isinstance(value, (bytes, complex))))))
def test_json_writes_a_config_as_a_dict(mapping):
    """`json.dumps` sees a dict."""
    expected = json.dumps(mapping, default=sorted_list)
    assert json.dumps(Config(mapping), default=sorted_list) == expected


def sorted_list(value):
    """A set or bytes as JSON data."""
    return sorted(map(repr, value))


def test_tab_completion_knows_keys_that_are_names_and_methods():
    """A key that is no name could not be typed."""
    listed = dir(Config({"lr": 1, "a b": 2, 5: 3}))
    assert "lr" in listed
    assert "items" in listed
    assert "a b" not in listed


def test_a_config_is_made_like_a_dict():
    """What dict refuses, Config refuses."""
    assert Config() == {}
    assert Config([("a", 1)], b=2) == {"a": 1, "b": 2}
    for bad in (5, None, [1]):
        with pytest.raises(TypeError):
            Config(bad)
    with pytest.raises(TypeError):
        Config({}, {})
    with pytest.raises(TypeError):
        hash(Config())


# Dotted keys


@given(configs(named=False))
def test_the_parts_of_a_key_join_to_the_key(config):
    """`split` takes a key apart at its dots."""
    assert all(".".join(split(key)) == key for key in config)
    assert plain(config) is not config


@given(bad_keys())
def test_a_key_that_is_no_dotted_name_is_a_config_error(key):
    """The error is a ValueError and a TypeError too, and names the key and the place."""
    with pytest.raises(ConfigError, match=r"^a key of here is ") as refused:
        split(key, "here")
    assert isinstance(refused.value, (ValueError, TypeError, PyexpError))
    assert repr(key) in str(refused.value)


# How messages help


@given(st.lists(st.text(max_size=5), max_size=12), st.integers(1, 5))
def test_a_listing_shows_what_there_is_and_counts_the_rest(known, limit):
    """At most `limit` items are shown; where there are more, all of them are counted."""
    words = listing(known, limit)
    assert words.startswith(", ".join(map(repr, known[:limit])))
    assert words.endswith(f"({len(known)} in all)") == (len(known) > limit)


@given(st.text(min_size=1, max_size=8), st.lists(st.text(min_size=1), max_size=4))
def test_the_nearest_word_is_one_that_is_known(word, known):
    """The word itself is nearest to itself; without a near one, what is known is listed."""
    assert nearest(word, [*known, word]).startswith("did you mean ")
    hint = nearest(word, known)
    assert any(repr(item) in hint for item in known) or (not known and hint == "there is nothing")


def test_an_error_without_words_is_empty():
    """Messages are sentences, never in the quotes of a KeyError."""
    assert str(PyexpError()) == ""
    assert str(PyexpError("a", "b")) == "a"


# A Config says that it is a dict


@given(st.sampled_from(["self", "args", "kwargs", "key", "other", "iterable"]), scalars())
def test_any_name_is_a_keyword(name, value):
    """As of dict: what is called `self` in Python is a key like others."""
    config = Config(**{name: value})
    assert config == {name: value}
    config.update(**{name: "new"})
    assert config[name] == "new"


def types_in(value):
    """The types of a value and of everything in it."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple, set)) else ()
    return {type(value), *(kind for item in inner for kind in types_in(item))}


@given(configs(named=False))
def test_to_dict_is_made_of_plain_types(config):
    """So that what takes dicts and no subclass of them, as YAML's safe writer, takes it; equal to the Config."""
    for made in (Config(config), freeze(config), thaw(freeze(config))):
        plain_dict = made.to_dict()
        assert not {Config, FrozenConfig, FrozenList, FrozenSet} & types_in(plain_dict)
        assert typed(plain_dict) == typed(made.to_dict())
        assert equal(plain_dict, made)
    assert typed(Config(config).to_dict()) == typed(config)


def test_to_dict_and_config_reach_into_named_tuples():
    """Both ways the tuple keeps its class."""
    config = Config(pair=Pair({"a": [{"b": 1}]}, 2), member=Size.ONE)
    assert type(config.pair) is Pair
    assert config.pair.x.a[0].b == 1
    assert type(config.to_dict()["pair"].x) is dict
    assert config.to_dict()["member"] is Size.ONE


def test_yaml_writes_a_config():
    """The dict of it."""
    yaml = pytest.importorskip("yaml")
    config = thaw(freeze({"mlp": {"layers": [{"width": 8}]}, "lr": 0.1}))
    assert yaml.safe_load(yaml.safe_dump(config.to_dict())) == config


@given(configs(named=False))
def test_a_config_made_of_a_frozen_one_is_thawed(config):
    """At any depth: in lists, tuples and named tuples no frozen part is left."""
    frozen = freeze({"x": config, "l": [(config, {1})], "p": Pair(config, [config])})
    made = Config(frozen)
    assert not {FrozenConfig, FrozenList, FrozenSet} & types_in(made)
    assert dotted(made)
    assert typed(made) == typed(thaw(frozen))
    held = Config(a=frozen, b=[frozen], c=(frozen,), d=pmap({"e": pvector([pmap({"f": pset([1])})])}))
    assert dotted(held)
    assert typed(held.d) == typed({"e": [{"f": {1}}]})
    assert not {FrozenConfig, FrozenList, FrozenSet} & types_in(held)


# A frozen config


@given(configs(named=False))
def test_a_frozen_config_is_a_config_with_sorted_keys(config):
    """A dict in every way but that it cannot be changed; json and `**` take it as it is."""
    frozen = freeze(config)
    assert type(frozen) is FrozenConfig
    assert isinstance(frozen, Config)
    assert list(frozen) == sorted(frozen)
    assert dict(**frozen) == frozen == {**frozen}
    assert FrozenConfig(config) == frozen == Config(frozen)
    for key in frozen:
        if key.isidentifier() and not hasattr(dict, key) and key != "to_dict":
            assert getattr(frozen, key) is frozen[key]
            assert key in dir(frozen)
    plain_json = json.dumps({"mlp": {"width": 8, "layers": [1, {"a": 2}]}, "lr": 0.1}, sort_keys=True)
    assert json.dumps(freeze(json.loads(plain_json))) == plain_json


@given(st.dictionaries(parts(), st.recursive(st.integers(0, 2), lambda x: st.lists(x, max_size=2)), max_size=3))
def test_a_frozen_config_has_the_hash_of_the_persistent_map_that_it_equals(config):
    """So either may be looked for in a set or a dict of the other."""
    frozen, persistent = freeze(config), persisted(config)
    assert frozen == persistent
    assert persistent == frozen
    assert hash(frozen) == hash(persistent)
    assert {frozen: 1}[persistent] == 1


def persisted(value):
    """The value in the persistent types of pyrsistent."""
    if isinstance(value, dict):
        return pmap({key: persisted(item) for key, item in value.items()})
    return pvector(map(persisted, value)) if isinstance(value, list) else value


@given(configs(named=False))
def test_copies_of_a_frozen_config(config):
    """pickle, copy and deepcopy give it again, `copy()` and `|` a Config of one's own."""
    frozen = freeze(config)
    dumped = [pickle.loads(pickle.dumps(frozen, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for other in [*dumped, copy.copy(frozen), copy.deepcopy(frozen)]:
        assert type(other) is FrozenConfig
        assert types_in(other) == types_in(frozen)
        assert typed(thaw(other)) == typed(thaw(frozen))
    for own in (frozen.copy(), frozen | {"new": 1}, {"new": 1} | frozen):
        assert type(own) is Config
        own["newer"] = 2
        assert "newer" not in frozen
    assert (frozen | {"new": 1})["new"] == 1


@pytest.mark.parametrize(
    "own",
    [
        Config,
        thaw,
        FrozenConfig.copy,
        FrozenConfig.to_dict,
        lambda c: c | {},
        lambda c: {} | c,
        lambda c: Config(y=c).y,
    ],
    ids=["Config", "thaw", "copy", "to_dict", "or", "ror", "inside"],
)
def test_a_copy_of_ones_own_shares_nothing_that_can_change_with_the_cell(own):
    """An array too is a copy: the cell, and what was hashed, stay as they are."""
    cell = freeze({"a": np.zeros(2), "b": [np.zeros(2), {"c": bytearray(2)}], "t": (np.zeros(2),)})
    before = config_hash(cell)
    copied = own(cell)
    copied["a"][0] = copied["b"][0][0] = copied["b"][1]["c"][0] = copied["t"][0][0] = 1
    assert config_hash(cell) == before


CHANGES = {
    "attribute": lambda c: setattr(c, "lr", 1),
    "new attribute": lambda c: setattr(c, "new", 1),
    "no attribute": lambda c: delattr(c, "lr"),
    "item": lambda c: c.__setitem__("lr", 1),
    "no item": lambda c: c.__delitem__("lr"),
    "update": lambda c: c.update(lr=1),
    "update with a dict": lambda c: c.update({"lr": 1}),
    "setdefault": lambda c: c.setdefault("new", 1),
    "pop": lambda c: c.pop("lr"),
    "pop of nothing": lambda c: c.pop("new", None),
    "popitem": lambda c: c.popitem(),
    "clear": lambda c: c.clear(),
    "|=": lambda c: c.__ior__({"lr": 1}),
    "inside": lambda c: c.mlp.update(width=1),
    "inside of a list": lambda c: c.layers[0].update(width=1),
    "append": lambda c: c.layers.append(1),
    "extend": lambda c: c.layers.extend([1]),
    "insert": lambda c: c.layers.insert(0, 1),
    "item of a list": lambda c: c.layers.__setitem__(0, 1),
    "no item of a list": lambda c: c.layers.__delitem__(0),
    "pop of a list": lambda c: c.layers.pop(),
    "remove": lambda c: c.layers.remove(2),
    "sort": lambda c: c.layers.sort(),
    "reverse": lambda c: c.layers.reverse(),
    "+=": lambda c: c.layers.__iadd__([1]),
    "*=": lambda c: c.layers.__imul__(2),
    "empty": lambda c: c.layers.clear(),
    "add": lambda c: c.tags.add(1),
    "discard": lambda c: c.tags.discard("a"),
    "update of a set": lambda c: c.tags.update({1}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_of_a_cell_is_refused(change):
    """It was lost without a word: the remedy is named, and nothing has changed."""
    config = {"lr": 0, "mlp": {"width": 8}, "layers": [{"width": 8}, 2], "tags": {"a"}}
    grid = sweep([config], [{"seed": 1}])
    for cell in (freeze(config), merge(config, {}), grid[0], *grid):
        before = thaw(cell)
        with pytest.raises(TypeError, match=r"frozen.*merge\(config.*thaw\(config\)"):
            change(cell)
        assert typed(thaw(cell)) == typed(before)
