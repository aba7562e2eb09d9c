"""Replicates: an axis of seeds that depends on the key and the index alone."""

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyexp import ConfigError, Tensor, config_hash, replicate, sweep
from pyexp.sweep import grid_of
from pyexp.testing.strategies import variations

KEYS = st.integers() | st.text(max_size=4)


def numbers(grid: Tensor[Any]) -> list[int]:
    """The derived seeds of the replicates of one config."""
    return [config["seed"] for config in grid[(0,) * (grid.ndim - 1)]]


@given(variations(named=False), st.integers(1, 4), KEYS)
def test_it_is_a_sweep_over_seeds_on_an_axis_of_that_name(configs: list[dict[str, Any]], n: int, key: Any) -> None:
    configs = [
        {name: value for name, value in config.items() if name.partition(".")[0] != "seed"} for config in configs
    ]
    made = replicate(configs, n, seed=key)
    seeds = numbers(made)
    variations = [{"name": f"seed{i}", "seed": seed} for i, seed in enumerate(seeds)]
    assert made == sweep(configs, variations, axis="seed")
    assert made.shape == (*grid_of(configs).shape, n)
    assert (made.axes[-1].name, made.axes[-1].coords) == ("seed", range(n))
    for i, number in enumerate(seeds):
        assert list(made.sel(seed=i)) == list(made[..., i]) == list(made[{"seed": number}])


@given(st.integers(1, 50), st.integers(0, 50), KEYS)
def test_seeds_are_distinct_fit_into_32_bits_and_fewer_begin_more(n: int, more: int, key: Any) -> None:
    seeds = numbers(replicate([{}], n, seed=key))
    assert len(set(seeds)) == n
    assert all(type(seed) is int and 0 <= seed < 2**32 for seed in seeds)
    assert numbers(replicate([{}], n + more, seed=key))[:n] == seeds


@given(KEYS, KEYS)
def test_other_keys_give_other_seeds(one: Any, other: Any) -> None:
    same = numbers(replicate([{}], 2, seed=one)) == numbers(replicate([{}], 2, seed=other))
    assert same == (one == other)


def test_the_text_1_and_the_number_1_are_other_keys() -> None:
    assert numbers(replicate([{}], 1, seed=1)) != numbers(replicate([{}], 1, seed="1"))


def test_seeds_are_the_same_in_every_process() -> None:
    code = "import pyexp; print(*[config['seed'] for config in pyexp.replicate([{}], 3, seed='paper')])"
    told = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": hashseed}, capture_output=True, text=True, check=True
        ).stdout
        for hashseed in ("0", "1")
    }
    assert told == {"{} {} {}\n".format(*numbers(replicate([{}], 3, seed="paper")))}


def test_golden_seeds() -> None:
    # What was run once has these seeds for ever: to change them is to run everything again.
    assert numbers(replicate([{}], 3, seed=0)) == [3602217196, 1576796291, 601572053]
    assert config_hash(replicate([{"name": "exp"}], 1, seed=0)[0]) == config_hash(
        {"name": "exp_seed0", "seed": 3602217196}
    )


@pytest.mark.parametrize(
    ("n", "seed", "words"),
    [
        (0, 0, "the number of replicates, is 0; it is at least 1"),
        (-1, 0, "is -1"),
        (1.5, 0, r"is 1\.5, of type float; it is a whole number"),
        (2, None, "seed is None, of type NoneType"),
        (2, 0.5, r"seed is 0\.5"),
    ],
)
def test_what_is_no_number_or_key_is_refused(n: Any, seed: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        replicate([{}], n, seed=seed)


def test_an_axis_of_seeds_is_not_replaced() -> None:
    with pytest.raises(ConfigError, match="an axis is called 'seed' already"):
        replicate(replicate([{}], 2, seed=0), 2, seed=1)
