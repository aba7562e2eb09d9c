"""The specification's example of a cluster, as it is written there: where a node can give a cell that much, or not."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from on_ray.conftest import Nodes, cluster
from on_ray.ray_scripts import Script

pytestmark = pytest.mark.ray

SPECIFICATION = Path(__file__).parents[1] / "specification.md"
SCRIPT = """
import os
import pyexp

@pyexp.experiment(name="t")
def experiment(config):
    import sibling
    try:
        import IMPORTED as imported
    except ImportError:
        imported = sibling
    return {
        "here": " ".join(sorted(os.listdir("."))),
        "sibling": sibling.__file__,
        "imported": imported.__file__,
        "cpus": os.environ["OMP_NUM_THREADS"],
        "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
    }

@experiment.configs
def configs():
    return [{"name": f"c{i}", "i": i} for i in range(2)]

if __name__ == "__main__":
"""
LOCAL = '# Local Ray execution\nexperiment.run(executor="ray")\n'


def example() -> str:
    """The block under "Distributed Execution with Ray", word by word."""
    section = SPECIFICATION.read_text().split("### Distributed Execution with Ray\n")[1]
    return section.split("```python\n")[1].split("```")[0]


def replaced(block: str, *pairs: tuple[str, str]) -> str:
    """The block with these words in place of those, each of which is there once."""
    for old, new in pairs:
        assert block.count(old) == 1
        block = block.replace(old, new)
    return block


def written(script: Script, block: str, imported: str) -> None:
    """A script that ends with the block, in a folder that has what is to be sent along and what is not."""
    for name in ("data/large.bin", "model.pt", "sibling.py", "sub/kept.txt"):
        script.write("", name)
    indented = "".join(f"    {line}\n" for line in block.splitlines())
    script.write(SCRIPT.replace("IMPORTED", imported) + indented)


def go(script: Script, address: str) -> "subprocess.CompletedProcess[str]":
    options = {**script.options({"RAY_ADDRESS": address}), "args": [sys.executable, "main.py"]}
    return subprocess.run(**options, timeout=300, check=False)


def outputs(script: Script) -> list[list[dict[str, str]]]:
    """What the cells of each run returned, one run after the other."""
    runs = sorted(script.folder.glob("out/t/*/"))
    return [[json.loads(path.read_text())["outputs"] for path in sorted(run.glob("c*/record.json"))] for run in runs]


def check(script: Script, cells: list[dict[str, str]]) -> None:
    """Fail unless the cells got what the example says."""
    assert len(cells) == 2
    for told in cells:
        assert told["cpus"] == "4"
        assert told["gpus"] == "0"
        # Empty folders may come; what is in them does not.
        assert set(told["here"].split()) - {"data", "out", "__pycache__"} == {"main.py", "sibling.py", "sub"}
        assert Path(told["sibling"]).parent != script.folder
        assert "/runtime_resources/pip/" in told["imported"]


@pytest.fixture(scope="module")
def large() -> Iterator[Nodes]:
    """A cluster that has what the example asks for."""
    with cluster(num_cpus=4, num_gpus=1) as made:
        yield made


def need_from_pip(*packages: str) -> None:
    """Skip the test if pip cannot have these here, or Ray cannot call it."""
    pytest.importorskip("virtualenv", reason="Ray's runtime_env needs virtualenv for pip")
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--disable-pip-version-check", *packages]
    tried = subprocess.run(pip, capture_output=True, text=True, timeout=120, check=False)
    if tried.returncode:
        pytest.skip(f"pip cannot install {', '.join(packages)} here: {tried.stderr.splitlines()[-1]}")


def test_the_example_runs_word_by_word_where_a_node_has_that_much(large, script: Script):
    need_from_pip("pandas", "numpy")
    written(script, example(), "pandas")
    run = go(script, large.address)
    assert run.returncode == 0, run.stderr
    bare, cells = outputs(script)
    assert [told["cpus"] for told in bare] == ["1", "1"]
    check(script, cells)


@pytest.mark.long
def test_the_example_installs_on_the_nodes_what_is_not_here_through_a_client_too(large, script: Script):
    need_from_pip("inflection")
    words = ('address="auto"', f"address={large.client!r}"), ('"pandas", "numpy"', '"inflection"'), (LOCAL, "")
    written(script, replaced(example(), *words), "inflection")
    run = go(script, large.address)
    assert run.returncode == 0, run.stderr
    (cells,) = outputs(script)
    check(script, cells)


def test_the_example_answers_in_one_line_where_no_node_has_that_much(nodes, script: Script):
    written(script, replaced(example(), (LOCAL, "")), "pandas")
    run = go(script, nodes.address)
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert "no node of the Ray cluster can give a cell 4 CPU, 1 GPU" in line
    assert all(has in line for has in ("has 1 CPU,", "has 2 CPU,", "has 2 CPU, 2 GPU,"))
    assert not (script.folder / "out").exists()
