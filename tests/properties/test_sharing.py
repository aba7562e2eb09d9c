"""A grid's configs share most of their parts; encoding those once gives the bytes that encoding each whole does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyexp import configs
from pyexp.configs import cached_by_identity, freeze, inside
from pyexp.errors import HashError
from pyexp.hashing import config_hash, digest, encode, encoder_of_many
from pyexp.plan import cells_of
from pyexp.sweep import concat, sweep
from pyexp.testing.strategies import variations
from tests.properties.test_axis_selection import SWEEPS, grid_of_sweeps


@given(variations(named=False), variations(named=False))
def test_encoding_many_gives_what_encode_gives(listed, varied):
    encoded = encoder_of_many()
    for config in sweep(listed, varied):
        assert encoded(config) == encode(config)


def test_encoding_many_tells_confusable_values_apart():
    encoded = encoder_of_many()
    found = {encoded(freeze({"x": value})) for value in (1, True, 1.0, "1", (1,), [1], None, "None", -0.0, 0.0)}
    assert len(found) == 10


def test_encoding_many_forgets_rather_than_grows(monkeypatch):
    monkeypatch.setattr(configs, "MOST_SHARED", 3)
    encoded = encoder_of_many()
    for number in range(10):
        config = freeze({"x": [number], "y": float(number)})
        assert encoded(config) == encode(config)


def test_encoding_many_says_where_a_value_has_no_hash():
    with pytest.raises(HashError, match=r"config\.a\.b is a builtins\.object"):
        encoder_of_many()(freeze({"a": {"b": object()}}))


@given(SWEEPS, st.booleans())
def test_the_cells_of_a_grid_have_the_configs_and_hashes_that_looking_at_each_alone_gives(sweeps, joined):
    grid = grid_of_sweeps([*sweeps, [{"name": f"v{i}", "n": i} for i in range(2)]])
    if joined:
        grid = concat([grid[:, ..., 0], sweep(grid, [{"name": "w"}]), [{"name": "alone"}]])
    alone = [grid[i] for i in range(grid.size)]
    encoded = encoder_of_many()
    assert list(grid) == alone
    assert [digest(encoded(config)) for config in grid] == [config_hash(config) for config in alone]


def test_a_value_without_a_hash_that_every_variation_replaces_is_no_error():
    grid = sweep([{"name": "e", "loss": lambda x: x}], [{"name": "a", "loss": "mse"}, {"name": "b", "loss": "mae"}])
    assert [cell.hash for cell in cells_of(grid)] == [config_hash(config) for config in grid]


def test_maps_inside_that_a_variation_changes_are_made_once_for_all_cells_that_share_them():
    grid = sweep([{"m": {"a": 0, "b": 0}}], [{"x": 1}, {"x": 2}])
    first, second, third, fourth = sweep(grid, [{"m.a": 1}, {"m.a": 2}])
    assert first["m"] is third["m"]
    assert second["m"] is fourth["m"]


def test_what_was_made_before_is_forgotten_rather_than_kept_for_ever(monkeypatch):
    monkeypatch.setattr(configs, "MOST_SHARED", 3)
    shared = cached_by_identity(inside)
    for number in range(10):
        holder = freeze({"a": number})
        assert shared(holder, ("m", "b"), number) == freeze({"a": number, "b": number})
