"""Laws of grids: what a cell is, that nothing is made before it is looked at, and what is refused."""

import json
import os
import pickle
import subprocess
import sys
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyrsistent import pmap
from strategies import bad_keys, shuffled
from test_freeze import changeable, scribble

import pyexp
from pyexp import (
    Axis,
    ConfigError,
    SelectionError,
    Tensor,
    concat,
    config_hash,
    derive,
    freeze,
    merge,
    replicate,
    sample,
    sweep,
)
from pyexp.configs import FrozenConfig, equal
from pyexp.sweep import Chain, Product, slips
from pyexp.tensor import default_axes
from pyexp.testing.strategies import configs, maps, names, parts, variations


def joined(left, right):
    """The oracle of a cell: the variation merged over the config, the names joined, a missing one adding nothing."""
    named = "_".join(name for name in (left.get("name"), right.get("name")) if name)
    merged = merge(left, {key: value for key, value in right.items() if key != "name"})
    return merge(merged, {"name": named}) if named and right.get("name") else merged


@given(variations(named=False), variations(named=False))
def test_a_cell_is_the_merge_of_its_config_and_its_variation(base, variations):
    """`sweep(c, v)[i, j] == merge(c[i], v[j])` with the names joined; the shape is the product."""
    grid = sweep(base, variations)
    assert grid.shape == (len(base), len(variations))
    for i, config in enumerate(base):
        for j, variation in enumerate(variations):
            assert grid[i, j] == joined(config, variation)
            assert type(grid[i, j]) is FrozenConfig
    assert grid.tolist() == [[joined(config, variation) for variation in variations] for config in base]


@given(variations(2, named=False), st.lists(variations(2, named=False), max_size=3))
def test_the_shape_of_sweeps_is_the_product(base, many):
    """Each sweep adds an axis at the end, and iterating agrees with indexing."""
    grid = sweep(base, [{}])
    for varied in many:
        grid = sweep(grid, varied)
    assert grid.shape == (len(base), 1, *map(len, many))
    assert list(grid) == [grid[i] for i in range(grid.size)]
    assert len({axis.name for axis in grid.axes}) == grid.ndim
    assert tuple(map(len, grid.axes)) == grid.shape


def under(key, variations):
    """The variations with everything they set put under one key, and without a name."""
    return [{f"{key}.{path}": value for path, value in variation.items() if path != "name"} for variation in variations]


@given(configs(named=False), variations(named=False), variations(named=False))
def test_disjoint_sweeps_commute_up_to_transposition(config, left, right):
    """Sweeps that touch different keys and add no names may be made in any order."""
    left, right = under("left", left), under("right", right)
    one, other = sweep(sweep([config], left), right), sweep(sweep([config], right), left)
    assert one.shape == (1, len(left), len(right))
    assert all(one[0, i, j] == other[0, j, i] for i in range(len(left)) for j in range(len(right)))


@given(variations(named=False), variations(named=False), st.data())
def test_the_order_of_keys_does_not_matter(base, variations, data):
    """Neither in configs nor in variations; the order of the lists does."""
    grid, other = sweep(base, variations), sweep(shuffled(base, data), shuffled(variations, data))
    assert grid == other
    assert list(map(config_hash, grid)) == list(map(config_hash, other))
    assert grid.axes == other.axes


@given(
    st.lists(configs(changeable(), named=False), min_size=1, max_size=2),
    st.lists(configs(changeable(), named=False), min_size=1, max_size=2),
)
def test_a_grid_does_not_change_with_what_it_is_made_of(base, variations):
    """Configs and variations are frozen on the way in, not when a cell is looked at."""
    grid = sweep(Tensor(base), variations)
    before = list(grid)
    scribble([base, variations])
    assert equal(list(grid), before)


def test_names_are_joined_and_a_missing_one_adds_nothing():
    """None and the empty name are missing names."""
    for base, variation, name in [
        ("exp", "lr0.1", "exp_lr0.1"),
        ("exp", "", "exp"),
        ("exp", None, "exp"),
        ("", "lr0.1", "lr0.1"),
        (None, "lr0.1", "lr0.1"),
        ("", "", ""),
        (None, "", None),
    ]:
        assert sweep([{"name": base}], [{"name": variation}])[0]["name"] == name
    assert "name" not in sweep([{}], [{"a": 1}])[0]
    assert "name" not in sweep([{}], [{"name": ""}])[0]
    assert sweep([{}], [{"name": "a"}])[0]["name"] == "a"


