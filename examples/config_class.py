"""Config class: a dict with dots.

python examples/config_class.py
"""

import pyexp
from pyexp import Config


@pyexp.experiment
def config_class(config: Config):
    assert config["learning_rate"] == config.learning_rate
    config.optimizer.lr *= 2  # a private copy: neither the record nor the next cell notices
    try:
        config.lerning_rate
    except AttributeError as error:
        return {"lr": config.optimizer.lr, "typo": str(error)}


@config_class.configs
def configs():
    return [{"name": "adam", "learning_rate": 0.1, "optimizer": {"kind": "adam", "lr": 0.01}}]


@config_class.report
def report(results):
    (r,) = results
    print(f"the experiment made it {r['lr']}, the record still says {r.config.optimizer.lr}")
    print(r["typo"])


if __name__ == "__main__":
    config_class.run()
