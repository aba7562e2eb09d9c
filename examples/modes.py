"""Execution modes: where a cell runs.

python examples/modes.py
python examples/modes.py --executor inline
"""

import os

import pyexp

PARENT = os.getpid()  # in a fresh interpreter, this module is not imported: the function brings its globals along


@pyexp.experiment(executor="subprocess")  # the default; also "fork", "inline", "ray"
def modes(config):
    return {"own_process": os.getpid() != PARENT}


@modes.configs
def configs():
    return [{"name": "cell"}]


@modes.report
def report(results):
    return results[0]["own_process"]


if __name__ == "__main__":
    for executor in ("subprocess", "fork", "inline"):
        print(f"asked for {executor}: in a process of its own: {modes.run(executor=executor)}")