# Laziness


class Counted(Sequence):
    """Configs that count how often one was looked at."""

    def __init__(self, size):
        self.size = size
        self.looks = 0

    def __len__(self):
        return self.size

    def __getitem__(self, position):
        if not 0 <= position < self.size:
            raise IndexError(position)
        self.looks += 1
        assert self.looks < 1000, "somebody walks a grid that should be lazy"
        return pmap({"name": f"c{position}", "at": position})


def test_a_grid_of_10_to_the_12_cells_is_kilobytes_and_nobody_walks_it():
    """It is built, indexed, sliced, selected by axis, sampled and joined; only the cells looked at are made."""
    cells = Counted(10)
    tracemalloc.start()
    grid = Tensor.of_cells(cells, default_axes((10,)))
    for axis in range(11):
        grid = sweep(grid, [{"name": f"{axis}{value}", f"k{axis}": value} for value in range(10)])
        assert cells.looks == 0
    assert grid.shape == (10,) * 12
    last = grid[-1]
    assert last == grid[(-1,) * 12]
    assert (last["name"], last["k10"]) == ("c9" + "".join(f"_{axis}9" for axis in range(11)), 9)
    assert cells.looks == 2
    view = grid[::7, ..., 3][..., [1, 2]]
    assert view.shape == (2, *[10] * 9, 2)
    assert view[-1]["k9"] == 2
    assert grid[5:][::-1].size == 10**12 - 5
    assert grid.sel(k3=4).isel(k4=0).shape == (10,) * 10
    assert cells.looks == 3
    drawn = sample(grid, 50, seed=1)
    assert cells.looks == 3
    assert len({config["name"] for config in drawn}) == 50
    assert cells.looks == 53
    both = concat([grid, grid])
    assert both.size == 2 * 10**12
    assert both[10**12] == grid[0]
    assert repr(grid).startswith("<Tensor (axis_0: 10, k0: 10, ")
    again = pickle.loads(pickle.dumps(sweep([{"name": "c9"}], [{"a": 1}])))
    assert again[0] == {"name": "c9", "a": 1}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000
    assert cells.looks < 70


def test_a_walk_makes_each_config_once():
    """Iterating a grid looks at each config of the sweep before once, not once for each of its cells."""
    cells = Counted(4)
    grid = sweep(sweep(Tensor.of_cells(cells, default_axes((4,))), [{"a": 1}, {"a": 2}]), [{"b": 1}, {"b": 2}])
    assert len(list(grid)) == 16
    assert cells.looks == 4
    assert type(grid.cells) is Product


# Samples


def numbers(size):
    """That many configs."""
    return Tensor([pmap({"at": i}) for i in range(size)])


def drawn(n, size, seed):
    """The positions of a sample."""
    return [config["at"] for config in sample(numbers(size), n, seed=seed)]


SEEDS = st.integers() | st.text(max_size=3)


@given(st.integers(0, 30), st.data(), SEEDS)
def test_a_sample_is_distinct_and_begins_with_the_smaller_one(size, data, seed):
    """All cells are the whole; every smaller sample with the seed is its beginning; the sample is flat."""
    everything = drawn(size, size, seed)
    assert sorted(everything) == list(range(size)) == list(range(len(set(everything))))
    n = data.draw(st.integers(0, size))
    assert drawn(n, size, seed) == everything[:n]
    assert sample(numbers(size), n, seed=seed).shape == (n,)
    assert [axis.name for axis in sample(numbers(size), n, seed=seed).axes] == ["axis_0"]


def test_samples_depend_on_the_seed_and_its_type():
    """Every seed draws otherwise; a NumPy int is the int it equals."""
    draws = [tuple(drawn(20, 20, seed)) for seed in (0, 1, -1, "0", "1", "", "int:0", 10**5000)]
    assert len(set(draws)) == len(draws)
    assert drawn(5, 20, np.int64(7)) == drawn(5, 20, 7) == drawn(np.int64(5), 20, 7)


