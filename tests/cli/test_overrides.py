"""Overrides lie over every config, or are refused: never over some, never over what the grid is made of."""

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyexp import Tensor, UsageError, concat, merge, sample, sweep
from pyexp.configs import FrozenConfig, equal, lookup, thaw
from pyexp.overrides import overridden, override_of, overrides_of
from pyexp.sweep import grid_of
from pyexp.tensor import Axis

BASE = {"name": "exp", "epochs": 10, "mlp": {"width": 32, "depth": 2}}
GRID = sweep([BASE], [{"name": "a", "lr": 0.1}, {"name": "b", "lr": 0.2}])


def over(grid: Tensor[FrozenConfig], *texts: str) -> Tensor[FrozenConfig]:
    return overridden(grid, overrides_of(texts))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("k=3", 3),
        ("k=1e-3", 0.001),
        ("k=True", True),
        ("k=None", None),
        ("k=[1, (2,)]", [1, (2,)]),
        ("k={'a': {'b': 1}}", {"a": {"b": 1}}),
        ("k='3'", "3"),
        ("k=cnn", "cnn"),
        ("k=", ""),
        ("k=a=b", "a=b"),
        ("k=true", "true"),
        ("k=1 +", "1 +"),
        ("k=__import__('os')", "__import__('os')"),
        ("k= 3", 3),
    ],
)
def test_a_value_is_a_python_literal_or_else_a_string(text: str, value: Any) -> None:
    made = thaw(override_of(text).value)
    assert (made, type(made)) == (value, type(value)) or isinstance(value, dict)
    assert made == value


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=4))
@example(-1)
def test_what_python_prints_of_a_value_is_read_back(value: Any) -> None:
    assert thaw(override_of(f"k={value!r}").value) == value


@given(st.text())
@example("k=1is 1")
@example(r"k='\d'")
@example("k=" + "(" * 1000)
@example("k=\0")
def test_no_text_is_more_than_a_refusal(text: str) -> None:
    with suppress(UsageError):  # which ones are refused is held elsewhere
        override_of(text)


def test_the_grid_with_overrides_is_every_config_merged_with_them() -> None:
    made = over(GRID, "epochs=1", "mlp.width=64", "mlp.width=128", "+debug.level=2")
    assert (made.shape, made.axes) == (GRID.shape, GRID.axes)
    for before, after in zip(GRID, made, strict=True):
        assert after == merge(before, {"epochs": 1, "mlp.width": 128, "debug.level": 2})


def test_without_overrides_the_grid_is_itself() -> None:
    assert over(GRID) is GRID


def test_a_map_may_be_replaced_whole() -> None:
    assert thaw(over(GRID, "mlp={'width': 1}")[0])["mlp"] == {"width": 1}


