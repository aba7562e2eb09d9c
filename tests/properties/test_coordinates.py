"""Coordinates travel with the cells: pandas and plain loops over (coordinates, cell) are the oracles."""

import pickle
from copy import deepcopy
from decimal import Decimal
from functools import partial
from itertools import islice, product
from math import prod
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from pyexp import (
    Axis,
    ConfigError,
    SelectionError,
    Tensor,
    concat,
    derive,
    freeze,
    register_encoder,
    replicate,
    sample,
    sweep,
)
from pyexp.axes import MISSING, Along, Level, Picked, taken
from pyexp.configs import equal, lookup
from pyexp.sweep import Chain, zipped
from pyexp.testing.strategies import CONFUSABLE, COORDS, Point, shapes, tensors


def table(grid: Tensor[int]) -> list[dict[str, Any]]:
    """The coordinates of each item of a grid, by a plain product."""
    names = [axis.name for axis in grid.axes]
    return [dict(zip(names, at, strict=True)) for at in product(*(axis.coords for axis in grid.axes))]


def along(tensor: Tensor[Any], name: str) -> list[Any]:
    """The coordinate of each item of a tensor, flat or not."""
    (number,) = [i for i, axis in enumerate(tensor.axes) if name in axis.known]
    shape = [1] * tensor.ndim
    shape[number] = -1
    places = np.broadcast_to(np.arange(tensor.shape[number]).reshape(shape), tensor.shape).ravel()
    return [tensor.coords[name][i] for i in places]


@given(tensors(min_dims=1), st.data())
def test_every_selection_keeps_the_coordinates_of_each_item(grid: Tensor[int], data: st.DataObject) -> None:
    """Filters, slices, lists, masks, samples of positions, one after the other: each item is where it was."""
    rows = table(grid)
    tensor: Tensor[int] = grid
    for _ in range(data.draw(st.integers(1, 3))):
        positions = data.draw(st.lists(st.integers(0, max(tensor.size - 1, 0)), max_size=5)) if tensor.size else []
        chosen = {tensor[i] for i in positions}
        tensor = data.draw(
            st.sampled_from(
                [
                    tensor.filter(chosen.__contains__),
                    tensor.where(chosen.__contains__),
                    tensor[tensor.map(chosen.__contains__)],
                    tensor[positions],
                    tensor[1:],
                    tensor[::-1],
                ]
            )
        )
    for view in (tensor, pickle.loads(pickle.dumps(tensor)), tensor.map(lambda item: item), tensor[...]):
        assert list(view) == list(tensor)
        for name in rows[0]:
            assert equal(along(view, name), [rows[item][name] for item in tensor])


@given(tensors(min_dims=2), st.data())
def test_sel_on_a_scattered_selection_is_a_filter_by_coordinate(grid: Tensor[int], data: st.DataObject) -> None:
    chosen = data.draw(st.sets(st.integers(0, grid.size - 1), min_size=1))
    tensor = grid[sorted(chosen)]
    rows = table(grid)
    name = data.draw(st.sampled_from(sorted(rows[0])))
    wanted = data.draw(COORDS)
    expected = [item for item in tensor if equal(rows[item][name], wanted)]
    if not expected and not isinstance(wanted, (list, tuple)):
        with pytest.raises(SelectionError, match="has no coordinate"):
            tensor.sel({name: wanted})
    elif expected:
        made = tensor.sel({name: wanted})
        assert list(made) == expected
        for other in rows[0]:
            if other in made.coords:
                assert equal(along(made, other), [rows[item][other] for item in expected])
        several = [wanted, *data.draw(st.lists(st.sampled_from([rows[item][name] for item in tensor]), max_size=2))]
        assume(not any(equal(rows[item][name], several) for item in tensor))  # then it is one value
        listed = tensor.sel({name: several})
        assert list(listed) == [item for item in tensor if any(equal(rows[item][name], each) for each in several)]
        assert set(listed.coords) == set(rows[0])


