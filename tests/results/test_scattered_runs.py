"""A conditional sweep from its script to `pyexp.load`: `run.json` has the coordinates of its cells."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pyexp
from tests.cli.scripts import go, write

SCRIPT = """
import warnings
import pyexp
from pyexp import derive, replicate, sweep, zipped

@pyexp.experiment(name="study", durable=False, timestamp="t", executor="inline")
def experiment(config):
    return {"loss": config.lr * config.batch, "decay": config.decay, "curve": [config.lr] * config.batch}

@experiment.configs
def configs():
    grid = sweep([{"name": "e", "x": 1, "y": 2}], zipped(lr=[0.1, 0.2], batch=[1, 2]))
    grid = sweep(grid, [{"name": opt, "opt": opt} for opt in ("sgd", "adam")])
    grid = derive(replicate(grid, 2, seed=0), lambda config: {"decay": config["lr"] / 10})
    return grid.where(lambda config: config["opt"] != "adam" or config["batch"] == 1)

@experiment.report
def report(results):
    print(results.mean("seed").shape, results.sel(batch=1, opt="adam", seed=0).shape, set(results.coords))

if __name__ == "__main__":
    experiment.run()
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write(tmp_path, SCRIPT)
    done = go(tmp_path, "-q")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("(3,) (1,) {")
    assert all(f"'{name}'" in done.stdout for name in ("axis_0", "axis_1", "lr", "batch", "opt", "seed"))
    return tmp_path / "out" / "study" / "t"


def test_what_is_loaded_knows_where_its_cells_were(run: Path) -> None:
    results = pyexp.load(run)
    assert (results.shape, results.coords["batch"]) == ((6,), (1, 1, 1, 1, 2, 2))
    assert results.sel(batch=2).mean("seed").item()["loss"] == pytest.approx(0.4)
    assert results.mean("seed").coords["opt"] == ("sgd", "adam", "sgd")
    data = results.mean("seed").to_xarray()
    assert data["loss"].dims == ("axis_0", "axis_1", "opt")
    assert np.isnan(data["loss"].values[0]).tolist() == [[False, False], [False, True]]
    assert data["batch"].values.tolist() == [1, 2]


@pytest.mark.parametrize(
    "damage",
    [
        lambda axis: axis["levels"][0].pop("codes"),
        lambda axis: axis["levels"][0]["codes"].pop(),
        lambda axis: axis["levels"][0]["codes"].__setitem__(0, 9),
        lambda axis: axis["levels"][0]["codes"].__setitem__(0, -2),
        lambda axis: axis["levels"][0]["codes"].__setitem__(0, "a"),
        lambda axis: axis["levels"].append(3),
        lambda axis: axis.__setitem__("levels", 3),
    ],
)
def test_damaged_coordinates_are_not_believed(run: Path, damage: Any) -> None:
    told = json.loads((run / "run.json").read_text())
    damage(told["axes"][0])
    (run / "run.json").write_text(json.dumps(told))
    results = pyexp.load(run)
    assert (results.size, results.dims, set(results.coords)) == (6, ("axis_0",), {"axis_0"})


def test_a_run_of_nothing_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, SCRIPT.replace('for opt in ("sgd", "adam")', "for opt in ()"))
    done = go(tmp_path)
    assert done.returncode != 0
    assert done.stdout == ""
    assert "is empty, of shape (0,); a run needs at least one config" in done.stderr
