"""Tensor indexing: results keep the shape of the grid, and its axes have names.

python examples/indexing.py
"""

import pyexp
from pyexp import sweep


@pyexp.experiment
def indexing(config):
    return {"accuracy": 1 - config.learning_rate / config.epochs}


@indexing.configs
def configs():
    cfgs = [{"name": "exp"}]
    cfgs = sweep(cfgs, [{"name": f"lr{lr}", "learning_rate": lr} for lr in (0.1, 0.01)])
    return sweep(cfgs, [{"name": f"e{epochs}", "epochs": epochs} for epochs in (10, 100)])


@indexing.report
def report(results):
    # Shape is (1, 2, 2) from sweeps
    print(results.shape, [axis.name for axis in results.axes])

    # Index by position
    first_lr = results[:, 0, :]  # All configs with first lr value
    print("first lr:", [r.name for r in first_lr])

    # Access individual result
    r = results[0, 1, 0]
    print(r["name"], r["accuracy"])

    # A single index speaks of the flat sequence, in C order
    print("last:", results[-1].name)

    # By the name of an axis: sel takes values, isel positions
    print("0.01:", results.sel(learning_rate=0.01).map(lambda r: r["accuracy"]).tolist())
    print("most epochs:", results.isel(epochs=-1).map(lambda r: r.name).tolist())


if __name__ == "__main__":
    indexing.run()
