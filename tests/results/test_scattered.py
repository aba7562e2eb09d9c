"""Tables of selections that are no box, and of outputs that are arrays: pandas and xarray are the oracles."""

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import assume, example, given
from hypothesis import strategies as st

import pyexp
from pyexp import (
    Axis,
    Result,
    ResultError,
    Results,
    SelectionError,
    Tensor,
    concat,
    config_hash,
    replicate,
    sweep,
    zipped,
)
from pyexp.axes import flat_axis
from pyexp.configs import equal
from pyexp.results import done, record_of
from pyexp.sweep import chained, grid_of
from pyexp.worker.outcome import failed

LRS, OPTS, SEEDS = (0.1, 0.2, 0.3), ("adam", "sgd"), (0, 1, 2)
NAMES = ["lr", "opt", "seed"]


def results_of(configs: Tensor[Any], fn: Callable[[Any], Any]) -> Results:
    """The results of a grid; `fn` returns the value of a cell, or raises ValueError."""

    def result(config: Any) -> Result:
        try:
            value = fn(config)
            outcome = done(value, [])
        except ValueError as error:
            value, outcome = None, failed(error)
        record = record_of(config.get("name", ""), config, "abc", outcome, started=1.0, seconds=2.0)
        return Result(record, Path("/out"), lambda: value)

    return Results.of(configs.map(result))


def grid() -> Tensor[Any]:
    configs = sweep([{"name": "e", "x": 1, "y": 2}], [{"name": f"lr{lr}", "lr": lr} for lr in LRS])[0, :]
    configs = sweep(configs, [{"name": opt, "opt": opt} for opt in OPTS])
    return sweep(configs, [{"name": f"s{seed}", "seed": seed} for seed in SEEDS])


def number(config: Any) -> float:
    return float(LRS.index(config["lr"]) * 100 + OPTS.index(config["opt"]) * 10 + config["seed"])


CHOSEN = st.sets(st.integers(0, 17), min_size=1)
REDUCE = st.sampled_from(["mean", "std", "median", "min", "max", "sum"])


def chosen_of(configs: Tensor[Any], chosen: set[int]) -> Tensor[Any]:
    return configs[[i in chosen for i in range(configs.size)]]


@given(CHOSEN, REDUCE, st.sets(st.sampled_from(NAMES), min_size=1), st.booleans())
def test_a_reduction_of_scattered_cells_groups_by_all_other_coordinates(
    chosen: set[int], name: str, gone: set[str], by_dim: bool
) -> None:
    results = results_of(chosen_of(grid(), chosen), lambda config: {"y": number(config)})
    frame = pd.DataFrame([{**{key: r.config[key] for key in NAMES}, "y": r["y"], "cell": r.name} for r in results])
    left = [key for key in NAMES if key not in gone]
    groups = frame.groupby(left)["y"] if left else frame.groupby(lambda _: 0)["y"]
    expected = groups.std(ddof=0) if name == "std" else getattr(groups, name)()
    made = getattr(results, name)(dim=gone) if by_dim else getattr(results, name)(*gone)
    assert made.size == len(expected)
    for result in made:
        at = tuple(result.config[key] for key in left)
        np.testing.assert_allclose(result["y"], expected[at[0] if len(at) == 1 else at or 0])
    rows = made.to_records()
    assert [tuple(row[key] for key in left) for row in rows] == [tuple(r.config[key] for key in left) for r in made]
    assert not gone & {key for row in rows for key in row}