def test_samples_are_even():
    """Each cell is drawn about as often as any other, in the first place and in the last."""
    draws = [drawn(3, 5, seed) for seed in range(1000)]
    for place in (0, 2):
        counts = [sum(draw[place] == cell for draw in draws) for cell in range(5)]
        assert all(140 < count < 260 for count in counts), counts


def test_samples_of_grids_beyond_all_numbers_are_spread_over_them():
    """However many cells there are, the last are drawn as well as the first."""
    grid = numbers(10)
    for axis in range(99):
        grid = sweep(grid, [{f"k{axis}": value} for value in range(10)])
    assert grid.size == 10**100
    firsts = {config["at"] for config in sample(grid, 100, seed=0)}
    assert firsts == set(range(10))


IN_A_FRESH_PROCESS = """
import json
from pyexp import sample, sweep
grid = sweep(sweep([{"at": i} for i in range(10)], [{"b": 1}, {"b": 2}]), [{"c": 1, "d": {1, 2}}, {"c": 2}])
drawn = [cell for seed in (0, "a") for cell in sample(grid, 5, seed=seed)]
print(json.dumps([[cell["at"], cell["b"], cell["c"]] for cell in drawn]))
"""


def test_a_sample_is_the_same_in_every_process():
    """Under any PYTHONHASHSEED; and it stays so from version to version."""
    shown = []
    for seed in ("0", "1"):
        world = {**os.environ, "PYTHONPATH": str(Path(pyexp.__file__).parents[1]), "PYTHONHASHSEED": seed}
        run = subprocess.run([sys.executable, "-c", IN_A_FRESH_PROCESS], env=world, capture_output=True, check=True)
        shown.append(json.loads(run.stdout))
    assert shown[0] == shown[1]
    assert drawn(5, 40, 0) == [17, 33, 3, 7, 1]
    assert drawn(5, 40, "a") == [12, 20, 38, 35, 8]


@pytest.mark.parametrize(
    ("n", "seed", "error", "words"),
    [
        (4, 0, SelectionError, "a sample of 4 cells cannot be drawn from 3"),
        (-1, 0, SelectionError, "a sample of -1 cells cannot be drawn from 3"),
        (1.0, 0, ConfigError, "n, the number of cells to draw, is 1.0, of type float; it is a whole number"),
        (None, 0, ConfigError, "n, the number of cells to draw, is None, of type NoneType; it is a whole number"),
        (1, None, ConfigError, "seed is None, of type NoneType; it is a whole number"),
        (1, 0.5, ConfigError, "seed is 0.5, of type float; it is a whole number"),
    ],
)
def test_a_sample_that_cannot_be_drawn_is_refused(n, seed, error, words):
    """Too many cells, or no number of them, or a seed that would not be the same in every process."""
    with pytest.raises(error) as refused:
        sample(numbers(3), n, seed=seed)
    assert str(refused.value).startswith(words)


# Replicates


@given(variations(named=False), st.integers(1, 20), st.integers(1, 20), SEEDS)
def test_replicates_are_a_sweep_of_distinct_seeds_and_begin_with_the_fewer(configs, n, fewer, seed):
    """Along an axis called `seed`, with numbers that other tools take as seeds; more of them keep those there were."""
    fewer = min(n, fewer)
    grid = replicate(configs, n, seed=seed)
    numbers = [config["seed"] for config in grid[0, :]]
    assert grid == sweep(configs, [{"name": f"seed{i}", "seed": number} for i, number in enumerate(numbers)])
    assert (grid.axes[1].name, grid.axes[1].coords) == ("seed", range(n))
    assert len(set(numbers)) == n
    assert all(0 <= number < 2**32 for number in numbers)
    assert list(replicate(configs, fewer, seed=seed)[0, :]) == list(grid[0, :fewer])


def test_replicates_are_the_same_from_version_to_version():
    """Those who have results can have more of the same."""
    for seed, numbers in [(0, (3602217196, 1576796291, 601572053)), ("a", (4112219145, 1583460175, 1174163662))]:
        assert tuple(config["seed"] for config in replicate([{}], 3, seed=seed)) == numbers


