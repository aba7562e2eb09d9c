"""Overrides lie over every config, or are refused: never over some, never over what the grid is made of."""

import math
import re
import reprlib
import shlex
from contextlib import suppress
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyexp import Tensor, UsageError, concat, derive, merge, sample, sweep
from pyexp.configs import FrozenConfig, equal, freeze, lookup, thaw
from pyexp.options import overridden, override_of, overrides_of
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
        ("k=1_1_1", "1_1_1"),
        ("k=123E456", "123E456"),
        ("k:=1_000", 1000),
        ("k:=-inf", -math.inf),
        ("k:='x'", "x"),
    ],
)
def test_where_nothing_tells_its_kind_a_value_is_a_python_literal_or_else_a_string(text: str, value: Any) -> None:
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


class Colour(Enum):
    """An enum of an experiment's."""

    RED = 1
    GREEN = 2


#: Values of each kind that an override keeps, and how to type them.
TYPED: dict[type, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(),
    float: st.floats(allow_nan=False),
    str: st.text(),
    list: st.lists(st.integers() | st.text()),
    tuple: st.tuples(st.integers(), st.text()),
    set: st.sets(st.integers(), min_size=1),
    dict: st.dictionaries(st.sampled_from("abc"), st.integers()),
    Colour: st.sampled_from(Colour),
    PurePosixPath: st.sampled_from(["/a", "b c", "1_1"]).map(PurePosixPath),
}
VALUES = st.sampled_from(list(TYPED)).flatmap(lambda kind: st.tuples(TYPED[kind], TYPED[kind]))
#: What people type, near to another kind.
NUMBERS = [
    "0",
    "1",
    "+7",
    "1_1_1",
    "007",
    "1e3",
    "1e23",
    "9007199254740993.0",
    "2.0",
    "2.5",
    ".5",
    "1e",
    "0,1",
    "123E456",
    "1e-999",
    "0x10",
    "٣",
    "inf",
    "nan",
    "-",
]
OTHERS = [
    "true",
    "No",
    "None",
    "three",
    "[1]",
    "(1,)",
    "{1}",
    "{'a':1}",
    "{}",
    "RED",
    "/tmp/x",
    "[1e999]",
    "b'1'",
    "1j",
    "__import__('os')",
]
WORDS = st.sampled_from([*NUMBERS, *OTHERS, "", " ", " 3", "9" * 5000]) | st.text(max_size=4)


def typed(value: Any) -> str:
    """What a person types for this value."""
    plain = {Colour: lambda: value.name, PurePosixPath: lambda: str(value), str: lambda: value}
    return plain.get(type(value), lambda: repr(value))()


def is_quoted(word: str) -> bool:
    return word.strip()[:1] in ("'", '"')


@given(VALUES)
def test_a_value_of_the_kind_that_is_there_is_read_as_it_is_typed(values: tuple[Any, Any]) -> None:
    there, wanted = values
    if is_quoted(typed(wanted)):
        return
    made = thaw(over(grid_of([{"k": there}]), f"k={typed(wanted)}")[0])["k"]
    assert (made, type(made)) == (wanted, type(thaw(freeze(wanted))))


@given(VALUES, WORDS)
@example((1, 1), "9007199254740993.0")
def test_an_override_keeps_the_kind_of_what_it_replaces_or_is_refused(values: tuple[Any, Any], word: str) -> None:
    grid, there = grid_of([{"k": values[0]}]), values[0]
    if is_quoted(word):
        return
    try:
        made = thaw(over(grid, f"k={word}")[0])["k"]
    except UsageError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert type(there) is not str
        assert refusal.startswith(f"'k' is {reprlib.repr(thaw(freeze(there)))}, of type {type(there).__name__}")
        assert repr(word) in refusal
        assert "\n" not in refusal
        (command,) = shlex.split(refusal.rpartition(" or ")[2].rpartition(" to make it")[0])
        assert over(grid, command)[0]["k"] == override_of(f"k={word}").value  # the remedy does what it says
        return
    kinds = (int, float) if type(there) is int else (type(thaw(freeze(there))),)  # a number stays a number
    assert type(made) in kinds
    if isinstance(made, float):
        assert math.isfinite(made) or "i" in word.lower() or "nan" in word.lower()
        assert made != 0 or not re.search("[1-9]", word)
    if isinstance(made, str):
        assert made == word
    if type(made) is int:
        assert made == Decimal(word.strip())  # nothing but the number that was typed


@given(VALUES, VALUES)
def test_after_a_colon_and_in_python_a_value_may_be_of_any_kind(one: tuple[Any, Any], other: tuple[Any, Any]) -> None:
    grid, value = grid_of([{"k": one[0]}]), other[0]
    by_name = overridden(grid, overrides_of({"k": value}))[0]["k"]
    assert (by_name, type(by_name)) == (freeze(value), type(freeze(value)))
    if not isinstance(value, (Colour, PurePosixPath)):
        assert equal(over(grid, f"k:={value!r}")[0]["k"], freeze(value))
    assert over(grid, f"k={str(value)!r}")[0]["k"] == str(value)  # in quotes it is a string


@pytest.mark.parametrize("words", [("true", "TRUE", "1", "yes", "on"), ("false", "False", "0", "NO", "off")])
def test_a_bool_is_typed_as_people_type_it(words: tuple[str, ...]) -> None:
    assert {over(grid_of([{"k": True}]), f"k={word}")[0]["k"] for word in words} == {words[0] == "true"}


def test_each_config_keeps_its_own_kind_and_each_must_accept_the_word() -> None:
    grid = grid_of([{"name": "a", "k": 1}, {"name": "b", "k": 1.0}, {"name": "c", "k": np.float64(1)}])
    assert [repr(config["k"]) for config in over(grid, "k=2")] == ["2", "2.0", "2.0"]
    with pytest.raises(UsageError, match=r"^'k' of config 'a' is 1, of type int, which 'two' is not"):
        over(grid, "k=two")


