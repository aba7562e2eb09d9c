"""Distributed execution with Ray. Needs Ray: pip install 'ray[client]'

python examples/with_ray.py
"""

import os

import pyexp
from pyexp import RayExecutor


@pyexp.experiment
def with_ray(config):
    (config.out / "where.txt").write_text(f"process {os.getpid()}\n")  # comes back to the run's folder
    return {"square": config.x**2}


@with_ray.configs
def configs():
    return [{"name": f"x{x}", "x": x} for x in range(4)]


if __name__ == "__main__":
    # Without an address, Ray starts here. For a cluster: address="auto" or "ray://cluster-head:10001", and
    # runtime_env={"working_dir": ".", "excludes": ["data/", "*.pt"], "pip": ["pandas"]} to send code along.
    with_ray.run(executor=RayExecutor(num_cpus=1))
