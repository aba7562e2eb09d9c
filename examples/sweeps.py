"""Parameter sweeps: every config with every variation, the names joined.

python examples/sweeps.py
python examples/sweeps.py -k '*_e10'
"""

import pyexp
from pyexp import sweep


@pyexp.experiment
def sweeps(config):
    return {"progress": config.learning_rate * config.epochs}


@sweeps.configs
def configs():
    cfgs = [{"name": "exp", "base_lr": 0.01}]

    # Sweep over learning rates
    cfgs = sweep(
        cfgs,
        [
            {"name": "lr0.1", "learning_rate": 0.1},
            {"name": "lr0.01", "learning_rate": 0.01},
        ],
    )

    # Sweep over epochs (creates 2x2 = 4 configs)
    cfgs = sweep(
        cfgs,
        [
            {"name": "e10", "epochs": 10},
            {"name": "e100", "epochs": 100},
        ],
    )

    return cfgs  # Shape: (1, 2, 2), names: exp_lr0.1_e10, exp_lr0.1_e100, ...


@sweeps.report
def report(results):
    print("shape", results.shape)
    for r in results:
        print(r.name, r["progress"])


if __name__ == "__main__":
    sweeps.run()
