"""Ray where there is no cluster: on this machine alone, at an address where nothing is, and not installed."""

import os
import time

import pytest

from on_ray.ray_scripts import Script
from pyexp import ExecutorError, RayExecutor, UsageError
from pyexp.executors.ray import connection as ray_connection
from pyexp.executors.ray.executor import fitting, wanted
from pyexp.worker import guardian

pytestmark = pytest.mark.ray

SCRIPT = """
import os, pyexp, sibling

@pyexp.experiment(name="t", executor="ray")
def experiment(config):
    if config.i == 1:
        os.kill(os.getpid(), 9)
    return {"twice": sibling.twice(config.i), "pid": os.getppid(), "out": str(config.out)}

@experiment.configs
def configs():
    return [{"name": f"c{i}", "i": i} for i in range(3)]

if __name__ == "__main__":
    before = {k: v for k, v in os.environ.items() if k.startswith("RAY_")}
    experiment.run()
    assert before == {k: v for k, v in os.environ.items() if k.startswith("RAY_")}
"""


def test_a_laptop_needs_nothing_configured(script: Script):
    pytest.importorskip("ray.cluster_utils", reason="the extra [ray] is not installed")
    script.write("def twice(x): return 2 * x", "sibling.py")
    script.write(SCRIPT)
    run = script.run()
    assert run.returncode == 0, run.stderr
    assert [line.split()[0] for line in run.stdout.splitlines()][:4] == ["name", "c0", "c1", "c2"]
    told = script.record("c2")["outputs"]
    assert told["twice"] == 4
    assert told["out"] == str(script.out("c2"))  # the disk is this one: no copy is made
    assert list((script.folder / "out/t/run").glob(".shared.*")) == []
    # Ray was started for the run, and is gone with it, and so are the servers of its workers.
    deadline = time.monotonic() + 30
    while guardian.facts_of(told["pid"]) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_address_where_nothing_is_is_told_in_one_line(script: Script):
    pytest.importorskip("ray.cluster_utils", reason="the extra [ray] is not installed")
    script.write("def twice(x): return 2 * x", "sibling.py")
    script.write(SCRIPT)
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1", "ray://no-such-host.invalid"):
        run = script.run("--executor", "ray", RAY_ADDRESS=address)
        assert run.returncode == 2
        (line,) = run.stderr.splitlines()
        assert f"nothing answers at {address.removeprefix('ray://')}" in line
        assert not (script.folder / "out").exists()


def test_without_the_package_one_line_says_how_to_get_it(script: Script):
    script.write("def twice(x): return 2 * x", "sibling.py")
    script.write(SCRIPT)
    for stand_in in ("raise ModuleNotFoundError('no ray', name='ray')", ""):
        script.write(stand_in, "ray.py")
        run = script.run()
        assert run.returncode == 2
        (line,) = run.stderr.splitlines()
        assert "pip install 'ray[client]'" in line


@pytest.mark.parametrize("wrong", [{"num_cpus": -1}, {"num_gpus": "two"}, {"resources": {"tpu": "1"}}])
def test_a_demand_that_is_no_amount_is_refused_at_once(wrong):
    with pytest.raises(UsageError, match="amounts"):
        RayExecutor(**wrong)


def test_a_folder_given_to_an_initialised_ray_is_refused():
    for local in ({"working_dir": "."}, {"py_modules": [os]}, {"py_modules": ["./lib"]}):
        with pytest.raises(ExecutorError, match="initialised"):
            ray_connection.remote(local)
    ray_connection.remote({"working_dir": "s3://b/code.zip", "py_modules": ["gcs://x.zip"], "pip": ["numpy"]})


def test_the_results_folder_is_not_sent_along(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for results, excluded in ((str(tmp_path / "results"), ["/results"]), ("/elsewhere/out", []), ("", [])):
        made = ray_connection.shipped({"working_dir": "."}, results)
        assert made == {"working_dir": str(tmp_path), "excludes": [".git", ".env", *excluded]}
    remote = {"working_dir": "https://example.org/code.zip"}
    assert ray_connection.shipped(remote) == remote


def test_what_fits_is_the_scarcest():
    has = {"CPU": 8.0, "GPU": 2.0, "memory": 10.0, "tpu": 3.0}
    assert fitting(has, {"num_cpus": 1}) == 8
    assert fitting(has, {"num_cpus": 1, "num_gpus": 0.5}) == 4
    assert fitting(has, {"num_cpus": 1, "memory": 6, "resources": {"tpu": 1}}) == 1
    assert fitting(has, {"num_cpus": 1, "resources": {"other": 1}}) == 0
    assert wanted({"num_cpus": 0, "num_gpus": 0}) == {}
