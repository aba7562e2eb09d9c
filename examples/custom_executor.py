"""Custom executors: a subclass with one method says how a cell is run.

python examples/custom_executor.py
"""

import pickle

import pyexp
from pyexp import Executor


class MyExecutor(Executor):
    """Runs cells in this process, and says which."""

    def run(self, fn, config, result_path):
        # Custom execution logic
        print(f"running {config.name} for {result_path.parent.name}")
        result = fn(config)
        with open(result_path, "wb") as f:  # not needed: pyexp saves what run() returns
            pickle.dump(result, f)
        return result


@pyexp.experiment
def custom_executor(config):
    return {"square": config.x**2}


@custom_executor.configs
def configs():
    return [{"name": f"x{x}", "x": x} for x in (1, 2)]


if __name__ == "__main__":
    custom_executor.run(executor=MyExecutor())
