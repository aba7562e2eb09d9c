"""A node that is another machine as far as Linux can make it one: its own network, and not the run's folder."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from on_ray.ray_scripts import ENVIRONMENT, Script

TOOLS = ("ip", "unshare", "mount")
pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(
        not hasattr(os, "geteuid") or os.geteuid() != 0 or not all(map(shutil.which, TOOLS)),
        reason=f"needs root and {', '.join(TOOLS)}",
    ),
]
HEAD, NODE = "10.217.0.1", "10.217.0.2"


class Pair:
    """Two machines with a wire between them: `a`, on which the head and the run are, and `b`, a node with two CPUs.

    The head takes no cells, unless it is given CPUs.
    """

    def __init__(self, folder: Path, at_end: ExitStack, cpus: int, notes: Path) -> None:
        self.a, self.b = (f"pyexp-{side}-{os.getpid()}" for side in "ab")
        self.at_end = at_end
        for name in (self.a, self.b):
            self.ip("netns", "add", name)
            at_end.callback(self.ip, "netns", "del", name)
        self.ip("link", "add", "wire", "netns", self.a, "type", "veth", "peer", "name", "wire", "netns", self.b)
        for name, address in ((self.a, HEAD), (self.b, NODE)):
            self.ip("-n", name, "addr", "add", f"{address}/24", "dev", "wire")
            for device in ("lo", "wire"):
                self.ip("-n", name, "link", "set", device, "up")
        top = at_end.enter_context(tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True))
        ray = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats"]
        head = ["--head", "--port=6379", f"--node-ip-address={HEAD}", f"--num-cpus={cpus}", "--include-dashboard=false"]
        self.start(["ip", "netns", "exec", self.a, *ray, *head, f"--temp-dir={top}"])
        self.until(lambda: self.inside(["bash", "-c", f"</dev/tcp/{HEAD}/6379"]).returncode == 0)
        # The node sees nothing in the run's folder, and keeps its own files in one of the same name as the head's.
        hidden = f'mount -t tmpfs none {folder} && mount -t tmpfs none {top} && exec "$@"'
        joins = ["ip", "netns", "exec", self.b, *ray, f"--address={HEAD}:6379", f"--node-ip-address={NODE}"]
        path = [str(notes), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.start(
            ["unshare", "-m", "sh", "-c", hidden, "sh", *joins, "--num-cpus=2"], PYTHONPATH=os.pathsep.join(path)
        )

    @staticmethod
    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    def start(self, command: list[str], **environment: str) -> None:
        process = subprocess.Popen(
            command, env={**os.environ, **ENVIRONMENT, **environment}, stdout=-3, stderr=-3, start_new_session=True
        )
        self.at_end.callback(process.wait)
        self.at_end.callback(process.terminate)

    def inside(self, command: list[str]) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["ip", "netns", "exec", self.a, *command], capture_output=True, check=False)

    def alive(self) -> list[Any]:
        """The nodes that Ray has, as they are seen from the head."""
        asks = "import json, ray; ray.init('{HEAD}:6379', logging_level=50); print(json.dumps(ray.nodes()))"
        told = self.inside([sys.executable, "-W", "ignore", "-c", asks.replace("{HEAD}", HEAD)])
        nodes = json.loads(told.stdout.splitlines()[-1]) if told.returncode == 0 else []
        return [node for node in nodes if node["Alive"]]

    def until(self, true: Any) -> None:
        deadline = time.monotonic() + 60
        while not true():
            assert time.monotonic() < deadline, "Ray did not start in its namespace"
            time.sleep(0.2)


class Inside(Script):
    """A script that is run on the one machine of the pair."""

    network = ""

    def command(self, *args: str) -> list[str]:
        return ["ip", "netns", "exec", self.network, *super().command(*args)]


@pytest.fixture
def pair(tmp_path: Path, notes: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Pair, Inside]]:
    pytest.importorskip("ray.cluster_utils", reason="the extra [ray] is not installed")
    with ExitStack() as at_end:
        try:
            made = Pair(tmp_path, at_end, getattr(request, "param", 0), notes)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no namespaces can be made here: {error.stderr!r}")
        script = Inside(tmp_path)
        script.network = made.a
        yield made, script


MAIN = f"""
import os, time, pyexp
from pyexp import RayExecutor
import sibling

@pyexp.experiment(name="t")
def experiment(config):
    (config.out / "begun").write_text(os.environ["RAY_RAYLET_PID"])
    open(config.out / "big.bin", "wb").write(b"x" * (40 << 20))
    time.sleep(config.seconds)
    return {{"twice": sibling.twice(config.i), "sees": os.path.exists({{PATH}})}}

@experiment.configs
def configs():
    return [{{"name": f"c{{i}}", "i": i, "seconds": float(os.environ.get("SECONDS_", 0))}} for i in range(3)]

if __name__ == "__main__":
    # Until the node has come, nothing could take a cell.
    sent = {{"working_dir": "."}} if "SENDS" in os.environ else None
    experiment.run(executor=RayExecutor("{HEAD}:6379", runtime_env=sent, wait=True))
