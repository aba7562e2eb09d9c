"""The examples in the docstrings do what they say."""

import doctest
import pkgutil
from importlib import import_module

import pytest

import pyexp

MODULES = sorted(module.name for module in pkgutil.walk_packages(pyexp.__path__, "pyexp."))


@pytest.mark.parametrize("name", [name for name in MODULES if "ray" not in name])
def test_the_examples_of_a_module_do_what_they_say(name: str) -> None:
    module = import_module(name)
    assert doctest.testmod(module).failed == 0
