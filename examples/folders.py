"""Output folder structure: `name` and `timestamp` say where results are kept.

python examples/folders.py
"""

from pathlib import Path

import pyexp


@pyexp.experiment
def my_experiment(config):
    (config.out / "notes.txt").write_text("saved by the experiment\n")
    return {"double": 2 * config.x}


@my_experiment.configs
def configs():
    return [{"name": "one", "x": 1}]


@my_experiment.report
def report(results):
    print(results[0].out.relative_to(Path.cwd()))


if __name__ == "__main__":
    my_experiment.run()  # out/my_experiment/<timestamp>/one-<hash>
    my_experiment.run(name="mnist", timestamp=False)  # out/mnist/one-<hash>
    my_experiment.run(name="mnist", timestamp=False)  # the same folder: nothing is run again
    my_experiment.run(name="mnist", timestamp="v2")  # out/mnist/v2/one-<hash>
