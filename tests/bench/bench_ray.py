"""200 no-op cells on two nodes of Ray on this machine, beside the same cells on subprocess with as many slots.

    pytest -m bench tests/bench/bench_ray.py -s

The start of Ray and of its workers is left out; the executors take turns, and the figures are medians of the rounds.
"""

import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyexp import RayExecutor, SubprocessExecutor
from pyexp.configs import freeze
from pyexp.executors.base import Halt, Pool, Task, Terms, drive

pytestmark = pytest.mark.bench

CELLS, SLOTS, ROUNDS = 200, 2, 3
WARM = 4 * SLOTS


def no_op(config):
    return config.i


no_op.__module__ = "__main__"  # so that it travels by value: else each cell would import this module, and pytest


def seconds(pool: Pool, top: Path, terms: Terms, cells: int) -> float:
    """How long so many cells take, in a pool that is open already."""
    top.mkdir()

    def tasks() -> Iterator[Task]:
        for i in range(cells):
            folder = top / f"c{i}"
            folder.mkdir()
            yield Task(f"c{i}", no_op, freeze({"i": i}), str(folder))

    began = time.perf_counter()
    ended = list(drive(pool, tasks(), terms, Halt()))
    taken = time.perf_counter() - began
    assert [one.outcome["status"] for one in ended] == ["done"] * cells
    return taken


@pytest.fixture
def two_nodes() -> Iterator[None]:
    pytest.importorskip("ray.cluster_utils", reason="the extra [ray] is not installed")
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled")
    with (
        warnings.catch_warnings(),
        tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as top,
    ):
        warnings.simplefilter("ignore")
        import ray
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 1, "temp_dir": top, "object_store_memory": 200 << 20, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        cluster.add_node(num_cpus=1, object_store_memory=200 << 20)
        ray.init(cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        yield
        ray.shutdown()
        cluster.shutdown()


def test_cells_on_ray_beside_cells_on_subprocess(two_nodes, tmp_path, capsys):
    pools: dict[str, tuple[Pool, Terms]] = {
        "subprocess": (SubprocessExecutor(), Terms(jobs=SLOTS, durable=False)),
        "ray, files in place": (RayExecutor(), Terms(durable=False)),
        "ray, files brought home": (RayExecutor(shared_disk=False), Terms(durable=False)),
    }
    taken: dict[str, list[float]] = {name: [] for name in pools}
    for turn in range(ROUNDS):
        for name, (pool, terms) in pools.items():
            pool.open(no_op, terms)
            try:
                seconds(pool, tmp_path / f"warm {turn} {name}", terms, WARM)
                taken[name].append(seconds(pool, tmp_path / f"{turn} {name}", terms, CELLS))
            finally:
                pool.close()
    base = statistics.median(taken["subprocess"])
    with capsys.disabled():
        print(f"\n{CELLS} no-op cells, {SLOTS} slots, median of {ROUNDS}:")
        for name, figures in taken.items():
            middle = statistics.median(figures)
            print(f"  {name:25} {middle:6.2f} s  {middle / CELLS * 1000:6.1f} ms a cell  {middle / base:5.2f} x")
