"""Laws of merging an update into a config."""

from copy import deepcopy
from operator import eq

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyrsistent import pmap
from strategies import bad_keys, laid, plain, shuffled, typed
from test_freeze import changeable, scribble

from pyexp import Config, ConfigError, FrozenConfig, freeze, merge, thaw
from pyexp.configs import equal
from pyexp.testing.strategies import configs, confusable


@given(configs(named=False), configs(named=False))
def test_merge_agrees_with_plain_dicts(base, update):
    """Shorter paths first, a plain key replaces, a dotted one reaches inside and makes what is missing."""
    assert typed(thaw(merge(base, update))) == typed(laid(plain(base), update))


@given(configs(named=False), configs(named=False))
def test_merge_is_idempotent(base, update):
    """The same update twice is the update once."""
    once = merge(base, update)
    assert merge(once, update) == once


@given(configs(named=False), configs(named=False), st.data())
def test_merge_does_not_see_the_order_of_keys(base, update, data):
    """Neither the order in the base nor in the update, at any depth, matters."""
    assert merge(shuffled(base, data), shuffled(update, data)) == merge(base, update)


@given(configs(changeable(), named=False), configs(changeable(), named=False))
def test_merge_leaves_its_arguments_alone(base, update):
    """Both arguments are afterwards what they were before."""
    before = deepcopy((base, update))
    merge(base, update)
    assert equal((base, update), before)


@given(configs(changeable(), named=False), configs(changeable(), named=False))
def test_merge_shares_nothing_that_can_change(base, update):
    """What is done to the arguments afterwards does not reach the result."""
    merged, twin = merge(base, update), merge(deepcopy(base), deepcopy(update))
    scribble(base)
    scribble(update)
    assert equal(merged, twin)


@given(configs(named=False))
def test_merge_with_nothing_is_freezing(config):
    """An empty update changes nothing, and an update of nothing is the update."""
    assert merge(config, {}) == merge({}, config) == freeze(config)


@given(confusable())
def test_merge_replaces_a_value_by_one_that_only_looks_the_same(pair):
    """`1` is replaced by `True`, and `0.0` by `-0.0`, though they are equal."""
    old, new = pair
    assert typed(thaw(merge({"a": old, "b.c": old}, {"a": new, "b.c": new}))) == typed(
        thaw(freeze({"a": new, "b": {"c": new}}))
    )


def test_merge_takes_frozen_configs_and_configs_and_gives_a_frozen_one():
    """Every kind of mapping is a config."""
    for kind in (dict, Config, pmap):
        merged = merge(kind({"a": 1}), kind({"b.c": 2}))
        assert type(merged) is FrozenConfig
        assert merged == pmap({"a": 1, "b": pmap({"c": 2})})


def test_a_dotted_key_reaches_over_what_is_no_map():
    """The specification's users rely on it: a scalar that a path leads over becomes a map."""
    assert merge({"mlp": 3}, {"mlp.width": 8}) == freeze({"mlp": {"width": 8}})
    assert merge({"mlp": None}, {"mlp.a.b": 8}) == freeze({"mlp": {"a": {"b": 8}}})
    assert merge({"mlp": [1]}, {"mlp": [2]}) == freeze({"mlp": [2]})
    assert merge({"mlp": {"a": 1}}, {"mlp": {"b": 1}, "mlp.c": 2}) == freeze({"mlp": {"b": 1, "c": 2}})


@given(bad_keys(), st.sampled_from([0, 1]))
def test_merge_names_the_argument_with_the_bad_key(key, side):
    """A bad key is said to be in the config or in the update."""
    arguments = [{}, {}]
    arguments[side] = {key: 1}
    with pytest.raises(ConfigError, match=f"^a key of {('config', 'update')[side]} is "):
        merge(*arguments)


@pytest.mark.parametrize("value", [None, [], "a", 5])
def test_merge_names_the_argument_that_is_no_mapping(value):
    """What is no mapping is refused, on either side."""
    with pytest.raises(ConfigError, match=f"^config is .*, of type {type(value).__name__}; it has to be a mapping"):
        merge(value, {})
    with pytest.raises(ConfigError, match=f"^update is .*, of type {type(value).__name__}; it has to be a mapping"):
        merge({}, value)


def test_merge_refuses_an_update_that_contains_itself():
    """In one clear line."""
    loop = {}
    loop["a"] = loop
    with pytest.raises(ConfigError, match=r"^update contains itself"):
        merge({}, loop)
    assert not eq(loop, 1)