@given(CHOSEN)
def test_scattered_cells_are_laid_back_on_their_grid(chosen: set[int]) -> None:
    def outputs(config: Any) -> dict[str, Any]:
        n = int(number(config))
        return {"y": n + 0.5, "n": n, "big": (1 << 60) + n, "ok": n % 2 == 0, "word": str(n)}

    results = results_of(chosen_of(grid(), chosen), outputs)
    whole = results_of(grid(), outputs).to_xarray()
    data = results.to_xarray()
    part = whole.sel({key: data[key] for key in NAMES})
    assert dict(data.sizes) == {key: len({r.config[key] for r in results}) for key in NAMES}
    there = np.zeros(part["n"].shape, bool)
    for result in results:
        there[tuple(data.get_index(key).get_loc(result.config[key]) for key in NAMES)] = True
    for key in whole:
        kept, expected = data[key].values, part[key].values
        assert kept[there].tolist() == expected[there].tolist()
        assert all(isinstance(hole, float) and math.isnan(hole) for hole in kept[~there].tolist())
        if there.all():
            assert kept.dtype.kind == expected.dtype.kind
    if not there.all():
        assert [data[key].dtype.kind for key in ("y", "n", "big", "ok", "word")] == ["f", "f", "O", "O", "O"]
    xr.testing.assert_allclose(data["y"], xr.where(xr.DataArray(there, part["y"].coords), part["y"], np.nan))


def test_a_mean_of_a_conditional_sweep_is_laid_on_its_grid_too() -> None:
    configs = replicate(grid()[..., 0], 3, seed=0).filter(lambda config: config["opt"] != "sgd" or config["lr"] < 0.3)
    results = results_of(configs, lambda config: {"y": config["lr"]})
    means = results.mean("seed")
    assert (means.shape, set(means.coords)) == ((5,), {"lr", "opt"})
    assert means.sel(lr=0.1).shape == (2,)
    assert means.sel(lr=0.1, opt="sgd")["y"] == pytest.approx(0.1)
    heat = means.to_xarray()["y"]
    assert heat.dims == ("lr", "opt")
    assert np.isnan(heat.values).tolist() == [[False, False], [False, False], [False, True]]
    assert results.mean("seed").mean("opt").mean("lr").size == 1
    assert results.mean().shape == ()
    assert results.mean(dim=...).shape == results.mean(...).shape == ()
    assert results.mean("seed", dim="opt").shape == (3,)
    assert results.mean(dim=[]).shape == (15,)
    assert results_of(grid(), lambda config: {"y": 1}).mean(dim=[]).shape == (3, 2, 3)
    with pytest.raises(SelectionError, match="did you mean 'seed'"):
        results.mean(dim="sed")


def test_the_name_of_a_flat_selection_itself_is_an_axis_where_no_coordinate_has_it() -> None:
    results = results_of(grid().filter(lambda config: number(config) % 3 == 0), lambda config: {"y": 1})
    assert results.mean("axis_0").shape == ()
    swept = sweep(grid().filter(lambda config: number(config) % 3 == 0), [{"z": 1}, {"z": 2}])
    assert results_of(swept, lambda config: {"y": 1}).mean("seed").dims == ("axis_0", "z")


def test_a_zip_is_an_axis_whose_keys_are_averaged_by_the_others() -> None:
    runs = zipped(lr=[0.1, 0.1, 0.2], fold=[0, 1, 0])
    results = results_of(sweep([{"name": "e", "x": 1, "y": 2}], runs)[0, :], lambda config: {"y": config["fold"]})
    means = results.mean("fold")
    assert (means.dims, means.coords["lr"], [r["y"] for r in means]) == (("lr",), (0.1, 0.2), [0.5, 0])
    assert results.mean("axis_1").shape == ()
    assert list(results.to_records()[1].items())[:4] == [("name", "e"), ("axis_1", 1), ("lr", 0.1), ("fold", 1)]
    data = results.to_xarray()
    assert (data["lr"].dims, data["lr"].values.tolist()) == (("axis_1",), [0.1, 0.1, 0.2])
    three = results_of(
        sweep([{"name": "e", "x": 1}], zipped(a=[1, 1, 2], b=[3, 3, 4], c=[5, 6, 5])), lambda config: {"y": config["c"]}
    )
    left = three.mean("c")
    assert (left.shape, left.coords["a"], left.coords["b"]) == ((1, 2), (1, 2), (3, 4))
    scattered = three[[0, 2]]
    assert scattered.to_xarray()["c"].values.tolist() == [5, 5]
    assert [len(each.config) for each in three[:, :1].mean("a", "b", "c")] == [5]


