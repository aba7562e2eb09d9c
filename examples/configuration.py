"""Configuration: the folder for results, set in code or on the command line.

python examples/configuration.py
python examples/configuration.py --output-dir elsewhere
"""

from pathlib import Path

import pyexp


@pyexp.experiment
def configuration(config):
    return {"x": config.x}


@configuration.configs
def configs():
    return [{"name": "cell", "x": 1}]


@configuration.report
def report(results):
    print(results[0].out.relative_to(Path.cwd()).parts[0])


if __name__ == "__main__":
    configuration.run(output_dir="results/")