"""


def written(script: Inside) -> None:
    script.write("def twice(x): return 2 * x", "sibling.py")
    script.write(MAIN.replace("{PATH}", repr(str(script.folder / "main.py"))))


def test_a_node_that_does_not_see_the_runs_folder(pair):
    _, script = pair
    written(script)
    for how in ({}, {"SENDS": "1"}):
        run = script.run("--rerun", **how)
        assert run.returncode == 0, run.stderr
        check(script)


def check(script: Inside) -> None:
    """Fail unless the cells ran there, and their files came home."""
    assert [script.record(f"c{i}")["outputs"] for i in range(3)] == [{"twice": 2 * i, "sees": False} for i in range(3)]
    assert (script.out("c2") / "big.bin").stat().st_size == 40 << 20


@pytest.mark.long
def test_cells_on_a_node_whose_link_is_down_are_given_up(pair):
    made, script = pair
    written(script)
    run = script.start(SECONDS_="15")
    script.wait_for("out/t/run/*/result.pkl", 2)  # the first two are home, and the third has begun
    time.sleep(5)
    made.ip("-n", made.b, "link", "set", "wire", "down")
    _, err = run.communicate(timeout=300)
    assert run.returncode == 0, err
    assert sorted(script.record(f"c{i}")["status"] for i in range(3)) == ["done", "done", "failed"]
    assert "NodeDiedError" in err


BEATS = f"""
import os, time, pyexp
from pyexp import RayExecutor

@pyexp.experiment(name="t")
def experiment(config):
    far = not os.path.exists("MAIN_")  # on the other machine, which has its own in that place
    end = time.time() + (300 if far else 0.5)
    with open(f"NOTES_/{{config.name}}.{{os.getpid()}}", "w", buffering=1) as file:
        while time.time() < end:
            file.write(f"{{time.time()}}\\n")
            time.sleep(0.05)
    return config.i

@experiment.configs
def configs():
    return [{{"name": f"c{{i:02}}", "i": i}} for i in range(12)]

if __name__ == "__main__":
    experiment.run(executor=RayExecutor("{HEAD}:6379"))
"""
#: On the other machine's import path: while that file is there, no Ray worker begins with what it was given.
GATE = """
import os, sys, time

class Gate:
    @staticmethod
    def find_spec(name, *_):
        while name == "pyexp.executors.ray.node" and os.path.exists("NOTES_/gate"):
            time.sleep(0.1)

sys.meta_path.insert(0, Gate)
"""


@pytest.fixture
def notes() -> Iterator[Path]:
    """A folder that both machines see, whatever becomes of the wire."""
    with tempfile.TemporaryDirectory(prefix="pyexp-notes-") as folder:
        (Path(folder) / "sitecustomize.py").write_text(GATE.replace("NOTES_", folder))
        yield Path(folder)


def beats(notes: Path) -> dict[str, list[tuple[float, float]]]:
    """When each cell began and was last alive, for each time that it ran."""
    found: dict[str, list[tuple[float, float]]] = {}
    for path in notes.glob("c*"):
        times = path.read_text().split()
        found.setdefault(path.stem, []).append((float(times[0]), float(times[-1])))
    return {name: sorted(spans) for name, spans in found.items()}


def cut_off(made: Pair, script: Inside, notes: Path, *options: str) -> None:
    """Run the cells, and take the wire away when half of them are done."""
    script.write(BEATS.replace("NOTES_", str(notes)).replace("MAIN_", str(script.folder / "main.py")))
    made.until(lambda: len(made.alive()) == 2)
    run = script.start(*options)
    script.wait_for("out/t/run/*/result.pkl", 6)
    made.ip("-n", made.b, "link", "set", "wire", "down")
    _, err = run.communicate(timeout=300)
    assert run.returncode == 0, err
    assert [script.record(f"c{i:02}")["status"] for i in range(12)] == ["done"] * 12, err


@pytest.mark.long
@pytest.mark.parametrize("pair", [1], indirect=True)
def test_cells_on_a_node_that_is_cut_off_end_before_they_are_tried_again(pair, notes):
    made, script = pair
    cut_off(made, script, notes, "--retries", "1")
    ran = beats(notes)
    twice = {name: spans for name, spans in ran.items() if len(spans) > 1}
    assert len(ran) == 12
    assert len(twice) == 2
    assert all(len(spans) == 2 and spans[0][1] < spans[1][0] for spans in twice.values()), twice


@pytest.mark.long
@pytest.mark.parametrize("pair", [1], indirect=True)
def test_cells_that_a_lost_node_had_not_begun_run_elsewhere_and_never_there(pair, notes):
    made, script = pair
    (notes / "gate").touch()
    cut_off(made, script, notes)
    assert {name: len(spans) for name, spans in beats(notes).items()} == {f"c{i:02}": 1 for i in range(12)}
    # Nor do they when the machine is there again, and gets on with what it has.
    made.ip("-n", made.b, "link", "set", "wire", "up")
    (notes / "gate").unlink()
    time.sleep(10)
    assert {name: len(spans) for name, spans in beats(notes).items()} == {f"c{i:02}": 1 for i in range(12)}
