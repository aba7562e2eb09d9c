"""A grid's configs share most of their parts; encoding those once gives the bytes that encoding each whole does."""

import pytest
from hypothesis import given

from pyexp import hashing
from pyexp.configs import freeze
from pyexp.errors import HashError
from pyexp.hashing import encode, sharing_encoder
from pyexp.sweep import sweep
from tests.strategies import grids


@given(grids(), grids())
def test_sharing_encoder_gives_what_encode_gives(listed, varied):
    encoded = sharing_encoder()
    for config in sweep(listed, varied):
        assert encoded(config) == encode(config)


def test_sharing_encoder_tells_confusable_values_apart():
    encoded = sharing_encoder()
    found = {encoded(freeze({"x": value})) for value in (1, True, 1.0, "1", (1,), [1], None, "None", -0.0, 0.0)}
    assert len(found) == 10


def test_sharing_encoder_forgets_rather_than_grows(monkeypatch):
    monkeypatch.setattr(hashing, "MOST_PARTS", 3)
    encoded = sharing_encoder()
    for number in range(10):
        config = freeze({"x": [number], "y": float(number)})
        assert encoded(config) == encode(config)


def test_sharing_encoder_says_where_a_value_has_no_hash():
    with pytest.raises(HashError, match=r"config\.a\.b is a builtins\.object"):
        sharing_encoder()(freeze({"a": {"b": object()}}))
