"""What made the golden files beside this one, with the version of pyexp that wrote format 1."""

import datetime as dt
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath

import numpy as np

import pyexp
from pyexp import sweep


class Colour(Enum):
    RED = 1


@pyexp.experiment(name="golden", timestamp="t", executor="inline")
def experiment(config):
    if config.width == 3:
        raise ValueError("too narrow")
    return {"accuracy": config.width / 10, "best": float("inf"), "weights": [1, 2], "long": 1 << 70}


@experiment.configs
def configs():
    base = {
        "name": "exp", "layers": (1, 2), "sizes": [1, {"a": 2.5}], "tags": {"a", "b"}, "big": 1 << 70,
        "nan": float("nan"), "path": PurePosixPath("a/b"), "odd": "\ud800", "marked": {"!": "tuple", "value": [1]},
        "complex": 3 + 4j, "bytes": b"ab", "date": dt.date(2020, 1, 2), "decimal": Decimal("0.50"),
        "colour": Colour.RED, "array": np.arange(3), "range": range(3), "none": None, "yes": True,
    }  # fmt: skip
    grid = sweep([base], [{"name": f"lr{i}", "lr": lr} for i, lr in enumerate(np.logspace(-2, -1, 2))])
    return sweep(grid, [{"name": f"w{w}", "width": w} for w in (1, 2, 3)])


if __name__ == "__main__":
    experiment.run()