@pytest.mark.parametrize(
    ("n", "seed", "words"),
    [
        (0, 0, "n, the number of replicates, is 0; it is at least 1"),
        (-1, 0, "n, the number of replicates, is -1; it is at least 1"),
        (1.5, 0, "n, the number of replicates, is 1.5, of type float; it is a whole number"),
        (1, None, "seed is None, of type NoneType; it is a whole number"),
    ],
)
def test_replicates_that_cannot_be_made_are_refused(n, seed, words):
    """No number of them, or a seed that would not be the same in every process, or an axis that is there."""
    with pytest.raises(ConfigError) as refused:
        replicate([{}], n, seed=seed)
    assert str(refused.value) == words
    with pytest.raises(ConfigError, match=r"^an axis is called 'seed' already"):
        replicate(sweep([{}], [{"seed": 1}]), 2, seed=0)


# What is derived


@given(variations(named=False), variations(named=False), maps())
def test_what_is_derived_is_merged_into_each_config_when_it_is_looked_at(base, variations, update):
    """By index as by a walk, in the grid's shape; nothing is called before."""
    seen = []
    grid = sweep(base, variations)
    made = derive(grid, lambda config: seen.append(config) or update)
    assert seen == []
    assert (made.shape, made.axes) == (grid.shape, grid.axes)
    assert list(made) == [made[i] for i in range(made.size)] == [merge(config, update) for config in grid]
    assert seen == [*grid, *grid]
    assert list(derive(base, lambda config: update)) == [merge(config, update) for config in base]


def test_a_query_on_a_derived_value_looks_at_it():
    """Though an axis is called like its key; `sel` goes by the axis."""
    made = derive(sweep([{"name": "e"}], [{"lr": 1}, {"lr": 2}]), lambda config: {"lr": 3 - config["lr"], "a.b": 0})
    assert [config["lr"] for config in made[{"lr": 1}]] == [1]
    assert [config["lr"] for config in made.sel(lr=[1])[0, :]] == [2]
    assert [config["lr"] for config in made.filter(lambda config: True)[{"lr": 1, "a": {"b": 0}}]] == [1]


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (None, "what derive's function returns for 'e' is None, of type NoneType; it has to be a mapping"),
        ({1: 2}, "a key of what derive's function returns for 'e' is 1"),
        ({"name": 5}, "what derive's function returns for 'e'.name is 5, of type int; a name is a string"),
    ],
)
def test_what_cannot_be_merged_is_refused_with_the_config_it_is_for(returned, words):
    """When the cell is looked at."""
    made = derive([{"name": "e"}], lambda config: returned)
    with pytest.raises(ConfigError) as refused:
        made[0]
    assert str(refused.value).startswith(words)
    with pytest.raises(ConfigError, match=r"^derive takes a function of a config, not {'a': 1}$"):
        derive([{}], {"a": 1})


# Unions


@given(st.lists(variations(2, named=False), min_size=1, max_size=3), variations(2, named=False))
def test_a_union_is_one_after_the_other(many, variations):
    """Of lists, grids, samples and filters alike; by index and by iteration; flat; and it sweeps on."""
    tensors = [sweep(configs, [{"a": 1}, {"a": 2}]) for configs in many]
    expected = [cell for tensor in tensors for cell in tensor]
    union = concat(tensors)
    assert union.shape == (len(expected),)
    assert list(union) == [union[i] for i in range(union.size)] == expected
    assert [axis.name for axis in union.axes] == ["axis_0"]
    assert type(union.cells) is Chain
    assert list(concat(many)) == [freeze(config) for configs in many for config in configs]
    assert sweep(union, variations).shape == (len(expected), len(variations))


def test_unions_skip_empty_parts():
    """Filters may be empty."""
    empty = numbers(3).filter(lambda config: False)
    union = concat([empty, numbers(2), empty, iter([{"at": 5}]), empty])
    assert [config["at"] for config in union] == [union[i]["at"] for i in range(3)] == [0, 1, 5]
    assert concat([empty]).shape == (0,)
    assert sweep(empty, [{"a": 1}]).shape == (0, 1)


