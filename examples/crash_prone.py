"""A study whose cells fail in every way. The others go on; each failure says what it was, and can be run again.

python examples/crash_prone.py --html           # 8 cells; then a page to open in a browser, with the failures' logs
python examples/crash_prone.py --lf -n          # last failed: what would run again, and why
python examples/crash_prone.py --lf -k flaky    # run one of them again
"""

import ctypes
import sys

import numpy as np

import pyexp
from pyexp import Config, sweep


@pyexp.experiment(name="crash_prone", jobs=2, timeout=3)
def fit(config: Config):
    """Linear regression by gradient descent."""
    random = np.random.default_rng(0)
    x = random.normal(size=(config.rows, 10))
    y = x.sum(axis=1) + random.normal(size=config.rows)
    if config.solver == "native":
        ctypes.string_at(0)  # a segmentation fault, as a bug in a C library would be
    if config.solver == "licensed":
        sys.exit("no licence is left")
    if config.solver == "remote" and not (config.out / "tried").exists():
        (config.out / "tried").touch()  # the folder of a cell that failed is kept
        raise ConnectionError("the server did not answer; it often does the second time")

    weights, step = np.zeros(x.shape[1]), 0
    while True:
        slope = x.T @ (x @ weights - y) / len(y)
        weights -= config.lr * slope
        step += 1
        if abs(weights).max() > 1e6:
            raise FloatingPointError(f"diverged at step {step}")
        if abs(slope).max() < config.tolerance:
            return {"steps": step, "loss": ((x @ weights - y) ** 2).mean()}


@fit.configs
def configs():
    base = [{"name": "", "lr": 0.3, "tolerance": 1e-4, "rows": 500, "solver": "numpy"}]
    changes = [
        {"name": "good"},
        {"name": "slow", "lr": 0.1},
        {"name": "diverges", "lr": 3.0},
        {"name": "hangs", "tolerance": 0.0},
        {"name": "too_large", "rows": 10**13},
        {"name": "crashes", "solver": "native"},
        {"name": "exits", "solver": "licensed"},
        {"name": "flaky", "solver": "remote"},
    ]
    return sweep(base, changes)


if __name__ == "__main__":
    fit.run()
