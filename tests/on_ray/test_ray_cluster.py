"""Cells on a real cluster of three nodes, as a user sees them: scripts, run from outside."""

import hashlib
import signal
import tempfile
import time
from pathlib import Path

import pytest

from on_ray.ray_scripts import Script

pytestmark = pytest.mark.ray

HEAD = """
import os, sys, time
from pathlib import Path
import pyexp
from pyexp import RayExecutor

NOTES = Path(__file__).parent / "notes"
NOTES.mkdir(exist_ok=True)
NODE = "RAY_RAYLET_PID"  # of the nodes on this machine, each has its own

def note(config, text=""):
    with open(NOTES / config.name, "a") as file:
        file.write(f"{text or os.getpid()}\\n")
"""
TAIL = """
@experiment.configs
def configs():
    return [{"name": f"c{i}", "i": i} for i in range(CELLS)]

if __name__ == "__main__":
    experiment.run(executor=EXECUTOR)
"""


def experiment(body: str, executor: str, cells: int) -> str:
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    tail = TAIL.replace("CELLS", str(cells)).replace("EXECUTOR", executor)
    return f"{HEAD}\n@pyexp.experiment(name='t')\ndef experiment(config):\n{lines}\n{tail}"


FAR = "RayExecutor(shared_disk=False)"


def test_cells_spread_and_find_the_modules_beside_the_script(nodes, script: Script):
    script.write("def twice(x): return 2 * x", "sibling.py")
    body = """
import sibling
time.sleep(0.5)
return {"node": os.environ[NODE], "twice": sibling.twice(config.i), "here": os.getcwd(), "out": str(config.out)}
"""
    script.write(experiment(body, FAR, 10))
    run = script.run(RAY_ADDRESS=nodes.address)
    assert run.returncode == 0, run.stderr
    outputs = [script.record(f"c{i}")["outputs"] for i in range(10)]
    assert [told["twice"] for told in outputs] == [2 * i for i in range(10)]
    assert len({told["node"] for told in outputs}) == 3
    assert {told["here"] for told in outputs} == {str(script.folder)}
    # Each ran in a folder of its node, and all of it is here.
    assert not any(str(script.folder) in told["out"] or Path(told["out"]).exists() for told in outputs)
    assert all((script.out(f"c{i}") / "result.pkl").exists() for i in range(10))


def test_working_directory_is_sent_without_what_stays(nodes, script: Script):
    script.write("x = 1", "sibling.py")
    for name in ("data/large.bin", ".git/config", ".env", "sub/kept.txt"):
        script.write("x", name)
    body = """
import sibling
return {"files": " ".join(sorted(os.listdir("."))), "v": os.environ["V"],
        "sibling": sibling.__file__, "cwd": os.getcwd()}
"""
    env = "{'working_dir': '.', 'excludes': ['data/'], 'env_vars': {'V': '1'}}"
    script.write(experiment(body, f"RayExecutor({nodes.address!r}, runtime_env={env}, shared_disk=False)", 1))
    script.write("", "out/t/earlier/big.bin")
    script.write("*", "out/.gitignore")
    run = script.run()
    assert run.returncode == 0, run.stderr
    told = script.record("c0")["outputs"]
    # Empty folders may come; what is in them does not.
    assert set(told["files"].split()) - {"data", "out", "notes", "__pycache__"} == {"main.py", "sibling.py", "sub"}
    assert told["sibling"].startswith(told["cwd"])
    assert told["cwd"] != str(script.folder)
    assert told["v"] == "1"


def test_large_artifacts_come_home(nodes, script: Script):
    body = """
import hashlib
data = os.urandom(100 << 20)
(config.out / "deep" / "er").mkdir(parents=True)
(config.out / "deep" / "er" / "model.bin").write_bytes(data)
print("said")
if config.i:
    os.kill(os.getpid(), 9)
return hashlib.sha256(data).hexdigest()
"""
    script.write(experiment(body, FAR, 2))
    run = script.run(RAY_ADDRESS=nodes.address)
    assert run.returncode == 0, run.stderr
    file = script.out("c0") / "deep" / "er" / "model.bin"
    assert hashlib.sha256(file.read_bytes()).hexdigest() == script.record("c0")["outputs"]["value"]
    # Of one that was killed, what it left comes home too.
    assert (script.out("c1") / "deep" / "er" / "model.bin").stat().st_size == 100 << 20
    assert (script.out("c1") / "log.txt").read_text() == "said\n"
    assert "SIGKILL" in script.record("c1")["error"]["message"]


def _left_on_a_node(script: Script) -> list[Path]:
    """Folders of this test's cell that are left where nodes keep them for a while."""
    found = Path(tempfile.gettempdir()).glob(f"pyexp-*/{script.out('c1').name}")
    return [path for path in found if path.stat().st_mtime > script.folder.stat().st_ctime]