def test_grids_filters_samples_and_unions_compose():
    """Each takes and gives Tensors of configs."""
    grid = sweep([{"name": "x"}], [{"name": f"a{a}", "a": a} for a in range(4)])
    even = grid.filter(lambda config: config["a"] % 2 == 0)
    assert even.shape == (1, 2)
    union = concat([even, sample(grid, 2, seed=3), [grid["x_a1"]]])
    swept = sweep(union, [{"name": "s0", "seed": 0}, {"name": "s1", "seed": 1}])
    assert swept.shape == (5, 2)
    assert {cell["seed"] for cell in swept["x_a1_s1"]} == {1}
    assert sweep(grid[{"a": 3}], [{"b": 1}]).axes[1].coords == (3,)


def test_a_tensor_of_anything_is_frozen_on_the_way_in():
    """A tensor that was not made by a sweep may hold dicts, also within persistent maps."""
    inner = [1]
    grid = sweep(Tensor([{"a": inner}, pmap({"a": inner})]), [{}])
    inner.append(2)
    assert grid[0] == grid[1] == freeze({"a": [1]})
    with pytest.raises(ConfigError, match=r"^an item of configs is 5, of type int"):
        sweep(Tensor([{}, 5]), [{}])


# Axes


@pytest.mark.parametrize(
    ("variations", "axis", "name", "coords"),
    [
        ([{"lr": 0.1}, {"lr": 1.0}], None, "lr", (0.1, 1.0)),
        ([{"lr": 0.1, "name": "a"}, {"lr": 1.0, "name": "b"}], None, "lr", (0.1, 1.0)),
        ([{"mlp.width": 1}, {"mlp.width": 2}], None, "mlp.width", (1, 2)),
        ([{"mlp": {"w": 1}}, {"mlp": {"w": 2}}], None, "mlp", (pmap({"w": 1}), pmap({"w": 2}))),
        ([{"lr": 0.1}], None, "lr", (0.1,)),
        ([{"lr": 0.1, "fixed": 1}, {"lr": 1.0, "fixed": 1}], None, "lr", (0.1, 1.0)),
        ([{"lr": 1, "n": float("nan")}, {"lr": 2, "n": float("nan")}], None, "lr", (1, 2)),
        ([{"lr": 1, "w": np.ones(2)}, {"lr": 2, "w": np.ones(2)}], None, "lr", (1, 2)),
        ([{"lr": 0.1}, {"lr": 1.0}], "rate", "rate", (0.1, 1.0)),
        ([{"a": 1, "b": 1}, {"a": 2, "b": 2}], None, "axis_1", range(2)),
        ([{"a": 1, "b": 1}, {"a": 2, "b": 2}], "both", "both", range(2)),
        ([{"a": 1, "b": 1, "name": "x"}, {"a": 2, "b": 2, "name": "y"}], None, "axis_1", ("x", "y")),
        ([{"a": 1, "b": 1, "name": "x"}, {"a": 2, "b": 2, "name": "x"}], None, "axis_1", range(2)),
        ([{"a": 1, "name": "x"}, {"b": 2, "name": "y"}], None, "axis_1", ("x", "y")),
        ([{"a": 1, "name": "x"}, {"b": 2}], None, "axis_1", range(2)),
        ([{"a": 1}, {"a": True}, {"a": 1.0}], None, "a", (1, True, 1.0)),
        ([{"a": 1, "b": 1}, {"a": 2, "b": True}], None, "axis_1", range(2)),
        ([{"a": 1, "b": [{"c": 1}]}, {"a": 2, "b": [{"c": 1}]}], None, "a", (1, 2)),
        ([{"a": 1, "b": [{"c": 1}]}, {"a": 2, "b": [{"c": 1.0}]}], None, "axis_1", range(2)),
        ([{"a": 1}, {"a": 1}], None, "axis_1", range(2)),
        ([{}], None, "axis_1", range(1)),
        ([{"name": "x"}, {"name": "y"}], None, "axis_1", ("x", "y")),
    ],
)
def test_an_axis_is_named_after_the_one_key_that_differs(variations, axis, name, coords):
    """Else by `axis=`, else `axis_N` with the variations' names as coordinates, if they tell them apart."""
    grid = sweep([{"seed": 0}], variations, axis=axis)
    assert grid.axes == (Axis("seed", (0,)), Axis(name, coords))


