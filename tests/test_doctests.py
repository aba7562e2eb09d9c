"""The examples in the docstrings do what they say.

In each, `folder` is an empty folder, and `results` are those of the script in `docs/reference/api.md`.
"""

import doctest
import pkgutil
from importlib import import_module
from pathlib import Path

import pytest

import pyexp

MODULES = sorted(module.name for module in pkgutil.walk_packages(pyexp.__path__, "pyexp."))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> pyexp.Results:
    @pyexp.experiment(name="line", executor="inline", quiet=True)
    def line(config: pyexp.Config) -> dict[str, object]:
        return {"loss": config.lr * config.seed, "curve": [0.0, 1.0]}

    rates = pyexp.sweep([{"name": "sgd"}], [{"name": f"lr{lr}", "lr": lr} for lr in (0.5, 2.0)])
    grid = pyexp.sweep(rates, [{"name": f"s{seed}", "seed": seed} for seed in (1, 2, 3)])
    return line.run(grid, report=lambda results: results, argv=[], output_dir=tmp_path_factory.mktemp("out"))


@pytest.mark.parametrize("name", [name for name in MODULES if "ray" not in name])
def test_the_examples_of_a_module_do_what_they_say(name: str, results: pyexp.Results, tmp_path: Path) -> None:
    module = import_module(name)
    assert doctest.testmod(module, extraglobs={"results": results, "folder": tmp_path}).failed == 0