def test_cells_of_a_union_that_lack_a_coordinate_are_at_one_more_position() -> None:
    runs = concat([sweep([{"x": 1, "y": 1}], [{"a": 1}, {"a": 2}]), sweep([{"x": 1, "y": 1}], [{"b": 5}, {"b": 6}])])
    data = results_of(runs, lambda config: {"y": config.get("a", 0) + config.get("b", 0)}).to_xarray()
    assert data["a"].values[:2].tolist() == [1.0, 2.0]
    assert np.isnan(data["a"].values[2])
    assert data["y"].squeeze().values[:2, 2].tolist() == [1, 2]
    assert data["y"].squeeze().values[2, :2].tolist() == [5, 6]
    zips = concat(
        [sweep([{"x": 1, "y": 1}], [{"a": 1}, {"a": 2}]), sweep([{"x": 1, "y": 1}], zipped(b=[1, 2], c=[3, 4]))]
    )
    made = results_of(zips, lambda config: {"y": 1}).to_xarray()
    assert made["c"].dims == ("axis_1",)
    assert made["c"].values[:2].tolist() == [3, 4]


def test_two_cells_at_one_place_are_refused_and_so_is_a_grid_beyond_memory() -> None:
    results = results_of(grid(), lambda config: {"y": 1})
    with pytest.raises(SelectionError, match=r"^'e_lr0\.1_adam_s0' and 'e_lr0\.1_adam_s0' have the same coordinates"):
        results[[0, 5, 0]].to_xarray()
    configs: Any = [{"x": 1}]
    for axis in range(8):
        configs = sweep(configs, [{f"k{axis}": i} for i in range(10)])
    some = results_of(configs[[i * 11_111_111 for i in range(10)]], lambda config: {"y": 1})
    with pytest.raises(ResultError, match=r"^10 cells are spread over a grid of 10{8} places.* use to_pandas\(\)"):
        some.to_xarray()
    assert some.filter(lambda result: False).to_xarray().sizes["k3"] == 0


@pytest.mark.parametrize("name", ["mean", "count"])
def test_a_mean_does_not_join_cells_that_differ_in_more_than_coordinates(name: str) -> None:
    """As a run has them that was extended with another value. One cell may be there twice."""
    configs = [sweep([{"name": "e", "bias": bias, "y": 2}], [{"lr": 0.1}, {"lr": 0.2}])[0, :] for bias in (1, True)]
    one, other = (replicate(each, 2, seed=0) for each in configs)
    made = [
        Result(record_of("e", config, config_hash(config), done({"y": 1}, [])), None, dict) for config in (*one, *other)
    ]
    axis = flat_axis(one.axes, [0, 1, 2, 3, 0, 1, 2, 3])
    results = Results.of_cells(tuple(made), [axis])
    words = r"^'e' and 'e' have the same coordinates, and their configs differ in 'bias'; select one of them first"
    with pytest.raises(SelectionError, match=words):
        getattr(results, name)("seed")
    assert getattr(results[:4], name)("seed").shape == (2,)
    assert getattr(results[[0, 1, 0]], name)("seed").shape == (1,)
    named = made[0].record._replace(name="f", hash="f", config=made[0].record.config | {"name": "f"})
    twice = Results.of_cells((made[0], Result(named, None, dict)), [flat_axis(one.axes, [0, 0])])
    assert getattr(twice, name)("seed").shape == (1,)
    assert getattr(results, name)()["y"].item() in (1, 8)


