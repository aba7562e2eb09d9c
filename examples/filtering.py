"""Result filtering: by name, by glob, by values of the config, by a predicate.

python examples/filtering.py
"""

import pyexp
from pyexp import sweep


@pyexp.experiment
def filtering(config):
    return {"accuracy": 1 - config.learning_rate / config.epochs, "parameters": config.mlp.width**2}


@filtering.configs
def configs():
    cfgs = [{"name": "exp", "mlp": {"width": 32, "depth": 2}}]
    cfgs = sweep(cfgs, [{"name": f"lr{lr}", "learning_rate": lr} for lr in (0.1, 0.01)])
    cfgs = sweep(cfgs, [{"name": f"e{epochs}", "epochs": epochs} for epochs in (10, 100)])
    return sweep(cfgs, [{"name": f"w{width}", "mlp.width": width} for width in (64, 128)])


@filtering.report
def report(results):
    # Pattern matching on name (glob-style)
    print("all with lr0.1:", results["exp_lr0.1_*"].shape)
    print("all with e10:", results["*_e10_*"].shape)

    # Dict matching on config values
    print("the same by value:", results[{"config.learning_rate": 0.1}].shape)

    # Multiple constraints
    print("two constraints:", results[{"config.learning_rate": 0.1, "config.epochs": 10}].shape)

    # Nested config access
    print("wide:", [r.name for r in results[{"config.mlp.width": 128}]])

    # A name, a predicate, and what a wrong query says
    print("one:", results["exp_lr0.01_e100_w128"]["parameters"])
    print("good:", [r.name for r in results.filter(lambda r: r["accuracy"] > 0.9995)])
    try:
        results[{"config.learning_rate": 0.2}]
    except IndexError as error:
        print("none:", error)


if __name__ == "__main__":
    filtering.run(jobs="auto")
