"""Everybody who asks what is on disk of a cell gets the same answer, and nobody runs code to find out."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pyexp
from pyexp.look import runs
from pyexp.store import history, modules

SCRIPT = """
from helper import Fit
from pyexp import experiment

@experiment(executor="inline", timestamp="t")
def trial(config):
    if config.name == "bad":
        raise ValueError("no")
    return {"fit": Fit(), "x": config.x}

if __name__ == "__main__":
    trial.run([{"name": name, "x": x} for x, name in enumerate(["a", "b", "bad"])])
"""
HELPER = """
print("the helper runs")

class Fit:
    pass
"""


def go(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *(arguments if arguments[:1] == ("-c",) else ("main.py", *arguments))],
        check=False,
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def loaded(folder: Path) -> str:
    """The statuses that `pyexp.load` gives, where the script's modules are."""
    code = "import pyexp; print(*(result.record.status for result in pyexp.load('out/trial/t')))"
    return go(folder, "-c", code).splitlines()[-1]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("states")
    (folder / "main.py").write_text(SCRIPT)
    (folder / "helper.py").write_text(HELPER)
    go(folder)
    return folder


@pytest.fixture
def copy(ran: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ran, tmp_path / "copy"))


def cut(path: Path) -> None:
    os.truncate(path, 40)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 8
    path.write_bytes(content)


def swap(path: Path) -> None:
    (other,) = path.parent.parent.glob("b-*")
    shutil.copy(other / "result.pkl", path)