def test_a_mean_over_cells_that_their_coordinates_do_not_tell_apart_is_refused() -> None:
    """As the grids of a run whose base config was changed between them. Cells without a result do not count."""
    axes = lambda base: sweep(replicate([{"name": "e", **base}], 2, seed=0), [{"lr": 0.1}, {"lr": 1.0}])  # noqa: E731
    same = Axis("axis_0", ["e"], marks=["e"])  # as a run on disk has it: by its coordinate
    parts = [Tensor.of_cells(tuple(made), (same, *made.axes[1:])) for made in map(axes, ({"x": 1}, {"x": 2, "y": 3}))]
    results = results_of(chained(parts), lambda config: {"z": config["x"]})
    for mean in (results.mean, results.count, results[:].std):
        with pytest.raises(
            SelectionError, match=r"^'e_seed0' and 'e_seed0' have the same coordinates, .* in 'x', 'y'; select"
        ):
            mean("seed")
    typed = [Tensor.of_cells(tuple(made), (same, *made.axes[1:])) for made in map(axes, ({"x": 1}, {"x": True}))]
    with pytest.raises(SelectionError, match="differ in 'x'; "):
        results_of(chained(typed), lambda config: {"z": 1}).mean("seed")
    assert [r["z"] for r in results[{"config.x": 2}].mean("seed")] == [2, 2]
    for everything in (results.mean(), results.mean("axis_0", "lr", "seed")):
        assert everything["z"].item() == 1.5
    assert results[:4].mean("seed").size == results[[0, 5]].mean("seed").size == 2
    waiting = results.map(
        lambda r: r if r.config.x == 1 else Result(r.record._replace(status="new", outputs={}), None, dict)
    )
    assert [r["z"] for r in Results.of(waiting).mean("seed", skipna=True)] == [1, 1]


# Outputs by name


def test_an_output_is_a_tensor_where_no_name_matches() -> None:
    def outputs(config: Any) -> dict[str, Any]:
        if config["seed"] == 2:
            raise ValueError("diverged")
        return {"accuracy": config["seed"] + 0.5, "curve": [config["seed"]], "e_lr0.1_adam_s0": 7, "name": 3}

    results = results_of(grid(), outputs)
    accuracy = results["accuracy"]
    assert (type(accuracy), accuracy.shape, accuracy.axes) == (Tensor, results.shape, results.axes)
    np.testing.assert_array_equal(np.asarray(accuracy)[0, 0], [0.5, 1.5, math.nan])
    assert results["curve"][0, 0, 1] == [1]
    assert isinstance(results["e_lr0.1_adam_s0"], Result)
    assert results["e_lr0.1_*"].shape == (1, 2, 3)
    for key in ("accurac", "name"):
        with pytest.raises(SelectionError, match=r"the outputs are 'accuracy', 'curve', 'e_lr0.1_adam_s0'$"):
            results[key]
    with pytest.raises(SelectionError, match=r"use \.item\(\)\['lr'\]; the outputs are 'accuracy'"):
        results[:1]["lr"]
    with pytest.raises(
        SelectionError, match=r"^no item is named 'q' or matches it as a glob; did|the names are [^;]*$"
    ):
        results.sel(seed=2)["q"]
    array = np.asarray(results)
    assert (array.shape, array.dtype, array[1, 0, 1] is results[1, 0, 1]) == (results.shape, object, True)
    assert "e_lr0.1_adam_s0" in results
    assert "accuracy" not in results


# Arrays


ARRAYS = st.lists(
    st.sampled_from(
        [
            [1, 2, 3],
            [1],
            [],
            [0.5, 2],
            (1, 2),
            [(1 << 60) + 1, 2],
            [True, False],
            ["a", "bc"],
            [None, 1],
            np.array([1, 2], "int8"),
            np.array([0.1], "float32"),
            np.array([1 << 60]),
            np.array([2**63], "uint64"),
            np.array([1j]),
            np.array(["x", "yz"]),
            [[1], [2, 3]],
        ]
    ),
    min_size=3,
    max_size=3,
)


