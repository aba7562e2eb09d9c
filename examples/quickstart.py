"""The quick start: an experiment, its configs, its report.

python examples/quickstart.py
"""

import pyexp
from pyexp import Config


@pyexp.experiment(name="mnist")
def experiment(config: Config):
    lr = config.learning_rate
    epochs = config.epochs
    # Run your experiment...
    return {"accuracy": 0.95, "steps": lr * epochs}


@experiment.configs
def configs():
    return [
        {"name": "fast", "learning_rate": 0.01, "epochs": 10},
        {"name": "slow", "learning_rate": 0.001, "epochs": 100},
    ]


@experiment.report
def report(results):
    # Each result contains 'name', 'config', and experiment outputs
    for r in results:
        print(f"{r['name']}: {r['accuracy']}")

    # Filter by config values
    fast_results = results[{"config.learning_rate": 0.01}]
    print(f"with a learning rate of 0.01: {[r['name'] for r in fast_results]}")


if __name__ == "__main__":
    experiment.run()