def unseal(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-45])


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nothing": (lambda path: None, "done"),
    "cut": (cut, "unfinished"),
    "empty": (lambda path: path.write_bytes(b""), "unfinished"),
    "flipped": (flip, "unfinished"),
    "another cell's": (swap, "unfinished"),
    "cut before its seal": (unseal, "unfinished"),
    "gone": (lambda path: path.unlink(), "unfinished"),
    "a folder": (lambda path: path.unlink() or path.mkdir(), "unfinished"),  # type: ignore[func-returns-value]
    "touched": (lambda path: os.utime(path, (1, 1)), "done"),
    "no record": (lambda path: (path.parent / "record.json").unlink(), "done"),
    "a damaged record": (lambda path: (path.parent / "record.json").write_text("{"), "done"),
    "no folder": (lambda path: shutil.rmtree(path.parent), "new"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_list_the_dry_run_the_report_and_load_agree(copy: Path, damage: str) -> None:
    (cell,) = (copy / "out" / "trial" / "t").glob("a-*")
    do, status = DAMAGE[damage]
    do(cell / "result.pkl")
    before = {path: path.lstat().st_mtime_ns for path in copy.rglob("*")}
    listed = go(copy, "--list")
    number = "2 done" if status == "done" else f"1 done, 1 failed, 1 {status}"
    assert number in listed
    assert ("1 to load, 2 to run" if status != "done" else "2 to load, 1 to run") in go(copy, "-n")
    unready = re.findall(r"1 (unfinished|new)", go(copy, "--report"))
    assert unready == ([] if status == "done" else [status])
    assert loaded(copy) == f"{status} done failed"
    assert {path: path.lstat().st_mtime_ns for path in copy.rglob("*") if "__pycache__" not in str(path)} == {
        path: at for path, at in before.items() if "__pycache__" not in str(path)
    }
    go(copy)
    assert "2 done" in go(copy, "--list")
    assert loaded(copy) == "done done failed"


def test_no_module_is_imported_to_see_whether_a_result_can_be_loaded(copy: Path) -> None:
    script = (copy / "main.py").read_text().replace("from helper import Fit\n", "")
    (copy / "main.py").write_text(script.replace('    return {"fit"', '    from helper import Fit\n    return {"fit"'))
    for arguments in (["-n"], ["--list"], ["--report"]):
        assert "the helper runs" not in go(copy, *arguments)
    helper = copy / "helper.py"
    helper.write_bytes(b"# coding: latin-1\n# caf\xe9\n" + helper.read_bytes())
    assert "2 to load" in go(copy, "-n")
    helper.write_text("print('the helper runs')\nclass Other: pass\n")
    told = go(copy, "-n")
    assert "loading it needs helper.Fit, which is missing" in told
    assert "the helper runs" not in told


def test_every_grid_that_was_run_is_there(tmp_path: Path) -> None:
    made = pyexp.experiment(name="e", executor="inline", quiet=True, output_dir=tmp_path, timestamp="s")(
        lambda config: config.x
    )
    for first in (0, 2, 4):
        made.run([{"name": f"c{x}", "x": x} for x in (first, first + 1)], list, argv=[])
    kept_results = pyexp.load(tmp_path / "e" / "s")
    assert [(result.name, result.value) for result in kept_results] == [(f"c{x}", x) for x in range(6)]
    (kept,) = history.kept(str(tmp_path / "e"))
    assert (kept.shape, kept.statuses, kept.grids) == ((6,), {"done": 6}, 3)
    assert "3 grids = 6 cells: 6 done" in runs.overview([kept], None)[0]
    # A line that a crash has cut off costs no other.
    path = tmp_path / "e" / "s" / "history.jsonl"
    path.write_bytes(path.read_bytes()[:-10])
    made.run([{"name": "c6", "x": 6}], list, argv=[])
    assert [result.name for result in pyexp.load(tmp_path / "e" / "s")] == ["c0", "c1", "c4", "c5", "c6"]


def test_a_grid_that_grows_keeps_its_shape(tmp_path: Path) -> None:
    made = pyexp.experiment(name="e", executor="inline", quiet=True, output_dir=tmp_path, timestamp="s")(
        lambda config: config.x + config.y
    )
    for size in (1, 3):
        made.run(pyexp.sweep([{"x": 1}, {"x": 2}], [{"y": y} for y in range(size)]), list, argv=[])
    grid = pyexp.load(tmp_path / "e" / "s")
    assert (grid.shape, [axis.name for axis in grid.axes]) == ((2, 3), ["x", "y"])
    assert [result.value for result in grid] == [1, 2, 3, 2, 3, 4]
    assert [result.value for result in grid.sel(y=2)] == [3, 4]


def test_grids_that_lie_beside_each_other_keep_their_coordinates(tmp_path: Path) -> None:
    made = pyexp.experiment(name="e", executor="inline", quiet=True, output_dir=tmp_path, timestamp="s")(
        lambda config: {"sum": 10 * config.x + config.y}
    )
    grids = [
        pyexp.sweep([{"x": 1}, {"x": 2}], [{"y": 0}, {"y": 1}]),
        pyexp.sweep([{"x": 2}, {"x": 3}], [{"y": 1}, {"y": 2}]),
    ]
    for configs in grids:
        made.run(configs, list, argv=[])
    there = pyexp.load(tmp_path / "e" / "s")
    assert there.shape == (7,)
    assert sorted(result["sum"] for result in there.sel(y=1)) == [11, 21, 31]
    means = {result.config.x: result["sum"] for result in there.mean("y")}
    assert means == {1: 10.5, 2: 21.0, 3: 31.5}


def test_a_batch_added_to_a_large_run_writes_its_own_size(tmp_path: Path) -> None:
    made = pyexp.experiment(name="e", executor="inline", quiet=True, durable=False, output_dir=tmp_path, timestamp="s")(
        lambda config: None
    )
    made.run([{"name": f"c{x}", "x": x} for x in range(300)], list, argv=[])
    made.run([{"name": "d0", "x": -1}], list, argv=[])
    earlier = tmp_path / "e" / "s" / "history.jsonl"
    size = earlier.stat().st_size
    made.run([{"name": "d1", "x": -2}], list, argv=[])
    assert earlier.stat().st_size - size < size / 10
    assert len(json.loads((tmp_path / "e" / "s" / "run.json").read_text())["cells"]) == 1
    assert len(pyexp.load(tmp_path / "e" / "s")) == 302


def test_without_a_description_a_result_that_was_kept_apart_is_no_cell(tmp_path: Path) -> None:
    """It is older than the cell's own, or of another default: in a mean both would count."""
    made = pyexp.experiment(name="e", executor="inline", quiet=True, output_dir=tmp_path, timestamp="s")(
        lambda config: config.x
    )
    made.run([{"name": "c", "x": 1}], list, argv=[])
    run = tmp_path / "e" / "s"
    (cell,) = run.glob("c-*")
    name, _, digest = cell.name.rpartition("-")
    for kept in (f".before-{cell.name}", f"{name}_before-{digest}"):
        shutil.copytree(cell, run / kept)
    (run / "run.json").unlink()
    assert [result.value for result in pyexp.load(run)] == [1]


def test_a_module_is_found_without_loading_what_is_around_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "around").mkdir()
    for name in ("around/__init__.py", "around/inside.py", "my-study.py"):
        (tmp_path / name).write_text("raise SystemExit")
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "inside.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = {name: modules.spec_of(name) for name in ("around.inside", "my-study", "plain.inside", "around.other", "")}
    assert {name: spec and spec.origin for name, spec in found.items()} == {
        "around.inside": str(tmp_path / "around" / "inside.py"),
        "my-study": str(tmp_path / "my-study.py"),
        "plain.inside": str(tmp_path / "plain" / "inside.py"),
        "around.other": None,
        "": None,
    }
    assert not {"around", "plain"} & {*sys.modules}
