"""Laws of keys: a dot is syntax in a config's own keys, in variations, overrides and queries; inside, it is data."""

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import matches, typed

from pyexp import Config, ConfigError, FrozenConfig, config_hash, freeze, merge, sweep, thaw
from pyexp.configs import NOTHING, changes, joined, leaves, lookup, parts_of, route, split, unescaped
from pyexp.errors import UsageError
from pyexp.options import overridden, override_of, overrides_of
from pyexp.results import Result, config_data, done, record_of, restored
from pyexp.sweep import grid_of
from pyexp.tables import Results
from pyexp.tensor import Tensor
from pyexp.testing.strategies import data_keys, parts, scalars


def inner_maps():
    """Maps as they stand inside a config, nested, with confusable keys. Leaves out lists."""
    return st.dictionaries(
        data_keys(), st.recursive(st.integers(0, 2), lambda inner: st.dictionaries(data_keys(), inner, max_size=3))
    )


def paths(value, before=()):
    """The paths of a nested dict with the values there that are no filled dicts."""
    for key, item in value.items():
        if isinstance(item, dict) and item:
            yield from paths(item, (*before, key))
        else:
            yield (*before, key), item


@given(st.lists(data_keys() | st.text(min_size=1, max_size=4), min_size=1, max_size=4))
def test_a_dotted_path_leads_back_to_its_keys(keys):
    """Whatever dots and backslashes the keys hold."""
    assert parts_of(joined(keys)) == tuple(keys)


@given(st.lists(data_keys(), max_size=2), st.lists(data_keys(), max_size=2))
def test_no_two_paths_are_written_alike(left, right):
    """So a column, an axis and an override say which key they mean."""
    assume(left and right)
    assert (joined(left) == joined(right)) == (left == right)


@given(inner_maps())
def test_inside_of_a_config_keys_are_data(inner):
    """They reach the experiment, the record and the hash as they were written."""
    config = {"files": inner, "list": [{"x": inner}], "pair": (inner,)}
    frozen = freeze(config)
    assert typed(thaw(frozen)) == typed(config)
    assert typed(thaw(restored(json.loads(json.dumps(config_data(frozen)))))) == typed(config)
    assert freeze(thaw(frozen)) == frozen == freeze(frozen)
    assert config_hash(frozen) == config_hash(config) == config_hash(thaw(frozen))


@given(inner_maps(), inner_maps())
def test_a_nested_query_finds_exactly_the_maps_that_hold_it(inner, query):
    """In it dots are data: `{"a.b": 1}` is not `{"a": {"b": 1}}`."""

    def holds(value, wanted):
        if isinstance(wanted, dict):
            return isinstance(value, dict) and all(key in value and holds(value[key], wanted[key]) for key in wanted)
        return value == wanted

    for item in (freeze({"files": inner}), {"files": inner}):
        assert matches(item, {"files": query}) == holds(inner, query)
    assert matches(freeze({"files": inner}), {"files": inner})


@given(inner_maps(), scalars())
def test_a_dotted_path_reaches_every_key(inner, value):
    """In a query, in an update, in an override: each says the same key."""
    config = freeze({"files": inner})
    for path, there in paths({"files": inner}):
        spelled = joined(path)
        assert typed(lookup(config, spelled)) == typed(there)
        assert dict(leaves(config))[spelled] == there
        assert split(spelled) == path
        changed = merge(config, {spelled: value})
        assert typed(lookup(changed, spelled)) == typed(freeze(value))
        assert config_hash(merge(changed, {spelled: there})) == config_hash(config)
        over = overridden(grid_of([config]), overrides_of({spelled: value})).item()
        assert config_hash(over) == config_hash(changed)


def test_a_dot_that_is_not_escaped_may_belong_to_a_key():
    """Where the path leads to nothing else. A key for each dot comes first."""
    config = freeze({"files": {"train.csv": 1}, "m": {"gpt-4.1": {"x": 2}, "a": {"b": 3}, "a.b": 4}, "l": {"a.b": {}}})
    assert lookup(config, "files.train.csv") == lookup(config, r"files.train\.csv") == 1
    assert lookup(config, "m.gpt-4.1.x") == 2
    assert lookup(config, "m.a.b") == 3
    assert lookup(config, r"m.a\.b") == 4
    for missing in ("files.train", "files.csv", "l.a.b.c", "l.a", r"m.gpt-4\.1\.x"):
        assert lookup(config, missing) is None
    assert route(config, ("m", "gpt-4", "1", "x")) == ("m", "gpt-4.1", "x")