@given(tensors(min_dims=2), st.data())
def test_sel_by_all_coordinates_finds_the_item_where_the_grid_does(grid: Tensor[int], data: st.DataObject) -> None:
    """It is bare, as it is on the grid, if the coordinates are its own; else all that have them are left."""
    tensor = grid[sorted(data.draw(st.sets(st.integers(0, grid.size - 1), min_size=1)))]
    rows = table(grid)
    item = data.draw(st.sampled_from(list(tensor)))
    expected = [other for other in tensor if all(equal(rows[other][name], rows[item][name]) for name in rows[0])]
    made = tensor.sel(rows[item])
    if len(expected) == 1:
        assert made == item
    else:
        assert list(made) == expected


@given(tensors(min_dims=2))
def test_isel_says_where_it_cannot_count(grid: Tensor[int]) -> None:
    tensor = grid[[0, grid.size - 1]]
    for name in table(grid)[0]:
        with pytest.raises(SelectionError, match=r"is a coordinate here, not an axis, .* use sel\("):
            tensor.isel({name: 0})
    if "axis_0" not in tensor.coords:
        assert tensor.isel(axis_0=-1) == grid.size - 1
        assert tensor.sel(axis_0=1) == grid.size - 1


def test_what_sel_does_not_find_on_scattered_cells_it_names() -> None:
    grid = Tensor(range(4), (2, 2), [Axis("lr", (0.1, 0.2)), Axis("seed", (0, 1))])
    tensor = grid.filter(lambda item: item != 3)
    with pytest.raises(SelectionError, match=r"^no cell is at lr=0.2 and seed=1 at once$"):
        tensor.sel(lr=0.2, seed=1)
    with pytest.raises(SelectionError, match=r"^axis 'lr' has no coordinate 0.3; there is 0.1, 0.2$"):
        tensor.sel(lr=0.3)
    with pytest.raises(SelectionError, match=r"^axis 'lr' has no coordinate 0.2; there is 0.1$"):
        tensor.sel(seed=1).sel(lr=0.2)
    with pytest.raises(SelectionError, match=r"^no axis is named 'sed'; did you mean 'seed'\?$"):
        tensor.sel(sed=1)
    assert tensor.sel(lr=[], seed=0).shape == (0,)


# Values


@given(
    st.lists(st.integers(-3, 3) | st.sampled_from([0.5, 1.5]), min_size=1, max_size=5),
    st.none() | st.integers(-4, 4) | st.just(0.7),
    st.none() | st.integers(-4, 4) | st.just(0.7),
    st.sampled_from([None, 1, 2]),
)
@example([1, 0, 2, 3], 0, 2, None)
def test_a_slice_of_values_is_what_pandas_takes(coords: list[Any], start: Any, stop: Any, step: int | None) -> None:
    """Both ends are in it; without an order, both have to be there."""
    tensor = Tensor(range(len(coords)), axes=[Axis("x", coords)])
    wanted = slice(start, stop, step)
    try:
        expected = list(range(len(coords)))[pd.Index(coords).slice_indexer(start, stop, step)]
    except KeyError:  # not in order, and one of the ends is not there, or there more than once
        assume(len(set(coords)) == len(coords))
        with pytest.raises(SelectionError, match="has no coordinate"):
            tensor.sel(x=wanted)
    else:
        assert list(tensor.sel(x=wanted)) == expected


def test_a_slice_that_makes_no_sense_is_refused() -> None:
    tensor = Tensor(range(3), axes=[Axis("x", (1, 2, 3))])
    with pytest.raises(SelectionError, match=r"^axis 'x' has no order in which slice\('a', None, None\) is"):
        tensor.sel(x=slice("a", None))
    for step in (0, -1):
        with pytest.raises(SelectionError, match=f"along axis 'x' is {step}; it is at least 1"):
            tensor.sel(x=slice(None, None, step))
    assert list(Tensor(range(2), axes=[Axis("x", (None, 1))]).sel(x=slice(1, None))) == [1]
    assert Tensor(range(2), axes=[Axis("x", (slice(1), 1))]).sel(x=slice(1)) == 0


