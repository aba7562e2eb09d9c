"""The strategies of `pyexp.testing` draw what the rest of pyexp takes."""

from hypothesis import given

from pyexp import config_hash, freeze, sweep, thaw
from pyexp.testing import configs, variations


@given(configs())
def test_configs_that_are_drawn_can_be_frozen_and_hashed(config):
    frozen = freeze(config)
    assert freeze(thaw(frozen)) == frozen or config_hash(thaw(frozen)) == config_hash(frozen)  # NaN is not itself
    assert config_hash(frozen) == config_hash(dict(reversed(config.items())))


@given(configs(), variations())
def test_variations_that_are_drawn_can_be_swept(config, varied):
    swept = sweep([config], varied)
    assert swept.shape == (1, len(varied))
    assert [cell["name"] for cell in swept] == [
        "_".join(name for name in (config["name"], variation["name"]) if name) for variation in varied
    ]