def test_a_grid_along_a_key_with_a_dot_is_selected_by_it():
    """By the path as it was written, by the plain one, and by a nested query."""
    grid = sweep([{"files": {"train.csv": 0, "b": 1}}], [{r"files.train\.csv": i} for i in range(3)])
    assert grid.axes[1].name == r"files.train\.csv"
    assert [thaw(config).files for config in grid] == [{"train.csv": i, "b": 1} for i in range(3)]
    for query in ({r"files.train\.csv": 2}, {"files.train.csv": 2}, {"files": {"train.csv": 2}}):
        assert grid[query].shape == (1, 1)
        assert grid[query].item() == grid[2]
    assert grid.sel({r"files.train\.csv": 2})[0] == grid[2]


@given(inner_maps())
def test_a_key_is_named_as_a_person_would_write_it_and_found_so(inner):
    """Without a sign for its dots, where that leads to nothing else."""
    config = freeze({"files": inner})
    for path, value in leaves(config):
        assert lookup(config, unescaped(config, path)) is value
    assert unescaped({"a": {"b.c": 1}}, r"a.b\.c") == "a.b.c"
    assert unescaped({"a": {"b.c": 1, "b": {"c": 2}}}, r"a.b\.c") == r"a.b\.c"
    with pytest.raises(UsageError, match=r"did you mean 'files\.train\.csv'"):
        overridden(grid_of([{"files": {"train.csv": 1}}]), [override_of("files.train.cvs=2")])


@pytest.mark.parametrize("key", ["files.train.csv", r"files.train\.csv", "+files.train.csv", r"+files.train\.csv"])
def test_an_override_changes_the_key_that_is_there(key):
    """It makes no other key beside it."""
    grid = grid_of([{"files": {"train.csv": 1}}])
    assert overridden(grid, [override_of(f"{key}=5")]).item() == {"files": {"train.csv": 5}}


def results(*configs):
    """Results of these configs."""
    made = [Result(record_of("c", freeze(config), "h", done({"y": 1}, [])), None, dict) for config in configs]
    return Results.of(Tensor(made))


def test_a_column_is_called_as_its_key():
    """Without a sign for the dots that belong to a key, unless two columns would then have one name."""
    assert list(results({"files": {"train.csv": 1}}).to_records()[0])[2] == "config.files.train.csv"
    (row,) = results({"m": {"a": {"b": 1}, "a.b": 2}}).to_records()
    assert (row["config.m.a.b"], row[r"config.m.a\.b"]) == (1, 2)


@given(st.lists(inner_maps(), min_size=1, max_size=3))
def test_a_table_has_a_column_for_each_key(inner):
    """No two keys share one, so no value is lost."""
    rows = results(*({"m": each} for each in inner)).to_records()
    for row, each in zip(rows, inner, strict=True):
        expected = sorted(repr(value) for _, value in paths({"m": Config(each)}))
        found = [repr(value) for key, value in row.items() if key.startswith("config.") and value is not None]
        assert sorted(found) == expected


class Odd(str):
    """A string that is equal to nothing but itself, as a key of another library may be."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other):
        return self is other


def test_two_keys_that_are_one_are_refused():
    """Nobody knows which of the values was meant."""
    with pytest.raises(ConfigError, match=r"^two keys of config.a are 'b'; keep one of them$"):
        freeze({"a": {Odd("b"): 1, "b": 2}})
    with pytest.raises(ConfigError, match=r"^the keys 'a.b' and 'a.b' of update lead to the same place"):
        merge({}, {Odd("a.b"): 1, "a.b": 2})


def test_a_longer_path_of_an_update_comes_after_a_shorter_one():
    """As the law of merging has it, also over a value that is no map."""
    assert merge({}, {"a.b": 1, "a": {"b": 2, "c": 3}}) == {"a": {"b": 1, "c": 3}}
    assert merge({}, {"a.b": 1, "a": 5}) == {"a": {"b": 1}}


@given(st.dictionaries(parts(), scalars(), max_size=3))
def test_a_query_for_a_key_that_is_nowhere_says_what_there_is(config):
    """Also where the key has a dot."""
    grid = grid_of([{"files": {"train.csv": 1, **config}}])
    with pytest.raises(LookupError, match=r"no item has 'files\.tain"):
        grid[{"files": {"tain.csv": 1}}]
    with pytest.raises(LookupError, match=r"'files\.train.*csv' is 2 in no item"):
        grid[{"files": {"train.csv": 2}}]
    assert lookup(grid[0], "files.tain.csv", NOTHING) is NOTHING


def test_what_a_config_inside_is_called_is_no_path_of_its_own():
    """A map that is taken out of a config is expanded where it is given as a config, and only there."""
    inside = freeze({"a": {"b.c": 1}})["a"]
    assert type(inside) is FrozenConfig
    assert freeze({"x": inside})["x"] is inside
    assert freeze(inside) == {"b": {"c": 1}}
    assert changes(Config({"x": inside}))[0][1] == inside