def test_values_may_come_in_any_sequence() -> None:
    tensor = Tensor(range(4), axes=[Axis("x", (0, 1, 2, (0, 1)))])
    for wanted in ([0, 2], (0, 2), range(0, 3, 2), np.array([0, 2]), np.array([0.0, 2.0]), pd.Series([0, 2])):
        assert list(tensor.sel(x=wanted)) == [0, 2]
    assert tensor.sel(x=(0, 1)) == tensor.sel(x=[0, 1]) == 3
    assert tensor.sel(x=np.array(2)) == tensor.sel(x=np.int8(2)) == 2
    with pytest.raises(SelectionError, match=r"no coordinate 0.57; nearest 0.5700000000000001; there is"):
        Tensor(range(2), axes=[Axis("x", (0.5700000000000001, 0.1))]).sel(x=np.array([0.57]))
    with pytest.raises(SelectionError, match=r"no coordinate 1.2; nearest 1; there is 0, 1, 2, .* \(20 in all\)$"):
        Tensor(range(20), axes=[Axis("x", range(20))]).sel(x=1.2)
    words = Tensor(range(2), axes=[Axis("x", ("resnet", "vit"))])
    with pytest.raises(SelectionError, match=r"no coordinate 'rsnet'; nearest 'resnet'; there is"):
        words.sel(x="rsnet")
    for wanted, hint in [("qq", ""), (1, ""), (True, ""), (10**400, ""), (float("nan"), "")]:
        with pytest.raises(SelectionError, match=r"^axis 'x' has no coordinate [^;]*" + hint + "; there is"):
            words.sel(x=wanted)
    with pytest.raises(SelectionError, match=r"0{400}; there is 0.5$"):
        Tensor(range(1), axes=[Axis("x", (0.5,))]).sel(x=10**400)


NEVER_EQUAL = ({float("nan")}, Point(np.array([1.0, 2.0])), Point(float("nan")), Decimal("sNaN"), partial(int, base=2))


@pytest.mark.parametrize("group", [*CONFUSABLE, NEVER_EQUAL], ids=range(len(CONFUSABLE) + 1))
def test_each_value_is_found_by_a_copy_of_it(group: tuple[Any, ...]) -> None:
    """By coordinate and by query, also if `==` does not find it."""
    items = [freeze({"x": value}) for value in group]
    grid = Tensor(items, axes=[Axis("x", [item["x"] for item in items])])
    for item, value in zip(items, group, strict=True):
        for found in (grid[{"x": deepcopy(value)}], grid.sel(x=deepcopy(value))):
            assert any(each is item for each in (found if isinstance(found, Tensor) else [found]))


def test_times_are_found_by_an_array_of_another_unit() -> None:
    days = Tensor(range(2), axes=[Axis("x", [np.datetime64("2020-01-01"), np.datetime64("2020-01-02")])])
    assert list(days.sel(x=np.array(["2020-01-02", "2020-01-01"], "M8[ns]"))) == [1, 0]


class Angle:
    """A foreign value, equal to nothing but itself."""

    def __init__(self, degrees: float) -> None:
        self.degrees = degrees


def test_a_foreign_value_is_found_by_its_encoder() -> None:
    grid = sweep([{"name": "e"}], [{"at": Angle(90)}, {"at": Angle(45)}])
    with pytest.raises(SelectionError):
        grid[{"at": Angle(45)}]
    register_encoder(Angle, lambda angle: angle.degrees)
    assert grid[{"at": Angle(45)}].item()["at"].degrees == 45
    assert grid.sel(at=Angle(45)).item()["at"].degrees == 45
    assert grid.map(lambda config: config)[{"at": Angle(90)}].shape == (1, 1)
    with pytest.raises(SelectionError):
        grid[{"at": Angle(1)}]
    with pytest.raises(SelectionError):
        grid[{"at": object()}]
    with pytest.raises(SelectionError, match=r"^no item has 'size'; "):  # the fault is not with the foreign value
        grid.map(lambda config: config)[{"at": Angle(90), "size": 1}]