def test_what_is_forced_first_does_not_change_what_may_be_typed_after_it() -> None:
    grid = grid_of([{"k": 0.1}])
    assert [over(grid, *texts)[0]["k"] for texts in (("k:=3", "k=0.5"), ("k=0.5", "k:='x'"))] == [0.5, "x"]
    with pytest.raises(UsageError, match="of type float, which 'y' is not"):
        over(grid, "k:='x'", "k=y")


def test_what_no_word_spells_is_forced_or_set_in_the_script() -> None:
    grid = grid_of([{"k": Decimal(1)}])
    with pytest.raises(UsageError, match="such a value in the script, or k:=2 to make it of type int"):
        over(grid, "k=2")
    with pytest.raises(UsageError, match="the name of a member: RED, GREEN, or"):
        over(grid_of([{"k": Colour.RED}]), "k=BLUE")
    with pytest.raises(UsageError, match=r"k:=abc is not a Python literal; for text write \"k:='abc'\""):
        over(grid, "k:=abc")


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
        ("lr=3", r"'lr' cannot be overridden: the configs differ in it \(0\.1, 0\.2, …\); select some of them with -k"),
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
TEXTS = st.sampled_from(["lr=7", "+lr=7", "m.w=7", "+m.w=7", "m={'w': 7}", "+m={}", "+m:=7", "m.d=7", "+axis_0=7"])


@given(st.lists(VARIATIONS, min_size=1, max_size=3), st.lists(TEXTS, min_size=1, max_size=2), st.booleans())
@example([[{"lr": 0}], [{"m": {"w": 0}}, {"m": {"w": 0, "d": 1}}]], ["lr=7", "m.w=7"], False)
@example([[{"m": {"w": 0}}], [{"m.w": 0}]], ["+m:=7"], False)
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
    assert over(grid_of(base), "lr:={'x': 1}").axes[0].coords == ({"x": 1},)


def test_an_empty_grid_is_left_as_it_is() -> None:
    none = sample(GRID, 0, seed=0)
    assert over(none, "lr=3") is none


def test_a_frozenset_stays_one() -> None:
    made = thaw(over(grid_of([{"k": frozenset({1})}]), "k={2, 3}")[0])["k"]
    assert (made, type(made)) == ({2, 3}, frozenset)
    with pytest.raises(UsageError, match="a set like"):
        over(grid_of([{"k": frozenset({1})}]), "k=2")


def test_what_no_word_can_be_read_as_is_refused() -> None:
    with pytest.raises(UsageError, match="such a value in the script"):
        over(grid_of([{"k": Decimal("0.1")}]), "k=0.2")
    with pytest.raises(UsageError, match="of type int, which '9999"):
        over(grid_of([{"k": 1}]), f"k={'9' * 5000}")


def test_infinity_is_typed_as_a_word() -> None:
    assert [over(grid_of([{"k": 0.5}]), f"k={word}")[0]["k"] for word in ("inf", "-inf")] == [math.inf, -math.inf]


@given(st.lists(VARIATIONS, min_size=2, max_size=3), st.lists(TEXTS, min_size=1, max_size=2), st.data())
def test_the_coordinates_of_scattered_cells_follow_overrides_too(lists, texts, data) -> None:
    first, *others = lists
    grid = grid_of(first)
    for variations in others:
        grid = sweep(grid, variations)
    grid = grid[data.draw(st.lists(st.integers(0, grid.size - 1), min_size=1, max_size=4))]
    try:
        made = over(grid, *texts)
    except UsageError:
        return
    for axis, before in zip(made.axes, grid.axes, strict=True):
        for level, old in zip(axis.levels, before.levels, strict=True):
            assert (level.name, list(level.codes)) == (old.name, list(old.codes))
            path = old.axis.key or old.name
            if all(
                code == -1 or equal(lookup(config, path, None), old.axis.coords[code])
                for config, code in zip(grid, old.codes, strict=True)
            ):
                held = [lookup(config, path, None) for config in made]
                assert all(code == -1 or equal(level.axis.coords[code], held[i]) for i, code in enumerate(level.codes))
            else:
                assert level.axis.coords == old.axis.coords


def test_what_is_derived_from_a_key_follows_its_override() -> None:
    """In every form of a grid, also below sweeps and selections; and it may have an override of its own."""
    grid = derive([{"name": "e", "epochs": 2, "n": 10}], lambda config: {"steps": config["epochs"] * config["n"]})
    grid = sweep(grid, [{"k": 1}, {"k": 2}])
    forms = [grid, grid[:, :1], grid.where(lambda config: config["k"] == 2), concat([grid, sweep(grid, [{"j": 1}])])]
    for form in forms:
        for made in overridden(form, overrides_of(["epochs=5", "+new=3"])):
            assert (made["epochs"], made["steps"], made["new"]) == (5, 50, 3)
        for made in overridden(form, overrides_of(["epochs=5", "steps=7"])):
            assert (made["epochs"], made["steps"]) == (5, 7)
        twice = derive(form, lambda config: {"twice": config["steps"] * config.get("times", 2)})
        for made in overridden(twice, overrides_of(["n=1", "+times=3"])):
            assert (made["steps"], made["twice"]) == (2, 6)
    varied = sweep([{"name": "e", "n": 10}], [{"k": k, "epochs": 2, "lr": 1.0} for k in range(2)])
    steps = derive(varied, lambda config: {"steps": config["epochs"] * config["n"] * config["lr"]})
    for made in overridden(steps, overrides_of(["epochs=5", "lr=2"])):
        assert repr(made["steps"]) == "100.0"
