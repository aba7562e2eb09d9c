"""Tables of results: what pandas, xarray and NumPy make of the same numbers is the oracle."""

import csv
import io
import math
import pickle
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import matches

import pyexp
from pyexp import ExtraError, Result, ResultError, Results, SelectionError, sweep
from pyexp.configs import common_config, equal
from pyexp.results import done, missing, record_of
from pyexp.tables import common_name, counts, table
from pyexp.worker.outcome import failed

LRS, SEEDS = (0.1, 0.01), (1, 2, 3)


def refuse() -> Any:
    raise AssertionError("a value was loaded")


def grid(outcome_of: Callable[[dict[str, Any]], Any]) -> Results:
    """The results of a grid of lr × seed; `outcome_of` returns a value, raises, or returns None for a missing cell."""
    configs = sweep([{"name": "exp", "mlp": {"width": 8}}], [{"name": f"lr{lr}", "lr": lr} for lr in LRS])[0, :]
    configs = sweep(configs, [{"name": f"s{seed}", "seed": seed} for seed in SEEDS])

    def result(config: Any) -> Result:
        try:
            value = outcome_of(dict(config))
            outcome = done(value, [])
        except ValueError as error:
            outcome = failed(error)
        record = record_of(config["name"], config, "abc", outcome, started=1.0, seconds=2.0)
        if outcome["status"] == "done" and value is None:
            record = missing(config["name"], config, "abc", "why")
        return Result(record, Path("/out"), refuse)

    return Results.of(configs.map(result))


def accuracy(config: dict[str, Any]) -> dict[str, Any]:
    return {"accuracy": config["lr"] * config["seed"], "steps": config["seed"], "kind": "cnn", "weights": [1, 2]}


def gappy(config: dict[str, Any]) -> Any:
    if config["seed"] == 3 and config["lr"] == 0.1:
        raise ValueError("diverged")
    return None if config["seed"] == 2 and config["lr"] == 0.01 else accuracy(config)


def test_a_selection_of_results_is_results_too() -> None:
    results = grid(accuracy)
    selections = [results[{"config.lr": 0.1}], results["*_s1"], results[1:3], results[:, 0], results.sel(seed=1)]
    for selection in [*selections, results.filter(lambda r: r["steps"] > 1)]:
        assert isinstance(selection, Results)
    assert type(results.map(lambda result: result.name)) is pyexp.Tensor
    assert pickle.loads(pickle.dumps(results)).to_records() == results.to_records()


QUERIES: list[dict[str, Any]] = [
    {"name": "exp_lr0.1_s1"},
    {"accuracy": 0.1},
    {"kind": "cnn", "steps": 2},
    {"weights": [1, 2]},
    {"status": "ok"},
    {"config.seed": 3},
    {"config.lr": 0.1, "steps": 1},
    {"config": {"mlp": {"width": 8}}},
    {"type": "ValueError"},
    {"__error__": True},
    {"config.mlp.width": 9},
]


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_finds_in_results_what_it_finds_in_a_list_of_them(query: dict[str, Any]) -> None:
    def value(config: dict[str, Any]) -> dict[str, Any]:
        if config["seed"] == 3:
            raise ValueError("boom")
        return {**accuracy(config), "status": "ok"}

    results = grid(value)
    loaded = [
        Result(result.record, None, lambda result=result: {**result.record.outputs, "weights": [1, 2]})
        for result in results
    ]
    found = [i for i, result in enumerate(loaded) if matches(result, query)]
    whole = Results(loaded, results.shape, results.axes)
    if found:
        assert [loaded.index(result) for result in whole[query]] == found
    else:
        with pytest.raises(SelectionError):
            whole[query]


def test_records_have_a_row_for_each_cell_and_the_same_keys_in_each() -> None:
    first, *others = grid(gappy).to_records()
    assert first == {
        "name": "exp_lr0.1_s1", "lr": 0.1, "seed": 1, "config.lr": 0.1, "config.mlp.width": 8, "config.seed": 1,
        "accuracy": 0.1, "steps": 1, "kind": "cnn", "status": "done", "seconds": 2.0, "failure": None,
    }  # fmt: skip
    assert all(list(row) == list(first) for row in others)
    assert [row["status"] for row in others] == ["done", "failed", "done", "new", "done"]
    assert others[1]["failure"] == "ValueError: diverged"
    assert (others[1]["accuracy"], others[3]["failure"]) == (None, "NotRun: why")


