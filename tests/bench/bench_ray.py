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
from pyexp.executors.base import RunSettings, Session, SessionExecutor, StopRequest, Task
from pyexp.executors.loop import schedule

pytestmark = pytest.mark.bench

CELLS, SLOTS, ROUNDS = 200, 2, 3
WARM = 4 * SLOTS


def no_op(config):
    return config.i


no_op.__module__ = "__main__"  # so that it travels by value: else each cell would import this module, and pytest


def seconds(session: Session, top: Path, cells: int) -> float:
    """How long so many cells take, in a session that is ready."""
    top.mkdir()

    def tasks() -> Iterator[Task]:
        for i in range(cells):
            folder = top / f"c{i}"
            folder.mkdir()
            yield Task(f"c{i}", no_op, freeze({"i": i}), str(folder))

    began = time.perf_counter()
    ended = list(schedule(session, tasks()))
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
    executors: dict[str, tuple[SessionExecutor, RunSettings]] = {
        "subprocess": (SubprocessExecutor(), RunSettings(jobs=SLOTS, durable=False)),
        "ray, files in place": (RayExecutor(), RunSettings(durable=False)),
        "ray, files brought home": (RayExecutor(shared_disk=False), RunSettings(durable=False)),
    }
    taken: dict[str, list[float]] = {name: [] for name in executors}
    for turn in range(ROUNDS):
        for name, (executor, settings) in executors.items():
            with executor.session(no_op, settings, StopRequest()) as session:
                seconds(session, tmp_path / f"warm {turn} {name}", WARM)
                taken[name].append(seconds(session, tmp_path / f"{turn} {name}", CELLS))
    base = statistics.median(taken["subprocess"])
    with capsys.disabled():
        print(f"\n{CELLS} no-op cells, {SLOTS} slots, median of {ROUNDS}:")
        for name, figures in taken.items():
            middle = statistics.median(figures)
            print(f"  {name:25} {middle:6.2f} s  {middle / CELLS * 1000:6.1f} ms a cell  {middle / base:5.2f} x")
