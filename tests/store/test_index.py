"""The index of a run: it saves the reading of records, and nothing that is in it or wrong with it changes a result."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pyexp
from pyexp.plan import cells_of
from pyexp.store import history as archive
from pyexp.store import index
from pyexp.store import records as store
from pyexp.store.files import seal
from pyexp.store.records import Run
from pyexp.sweep import grid_of

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20))
CONFIGS = [{"name": "a", "x": 1}, {"name": "b", "x": 2}]

SCRIPT = """
import sys
import pyexp
experiment = pyexp.experiment(name="e", executor="inline", quiet=True)(lambda config: {"y": 2 * config.x})
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
results = experiment.run([{"name": f"c{x}", "x": x} for x in range(9)], lambda results: results, timestamp="t", argv=[])
print([result["y"] for result in results] == [2 * x for x in range(9)], "json" in sys.modules,
      *sorted({path.rpartition("/")[2] for path in opened if "/out/" in path}))
"""


def run(
    folder: Path, fn: Callable[[Any], Any] = lambda config: config.x, configs: Any = CONFIGS, **options: Any
) -> Any:
    made = pyexp.experiment(name="e", executor="inline", durable=False, quiet=True, output_dir=folder)(fn)
    return made.run(configs, lambda results: results, timestamp="t", argv=[], **options)


def test_a_finished_run_opens_no_record_and_no_result(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(SCRIPT)
    told = [
        subprocess.run([sys.executable, "main.py"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert told[0].startswith("True True ")
    assert told[1] == "True False .index\n"


@given(st.dictionaries(st.text(max_size=5), SCALARS, max_size=4))
def test_an_entry_is_the_whole_record(tmp_path_factory: pytest.TempPathFactory, outputs: Any) -> None:
    folder = tmp_path_factory.mktemp("run")
    run(folder, lambda config: outputs, [{"name": "a"}])
    (cell,) = cells_of(grid_of([{"name": "a"}]))
    place = Run(str(folder / "e" / "t"))
    known = index.read(place.path)
    assert list(known.entries) == [cell.folder]
    (seen,) = store.look(place, [cell], known).values()
    (read,) = store.look(place, [cell]).values()
    assert seen.indexed
    assert not read.indexed
    assert repr(seen.record) == repr(read.record)
    assert list(seen.record.outputs) == list(read.record.outputs)  # type: ignore[union-attr]


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(content)


def made(content: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(content + seal(content))


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "gone": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "flipped": flipped,
    "text": lambda path: path.write_text("index"),
    "no marshal": made(b"hello"),
    "another value": made(b"N"),
    "another format": made(b"(\x04\x00\x00\x00z\x05otherNNN"),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "of another user": lambda path: os.chown(path, 12345, 12345),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_index_is_as_good_as_none(tmp_path: Path, damage: str) -> None:
    if damage == "of another user" and os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    assert [result.value for result in run(tmp_path)] == [1, 2]
    DAMAGES[damage](tmp_path / "e" / "t" / index.NAME)
    for _ in range(2):
        assert [result["value"] for result in run(tmp_path, lambda config: 1 / 0)] == [1, 2]


@settings(max_examples=30)
@given(st.binary(max_size=60))
def test_no_content_of_an_index_does_harm(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("run")
    run(folder)
    made(content)(folder / "e" / "t" / index.NAME)
    assert [result["value"] for result in run(folder, lambda config: 1 / 0)] == [1, 2]


def test_an_index_that_is_gone_is_made_again_by_a_run_that_has_nothing_to_do(tmp_path: Path) -> None:
    run(tmp_path)
    path = tmp_path / "e" / "t" / index.NAME
    before = index.read(str(path.parent))
    assert len(before.entries) == 2
    path.unlink()
    run(tmp_path)
    assert index.read(str(path.parent)) == before
    written = path.lstat()
    run(tmp_path)
    assert path.lstat() == written, "one that is current is left alone"


def test_what_is_run_later_is_in_the_index_beside_what_was(tmp_path: Path) -> None:
    run(tmp_path)
    run(tmp_path, configs=[*CONFIGS, {"name": "c", "x": 3}])
    run(tmp_path, configs=CONFIGS[:1])
    assert len(index.read(str(tmp_path / "e" / "t")).entries) == 3
    assert [r["value"] for r in run(tmp_path, lambda config: 1 / 0, [*CONFIGS, {"name": "c", "x": 3}])] == [1, 2, 3]


def test_a_copied_run_is_verified_anew_and_indexed(tmp_path: Path) -> None:
    run(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert [result["value"] for result in run(tmp_path / "two", lambda config: 1 / 0)] == [1, 2]
    cells = cells_of(grid_of(CONFIGS))
    place = Run(str(tmp_path / "two" / "e" / "t"))
    assert all(sight.indexed for sight in store.look(place, cells, index.read(place.path)).values())


@pytest.mark.parametrize("name", ["record.json", "run.json"])
@pytest.mark.parametrize("damage", ["gone", "flipped"])
def test_what_is_missing_beside_the_index_is_written_again(tmp_path: Path, name: str, damage: str) -> None:
    run(tmp_path)
    (path, *_) = sorted((tmp_path / "e" / "t").rglob(name))
    before = path.read_bytes()
    DAMAGES[damage](path)
    run(tmp_path, lambda config: 1 / 0)
    if name == "record.json":
        assert store.read_checked(str(path))["outputs"] == json.loads(before)["outputs"]
    else:
        assert archive.grid_json(cells_of(grid_of(CONFIGS))).items() <= json.loads(path.read_text()).items()


NEEDY = """
import sys
import pyexp
from beside import Value
experiment = pyexp.experiment(name="e", executor="inline", quiet=True)(lambda config: Value())
experiment.run([{"name": "a"}], lambda results: print(type(results[0].value).__name__), timestamp="t", argv=[])
"""


def test_a_result_whose_class_is_gone_is_made_again_though_the_index_has_it(tmp_path: Path) -> None:
    def told() -> str:
        command = [sys.executable, "-B", "main.py"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    (tmp_path / "main.py").write_text(NEEDY)
    (tmp_path / "beside.py").write_text("class Value: pass\n")
    assert [told(), told()] == ["Value\n", "Value\n"]
    (tmp_path / "beside.py").write_text("class New: pass\n")
    (tmp_path / "main.py").write_text(NEEDY.replace("import Value", "import New").replace("Value()", "New()"))
    assert told() == "New\n"


def test_a_run_that_wrote_no_grid_down_does_not_claim_that_it_did(tmp_path: Path) -> None:
    run(tmp_path)
    run(tmp_path, configs=CONFIGS[:1], last_failed=True)  # nothing has failed: run.json keeps the grid of two
    run(tmp_path, configs=CONFIGS[:1])
    assert json.loads((tmp_path / "e" / "t" / "run.json").read_text())["shape"] == [1]