def test_what_is_there_may_be_added_too() -> None:
    assert [config["epochs"] for config in over(GRID, "+epochs=3")] == [3, 3]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epoch=3", r"no config has the key 'epoch'; did you mean 'epochs'\? \(to add it, write \+epoch=…\)"),
        ("mlp.widht=3", "did you mean 'mlp.width'"),
        ("mpl=3", "did you mean 'mlp'"),
        ("zzz=3", "the keys are 'epochs', 'lr', 'mlp.depth', 'mlp.width', 'mlp'"),
        ("lr=3", r"'lr' cannot be overridden: the configs differ in it \(0\.1, 0\.2, …\); choose among them with -k"),
        ("+lr=3", "'lr' cannot be overridden"),
        ("+epochs.x=3", r"\+epochs\.x cannot be added: 'epochs' is 10 and not a map"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        over(GRID, text)


def test_a_map_in_which_the_configs_differ_cannot_be_replaced_but_the_rest_of_it_can() -> None:
    grid = sweep([BASE], [{"mlp.width": 1}, {"mlp.width": 2}])
    with pytest.raises(UsageError, match="'mlp' cannot be overridden"):
        over(grid, "mlp={}")
    assert [config["mlp"]["depth"] for config in over(grid, "mlp.depth=5")] == [5, 5]


def test_a_key_that_only_some_configs_have_is_refused_unless_it_is_added() -> None:
    grid = concat([[{"name": "svm", "C": 1}], [{"name": "tree", "depth": 3}]])
    with pytest.raises(UsageError, match="1 of 2 configs, such as 'tree', have no key 'C'"):
        over(grid, "C=10")
    assert [config["C"] for config in over(grid, "+C=10")] == [10, 10]


def test_an_array_that_only_some_configs_have_is_refused_like_any_value() -> None:
    with pytest.raises(UsageError, match="1 of 2 configs, such as 'b', have no key 'w'"):
        over(grid_of([{"name": "a", "w": np.arange(3)}, {"name": "b"}]), "w=1")


def test_the_configs_of_the_grid_are_left_alone() -> None:
    grid = grid_of([BASE])
    over(grid, "mlp.width=1")
    assert grid[0]["mlp"]["width"] == 32


MAPS = st.fixed_dictionaries({"w": st.integers(0, 1)}, optional={"d": st.integers(0, 1)})
VARIATIONS = st.lists(
    st.fixed_dictionaries({}, optional={"lr": st.integers(0, 1), "m": MAPS, "m.w": st.integers(0, 1)}),
    min_size=1,
    max_size=2,
)
TEXTS = st.sampled_from(["lr=7", "+lr=7", "m.w=7", "+m.w=7", "m={'w': 7}", "+m={}", "+m=7", "m.d=7", "+axis_0=7"])


@given(st.lists(VARIATIONS, min_size=1, max_size=3), st.lists(TEXTS, min_size=1, max_size=2), st.booleans())
@example([[{"lr": 0}], [{"m": {"w": 0}}, {"m": {"w": 0, "d": 1}}]], ["lr=7", "m.w=7"], False)
@example([[{"m": {"w": 0}}], [{"m.w": 0}]], ["+m=7"], False)
@example([[{"m": {"w": 0, "d": 0}}], [{}, {"m": {"w": 0}}]], ["m.w=7"], False)
def test_the_coordinates_of_an_axis_are_what_its_configs_hold_after_overrides_too(lists, texts, is_plain) -> None:
    first, *others = lists
    grid = grid_of(first)
    for variations in others:
        grid = sweep(grid, variations)
    if is_plain:  # as what `filter` or `map` returns: nobody knows the keys of its axes
        grid = grid_of(Tensor(list(grid), grid.shape, grid.axes))
    try:
        made = over(grid, *texts)
    except UsageError:
        return
    for number, (axis, before) in enumerate(zip(made.axes, grid.axes, strict=True)):
        assert axis.name == before.name
        if agrees(grid, number, before):
            assert agrees(made, number, axis)
        else:
            assert axis == before


def agrees(grid: Tensor[FrozenConfig], number: int, axis: Axis) -> bool:
    """Whether each config has at the axis's key, or name, the coordinate of its position; None if nothing is there."""
    at = [grid[(*[slice(None)] * number, slice(i, i + 1))] for i in range(axis.size)]
    held = [(lookup(config, axis.key or axis.name, None), axis.coords[i]) for i in range(axis.size) for config in at[i]]
    return all(equal(value, coordinate) for value, coordinate in held)


def test_after_an_override_a_selection_holds_what_matches() -> None:
    base = [{"name": "exp", "lr": 0.1}]
    made = over(sweep(base, [{"name": "a", "b": 1}, {"name": "b", "b": 2}]), "lr=0.5")
    assert made.axes[0].coords == (0.5,)
    assert made[{"lr": 0.5}].shape == made.sel(lr=[0.5]).shape == (1, 2)
    with pytest.raises(LookupError):
        made[{"lr": 0.1}]
    with pytest.raises(LookupError):
        made.sel(lr=0.1)
    assert over(grid_of(base), "lr={'x': 1}").axes[0].coords == ({"x": 1},)


def test_an_empty_grid_is_left_as_it_is() -> None:
    none = sample(GRID, 0, seed=0)
    assert over(none, "lr=3") is none
