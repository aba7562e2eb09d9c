"""Output directory: `config.out` is the cell's own folder, for whatever it wants to keep.

python examples/output_directory.py
"""

import json

import pyexp
from pyexp import Config


@pyexp.experiment
def output_directory(config: Config):
    model = {"weights": [config.seed] * 3}
    (config.out / "model.json").write_text(json.dumps(model))
    print("this line goes to log.txt, in the same folder")
    return {"accuracy": 0.95}


@output_directory.configs
def configs():
    return [{"name": f"seed{seed}", "seed": seed} for seed in (0, 1)]


@output_directory.report
def report(results):
    for r in results:
        print(r.name, json.loads((r.out / "model.json").read_text()), (r.out / "log.txt").read_text().strip())


if __name__ == "__main__":
    output_directory.run()