@given(ARRAYS, st.sets(st.integers(0, 2)), st.sets(st.integers(0, 2)))
def test_arrays_keep_each_element_and_end_in_nan(values: list[Any], missing: set[int], failing: set[int]) -> None:
    def outputs(config: Any) -> dict[str, Any]:
        if config["seed"] in failing:
            raise ValueError("boom")
        return {"y": 1} if config["seed"] in missing else {"y": 1, "curve": values[config["seed"]]}

    there = {i: list(value) for i, value in enumerate(values) if i not in missing | failing}
    assume(there)
    data = results_of(grid()[0, 0], outputs).to_xarray(dims={"curve": ["step"]})
    assert data["curve"].dims == ("seed", "step")
    longest = max(map(len, there.values()))
    assert data["step"].values.tolist() == list(range(longest))
    for i, row in enumerate(data["curve"].values.tolist()):
        expected = there.get(i, [])
        for kept, value in zip(row, expected, strict=False):
            assert equal(kept, value)
            is_typed = data["curve"].dtype.kind in "fciuU" or isinstance(value, np.generic)
            assert is_typed or type(kept) in (type(value), float)  # of ints beside floats in one list
        assert all(math.isnan(hole.real) for hole in row[len(expected) :])


def test_arrays_of_more_dimensions_and_shared_ones() -> None:
    def outputs(config: Any) -> dict[str, Any]:
        n = config["seed"] + 1
        return {"loss": [0.5] * n, "acc": np.ones(n), "map": np.ones((n, 2)), "nested": [[1, 2]] * n, "n": np.array(n)}

    results = results_of(grid().filter(lambda config: number(config) != 0), outputs)
    dims = {"loss": "step", "acc": ("step",), "map": ["step", "side"], "nested": ["step", "side"]}
    data = results.to_xarray(dims=dims)
    assert data.sizes == {"lr": 3, "opt": 2, "seed": 3, "step": 3, "side": 2}
    assert data["map"].sel(lr=0.1, opt="sgd", seed=1).sum() == 4
    assert np.isnan(data["loss"].sel(lr=0.1, opt="adam", seed=0)).all()
    assert results_of(grid(), outputs).to_xarray(dims={"loss": "lr_step"})["loss"].dims[-1] == "lr_step"
    whole = results_of(grid(), lambda config: {"curve": [1, 2]}).to_xarray(dims={"curve": "step"})
    assert whole["curve"].dtype.kind == "i"

    def narrow(config: Any) -> dict[str, Any]:
        kind = "int8" if config["seed"] else "int16"
        return {"n": np.array([1, 2], kind), "odd": [np.ones((1, 2)), np.ones((1, 3))]}

    mixed = results_of(grid(), narrow).to_xarray(dims={"n": "step", "odd": "side"})
    assert (mixed["n"].dtype, mixed["odd"].dtype) == (np.int16, object)
    assert mixed["odd"].values[0, 0, 0, 1].shape == (1, 3)
    for wrong, words in [
        ({"losss": ["step"]}, "dims names 'losss', and no result has it; did you mean 'loss'"),
        ({"loss": ["step", "other"]}, r"'loss' of '.*' has the shape \(2,\), and dims names 2 for it"),
        ({"loss": ["lr"]}, r"dims of 'loss' are \['lr'\]; each has to be a name of its own"),
        ({"loss": "acc"}, r"dims of 'loss' are \['acc'\]"),
        ({"map": ["step", "step"]}, "each has to be a name of its own"),
    ]:
        with pytest.raises(SelectionError, match=words):
            results.to_xarray(dims=wrong)


@given(st.sampled_from(["datetime64", "timedelta64"]), st.sampled_from(["ns", "ps"]), st.integers(0, 10**6))
def test_a_time_keeps_its_unit_in_every_table(kind: str, unit: str, number: int) -> None:
    """As a plain number, which is what a record has, it would be averaged and read as seconds."""
    moment = np.array(number).astype(f"{kind}[{unit}]")[()]

    def outputs(config: Any) -> dict[str, Any]:
        at = np.full(config["seed"], moment) if config["seed"] else [7]
        return {"t": moment, "at": at, "times": np.full(config["seed"] + 1, moment)}

    results = results_of(grid()[0, 0], outputs)
    assert [row["t"] for row in results.to_records()] == [moment] * 3
    assert {type(row["t"]) for row in results.to_records()} == {type(moment)}
    assert str(moment) in str(results)
    assert "t" not in results.mean().item()
    if unit == "ns":
        assert set(results.to_pandas(arrays=False)["t"]) == {pd.Series([moment])[0]}
        data = results.to_xarray(dims={"at": "step", "times": "time"})
        assert (data["t"].dtype, data["times"].dtype) == (moment.dtype, moment.dtype)
        assert np.isnat(data["times"].values[0, 1])
        assert list(data["at"].values[2]) == [moment] * 2
        assert data["at"].values[0, 0] == 7


