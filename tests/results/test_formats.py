"""Runs that were written by earlier versions are loaded, and continued."""

import pickle
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

import pyexp
from pyexp import NotLoaded
from pyexp.store import pickling

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A copy of a run that was written in format 1, at the place where its script looks for it."""
    shutil.copy(GOLDEN / "main.py", tmp_path)
    return Path(shutil.copytree(GOLDEN / "format1", tmp_path / "out" / "golden" / "t"))


def test_a_run_of_format_1_is_loaded(run: Path) -> None:
    """With all that it held; the text of a repr is marked, but NumPy's numbers are numbers."""
    results = pyexp.load(run)
    assert results.shape == (1, 2, 3)
    assert [(axis.name, axis.coords) for axis in results.axes[1:]] == [("lr", (0.01, 0.1)), ("width", (1, 2, 3))]
    assert results.sel(lr=0.1, width=2).item()["accuracy"] == 0.2
    assert results[0, 0, 0]["long"] == 1 << 70
    assert results[0, 0, 2].message == "too narrow"
    assert results[0, 0, 1].value["weights"] == [1, 2]
    config = results[0].config
    assert config.pop("nan") != 0
    marked = {key: value for key, value in config.items() if isinstance(value, NotLoaded)}
    assert marked == {
        "array": NotLoaded("unknown", "numpy.ndarray", "array([0, 1, 2])"),
        "bytes": NotLoaded("unknown", "builtins.bytes", "b'ab'"),
        "colour": NotLoaded("unknown", "__main__.Colour", "<Colour.RED: 1>"),
        "complex": NotLoaded("unknown", "builtins.complex", "(3+4j)"),
        "date": NotLoaded("unknown", "datetime.date", "datetime.date(2020, 1, 2)"),
        "decimal": NotLoaded("unknown", "decimal.Decimal", "Decimal('0.50')"),
        "range": NotLoaded("unknown", "builtins.range", "range(0, 3)"),
    }
    assert {key: value for key, value in config.items() if key not in marked} == {
        "big": 1 << 70, "layers": (1, 2), "lr": 0.01, "marked": {"!": "tuple", "value": [1]}, "name": "exp_lr0_w1",
        "none": None, "odd": "\ud800", "path": PurePosixPath("a/b"), "sizes": [1, {"a": 2.5}], "tags": {"a", "b"},
        "width": 1, "yes": True,
    }  # fmt: skip


def test_a_run_of_format_1_is_continued(run: Path) -> None:
    """Its cells are found, and what is written from now on is of the new form."""
    folders = {path.name for path in run.iterdir() if path.is_dir()}
    command = [sys.executable, "main.py", "-q", "--continue"]
    ended = subprocess.run(command, cwd=run.parents[2], check=True, capture_output=True, text=True)
    assert "[1/2] exp_lr0_w3 failed" in ended.stderr
    assert {path.name for path in run.iterdir() if path.is_dir() and path.name != "code"} == folders
    results = pyexp.load(run)
    assert results.axes[1].coords == (0.01, 0.1)
    failed = results.sel(width=3)[0].config
    assert (failed.bytes, failed.range, repr(failed.colour)) == (b"ab", range(3), "<main.Colour.RED, not loaded>")


def test_what_was_pickled_by_a_module_that_has_moved_is_found() -> None:
    """Results hold the name of the function that finds the classes of a script."""
    loaded, _ = pickling.load_noting(b"cpyexp.byvalue\nclass_of_main\n.")
    assert loaded("NoSuchClass", pickle.dumps(Path)) is Path