def test_axes_have_different_names():
    """A number that is taken is passed over."""
    pairs = [{"b": 1, "c": 2}, {"b": 2, "c": 3}]
    grid = sweep(sweep(sweep([{}], pairs, axis="axis_2"), pairs), pairs)
    assert [axis.name for axis in grid.axes] == ["axis_0", "axis_2", "axis_3", "axis_4"]
    named = sweep([{}], [{"b": 1, "c": 2}, {"b": 2, "c": 3}], axis="a")
    assert [axis.name for axis in sweep(named, [{"a": 1}]).axes] == ["axis_0", "axis_1", "a"]
    assert sweep([{}], [{"axis_0": 1}]).axes[1].name == "axis_1"


# Bad input


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda bad: sweep(bad, [{}]), "configs"),
        (lambda bad: sweep([{}], bad), "variations"),
        (lambda bad: sample(bad, 0, seed=0), "configs"),
        (lambda bad: concat([[{}], bad]), "tensors[1]"),
        (concat, "tensors"),
    ],
    ids=["configs", "variations", "sample", "part", "concat"],
)
@pytest.mark.parametrize(
    ("bad", "rest"),
    [
        ({"a": 1}, " is one dict; give a list of them: [{…}]"),
        (pmap({"a": 1}), " is one PMap; give a list of them: [{…}]"),
        (None, " is None; give a list of dicts"),
        (5, " is 5; give a list of dicts"),
        ("ab", " is 'ab'; give a list of dicts"),
        (b"ab", " is b'ab'; give a list of dicts"),
        (frozenset([pmap()]), " is frozenset({pmap({})}); give a list of dicts"),
        ([], " is empty; a grid needs at least one of them"),
        (iter(()), " is empty; a grid needs at least one of them"),
    ],
    ids=["dict", "map", "None", "int", "str", "bytes", "set", "empty", "iterator"],
)
def test_what_is_no_list_is_refused(make, words, bad, rest):
    """One dict, nothing, an empty list, a set without order: each has its message. No variations are no error."""
    if words == "variations" and rest.startswith(" is empty"):
        assert make(bad).shape == (1, 0)
        return
    with pytest.raises(ConfigError) as refused:
        make(bad)
    assert str(refused.value).startswith(words + rest)


@pytest.mark.parametrize(
    ("item", "rest"),
    [
        (5, " is 5, of type int; "),
        (None, " is None, of type NoneType; "),
        ("a", " is 'a', of type str; "),
        ([("a", 1)], " is [('a', 1)], of type list; "),
        ({"name": 5}, ".name is 5, of type int; a name is a string: '5'"),
        ({"name": {"a": 1}}, ".name is FrozenConfig({'a': 1}), of type FrozenConfig; a name is a string"),
    ],
)
def test_an_item_that_is_no_config_is_named_with_its_place(item, rest):
    """Which of the configs or variations it is, and what it is."""
    for make, where in [
        (lambda: sweep([{}, item], [{}]), "configs[1]"),
        (lambda: sweep([{}], [{}, item]), "variations[1]"),
        (lambda: concat([[{}], [{}, item]]), "tensors[1][1]"),
        (lambda: sweep(Tensor([{}, item]), [{}]), "an item of configs"),
    ]:
        with pytest.raises(ConfigError) as refused:
            make()
        assert str(refused.value).startswith(where + rest)


@given(bad_keys())
def test_a_bad_key_is_named_with_its_config(key):
    """In configs as in variations, at any depth."""
    for make, where in [
        (lambda: sweep([{}, {key: 1}], [{}]), "configs[1]"),
        (lambda: sweep([{}], [{"a": [{"b": {key: 1}}]}]), "variations[0].a[0].b"),
    ]:
        with pytest.raises(ConfigError) as refused:
            make()
        assert str(refused.value).startswith(f"a key of {where} is {key!r}")


def test_a_variation_cannot_reach_into_a_name():
    """A name is a string that names are joined to."""
    with pytest.raises(ConfigError, match=r"^variations\[0\] reaches inside 'name', which is a string"):
        sweep([{"name": "a"}], [{"name.first": "b"}])
    with pytest.raises(ConfigError, match=r"^configs\[0\].name is FrozenConfig"):
        sweep([{"name.first": "b"}], [{}])