# Lazy filters


@given(tensors(min_dims=1), st.data())
def test_where_is_filter_once_it_is_looked_at(grid: Tensor[int], data: st.DataObject) -> None:
    chosen = data.draw(st.sets(st.integers(0, grid.size)))
    seen: list[int] = []
    made = grid.where(lambda item: seen.append(item) or item in chosen)  # type: ignore[func-returns-value]
    again = made.where(lambda item: item % 2 == 0)
    assert seen == []
    expected = grid.filter(chosen.__contains__)
    assert list(made) == list(expected)
    assert list(again) == [item for item in expected if item % 2 == 0]
    assert made == expected
    assert (made.shape, made.axes, type(made)) == (expected.shape, expected.axes, type(expected))
    assert again == expected.filter(lambda item: item % 2 == 0)


def test_where_on_a_huge_grid_looks_no_further_than_it_is_followed() -> None:
    grid = sweep([{"name": "e"}], [{"k0": i} for i in range(10)])
    for axis in range(1, 12):
        grid = sweep(grid, [{f"k{axis}": i} for i in range(10)])
    some = grid.where(lambda config: config["k11"] == 5)
    assert [config["k10"] for config in islice(some, 3)] == [0, 1, 2]


def test_only_a_users_function_is_kept_from_cells_that_nobody_looks_at() -> None:
    def half(config: Any) -> dict[str, Any]:
        return {"half": 10 / config["x"]}

    configs = derive([{"x": x} for x in range(4)], half)
    assert [config["half"] for config in configs[1:]] == [10, 5, 10 / 3]
    swept = sweep(configs, [{"y": 1}])
    assert [config["half"] for config in swept[1:]] == [10, 5, 10 / 3]
    assert [config["half"] for config in concat([swept])[1:][:3]] == [10, 5, 10 / 3]
    plain = concat([sweep([{"x": 1}, {"x": 2}], [{"y": 1}, {"y": 2}])])
    assert [config["y"] for config in plain[1:]] == [2, 1, 2]
    assert [config["y"] for config in plain[::-1]] == [2, 1, 2, 1]
    assert [config["y"] for config in plain[:][1:]] == [2, 1, 2]


# Sweeps, zips, unions


VALUES = st.sampled_from([0, 1, "1", None, {"x": 1}, 0.5])


@st.composite
def variations(draw: st.DrawFn, key: str) -> list[dict[str, Any]]:
    """One to three variations of a key, not named. Leaves out such that are all equal."""
    return [{key: value} for value in draw(st.lists(VALUES, min_size=1, max_size=3, unique_by=str))]


@given(st.dictionaries(st.sampled_from(["a", "b.c", "d"]), st.lists(VALUES, min_size=3, max_size=3), min_size=2))
def test_each_key_of_a_zip_is_a_coordinate(keys: dict[str, list[Any]]) -> None:
    """Also where values repeat; a query and `sel` find the same cells, those that a loop finds."""
    grid = sweep(sweep([{"name": "e"}], zipped(keys)), [{"seed": 0}, {"seed": 1}])
    assert grid.shape == (1, 3, 2)
    for key, values in keys.items():
        assert equal(grid.coords[key], values)
        for value in values:
            expected = [grid[0, i, j] for i in range(3) if equal(values[i], value) for j in range(2)]
            assert list(grid.sel({key: value})) == list(grid[{key: value}]) == expected
            assert list(grid.filter(lambda config: True)[{key: value}]) == expected
            holed = grid.filter(lambda config: config is not grid[0, 0, 0] and config != grid[0, 0, 0])
            left = [config for config in expected if config != grid[0, 0, 0]]
            if left:
                assert list(holed.sel({key: value})) == left
    assert grid.sel({key: values[:1] for key, values in keys.items()}).ndim == 3


