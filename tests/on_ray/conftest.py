"""A real cluster on this machine for all tests of Ray, and scripts that are run on it from outside."""

import os
import socket
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from on_ray.ray_scripts import ENVIRONMENT, Script

STORE = 300 << 20


class Nodes:
    """A cluster on this machine: a head that has so much, and the nodes that are added to it."""

    def __init__(self, folder: str, **head: Any) -> None:
        from ray.cluster_utils import Cluster

        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.client = f"ray://127.0.0.1:{port}"
        head |= {
            "ray_client_server_port": port,
            "temp_dir": folder,
            "object_store_memory": STORE,
            "include_dashboard": False,
        }
        self.cluster = Cluster(initialize_head=True, head_node_args=head)

    @property
    def address(self) -> str:
        return self.cluster.address

    def add(self, **has: Any) -> Any:
        return self.cluster.add_node(object_store_memory=STORE, **has)

    def remove(self, node: Any) -> None:
        """Kill a node: a farewell would take it seconds."""
        self.cluster.remove_node(node, allow_graceful=False)

    def end(self) -> None:
        """Kill all of them."""
        for node in self.cluster.list_all_nodes():
            self.remove(node)
        self.cluster.shutdown()


@contextmanager
def cluster(**head: Any) -> Iterator[Nodes]:
    """A cluster for as long as this lasts."""
    pytest.importorskip("ray.cluster_utils", reason="the extra [ray] is not installed")
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    # The paths of Ray's sockets must not exceed 107 bytes.
    with (
        warnings.catch_warnings(),
        tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as top,
    ):
        warnings.simplefilter("ignore")
        made = Nodes(top, **head)
        try:
            yield made
        finally:
            made.end()
    for name, value in before.items():
        os.environ.pop(name, None) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="package")
def nodes() -> Iterator[Nodes]:
    """Three nodes: one with a CPU (the head), one with two, and one with two and two made-up GPUs."""
    with cluster(num_cpus=1) as made:
        made.add(num_cpus=2)
        made.add(num_cpus=2, num_gpus=2)
        yield made


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)
