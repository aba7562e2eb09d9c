"""What a cell on Ray finds: the script as the run's process had it, loaded on the node."""

import pytest

from on_ray.ray_scripts import Script

pytestmark = pytest.mark.ray

FAR = "RayExecutor(shared_disk=False)"
TAIL = """
@experiment.configs
def configs():
    return [{"name": f"c{i}", "i": i} for i in range(6)]
"""


def test_what_the_script_sets_up_holds_and_what_was_set_since_arrives(nodes, script: Script):
    script.write(
        """
import decimal, os, threading
import pyexp
from pyexp import RayExecutor

decimal.getcontext().prec = 5
NODE = os.environ.get("RAY_RAYLET_PID", "none")
LOCK = threading.Lock()
SCALE = 1

@pyexp.experiment(name="t")
def experiment(config):
    with LOCK:
        third = decimal.Decimal(1) / 3
    print("said")
    if config.i == 5:
        raise ValueError("no")
    return {"third": str(third), "scale": SCALE, "is_nodes": NODE == os.environ["RAY_RAYLET_PID"]}
"""
        + TAIL
        + f"""
if __name__ == "__main__":
    SCALE = 7
    experiment.run(executor={FAR})
"""
    )
    run = script.run(RAY_ADDRESS=nodes.address)
    assert run.returncode == 0, run.stderr
    expected = {"third": "0.33333", "scale": 7, "is_nodes": True}
    assert [script.record(f"c{i}")["outputs"] for i in range(5)] == [expected] * 5
    log = (script.out("c5") / "log.txt").read_text().splitlines()
    assert log[0] == "said"
    assert log[-1] == "ValueError: no"
    assert any("main.py" in line and "in experiment" in line for line in log)


def test_an_edit_during_the_run_reaches_no_cell_and_a_guard_is_not_needed(nodes, script: Script):
    script.write("NUMBER = 1", "helper.py")
    script.write(
        """
from pathlib import Path
import pyexp
from pyexp import RayExecutor
import helper

def edit(config):
    for name in ("helper.py", "main.py"):
        Path(__file__).with_name(name).write_text("NUMBER = 2")
    return {}

@pyexp.experiment(name="t")
def experiment(config):
    return helper.NUMBER
"""
        + TAIL
        + "experiment.run(executor=RayExecutor(per_cell=edit))\nprint('reported')\n"
    )
    run = script.run(RAY_ADDRESS=nodes.address)
    assert run.returncode == 0, run.stderr
    assert (script.folder / "main.py").read_text() == "NUMBER = 2"
    assert [script.record(f"c{i}")["outputs"]["value"] for i in range(6)] == [1] * 6
    assert run.stdout.count("reported") == 1


def test_what_cannot_be_sent_is_refused_before_anything_runs(nodes, script: Script):
    script.write(
        """
import threading
import pyexp

@pyexp.experiment(name="t", executor="ray")
def experiment(config):
    with LOCK:
        return 1
"""
        + TAIL
        + """
if __name__ == "__main__":
    LOCK = threading.Lock()
    experiment.run()
"""
    )
    run = script.run(RAY_ADDRESS=nodes.address)
    assert run.returncode == 1
    assert "uses LOCK, a _thread.lock" in run.stderr.splitlines()[-1]
    assert not (script.folder / "out").exists()