def test_records_need_no_more_than_the_standard_library_to_become_a_file() -> None:
    rows = grid(accuracy).to_records()
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    assert len(stream.getvalue().splitlines()) == 7


def test_an_output_of_a_taken_name_is_kept_under_another() -> None:
    (row, *_) = grid(lambda config: {"seed": -1, "name": "x", "status": "ok", "config.lr": 3}).to_records()
    assert (row["seed"], row["output.seed"], row["output.status"], row["output.config.lr"]) == (1, -1, "ok", 3)
    assert (row["name"], row["output.name"]) == ("exp_lr0.1_s1", "x")
    both = grid(lambda config: {"seed": -1, "output.seed": -2})
    assert (both.to_records()[0]["output.seed"], both.to_records()[0]["output.output.seed"]) == (-1, -2)
    assert both.to_xarray()["output.seed"].values.tolist() == [[-1] * 3] * 2


def test_an_axis_of_a_taken_name_is_kept_under_another() -> None:
    made = sweep([{"name": "exp"}], [{"status": 1}, {"status": 2}])[0, :]
    results = Results.of(made.map(lambda config: Result(missing("exp", config, "abc", "why"), None, refuse)))
    assert [row["axis.status"] for row in results.to_records()] == [1, 2]
    assert results.to_xarray().sizes == {"axis.status": 2}
    twice = sweep(made, [{"axis.status": 3}])
    results = Results.of(twice.map(lambda config: Result(missing("exp", config, "abc", "why"), None, refuse)))
    assert [(row["axis.status"], row["axis.axis.status"]) for row in results.to_records()] == [(1, 3), (2, 3)]


def test_the_coordinate_of_a_key_below_config_is_not_the_value_of_another_key() -> None:
    cells = sweep([{"name": "e", "lr": 5}], [{"config.lr": lr} for lr in (1, 2)])
    results = Results.of(cells.map(lambda config: Result(record_of("e", config, "", done({}, [])), None, dict)))
    for row, lr in zip(results.to_records(), (1, 2), strict=True):
        assert (row["axis.config.lr"], row["config.config.lr"], row["config.lr"]) == (lr, lr, 5)


def test_pandas_gets_the_records_with_nan_for_what_is_missing() -> None:
    frame = grid(gappy).to_pandas(arrays=False)
    assert list(frame.columns) == list(grid(gappy).to_records()[0])
    assert frame["accuracy"].dtype == float
    assert frame["accuracy"].isna().sum() == 2
    assert frame.groupby("lr")["accuracy"].max().to_dict() == {0.1: 0.2, 0.01: 0.03}


def test_xarray_has_the_axes_as_dimensions_and_nan_for_what_is_missing() -> None:
    data = grid(gappy).to_xarray(dims={})
    assert dict(data.sizes) == {"lr": 2, "seed": 3}
    assert data["lr"].values.tolist() == list(LRS)
    assert data["accuracy"].sel(lr=0.01, seed=3).item() == pytest.approx(0.03)
    assert np.isnan(data["accuracy"].values).tolist() == [[False, False, True], [False, True, False]]
    assert data["status"].sel(lr=0.1, seed=3).item() == "failed"
    assert set(data) == {"accuracy", "steps", "kind", "status", "seconds"}
    whole = grid(accuracy).to_xarray(dims={})
    assert (whole["steps"].dtype.kind, whole["kind"].dtype.kind) == ("i", "U")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ((1, 2, 3), "i"),
        ((1, 0.5, 2), "f"),
        ((True, False, True), "b"),
        ((True, 1, 2), "O"),
        ((1, None, 2), "f"),
        (("a", None, "b"), "O"),
        (("a", 1, 2), "O"),
        ((None, None, None), "f"),
        ((1 << 80, 1, 2), "O"),
        ((1 << 63, 1, -2), "O"),
        ((1 << 63, 1, 2), "O"),
        (((1 << 60) + 1, None, 2), "O"),
        ((1 << 60, None, 2), "f"),
        ((10**400, None, 0.5), "O"),
        (((1 << 60) + 1, 1, 0.5), "O"),
        ((True, None, False), "O"),
    ],
)
def test_no_output_is_changed_on_its_way_into_an_array(values: tuple[Any, ...], kind: str) -> None:
    array = grid(lambda config: {"x": values[config["seed"] - 1]}).to_xarray()["x"].values[0]
    assert array.dtype.kind == kind
    for value, kept in zip(values, array.tolist(), strict=True):
        if value is None:
            assert math.isnan(kept)
        else:
            assert kept == value
            assert type(kept) is type(value) or kind == "f"


