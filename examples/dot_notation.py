"""Dot notation in sweeps: change one nested value, and leave the rest.

python examples/dot_notation.py
"""

import pyexp
from pyexp import merge, sweep, thaw


@pyexp.experiment
def dot_notation(config):
    return {"weights": config.mlp.width**2 * config.mlp.depth}


@dot_notation.configs
def configs():
    cfgs = [{"name": "exp", "mlp": {"width": 32, "depth": 2}}]
    return sweep(
        cfgs,
        [
            {"name": "w64", "mlp.width": 64},  # Only updates width, keeps depth
            {"name": "w128", "mlp.width": 128},
        ],
    )


@dot_notation.report
def report(results):
    for r in results:
        print(r.name, dict(r.config.mlp), r["weights"])


if __name__ == "__main__":
    dot_notation.run()
    # merge() is what a sweep does to each config: a plain key replaces its value whole.
    print(thaw(merge({"mlp": {"width": 32, "depth": 2}}, {"mlp": {"width": 64}})))
    print(thaw(merge({"mlp": {"width": 32, "depth": 2}}, {"mlp.width": 64})))
