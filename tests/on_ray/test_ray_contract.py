"""What every executor does, Ray does too: with the run's folder in sight of the node, and without."""

import logging
import warnings

import pytest

from pyexp import RayExecutor
from pyexp.testing import executor_behaviours

pytestmark = pytest.mark.ray

#: What differs on a Ray that is there already, and why.
EXEMPT = {
    "environment_is_the_cells_own": "a cell has the environment of its node; runtime_env adds to it",
    "halt_ends_what_runs": "it counts on one cell at a time; test_ray_cluster has Ctrl-C",
    "nothing_is_left_in_this_process": "Ray keeps its connections to the workers",
}
#: And where the node does not see the run's folder.
EXEMPT_FAR = {"config_comes_as_it_was_written": "config.out is a folder of the node"}


@pytest.fixture(scope="module")
def joined(nodes):
    """This process as a driver of the cluster, which all executors here use."""
    import ray

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.init(nodes.address, log_to_driver=False, logging_level=logging.ERROR)
        yield
        ray.shutdown()


@pytest.mark.long
@pytest.mark.parametrize("behaviour", executor_behaviours(exempt=EXEMPT), ids=str)
def test_ray_does_what_every_executor_does(behaviour, joined, tmp_path):
    behaviour.check(RayExecutor, tmp_path)


@pytest.mark.parametrize("behaviour", executor_behaviours(exempt=EXEMPT | EXEMPT_FAR), ids=str)
def test_ray_does_it_also_far_from_the_run(behaviour, joined, tmp_path):
    behaviour.check(lambda: RayExecutor(shared_disk=False), tmp_path)
