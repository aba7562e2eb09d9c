"""What equals its default is left out of the hash: a parameter that is added keeps what is finished."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyexp import ConfigError, config_hash, freeze, merge, sweep, thaw
from pyexp.configs import NOTHING, filled, leaves, lookup
from pyexp.hashing import without_defaults
from pyexp.plan import cells_of
from pyexp.sweep import with_defaults

VALUES = st.sampled_from([0, 0.0, False, None, "", "0", 1, True, 1.0, (1,), [1], {"a": 1}, -0.0])
KEYS = st.sampled_from(["a", "b", "lr", "x.csv"])


def configs() -> st.SearchStrategy[dict[str, Any]]:
    """Configs with maps inside, whose values are easily confused."""
    inner = st.dictionaries(KEYS, VALUES, max_size=3)
    return st.dictionaries(st.sampled_from(["a", "b", "lr", "seed"]), VALUES | inner, max_size=4)


@given(configs(), configs())
def test_a_default_that_is_added_changes_no_hash_of_what_lacks_it(config: Any, defaults: Any) -> None:
    lacking = {path: value for path, value in leaves(freeze(defaults)) if path.partition(".")[0] not in config}
    assert config_hash(config, defaults=lacking) == config_hash(config)


@given(configs(), configs())
def test_spelled_out_or_omitted_is_one_hash(config: Any, defaults: Any) -> None:
    lacking = freeze({key: value for key, value in defaults.items() if key not in config and value != {}})
    spelled_out = filled(freeze(config), lacking)
    assert config_hash(spelled_out, defaults=lacking) == config_hash(config, defaults=lacking)
    assert thaw(spelled_out) == {**thaw(lacking), **thaw(freeze(config))}
    within = filled(freeze(config), freeze(defaults))  # also in maps that the config has, which may be empty
    assert config_hash(within, defaults=defaults) == config_hash(config, defaults=defaults)


@given(configs(), configs(), configs())
def test_two_configs_that_differ_once_the_defaults_are_there_differ_in_their_hashes(
    one: Any, other: Any, defaults: Any
) -> None:
    under = freeze(defaults)
    first, second = filled(freeze(one), under), filled(freeze(other), under)
    if config_hash(first) != config_hash(second):
        assert config_hash(first, defaults=under) != config_hash(second, defaults=under)


@given(configs(), configs())
def test_a_value_that_is_no_default_stays(config: Any, defaults: Any) -> None:
    under = freeze(defaults)
    frozen = filled(freeze(config), under)
    left = without_defaults(frozen, under)
    for path, value in leaves(frozen):
        now = lookup(left, path, NOTHING)
        assert now is NOTHING or type(now) is type(value)
        if now is NOTHING:
            assert config_hash({"v": lookup(under, path)}) == config_hash({"v": value})


@given(configs(), configs())
def test_filling_is_done_once(config: Any, defaults: Any) -> None:
    under = freeze(defaults)
    made = filled(freeze(config), under)
    assert filled(made, under) == made
    assert filled(made, freeze({})) is made


def test_a_default_of_another_type_is_another_value() -> None:
    assert config_hash({"dropout": 0}, defaults={"dropout": 0.0}) != config_hash({})
    assert config_hash({"dropout": 0.1}, defaults={"dropout": 0.1}) == config_hash({})
    assert config_hash({"mlp": {"bias": True, "width": 8}}, defaults={"mlp.bias": True}) == config_hash(
        {"mlp": {"width": 8}}
    )
    assert config_hash({"mlp": 3}, defaults={"mlp.bias": True}) == config_hash({"mlp": 3})


def test_golden_hashes_with_defaults() -> None:
    assert config_hash({"name": "exp", "lr": 0.1}, defaults={"dropout": 0.0}) == "3490b7480114"
    assert config_hash({"name": "exp", "lr": 0.1, "dropout": 0.5}, defaults={"dropout": 0.0}) == "8ae2de2aa451"
    assert config_hash({"name": "exp", "lr": 0.1, "dropout": 0.0}, defaults={"dropout": 0.0}) == config_hash(
        {"name": "exp", "lr": 0.1}
    )


def test_the_cells_of_a_grid_have_the_defaults_and_the_hashes_without_them() -> None:
    grid = sweep([{"name": "exp", "lr": 0.1}], [{"name": "d0", "dropout": 0.0}, {"name": "d5", "dropout": 0.5}])
    defaults = freeze({"dropout": 0.0, "mlp.bias": True})
    cells = cells_of(with_defaults(grid, defaults), defaults)
    assert cells.axes == grid.axes
    assert [cell.config["mlp"]["bias"] for cell in cells] == [True, True]
    assert cells[0].hash == config_hash({"name": "exp_d0", "lr": 0.1})
    assert cells[1].hash == config_hash(merge(grid[1], {}))


def test_a_value_without_a_hash_is_named_by_its_place() -> None:
    with pytest.raises(ConfigError, match=r"config\.fn"):
        config_hash({"fn": object(), "a": 1}, defaults={"fn": 1})
