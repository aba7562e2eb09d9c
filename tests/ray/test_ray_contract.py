"""What every executor does, Ray does too: with the run's folder in sight of the node, and without."""

import logging
import warnings

import pytest

from pyexp import RayExecutor
from pyexp.testing import executor_behaviours

pytestmark = pytest.mark.ray

#: What differs, and why.
EXEMPT: dict[str, str] = {}


@pytest.fixture(scope="module")
def joined(nodes):
    """This process as a driver of the cluster, which all executors here use."""
    import ray

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.init(nodes.address, log_to_driver=False, logging_level=logging.ERROR)
        yield
        ray.shutdown()


@pytest.mark.parametrize("shared", [None, False], ids=["here", "far"])
@pytest.mark.parametrize("behaviour", executor_behaviours(exempt=EXEMPT), ids=str)
def test_ray_does_what_every_executor_does(behaviour, shared, joined, tmp_path):
    behaviour.check(lambda: RayExecutor(shared_disk=shared), tmp_path)