SCALARS = st.booleans() | st.sampled_from([0, 1, (1 << 60) + 1, 1 << 63, 10**400, -1, 0.5, -0.0, "1", "", "True"])


@given(st.lists(st.none() | SCALARS, min_size=6, max_size=6), st.data())
def test_no_output_is_changed_on_its_way_into_a_frame(values: list[Any], data: st.DataObject) -> None:
    """What is missing changes no other value of its column, nor its kind, but that an int may be an exact float."""
    if data.draw(st.booleans()):
        kind = type(next((value for value in values if value is not None), None))
        values = [value if type(value) is kind else None for value in values]
    order = iter(values)
    frame = grid(lambda config: {"x": next(order)}).to_pandas()
    kept = frame["x"].tolist() if "x" in frame else [None] * 6
    for value, found in zip(values, kept, strict=True):
        if value is None:
            assert pandas.isna(found)
        else:
            assert found == value
            assert isinstance(found, type(value)) or (type(value) is int and type(found) is float)


def test_ints_and_bools_of_configs_stay_what_they_are_beside_a_gap() -> None:
    made = sweep([{"name": "exp"}], [{"n": 1, "on": True}, {"m": 1}])[0, :]
    frame = Results.of(made.map(lambda config: Result(missing("e", config, "a", "why"), None, refuse))).to_pandas()
    assert (str(frame["config.n"].dtype), str(frame["config.on"].dtype)) == ("Int64", "boolean")
    assert frame["config.n"].tolist()[0] == 1
    assert grid(accuracy)[:0].to_pandas().empty


@pytest.mark.parametrize(
    ("values", "kind"),
    [((1, 0.5, None), "float64"), (((1 << 60) + 1, 0.5, None), "object"), ((1 << 63, 1, None), "UInt64"),
     ((1 << 63, 1, 2), "uint64"), ((1 << 63, -1, 2), "object"), ((1, 2, 3), "int64"), ((True, False, True), "bool"),
     ((True, 1, None), "object"), ((None, None, "a"), "str")],
)  # fmt: skip
def test_a_column_is_of_the_type_that_changes_none_of_its_values(values: tuple[Any, ...], kind: str) -> None:
    frame = grid(lambda config: {"x": values[config["seed"] - 1]}).to_pandas()
    assert str(frame["x"].dtype) == kind or (kind, pandas.__version__[0]) == ("str", "2")


def test_what_is_no_scalar_is_in_a_frame_as_it_is() -> None:
    odd = [np.arange(2), np.arange(2), [1, 2], {"a"}, (1,), pyexp.NotLoaded("enum", "main.Colour", "RED"), b"a"]
    for values in (odd, odd[:2], odd[2:4], odd[5:], odd[5:6]):
        made = sweep([{"name": "exp"}], [{"x": value} for value in values])[0, :]
        results = Results.of(made.map(lambda config: Result(missing("e", config, "a", "why"), None, refuse)))
        assert all(map(equal, results.to_pandas()["config.x"].tolist(), values))


@pytest.mark.parametrize("name", ["mean", "std", "sum"])
def test_an_int_that_no_float_holds_is_infinite_where_a_float_is_wanted(name: str) -> None:
    huge = grid(lambda config: {"x": 10**400 if config["seed"] < 3 else 0.5, "y": -(10**400)})
    made = getattr(huge, name)("seed")[0]
    assert not math.isfinite(made["x"])
    assert huge.max("seed")[0]["x"] == 10**400
    if name != "sum":
        assert not math.isfinite(made["y"])


