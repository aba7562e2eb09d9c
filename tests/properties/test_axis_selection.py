"""A query on a swept key is answered from the axis alone, and holds the very cells that looking at each would find."""

from fnmatch import fnmatchcase
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import matches

from pyexp.configs import freeze, merge
from pyexp.errors import SelectionError
from pyexp.results import Result, done, record_of
from pyexp.sweep import sweep
from pyexp.tables import Results
from pyexp.tensor import Tensor

#: Few keys, some inside others, so that later sweeps overwrite what earlier ones set.
KEYS = st.sampled_from(["a", "b", "a.b", "a.b.c", "a.c"])
VALUES = st.sampled_from([0, 1, True, 1.0, "1", (1,), [1], None, {"b": 1}, {"c": 0}, {"b": {"c": 1}}, float("nan")])
CHANGES = st.dictionaries(KEYS, VALUES, min_size=1, max_size=2)
SWEEPS = st.lists(st.lists(CHANGES, min_size=1, max_size=3), min_size=1, max_size=3)
OUTPUTS = st.sampled_from(
    [0, 1, True, 1.0, "1", None, 0.1, np.float32(0.1), np.int64(1), float("nan"), [1], "x" * 2000]
)
NAMES = st.sampled_from(["a", "a_b", "*", "a*", "?", "[ab]", "b", "", None, 1, ("a",)])
QUERIES = st.dictionaries(KEYS, VALUES, min_size=1, max_size=2)


def grid_of_sweeps(sweeps):
    grid = [{"a": 0}]
    for variations in sweeps:
        grid = sweep(grid, variations)
    return grid


def shown(tensor):
    return [repr(sorted(item.items(), key=repr)) for item in tensor]


@given(SWEEPS, QUERIES)
def test_a_query_on_a_grid_finds_what_looking_at_every_cell_finds(sweeps, query):
    grid = grid_of_sweeps(sweeps)
    expected = [config for config in grid if matches(config, query)]
    if expected:
        assert shown(grid[query]) == shown(expected)
        assert grid[query].shape == Tensor(grid, grid.shape)[query].shape
    else:
        with pytest.raises(SelectionError):
            grid[query]


@given(SWEEPS, QUERIES, st.data())
def test_a_query_on_results_finds_what_looking_at_every_result_finds(sweeps, query, data):
    grid = grid_of_sweeps(sweeps)
    if data.draw(st.booleans()):
        grid = grid[..., ::-1]
    results = Results.of(grid.map(lambda config: Result(record_of("", config, "", done({}, [])), None, dict)))
    asked = {f"config.{key}": value for key, value in query.items()}
    expected = [result.record.config for result in results if matches(result, asked)]
    if expected:
        assert shown(result.record.config for result in results[asked]) == shown(expected)
    else:
        with pytest.raises(SelectionError):
            results[asked]


@given(st.lists(st.dictionaries(st.sampled_from(["y", "z", "name"]), OUTPUTS), min_size=1, max_size=4), OUTPUTS)
def test_a_query_on_an_output_finds_what_looking_at_every_result_finds(returned, wanted):
    records = [record_of(f"e{i}", freeze({"x": i}), "", done(value, [])) for i, value in enumerate(returned)]
    results = Results(
        [Result(record, None, partial(dict, value)) for record, value in zip(records, returned, strict=True)]
    )
    expected = [result.name for result in results if matches(result, {"y": wanted})]
    if expected:
        assert [result.name for result in results[{"y": wanted}]] == expected
    else:
        with pytest.raises(SelectionError):
            results[{"y": wanted}]


@given(st.lists(NAMES, min_size=1, max_size=6), NAMES.filter(lambda name: isinstance(name, str)))
def test_a_glob_finds_what_fnmatch_finds_of_each_name(names, glob):
    tensor = Tensor([{} if name is None else {"name": name} for name in names])
    texts = [(i, name) for i, name in enumerate(names) if isinstance(name, str)]
    exact = [i for i, name in texts if name == glob]
    found = exact or [i for i, name in texts if fnmatchcase(name, glob)]
    if len(exact) == 1:
        assert tensor[glob] is tensor[exact[0]]
    elif found:
        assert all(one is tensor[i] for one, i in zip(tensor[glob], found, strict=True))
    else:
        with pytest.raises(SelectionError):
            tensor[glob]


def test_a_query_on_the_axes_of_a_huge_grid_looks_at_no_cell():
    grid = [{"name": "e"}]
    for axis in range(12):
        grid = sweep(grid, [{f"k{axis}.x": i} for i in range(10)])
    assert grid[{"k0.x": 3, "k7.x": 9}].shape == (1, 1, 10, 10, 10, 10, 10, 10, 1, 10, 10, 10, 10)
    with pytest.raises(SelectionError, match=r"'k0.x' is 10 in no item; nearest 9; there is 0, 1, 2"):
        grid[{"k0.x": 10}]


def test_what_a_function_made_of_a_grid_is_looked_at_and_not_guessed_from_its_axes():
    grid = sweep([{"name": "e"}], [{"lr": 1}, {"lr": 2}])
    swapped = grid.map(lambda config: merge(config, {"lr": 3 - config["lr"]}))
    assert swapped[{"lr": 1}].item()["lr"] == 1
    again = sweep(swapped, [{"x": 0}])
    assert [config["lr"] for config in again[{"lr": 1}]] == [1]
