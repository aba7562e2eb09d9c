"""`pyexp.testing`: its strategies draw what the rest of pyexp takes, its contract of encoders finds what is broken."""

import importlib.util
import itertools
import subprocess
import sys

import pytest
from hypothesis import given

import pyexp
from pyexp import FrozenConfig, Tensor, UsageError, config_hash, freeze, sweep, thaw
from pyexp.configs import encoders
from pyexp.testing import CONFUSABLE, check_encoder, configs, sweeps, tensors, variations


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


@given(sweeps(), tensors())
def test_sweeps_and_tensors_have_cells(grid, tensor):
    assert grid.size > 0
    assert all(type(cell) is FrozenConfig for cell in grid)
    assert isinstance(tensor, Tensor)
    assert tensor.tolist() == Tensor(range(tensor.size), tensor.shape).tolist()


class Box:
    """A class without a stable hash of its own."""

    def __init__(self, content, tags=()):
        self.content = content
        self.tags = set(tags)


class Part(Box):
    """A subclass, which the encoder serves too."""


counter = itertools.count()
TAGS = "abcdefgh"


@pytest.fixture
def encoded():
    """A function that registers an encoder for `Box` until the test ends."""
    yield lambda encoder: encoders.update({Box: encoder})
    encoders.pop(Box, None)


def test_a_good_encoder_keeps_the_contract(encoded):
    encoded(lambda box: (box.content, box.tags))
    drawn = [kind(content) for group in CONFUSABLE[:8] for content in group for kind in (Box, Part)]
    check_encoder([*drawn, Box(1, TAGS)], same=[(Box(1, TAGS), Box(1, TAGS[::-1])), (Box([]), Box([]))])


@pytest.mark.parametrize(
    ("encoder", "words"),
    [
        (lambda box: box.content, r"values\[0\] and values\[2\] differ and have one hash"),
        (lambda box: (str(box.content), box.tags), r"values\[0\] and values\[1\] differ and have one hash"),
        (lambda box: next(counter), r"values\[0\] has another hash each time"),
        (lambda box: (id(box), box.tags), r"values\[0\] and its copy have two hashes: .* its id"),
        (
            lambda box: (box.content, *box.tags),
            r"values\[2\] (has another hash in another process|and its copy have two hashes): .* the order of a set",
        ),
        (lambda box: box, "a value has no hash"),
    ],
    ids=["forgets", "conflates", "counts", "identifies", "orders", "is not plainer"],
)
def test_a_bad_encoder_is_found_out(encoded, encoder, words):
    encoded(encoder)
    with pytest.raises(AssertionError, match=words):
        check_encoder([Box(1), Box("1"), Box(1, TAGS)])


def test_values_that_are_the_same_and_have_two_hashes_are_found(encoded):
    encoded(lambda box: box.content)
    with pytest.raises(AssertionError, match=r"same\[0\]\[0\] and same\[0\]\[1\] are the same, and have two hashes"):
        check_encoder([Box(1), Box(2)], same=[(Box(3), Box(3.0))])


def test_a_value_that_cannot_be_sent_is_found(encoded):
    encoded(lambda box: box.tags)
    with pytest.raises(AssertionError, match=r"cannot be pickled, so no cell can get them: .*generator"):
        check_encoder([Box(1), Box((i for i in ()), TAGS)])


def test_a_class_of_a_module_that_no_other_process_finds_is_checked_too(tmp_path, monkeypatch):
    """As pytest loads tests with --import-mode=importlib."""
    (tmp_path / "lost.py").write_text("class Box:\n    def __init__(self, content):\n        self.content = content\n")
    spec = importlib.util.spec_from_file_location("lost", tmp_path / "lost.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "lost", module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(encoders, module.Box, lambda box: box.content)
    monkeypatch.setitem(encoders, Box, lambda box: box.content)  # one that the content needs
    check_encoder([module.Box(1), module.Box(2), module.Box(Box(1))])


def test_what_cannot_be_checked_is_refused(encoded):
    with pytest.raises(UsageError, match=r"values\[0\] is 1, and no encoder is registered for int"):
        check_encoder([1, 2])
    encoded(lambda box: box.content)
    with pytest.raises(UsageError, match="there are 1 values; give two or more"):
        check_encoder([Box(1)])


def test_hypothesis_is_loaded_with_the_first_strategy_and_its_lack_is_named(tmp_path):
    code = """
import sys
import pyexp
from pyexp.testing import executor_behaviours, check_encoder
assert executor_behaviours() and not {"hypothesis", "numpy", "pytest"} & set(sys.modules)
sys.modules["hypothesis"] = None
for act in (lambda: pyexp.testing.configs, lambda: exec("from pyexp.testing import *")):
    try:
        act()
    except pyexp.ExtraError as error:
        print(error)
try:
    pyexp.testing.config
except AttributeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True, text=True)
    first, star, unknown = done.stdout.splitlines()
    assert first.startswith("pyexp.testing.configs needs Hypothesis and NumPy: pip install hypothesis numpy")
    assert star.startswith("pyexp.testing.CONFUSABLE needs")
    assert unknown == "module 'pyexp.testing' has no attribute 'config'"
    assert pyexp.testing.configs is configs