def test_a_crash_counts_once_and_leaves_stdout_to_the_report(nodes, script: Script):
    body = """
note(config, "begun")
if config.i == 0:
    os.kill(os.getpid(), 11)
if config.i == 1:
    server = Path(f"/proc/{os.getppid()}/stat").read_text()
    os.kill(int(server.rpartition(")")[2].split()[1]), 9)  # the worker of Ray itself
    time.sleep(60)
return config.i
"""
    script.write(experiment(body, FAR, 3))
    run = script.run(RAY_ADDRESS=nodes.address)
    assert run.returncode == 0, run.stderr
    assert [(script.folder / "notes" / f"c{i}").read_text() for i in range(3)] == ["begun\n"] * 3
    assert "SIGSEGV" in script.record("c0")["error"]["message"]
    assert script.record("c1")["error"]["type"] == "WorkerCrashedError"
    assert script.record("c2")["status"] == "done"
    assert "raylet" not in run.stdout
    deadline = time.monotonic() + 20  # the guardian clears up after the worker
    while (left := _left_on_a_node(script)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left == []
    assert [line.split()[0] for line in run.stdout.splitlines()][:4] == ["name", "c0", "c1", "c2"]


def test_a_failure_is_tried_again_as_often_as_asked(nodes, script: Script):
    script.write(experiment("note(config, 'begun')\nraise ValueError(config.i)", FAR, 1))
    run = script.run("--retries", "1", RAY_ADDRESS=nodes.address)
    assert run.returncode == 0, run.stderr
    assert (script.folder / "notes" / "c0").read_text() == "begun\n" * 2
    assert len(script.record("c0")["attempts"]) == 1


def test_what_an_attempt_left_is_there_for_the_next_on_another_node(nodes, script: Script):
    body = """
saved = config.out / "checkpoints" / "last"
saved.parent.mkdir(exist_ok=True)
if not saved.exists():
    saved.write_bytes(b"x" * (20 << 20))
    sys.exit("after the first epoch")
return saved.stat().st_size
"""
    script.write(experiment(body, FAR, 1))
    assert script.run(RAY_ADDRESS=nodes.address).returncode == 0
    assert script.record("c0")["status"] == "failed"
    assert script.run(RAY_ADDRESS=nodes.address).returncode == 0
    assert script.record("c0")["outputs"] == {"value": 20 << 20}


def test_cells_get_a_gpu_each(nodes, script: Script):
    body = """
note(config)
while len(list(NOTES.iterdir())) < 2:
    time.sleep(0.05)
return {"gpu": os.environ["CUDA_VISIBLE_DEVICES"], "node": os.environ[NODE], "threads": os.environ["OMP_NUM_THREADS"]}
"""
    script.write(experiment(body, "RayExecutor(num_gpus=1)", 2))
    run = script.run("--timeout", "60", RAY_ADDRESS=nodes.address)
    assert run.returncode == 0, run.stderr
    told = [script.record(f"c{i}")["outputs"] for i in range(2)]
    assert {one["gpu"] for one in told} == {"0", "1"}
    assert told[0]["node"] == told[1]["node"]
    assert told[0]["threads"] == "1"


def test_a_request_that_no_node_meets_is_an_error_that_says_what_there_is(nodes, script: Script):
    script.write(experiment("return 1", "RayExecutor(num_cpus=4, num_gpus=1)", 1))
    run = script.run(RAY_ADDRESS=nodes.address)
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert "4 CPU, 1 GPU" in line
    assert "2 CPU, 2 GPU" in line
    assert "wait=True" in line


def test_each_cell_can_ask_for_what_it_needs(nodes, script: Script):
    per_cell = "RayExecutor(per_cell=lambda config: {'num_gpus': config.i})"
    script.write(experiment("return os.environ.get('CUDA_VISIBLE_DEVICES') or 'none'", per_cell, 4))
    run = script.run(RAY_ADDRESS=nodes.address)
    assert run.returncode == 0, run.stderr
    assert [script.record(f"c{i}")["outputs"]["value"].count(",") for i in (1, 2)] == [0, 1]
    assert script.record("c0")["outputs"]["value"] == "none"
    assert "3 GPU" in script.record("c3")["error"]["message"]


def test_a_node_that_dies_takes_only_its_cells_and_continue_runs_these(nodes, script: Script):
    body = """
note(config)
if config.i < 2 and not (NOTES / "over").exists():
    time.sleep(300)
return config.i
"""
    pinned = "lambda config: {'resources': {'doomed': 1}} if config.i < 2 else {}"
    script.write(experiment(body, f"RayExecutor(per_cell=({pinned}) if 'DOOM' in os.environ else None)", 6))
    doomed = nodes.add(num_cpus=2, resources={"doomed": 2})
    run = script.start(RAY_ADDRESS=nodes.address, DOOM="1")
    script.wait_for("notes/c*", 6)
    nodes.remove(doomed)
    out, err = run.communicate(timeout=100)
    assert run.returncode == 0, err
    assert [script.record(f"c{i}")["status"] for i in range(6)] == ["failed"] * 2 + ["done"] * 4
    assert {script.record(f"c{i}")["error"]["type"] for i in range(2)} == {"NodeDiedError"}
    assert "raylet" not in out
    script.write("", "notes/over")
    again = script.run(RAY_ADDRESS=nodes.address)
    assert again.returncode == 0, again.stderr
    assert [script.record(f"c{i}")["status"] for i in range(6)] == ["done"] * 6
    begun = [len((script.folder / "notes" / f"c{i}").read_text().splitlines()) for i in range(6)]
    assert begun == [2, 2, 1, 1, 1, 1]


def test_a_node_that_comes_in_the_middle_gets_cells(nodes, script: Script):
    body = """
note(config)
deadline = time.monotonic() + 60
while len(list(NOTES.iterdir())) < 6 and time.monotonic() < deadline:
    time.sleep(0.05)
return {"node": os.environ[NODE], "together": len(list(NOTES.iterdir()))}
"""
    # One fits the first of these nodes; what the second can have besides is more than was handed over in advance.
    script.write(experiment(body, "RayExecutor(resources={'late': 1})", 12))
    first = nodes.add(num_cpus=1, resources={"late": 1})
    try:
        run = script.start(RAY_ADDRESS=nodes.address)
        script.wait_for("notes/c*", 1)
        second = nodes.add(num_cpus=5, resources={"late": 5})
        try:
            _, err = run.communicate(timeout=100)
        finally:
            nodes.remove(second)
    finally:
        nodes.remove(first)
    assert run.returncode == 0, err
    outputs = [script.record(f"c{i}")["outputs"] for i in range(12)]
    assert min(told["together"] for told in outputs) >= 6
    assert len({told["node"] for told in outputs}) == 2


def test_a_ray_that_is_there_is_used_and_left_running(nodes, script: Script):
    main = experiment("return os.environ[NODE]", "RayExecutor()", 2)
    ray = f"""
    import logging, ray
    ray.init({nodes.address!r}, log_to_driver=False, logging_level=logging.ERROR)
    experiment.run(executor="ray")
    print(ray.is_initialized(), ray.get(ray.put("still there")))
    experiment.run(executor=RayExecutor(runtime_env={{"working_dir": "."}}), rerun=True)
"""
    script.write(main.replace("    experiment.run(executor=RayExecutor())", ray))
    run = script.run()
    assert "True still there" in run.stdout
    assert script.record("c1")["status"] == "done"
    # A folder can only be given at ray.init: it is not dropped silently.
    assert run.returncode == 2
    assert "runtime_env['working_dir']" in run.stderr.splitlines()[-1]


def test_ctrl_c_ends_all_cells_within_seconds(nodes, script: Script):
    body = """
import subprocess
child = subprocess.Popen(["sleep", "300"], start_new_session=True)
note(config, f"{os.getpid()} {child.pid}")
time.sleep(300)
"""
    script.write(experiment(body, "RayExecutor()", 30))
    run = script.start(RAY_ADDRESS=nodes.address)
    notes = script.wait_for("notes/c*", 5)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 130, err
    assert "--timestamp run" in err
    _all_gone(notes)


def test_cells_end_with_the_run_that_was_killed(nodes, script: Script):
    script.write(experiment("note(config)\ntime.sleep(300)", FAR, 2))
    run = script.start(RAY_ADDRESS=nodes.address)
    notes = script.wait_for("notes/c*", 2)
    run.kill()
    run.communicate()
    _all_gone(notes)


def _all_gone(notes: list[Path]) -> None:
    deadline = time.monotonic() + 30
    while left := [note for note in notes if any(_alive(int(pid)) for pid in note.read_text().split())]:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.1)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def test_a_cluster_is_reached_through_a_client(nodes, script: Script):
    script.write("def twice(x): return 2 * x", "sibling.py")
    body = """
import sibling
(config.out / "big.bin").write_bytes(b"x" * (40 << 20))
return sibling.twice(config.i)
"""
    script.write(experiment(body, "RayExecutor(runtime_env={'working_dir': '.'}, shared_disk=False)", 3))
    run = script.run(RAY_ADDRESS=nodes.client)
    assert run.returncode == 0, run.stderr
    assert [script.record(f"c{i}")["outputs"]["value"] for i in range(3)] == [0, 2, 4]
    assert (script.out("c2") / "big.bin").stat().st_size == 40 << 20


@pytest.mark.long
def test_the_address_of_a_client_is_the_name_of_an_executor(nodes, script: Script):
    script.write(experiment("return os.environ[NODE]", "None", 2))
    run = script.run("--executor", nodes.client)
    assert run.returncode == 0, run.stderr
    assert all(script.record(f"c{i}")["outputs"]["value"].isdecimal() for i in range(2))