@pytest.mark.parametrize("axis", ["", 5, b"a", ("a",)])
def test_an_axis_is_called_by_a_string(axis):
    """Anything else is refused."""
    with pytest.raises(ConfigError) as refused:
        sweep([{}], [{}], axis=axis)
    assert str(refused.value).startswith(
        f"the name of an axis is {axis!r}, of type {type(axis).__name__}; it is a string"
    )


def test_an_axis_that_is_there_already_is_refused():
    """The message lists the axes."""
    with pytest.raises(ConfigError, match=r"^an axis is called 'lr' already; the axes are \['axis_0', 'lr'\]$"):
        sweep(sweep([{}], [{"lr": 1}]), [{"b": 1}], axis="lr")


def test_a_variation_that_contains_itself_is_refused():
    """In one clear line, whichever side it is on."""
    loop = {}
    loop["a"] = loop
    with pytest.raises(ConfigError, match=r"^configs\[0\] contains itself"):
        sweep([loop], [{}])
    with pytest.raises(ConfigError, match=r"^variations\[0\] contains itself"):
        sweep([{}], [loop])


def test_concat_takes_a_list_of_grids():
    """One grid is not a list of them."""
    with pytest.raises(ConfigError, match=r"^tensors is one Tensor; give a list of them: concat\(\[a, b\]\)$"):
        concat(numbers(3))
    with pytest.raises(ConfigError, match=r"^tensors\[0\] is one dict; give a list of them"):
        concat([{"a": 1}])


@given(names(), maps(), parts())
def test_every_name_and_key_that_is_a_string_is_welcome(name, update, part):
    """Whatever characters they hold, they come out as they went in."""
    cell = sweep([{"name": name}], [{"name": name, part: 1}, update])[0, 0]
    assert cell["name"] == (f"{name}_{name}" if name else "")
    assert cell[part] == 1


def never(config):
    raise AssertionError(f"{config} was looked at")


BASE = {
    "name": "exp",
    "learning_rate": 0.1,
    "lr": 0.1,
    "beta1": 0.9,
    "xmin": 0,
    "batch": 8,
    "step": 1,
    "n": 1,
    "use_bn": True,
    "noise_x_std": 0.1,
    "std_xy": 0.1,
    "model": {"width": 32},
}


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("lerning_rate", "learning_rate"),
        ("learning_ratee", "learning_rate"),
        ("laerning_rate", "learning_rate"),
        ("leatning_rate", "learning_rate"),
        ("learningRate", "learning_rate"),
        ("Lr", "lr"),
        ("model.widht", "model.width"),
        ("steps", "step"),
        ("batch ", "batch"),
        ("setp", "step"),
        ("noise_x_sxd", "noise_x_std"),
        ("modle.width", "model"),
        *((key, None) for key in ("lr", "learning_rate", "model.width", "model.depth.width", "batch.norm")),
        *(
            (key, None)
            for key in (
                "mode",
                "stop",
                "stepp",
                "sstep",
                "batch2",
                "beta2",
                "ymin",
                "rl",
                "lrs",
                "l",
                "batch_size",
                "epochs",
                "match",
                "N",
                "use_ln",
                "use_bx",
                "noise_y_std",
                "std_yx",
                "noise_x_sts",
            )
        ),
    ],
)
def test_a_key_of_a_variation_that_looks_like_a_slip_is_found(key, meant):
    """In every grid that is made of the sweep, and from its factors alone."""
    base = [{"other": 1}, BASE]
    found = {} if meant is None else {"modle" if key.startswith("modle") else key: meant}
    grid = derive(sweep(sweep(base, [{"seed": i} for i in range(3)]), [{key: 1}, {key: 2}]), never)
    for made in (grid, grid[1:3], grid[:, 0], sample(grid, 2, seed=0), concat([[{"Batch": 1}], grid])):
        assert slips(made) == found
    assert slips(sweep([{"seed": 0}], [{key: 1}]), freeze(BASE)) == found
    assert slips(sweep(sweep([{"seed": 0}], [{"name": "all", **BASE}]), [{key: 1}])) == found


@given(st.lists(variations(2), min_size=1, max_size=3))
def test_a_key_that_is_there_is_never_a_slip(many):
    grid = [{"name": "exp"}]
    for each in many:
        grid = sweep(grid, each)
    assert slips(sweep(list(grid), list(grid))) == {}