def test_one_position_of_a_zip_drops_its_axis_as_that_of_any_axis_does() -> None:
    grid = sweep([{"name": "e"}], zipped(lr=[0.1, 1.0, 1.0], batch=[32, 64, 128]))
    assert grid.sel(batch=32).shape == grid.sel(lr=0.1).shape == grid.sel(lr=1.0, batch=64).shape == (1,)
    assert grid.sel(lr=1.0).shape == (1, 2)
    assert grid.sel(batch=[128, 32]).coords["batch"] == (128, 32)
    assert grid.sel(batch=slice(40, None)).coords["lr"] == (1.0, 1.0)
    with pytest.raises(SelectionError, match="'batch' is a coordinate here"):
        grid.isel(batch=0)
    with pytest.raises(SelectionError, match=r"no cell is at lr=0\.1 and batch=64 at once"):
        grid.sel(lr=0.1, batch=64)


def test_a_key_of_a_zip_that_is_swept_again_is_the_newer_axis() -> None:
    """Or `sel` would go by values that no config has any more."""
    runs = sweep([{"name": "e", "x": 1, "y": 2}], zipped({"lr": [0.1, 0.2], "m.w": [1, 2], "batch": [3, 3]}))
    swept = sweep(runs, [{"lr": 1}, {"lr": 2}])
    assert (swept.dims, set(swept.coords)) == (("axis_0", "axis_1", "lr"), {"axis_0", "axis_1", "m.w", "batch", "lr"})
    assert [config["lr"] for config in swept.sel(lr=2)] == [2, 2]
    assert "m.w" not in sweep(runs, [{"m": {"w": 5}}, {"m": {"w": 6}}]).coords
    inside = sweep(runs, [{"m.w.z": 5}, {"m.d": 6}])
    assert inside.coords["m.w"] == (1, 2)
    assert inside[{"m": {"w": 1}}].shape == (1, 1, 1)
    flat = runs[[0, 1]]
    assert set(sweep(flat, [{"lr": 1}, {"lr": 2}]).coords) == {"axis_0", "axis_1", "m.w", "batch", "lr"}
    names = sweep([{"x": 1, "y": 2}], zipped(name=["a", "b"], lr=[1, 2]))
    assert (names.dims, [config["name"] for config in names]) == (("axis_0", "lr"), ["a", "b"])
    constant = sweep([{"x": 1, "y": 2}], zipped(lr=[1, 1]))
    assert (constant.dims, constant.coords["lr"]) == (("axis_0", "axis_1"), (1, 1))
    assert sweep(zipped(lr=[1, 2], batch=[3, 4]), [{"seed": 0}]).sel(batch=4).item()["lr"] == 2
    plain = sweep([{"x": 1, "y": 2}], [{"lr": 1, "batch": 3}, {"lr": 2, "batch": 4}])
    assert set(plain.coords) == {"axis_0", "axis_1"}


def test_cells_that_are_not_of_a_zip_are_told_apart_though_a_key_of_it_is_averaged() -> None:
    one = sweep([{"name": "e", "x": 1, "y": 2}], zipped(lr=[1, 1], fold=[0, 1]))
    other = sweep([{"name": "e", "x": 1, "y": 2}], [{"a": 1, "b": 1}, {"a": 2, "b": 2}])
    groups, left = concat([one, other]).axes[0].grouped({"fold"})
    assert groups == [[0, 1], [2], [3]]
    assert left is not None
    assert set(left.known) == {"axis_0", "axis_1", "lr"}


def test_a_zip_whose_keys_are_taken_has_its_own_coordinates_only() -> None:
    grid = sweep(sweep([{"name": "e"}], [{"x": 1}, {"x": 2}], axis="lr"), zipped(lr=[1, 2], batch=[1, 2]))
    assert (grid.dims, set(grid.coords)) == (("axis_0", "lr", "axis_2"), {"axis_0", "lr", "axis_2"})
    assert grid[{"batch": 2}].shape == (1, 2, 1)