def test_coordinates_that_are_no_scalars_are_there_as_text() -> None:
    made = sweep([{"name": "exp"}], [{"layers": [1, 2]}, {"layers": [3]}, {"layers": {"a": 1}}])[0, :]
    results = Results.of(made.map(lambda config: Result(missing("exp", config, "abc", "why"), None, refuse)))
    assert results.to_xarray()["layers"].values.tolist() == ["[1, 2]", "[3]", "Config({'a': 1})"]
    assert results.to_records()[0]["layers"] == [1, 2]


@pytest.mark.parametrize("method", ["to_pandas", "to_xarray"])
def test_a_missing_library_is_one_line_with_what_to_install(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = method.removeprefix("to_")
    monkeypatch.setitem(sys.modules, module, None)  # how Python marks a module that cannot be imported
    with pytest.raises(ExtraError, match=rf"{method}\(\) needs {module}: pip install {module} "):
        getattr(grid(accuracy), method)()
    assert issubclass(ExtraError, ImportError)


NUMPY = {"mean": np.mean, "std": np.std, "median": np.median, "min": np.min, "max": np.max, "sum": np.sum}
NUMBERS = st.integers(-5, 5) | st.floats(-1e6, 1e6) | st.booleans() | st.just(math.nan)


@given(st.lists(NUMBERS, min_size=6, max_size=6), st.sampled_from(list(NUMPY)), st.sampled_from(["lr", "seed", None]))
def test_reducing_agrees_with_numpy_along_each_axis(numbers: list[float], name: str, axis: str | None) -> None:
    order = iter(numbers)
    results = grid(lambda config: {"x": next(order)})
    made = getattr(results, name)(*([] if axis is None else [axis]))
    expected = NUMPY[name](np.array(numbers, dtype=float).reshape(2, 3), axis={"lr": 0, "seed": 1, None: None}[axis])
    assert made.shape == expected.shape
    np.testing.assert_allclose([result["x"] for result in made], expected.ravel(), rtol=1e-9, atol=1e-9)


@given(st.lists(st.none() | NUMBERS, min_size=6, max_size=6), st.sampled_from(list(NUMPY)))
def test_skipna_leaves_out_what_is_missing_as_pandas_does(numbers: list[float | None], name: str) -> None:
    order = iter(numbers)

    def outcome(config: dict[str, Any]) -> dict[str, Any]:
        number = next(order)
        if number is None:
            raise ValueError("boom")
        return {"x": number}

    results = grid(outcome)
    made = getattr(results, name)("seed", skipna=True)
    for row, result in zip(np.array(numbers, dtype=float).reshape(2, 3), made, strict=True):
        kept = row[~np.isnan(row)]
        expected = NUMPY[name](kept) if len(kept) else math.nan
        if any(number is not None for number in numbers):
            np.testing.assert_allclose(result["x"], expected, rtol=1e-9, atol=1e-9)


VALUES = st.none() | st.sampled_from(
    [1, 0.5, math.nan, True, "", "nan", np.float32(2), np.float64(math.nan), np.str_("a")]
)
CELLS = st.just(ValueError) | st.fixed_dictionaries({}, optional={"x": VALUES, "y": VALUES, "z": st.just([1])})


@given(st.lists(CELLS, min_size=6, max_size=6), st.sampled_from(["lr", "seed", None]))
def test_a_count_is_of_the_values_that_pandas_finds(cells: list[Any], axis: str | None) -> None:
    order = iter(cells)

    def outcome(config: dict[str, Any]) -> Any:
        if (cell := next(order)) is ValueError:
            raise ValueError("boom")
        return cell

    results = grid(outcome)
    counted = results.count(*([] if axis is None else [axis]))
    frame = results.to_pandas(arrays=False)
    others = [each for each in ("lr", "seed") if each not in (axis, *(["lr", "seed"] if axis is None else []))]
    keys = [key for key in ("x", "y") if key in frame]
    assert all(set(result.record.outputs) == set(keys) for result in counted)
    groups = [group for _, group in frame.groupby(others, sort=False)] if others else [frame]
    for group, result in zip(groups, counted, strict=True):
        for key in keys:
            assert (result[key], type(result[key])) == (group[key].count(), int)


def test_a_count_is_what_a_mean_is_of() -> None:
    results = grid(gappy)
    numbers, means = results.count("seed"), results.mean("seed", skipna=True)
    assert [(each["accuracy"], each["kind"]) for each in numbers] == [(2, 2), (2, 2)]
    assert (numbers.shape, numbers.axes, numbers[0].name) == (means.shape, means.axes, means[0].name)
    assert numbers.sum("lr").item()["steps"] == results.count(dim=["lr", "seed"]).item()["steps"] == 4
    assert numbers.count().count().item()["steps"] == 1
    assert [each.get("steps", 0) for each in results.count(dim=[])] == [1, 1, 0, 1, 0, 1]
    assert grid(lambda config: None).count("seed")[0].value == {}
    with pytest.raises(SelectionError, match="did you mean 'seed'"):
        results.count("sed")


@pytest.mark.parametrize("power", [-1074, -700, 0, 700, 1021])
def test_the_spread_of_numbers_whose_squares_are_no_floats_is_right(power: int) -> None:
    """A loss that diverges is one of them: it had been an error."""
    order = iter([5.0 * 2.0**power, -(2.0**power)] * 3)
    results = grid(lambda config: {"x": next(order)})
    assert results[:, :2].std("seed")[0]["x"] == 3 * 2.0**power
    assert results[:, :2].std("seed", ddof=1)[0]["x"] == pytest.approx(18**0.5 * 2.0**power, rel=0.1)


def test_the_spread_of_what_is_reduced_already_is_none() -> None:
    once = grid(accuracy).mean()
    assert once.std().item()["steps"] == 0
    assert math.isnan(once.std(ddof=1).item()["steps"])
    assert once.max().item()["steps"] == 2.0


def test_a_table_says_where_skipna_left_values_out() -> None:
    means = grid(gappy).mean("seed", skipna=True)
    note = (
        "skipna left values out in 2 of 2 rows; exp_lr0.1_*: accuracy has 2 of 3 values, steps has 2 of 3 values; "
        "count() counts the values"
    )
    assert str(means).splitlines()[-1] == note
    assert str(means.mean("lr")).splitlines()[-1] == note.replace("2 of 2 rows", "1 of 1 row")
    assert note in means._repr_html_()
    for whole in (grid(accuracy).mean("seed", skipna=True), grid(gappy).count("seed"), grid(gappy)):
        assert "skipna" not in str(whole)
    nan = grid(lambda config: {"x": math.nan, "y": 1})
    assert "x has 0 of 3 values; count" in str(nan.mean("seed", skipna=True))
    assert "skipna" not in str(nan.mean("seed"))


def test_a_reduced_grid_keeps_its_other_axes_its_common_configs_and_a_name_that_selects() -> None:
    results = grid(accuracy)
    means = results.mean("seed")
    assert (means.shape, means.axes) == ((2,), results.axes[:1])
    assert [result.name for result in means] == ["exp_lr0.1_*", "exp_lr0.01_*"]
    assert dict(means[0].config) == {"lr": 0.1, "mlp": {"width": 8}}
    assert means[{"config.lr": 0.01}].item()["accuracy"] == pytest.approx(0.02)
    assert results[means[1].name].shape == (1, 3)
    assert dict(means[0]) == {
        "name": "exp_lr0.1_*",
        "config": means[0].config,
        "out": None,
        "accuracy": pytest.approx(0.2),
        "steps": 2.0,
    }
    assert means[0].value == {"accuracy": pytest.approx(0.2), "steps": 2.0}
    assert means[0].record.seconds == 6.0
    assert means.to_records()[0]["lr"] == 0.1
    assert means.mean("lr").shape == ()
    assert results.mean("lr", "seed").item()["steps"] == results.mean().item()["steps"] == 2.0
    assert results.mean().mean().item()["steps"] == 2.0


def test_any_function_of_numbers_reduces() -> None:
    made = grid(accuracy).reduce(statistics.pvariance, "seed")
    assert made[0]["steps"] == pytest.approx(2 / 3)
    assert grid(accuracy).std("seed", ddof=1)[0]["steps"] == pytest.approx(1.0)
    assert math.isnan(grid(accuracy)[:, :1].std("seed", ddof=1)[0]["steps"])


def test_what_a_function_of_numpy_returns_is_a_number_too() -> None:
    made = grid(lambda config: {"epochs": config["seed"], "flag": True}).reduce(np.max, "seed")
    assert type(made[0]["epochs"]) is np.int64
    assert [type(made.to_records()[0][key]) for key in ("epochs", "flag")] == [int, bool]
    assert made.mean()[0].record.outputs == {"epochs": max(SEEDS), "flag": 1.0}


def test_an_incomplete_grid_is_refused_with_the_first_gap() -> None:
    with pytest.raises(
        ResultError, match=r"2 of 6 cells have no result \('exp_lr0.1_s3': ValueError: diverged\).*skipna"
    ):
        grid(gappy).mean("seed")
    assert [result["steps"] for result in grid(gappy).mean("seed", skipna=True)] == [1.5, 2.0]


def test_an_output_that_some_cells_lack_is_refused_by_name() -> None:
    results = grid(lambda config: {"x": 1} if config["seed"] > 1 else {"y": 1})
    with pytest.raises(ResultError, match=r"'exp_lr0\.1_s2' has no 'y'"):
        results.mean("seed")
    assert results.mean("seed", skipna=True)[0]["x"] == 1.0


@pytest.mark.parametrize("odd", [[0.5], np.array([0.5]), 0.5j])
def test_an_output_that_is_a_number_in_some_cells_only_is_refused_with_its_type(odd: Any) -> None:
    results = grid(lambda config: {"x": odd if config["seed"] == 2 else 0.5})
    with pytest.raises(
        ResultError, match=rf"^'\S*s2' has a \S*{type(odd).__name__} as 'x', and no number; skipna=True"
    ):
        results.mean("seed")
    assert results.count("seed")[0]["x"] == 2


def test_an_unknown_axis_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(SelectionError, match="did you mean 'seed'"):
        grid(accuracy).mean("sed")


def test_there_is_no_mean_of_nothing() -> None:
    with pytest.raises(ResultError, match="no cells"):
        grid(accuracy).filter(lambda result: False).mean()


def test_the_text_has_a_row_for_each_cell_and_tells_failures() -> None:
    assert str(grid(gappy)).splitlines() == [
        "name           accuracy  steps  kind",
        "exp_lr0.1_s1        0.1      1   cnn",
        "exp_lr0.1_s2        0.2      2   cnn",
        "exp_lr0.1_s3   failed: ValueError: diverged",
        "exp_lr0.01_s1      0.01      1   cnn",
        "exp_lr0.01_s2  new: why",
        "exp_lr0.01_s3      0.03      3   cnn",
        "not shown, as not a scalar: weights",
        "6 cells: 4 done, 1 failed, 1 new",
    ]
    assert table(grid(accuracy)[:0]) == "name"
    names = ["数\n", "line2"]
    odd = [Result(record_of(name, pyexp.freeze({}), "", done({"b": 1}, [])), None, dict) for name in names]
    assert str(Results(odd)).splitlines() == ["name   b", "数\\n   1", "line2  1"]
    assert len(str(grid(accuracy)).splitlines()) == 8
    assert counts(["done"]) == "1 cell: 1 done"


def test_common_names_and_configs_keep_what_is_the_same() -> None:
    assert common_name(["a_b_c", "a_x_c"]) == "a_*_c"
    assert common_name(["a", "a_b"]) == "*"
    maps = [pyexp.freeze({"a": {"b": 1, "c": 2}, "d": 1, "e": 0}), pyexp.freeze({"a": {"b": 1, "c": 3}, "d": {}})]
    assert common_config(maps) == pyexp.freeze({"a": {"b": 1}})
    maps = [pyexp.freeze({"a": one, "b": {"c": one}, "d": {}, "e": [one]}) for one in (1, True)]
    assert common_config(maps) == pyexp.freeze({"d": {}})


def test_the_keys_of_results_and_of_a_result_are_completed() -> None:
    results = grid(accuracy)
    assert {"accuracy", results[0].name} <= set(results._ipython_key_completions_())
    assert {"accuracy", "name", "config"} <= set(results[0]._ipython_key_completions_())