def test_pandas_has_arrays_as_objects_where_they_are_asked_for() -> None:
    def outputs(config: Any) -> dict[str, Any]:
        if config["seed"] == 1:
            raise ValueError("boom")
        return {"y": 1, "curve": [1] * config["seed"], "map": np.ones((2, 2)), "out": [3], "name": "mine"} | {
            "time": np.timedelta64(1, "ns")
        }

    results = results_of(grid()[0, 0], outputs)
    frame = results.to_pandas(arrays=True)
    assert frame["time"].dtype.kind == "m"
    assert frame["output.name"][0] == results.to_pandas(arrays=False)["output.name"][0] == "mine"
    assert frame["curve"].tolist() == [[], None, [1, 1]]
    assert frame["map"][0].shape == (2, 2)
    assert "out" not in frame
    assert results.to_records(arrays=True)[2]["curve"] == [1, 1]
    assert "curve" not in results.to_records()[0]


NUMPY = [
    np.int64((1 << 60) + 1),
    np.uint64((1 << 64) - 1),
    np.int8(-1),
    np.True_,
    np.float32(0.1),
    np.longdouble(1) / 3,
]


TIMES = [np.timedelta64(3, "ns"), np.datetime64(1, "ns"), np.datetime64("2020-01-01")]


@given(
    st.sampled_from([*NUMPY, *TIMES]), st.lists(st.none() | st.sampled_from([*NUMPY, 1, 0.5]), min_size=2, max_size=2)
)
@example(TIMES[0], [None, TIMES[0]])
@example(TIMES[1], [None, None])
def test_a_frame_with_arrays_changes_no_number_of_numpy(first: Any, others: list[Any]) -> None:
    """Also beside a cell that failed. A cell fails where the value is None."""
    values = [first, *others]

    def outputs(config: Any) -> dict[str, Any]:
        if values[config["seed"]] is None:
            raise ValueError("boom")
        return {"y": values[config["seed"]]}

    for value, found in zip(values, results_of(grid()[0, 0], outputs).to_pandas(arrays=True)["y"], strict=True):
        assert pd.isna(found) if value is None else found == value


@pytest.mark.parametrize(("method", "silent"), [("to_pandas", {"arrays": False}), ("to_xarray", {"dims": {}})])
def test_what_a_table_leaves_out_is_named_where_it_was_called(method: str, silent: dict[str, Any]) -> None:
    results = results_of(grid(), lambda config: {"y": 1, "curve": [1], "text": "x" * 5000})
    with pytest.warns(UserWarning, match=rf"^{method}\(\) leaves out .*'curve'.*to_xarray\(dims=.*arrays=True") as told:
        getattr(results, method)()
    assert (len(told), told[0].filename) == (1, __file__)
    getattr(results, method)(**silent)
    assert "not shown, as not a scalar: curve" in str(results)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        getattr(results_of(grid(), lambda config: {"y": 1}), method)()


def test_a_grid_without_named_axes_is_laid_flat() -> None:
    results = results_of(grid_of(zipped(x=[1, 2], y=[1, 2], name=["a", "b"])), lambda config: {"z": 1})
    assert results.to_xarray()["axis_0"].values.tolist() == ["a", "b"]
    assert results.to_xarray()["x"].values.tolist() == [1, 2]
    flat = Results.of_cells(tuple(results), [Axis("axis_0", range(2), is_flat=True)])
    assert flat.to_xarray()["axis_0"].values.tolist() == [0, 1]
    assert flat.mean("axis_0").shape == ()
    assert flat.squeeze().shape == (2,)
    assert pyexp.Results is Results