@pytest.mark.parametrize(
    ("arguments", "keys", "words"),
    [
        ([], {"lr": [1, 2], "batch": [1]}, "zipped has 2 values for 'lr' and 1 for 'batch'; give as many for each"),
        ([{"a.b": [1]}], {"c": []}, "zipped has 1 values for 'a.b' and 0 for 'c'; give as many for each"),
        ([{"a": [1]}], {"a": [2]}, "zipped has the key 'a' twice"),
        ([], {}, "zipped has no keys; give each key its values"),
        ([], {"lr": "abc"}, "zipped takes a list of values for each key, and 'lr' is 'abc'"),
        ([], {"lr": 5}, "zipped takes a list of values for each key, and 'lr' is 5"),
        ([[{"lr": 1}]], {}, "zipped takes a dict of lists or keyword arguments, not"),
    ],
)
def test_a_zip_that_does_not_fit_is_refused(arguments: list[Any], keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        zipped(*arguments, **keys)
    assert str(refused.value).startswith(words)


def test_no_variations_are_the_empty_grid() -> None:
    grid = sweep(sweep([{"name": "e"}], [{"a": 1}, {"a": 2}]), [])
    assert (grid.shape, grid.dims, list(grid), grid.tolist()) == ((1, 2, 0), ("axis_0", "a", "axis_2"), [], [[[], []]])
    assert sweep(grid, [{"b": 1}], axis="x").shape == (1, 2, 0, 1)
    assert sweep([{}], zipped(a=[], b=[]), axis="x").dims == ("axis_0", "x")
    with pytest.raises(SelectionError, match=r"'axis_2' has no coordinate 1; there is nothing$"):
        grid.sel(axis_2=1)


@given(variations("a"), variations("a"), variations("b"), st.data())
def test_a_union_knows_where_its_cells_were(one: Any, other: Any, seeds: Any, data: st.DataObject) -> None:
    """Whatever it is made of: what a loop over all cells finds by their config, `sel` finds by coordinate."""
    left, right = sweep(sweep([{"name": "e"}], one), seeds), sweep(sweep([{"name": "e"}], other), seeds)
    parts = data.draw(st.lists(st.sampled_from([left, right, left[::2], right[1:]]), min_size=1, max_size=3))
    cells = [cell for part in parts for cell in part]
    union = concat([concat(parts[:1]), *parts[1:]]) if data.draw(st.booleans()) else concat(parts)
    assert list(union) == cells
    assert union.dims == ("axis_0",)
    for name, values in union.coords.items():
        if name in ("a", "b"):
            assert equal(values, [cell[name] for cell in cells])
            for value in values:
                expected = [cell for cell in cells if equal(cell[name], value)]
                assert list(union.sel({name: [value]})) == expected
                assert list(union[{name: value}]) == expected


def test_positions_of_other_grids_are_one_only_where_the_same_is_varied() -> None:
    """Or a mean would join cells of two grids that have nothing but the name of an axis in common."""
    seeds = [{"seed": 0}, {"seed": 1}]
    mnist, cifar = ([{"name": "e", "data": name, "x": 1}] for name in ("mnist", "cifar"))
    a, b = sweep(mnist, seeds), sweep(cifar, seeds)
    groups = lambda union: [len(each) for each in union.axes[0].grouped({"seed"})[0]]  # noqa: E731
    assert groups(concat([a, b])) == [2, 2]
    assert groups(concat([a[:, :1], a[:, 1:]])) == [2]
    assert groups(concat([a, derive(a, lambda config: {"x": 2})])) == [2, 2]
    derived = derive(a, lambda config: {"x": 2})
    assert groups(concat([derived[:, :1], derived[:, 1:]])) == [2]
    made = a.map(lambda config: config)  # of which nobody knows what it holds
    assert groups(concat([made[:, :1], made[:, 1:]])) == [1, 1]
    narrow, wide = sweep(a, zipped(w=[1, 2], d=[1, 1])), sweep(a, zipped(w=[1, 2], d=[3, 3]))
    assert groups(concat([narrow, wide])) == [2, 2, 2, 2]
    assert groups(concat([replicate(mnist, 2, seed=0), replicate(mnist, 3, seed=0)[:, 2:]])) == [3]
    foreign = [sweep(mnist, [{"f": f} for f in (Odd(), Odd())]) for _ in range(2)]
    assert len(concat(foreign).axes[0].grouped({"axis_0"})[0]) == 4


class Odd:
    """A value that has no hash."""

    __hash__ = None  # type: ignore[assignment]


def test_a_union_of_grids_with_other_axes_knows_which_cells_have_no_coordinate() -> None:
    union = concat([sweep([{"name": "e"}], [{"a": 1}, {"a": 2}]), sweep([{"name": "e"}], zipped(a=[1, 3], b=[5, 6]))])
    assert (union.coords["a"], union.coords["b"]) == ((1, 2, 1, 3), (None, None, 5, 6))
    assert [config["a"] for config in union.sel(a=1)] == [1, 1]
    assert union.sel(b=6).item()["a"] == 3
    assert list(map(len, union.axes[0].grouped({"b"})[0])) == [2, 1, 1]
    swept = sweep(union, [{"a": 0}, {"a": 9}])
    assert (swept.shape, swept.dims, swept.coords["a"]) == ((4, 2), ("axis_0", "a"), (0, 9))
    assert [config["a"] for config in swept.sel(a=9)] == [config["a"] for config in swept[{"a": 9}]] == [9] * 4
    assert swept.sel(axis_2=2).shape == (1, 2)  # which was a=3


KEYS = st.sampled_from(["a", "b", "m", "m.x"])
VARIED = st.one_of(
    st.tuples(KEYS, st.booleans()).map(lambda at: [{at[0]: 1, "name": "p"}, {at[0]: 2, "name": "q" * at[1]}]),
    st.tuples(KEYS, KEYS).map(lambda at: [{"c": 1}, {at[0]: 3}, {at[1]: 4}]),
    st.lists(st.sampled_from(["a", "b"]), min_size=2, max_size=2, unique=True).map(
        lambda keys: zipped({key: [5, 6] for key in keys})
    ),
)


@given(st.lists(VARIED, min_size=1, max_size=4), st.booleans(), st.booleans())
def test_a_coordinate_that_bears_the_name_of_a_key_is_its_value(
    sweeps: list[Any], is_flat: bool, is_joined: bool
) -> None:
    """However often a key is swept, zipped, or replaced from above: no axis keeps a name that its cells belie."""
    grid = sweep([{"name": "e", "a": 0, "z": 0}], [{}])
    for variations in sweeps:
        grid = sweep(grid, variations)
        grid = grid.filter(lambda config: config.get("a") != 5) if is_flat else grid
        grid = concat([grid, sweep([{"z": 1}], [{"z": 2}])]) if is_joined else grid
    for key in {"a", "b", "z", "m.x"} & {*grid.coords}:
        for config, coordinate in zip(grid, along(grid, key), strict=True):
            assert coordinate is None or lookup(config, key) == coordinate


@given(st.integers(0, 5), st.integers())
def test_a_sample_has_the_coordinates_of_its_cells(n: int, seed: int) -> None:
    grid = sweep(sweep([{"name": "e"}], [{"a": i} for i in range(3)]), [{"b": i} for i in range(3)])
    drawn = sample(grid, n, seed=seed)
    for key in ("a", "b"):
        assert list(drawn.coords[key]) == [config[key] for config in drawn]


# Views


@given(shapes(max_side=2), st.data())
def test_squeeze_leaves_out_what_numpy_leaves_out(shape: tuple[int, ...], data: st.DataObject) -> None:
    tensor = Tensor(range(prod(shape)), shape)
    expected = np.arange(prod(shape)).reshape(shape)
    made = tensor.squeeze()
    assert (made.shape, made.tolist()) == (expected.squeeze().shape, expected.squeeze().tolist())
    assert made.dims == tuple(f"axis_{i}" for i, size in enumerate(shape) if size != 1)
    for i, size in enumerate(shape):
        if size == 1:
            assert tensor.squeeze(f"axis_{i}").shape == expected.squeeze(i).shape
        else:
            with pytest.raises(SelectionError, match=f"^axis 'axis_{i}' has more than one coordinate|no coord"):
                tensor.squeeze(f"axis_{i}")
    with pytest.raises(SelectionError, match=r"^no axis is named 'q'"):
        tensor.squeeze("q")


def test_squeeze_leaves_out_coordinates_that_all_cells_share() -> None:
    grid = sweep(sweep([{"name": "e"}], zipped(lr=[1, 2], batch=[3, 4])), [{"seed": 0}, {"seed": 1}])
    tensor = grid.filter(lambda config: config["lr"] + config["seed"] != 1)
    assert set(tensor.squeeze().coords) == {"axis_1", "lr", "batch", "seed"}
    assert set(tensor.squeeze("axis_0").coords) == {"axis_1", "lr", "batch", "seed"}
    assert set(tensor.filter(lambda config: config["lr"] == 2).squeeze().coords) == {"seed"}
    assert tensor[:1].squeeze().shape == ()
    with pytest.raises(SelectionError, match=r"^axis 'seed' has more than one coordinate"):
        tensor.squeeze("seed")


@given(tensors(min_dims=1))
def test_dims_sizes_and_coords_are_those_of_xarray(grid: Tensor[int]) -> None:
    array = pytest.importorskip("xarray").DataArray(np.asarray(grid), dims=[axis.name for axis in grid.axes], coords={})
    assert grid.dims == array.dims
    assert grid.sizes == dict(array.sizes)
    assert list(grid.coords) == list(grid.dims)


# Sequences


@given(st.lists(st.integers(0, 9), min_size=1), st.lists(st.integers(0, 3)), st.integers(1, 4), st.integers(1, 4))
def test_what_is_taken_of_a_sequence_is_what_a_list_gives(
    positions: list[int], more: list[int], stride: int, size: int
) -> None:
    again = [at % len(positions) for at in more]
    steps = Picked(Along(stride, size), tuple(positions))
    plain = [at // stride % size for at in positions]
    picked = Picked(tuple(range(10)), (*positions, MISSING))
    many = range(3, 13 + len(positions))
    for items, expected in [(steps, plain), (picked, [*positions, None]), (many, list(many))]:
        assert [len(items), *items] == [len(expected), *expected]
        for chosen in (again, tuple(again), range(len(positions))[::-1], range(0), Picked(Along(1, 99), tuple(again))):
            assert list(taken(items, chosen)) == [expected[i] for i in chosen]
        assert list(items[1:]) == expected[1:]
        assert items[0] == expected[0]
    codes = Chain((Picked(tuple(range(10, 20)), tuple(plain), MISSING), (MISSING,) * 2), (len(plain), len(plain) + 2))
    expected = [at + 10 for at in plain] + [MISSING] * 2
    assert [len(codes), *codes] == [len(expected), *expected] == [len(expected), *(codes[i] for i in range(len(codes)))]
    assert list(taken(codes, range(1, len(expected)))) == expected[1:]
    missing = Picked((7,), (MISSING, 0), MISSING)
    assert (list(missing), missing[0], missing[1], missing[:1][0]) == ([MISSING, 7], MISSING, 7, MISSING)
    level = Level(Axis("x", tuple("abc")), (0, 2, MISSING))
    assert (list(level.coords), list(level.known().coords), level.known().axis.size) == (["a", "c", None],) * 2 + (2,)
