"""Which charts a table gets, and that what they show is what the table has."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyexp.look.charts import (
    FEW,
    MANY,
    Dimension,
    as_float,
    chart,
    charts,
    dimension,
    dimensions,
    distinct_texts,
    numeric,
    parallel,
    summary,
)
from pyexp.results import spelled

Rows = list[dict[str, Any]]

CONFUSABLE: list[Any] = [
    1, True, 1.0, "1", "True", "1.0", 0.0, -0.0, "", "None", None, (1,), [1], "(1,)", math.nan, math.inf, 10**400,
    10**5000, 5e-324, "a\u2028b",
]  # fmt: skip
NUMBERS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from([10**400, -(10**400), 1.7e308, -1.7e308])
)


def grid(x: list[Any], y: list[Any], seeds: int = 2, value: Any = lambda x, y, seed: float(seed)) -> Rows:
    return [
        {"name": f"{a}-{b}-{seed}", "x": a, "y": b, "seed": seed, "loss": value(a, b, seed)}
        for a in x
        for b in y
        for seed in range(seeds)
    ]


def marks(spec: dict[str, Any]) -> list[str]:
    return [layer["mark"]["type"] for layer in spec["layer"]]


@given(st.lists(st.sampled_from(CONFUSABLE), min_size=1, max_size=12))
def test_a_dimension_tells_apart_what_differs_and_names_each_otherwise(values: list[Any]) -> None:
    made = dimension("x", values)
    for i, one in enumerate(values):
        for j, other in enumerate(values):
            alike = type(one) is type(other) and spelled(one) == spelled(other)
            assert (made.codes[i] == made.codes[j]) == alike
    assert [spelled(made.coords[code]) for code in made.codes] == [spelled(value) for value in values]
    assert len(set(map(str, made.shown))) == len(made.coords)
    json.dumps(made.shown, allow_nan=False)
    if all(as_float(value) is not None for value in values):
        assert list(made.coords) == sorted(made.coords)


def test_texts_are_distinct_even_where_reprs_are_not() -> None:
    assert distinct_texts(["(1,)", (1,), 1]) == ["'(1,)'", "(1,)", "1"]

    class Odd:
        def __str__(self) -> str:
            return "odd"

    assert distinct_texts([Odd(), Odd()]) == ["odd", "odd (at 1)"]


@given(st.lists(st.tuples(st.sampled_from([1, 2, 3]), st.sampled_from("ab"), NUMBERS), min_size=1, max_size=20))
def test_every_point_is_the_mean_of_its_cells(cells: list[tuple[int, str, Any]]) -> None:
    rows: Rows = [{"x": x, "y": y, "loss": value} for x, y, value in cells]
    known = dimensions(rows, ["x", "y"]) or [Dimension("x", (cells[0][0],), (0,) * len(rows))]
    made = chart(rows, "loss", known, known)
    json.dumps(made.spec, allow_nan=False)
    values = made.spec["data"]["values"]
    groups: dict[Any, list[Any]] = {}
    for row in rows:
        groups.setdefault(tuple(row[each.name] for each in known), []).append(row["loss"])
    there = {at: [value for value in group if value is not None] for at, group in groups.items()}
    wanted = [
        (len(found), len(found) < len(groups[at]), summary(found)["value"]) for at, found in there.items() if found
    ]
    is_map = marks(made.spec)[0] == "rect"  # where what is not finite is left out
    shown = [(point["n"], point["part"], point["value"]) for point in values]
    assert sorted(map(str, shown)) == sorted(str(point) for point in wanted if not is_map or point[2] is not None)
    missing = sum(row["loss"] is None for row in rows)
    assert (f"{missing} of {len(rows)} cells have no value" in made.note) == bool(missing)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=10))
def test_the_spread_is_that_of_results_std(values: list[float]) -> None:
    made = summary(values)
    mean = sum(values) / len(values)
    sd = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
    assert made["value"] == pytest.approx(mean, abs=1e-6)
    assert made["sd"] == pytest.approx(sd, abs=1e-6)
    assert made["n"] == len(values)


def test_what_is_not_finite_is_no_number_and_is_counted() -> None:
    for values in ([math.nan, 1.0], [math.inf, -math.inf], [10**400, 1], [1e308, 1e308, -1e308]):
        made = summary(values)
        assert made["value"] is None or math.isfinite(made["value"])
    rows = grid([1, 2], ["a"], value=lambda x, y, seed: math.nan if x == 1 else 1.0)
    assert charts(rows, ["x", "y", "seed"], ["loss"])[0].note == "1 of 2 points are not finite numbers"


def test_seeds_are_averaged_over_and_the_title_says_so() -> None:
    (made,) = charts(grid([1, 2, 3], ["a", "b"]), ["x", "y", "seed"], ["loss"])
    assert made.spec["title"]["subtitle"] == "mean ± sd over seed"
    assert marks(made.spec) == ["area", "line"]
    assert [point["n"] for point in made.spec["data"]["values"]] == [2] * 6
    (alone,) = charts(grid([1], ["a"], 3), ["x", "y", "seed"], ["loss"])
    assert marks(alone.spec) == ["line"]  # of seeds alone, each is drawn
    assert charts(grid([1], ["a"], 1), ["x", "y", "seed"], ["loss"]) == []
    assert charts([], [], ["loss"]) == []


@pytest.mark.parametrize(
    ("x", "y", "mark"),
    [
        ([1, 2, 3], ["a", "b"], "line"),
        (["a", "b", "c"], [1, 2], "line"),
        (["a", "b"], [1, 2, 3], "line"),
        ([1, 2], [1, 2, 3], "line"),
        (["a", "b"], ["c", "d"], "rect"),
        ([*map(str, range(FEW + 1))], [1, 2, 3], "rect"),
        (list(range(FEW + 1)), list(range(FEW + 1)), "rect"),
        (list(range(MANY + 1)), list(range(MANY + 1)), "circle"),
    ],
)
def test_the_kind_of_a_chart_follows_its_axes(x: list[Any], y: list[Any], mark: str) -> None:
    made = charts(grid(x, y, 1, lambda a, b, seed: 1.5), ["x", "y", "seed"], ["loss"])[-1]
    assert marks(made.spec)[0] == mark
    for axis in ("x", "y") if mark != "line" else ("x",):
        assert made.spec["encoding"][axis]["title"] in ("x", "y")
    for point in made.spec["data"]["values"]:  # each is where the table has it
        assert "x: " in point["told"]
        assert "y: " in point["told"]
        if mark == "line":
            title = made.spec["encoding"]["color"]["title"]
            across = made.spec["encoding"]["x"]["title"]
            assert f"{title}: {point['colour']}\n" in f"{point['told']}\n", "the legend has the coordinate itself"
            assert point["colour"] in made.spec["encoding"]["color"]["scale"]["domain"]
            assert f"{across}: {point['x']:g}" in point["told"]


def test_an_axis_is_logarithmic_where_its_numbers_are() -> None:
    def scale(values: list[Any]) -> Any:
        return charts(grid(values, ["a"], 1), ["x", "y", "seed"], ["loss"])[0].spec["encoding"]["x"]["scale"]

    assert scale([0.001, 0.1, 1])["type"] == "log"
    assert scale([1, 2, 99]) == {"zero": False}
    assert scale([0, 1, 1000]) == {"zero": False}
    assert "domain" in scale(["a", "b"])


def test_of_many_numbers_each_axis_has_a_chart_of_its_own() -> None:
    rows = grid([i / 7 for i in range(MANY + 1)], ["a", "b"], 1)
    assert [marks(made.spec)[0] for made in charts(rows, ["x", "y", "seed"], ["loss"])] == ["rule", "circle"]


def test_a_mean_of_some_cells_is_marked() -> None:
    for y in (["a"], ["a", "b"]):
        for x in ([1, 2], ["c", "d"]):
            rows = grid(x, y, 2, lambda a, b, seed, x=x: None if a == x[0] and seed else 1.0)
            (made,) = charts(rows, ["x", "y", "seed"], ["loss"])
            assert "✕ marks a mean of only some of its cells" in made.note
            assert marks(made.spec)[-1] == "text"
    rows = grid([1, 2], ["a"], 1, lambda a, b, seed: None if a == 1 else 1.0)
    (made,) = charts(rows, ["x", "y", "seed"], ["loss"])
    assert "text" not in marks(made.spec)
    assert len(made.spec["data"]["values"]) == 1


def test_where_an_axis_only_counts_the_keys_of_the_configs_are_the_axes() -> None:
    rows = [
        {"name": f"n{i}", "axis_0": f"n{i}", "config.lr": i / 10, "config.opt": "adam", "loss": i} for i in range(4)
    ]
    assert [each.name for each in dimensions(rows, ["axis_0"])] == ["config.lr"]
    bare = [{"name": f"n{i}", "axis_0": f"n{i}", "loss": i} for i in range(4)]
    assert [each.name for each in dimensions(bare, ["axis_0"])] == ["axis_0"]


def test_cells_with_the_same_coordinates_are_told_apart_by_what_differs_in_their_configs() -> None:
    """As after an override of a key that is no axis: no point averages two configs."""
    rows = [
        {"x": x, "config.x": x, "config.k": k, "config.m": 1, "loss": k * x} for k in (1, 7) for x in (1.0, 2.0, 3.0)
    ]
    assert [each.name for each in dimensions(rows, ["x"])] == ["x", "config.k"]
    (made,) = charts(rows, ["x"], ["loss"])
    assert [point["n"] for point in made.spec["data"]["values"]] == [1] * 6
    waiting = {"x": 1.0, "config.x": None, "config.k": None, "config.m": None, "loss": None}
    assert [each.name for each in dimensions([*rows[:3], waiting], ["x"])] == ["x"]


def test_of_axes_that_tell_the_same_apart_one_is_taken() -> None:
    rows = [{"pair": name, "lr": lr, "batch": batch} for name, lr, batch in (("a", 1, 8), ("b", 2, 16), ("a", 1, 8))]
    assert [each.name for each in dimensions(rows, ["pair", "lr", "batch"])] == ["lr"]


def test_only_numbers_are_charted() -> None:
    rows: Rows = [{"a": 1, "b": "x", "c": None, "d": True}, {"a": None, "b": 1, "c": None, "d": 0.5}]
    assert numeric(rows, ["a", "b", "c", "d"]) == ["a", "d"]


@given(st.lists(st.tuples(st.sampled_from([1, 2]), NUMBERS), min_size=1, max_size=10))
def test_parallel_coordinates_are_in_the_order_of_the_values(cells: list[tuple[int, Any]]) -> None:
    rows: Rows = [{"x": x, "loss": value} for x, value in cells]
    made = parallel(rows, ["x"], ["loss"])
    json.dumps(made, allow_nan=False)
    for axis in made["axes"]:
        heights = axis["heights"]
        values = [
            as_float(float(row[axis["name"]]) if isinstance(row[axis["name"]], bool) else row[axis["name"]])
            for row in rows
        ]
        assert [height is None for height in heights] == [value is None for value in values]
        known = sorted((value, height) for value, height in zip(values, heights, strict=True) if value is not None)
        assert [height for _, height in known] == sorted(height for _, height in known)
        assert all(0 <= height <= 1 for _, height in known)


def test_an_output_without_a_finite_number_is_on_no_parallel_axis() -> None:
    rows: Rows = [{"x": x, "y": -x, "loss": math.inf, "acc": 10**400} for x in (1, 2)]
    assert [axis["name"] for axis in parallel(rows, ["x"], ["loss", "y", "acc"])["axes"]] == ["x", "y"]
    assert parallel(rows, ["x"], ["loss"]) == {"axes": []}
