"""A run is loaded from its folder, from anywhere, without the script; only what is looked at is unpickled."""

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

import pyexp
from pyexp import NoRunError, Result, ResultError, Results, StoreError
from pyexp.store import byvalue
from pyexp.store.modules import is_there
from pyexp.store.pickling import load_noting, packed, save
from pyexp.store.records import load_verified

SCRIPT = """
from dataclasses import dataclass
from typing import Generic, NewType, ParamSpec, TypeVar
import pyexp
from pyexp import sweep

Width = NewType("Width", int)
T = TypeVar("T", bound=Width)
P = ParamSpec("P")

@dataclass
class Model(Generic[T, P]):
    width: Width

@pyexp.experiment(name="mnist", executor="{executor}", timestamp="{timestamp}")
def experiment(config):
    if config.width == 3:
        raise ValueError("too narrow")
    return {{"accuracy": config.width / 10, "model": Model(config.width), "layers": [config.width] * 3}}

@experiment.configs
def configs():
    return sweep([{{"name": "exp", "layers": (1, 2)}}], [{{"name": f"w{{w}}", "width": w}} for w in (1, 2, 3, 4)])

if __name__ == "__main__":
    experiment.run()
"""


def start(folder: Path, *arguments: str, timestamp: str = "t", executor: str = "subprocess") -> None:
    (folder / "main.py").write_text(SCRIPT.format(timestamp=timestamp, executor=executor))
    subprocess.run([sys.executable, "main.py", "--no-durable", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of the script, of which one cell was never started."""
    folder = tmp_path_factory.mktemp("load")
    start(folder, "-k", "*w[123]", "-q")
    return folder / "out" / "mnist" / "t"


@pytest.fixture
def run(ran: Path, tmp_path: Path) -> Path:
    """A copy of that folder, elsewhere: moved, as a user may, to another machine."""
    return Path(shutil.copytree(ran, tmp_path / "moved"))


def test_the_grid_and_its_axes_are_back_with_what_was_never_started(run: Path) -> None:
    results = pyexp.load(run)
    assert isinstance(results, Results)
    assert results.shape == (1, 4)
    assert [axis.name for axis in results.axes] == ["layers", "width"]
    assert results.axes[1].coords == (1, 2, 3, 4)
    assert results.axes[0].coords == ((1, 2),)
    assert [result.record.status for result in results] == ["done", "done", "failed", "new"]
    assert results["exp_w4"]["message"] == "new"
    assert results[{"config.width": 2}].item()["accuracy"] == 0.2
    assert results[0, 2].config.layers == (1, 2)
    assert results.sel(width=1).item().out == run / results[0].out.name


def test_only_what_is_looked_at_is_unpickled(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in run.glob("*/result.pkl"):  # as a copy has it: the record knows the content by its seal
        shutil.copy(path, path.with_suffix(".copy")).replace(path)
    monkeypatch.setattr(pickle, "Unpickler", None)
    results = pyexp.load(run)
    assert results[0]["accuracy"] == 0.1
    assert results.mean("width", skipna=True)[0]["accuracy"] == pytest.approx(0.15)
    monkeypatch.undo()
    assert results[0]["layers"] == [1, 1, 1]


def test_a_result_that_is_damaged_later_is_named_when_it_is_looked_at(run: Path) -> None:
    results = pyexp.load(run)
    (run / results[0].out / "result.pkl").write_bytes(b"no pickle")
    with pytest.raises(ResultError, match=r"the result of 'exp_w1' cannot be loaded again: .*result\.pkl"):
        results[0]["layers"]
    # What another run puts there would not belong to the scalars that are known already.
    save(str(run / results[1].out / "result.pkl"), {"accuracy": 0.9, "layers": [9]}, durable=False)
    assert results[1]["accuracy"] == 0.2
    with pytest.raises(ResultError, match=r"'exp_w2' cannot be loaded again: the cell has been run again since"):
        results[1]["layers"]
    assert pyexp.load(run)[1]["layers"] == [9]


class Fragile:
    """A class whose instances can be loaded until it is `broken`."""

    broken = False

    def __getstate__(self) -> dict[str, int]:
        return {"a": 1}

    def __setstate__(self, state: dict[str, int]) -> None:
        if self.broken:
            raise KeyError("gone")


def test_what_cannot_be_loaded_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The method that raises; and before anything is written, the part of the result."""
    (tmp_path / "result.pkl").write_bytes(pickle.dumps([Fragile()]))
    monkeypatch.setattr(Fragile, "broken", True)
    with pytest.raises(ResultError, match=r"^KeyError: 'gone' \(in \w*test_load\.Fragile\.__setstate__\)$"):
        load_verified(str(tmp_path / "result.pkl"))
    (tmp_path / "result.pkl").write_bytes(b"no pickle")
    with pytest.raises(ResultError, match=r"^UnpicklingError: [^(]*$"):
        load_verified(str(tmp_path / "result.pkl"))
    (tmp_path / "result.pkl").write_bytes(b"cnowhere\nModel\n.")
    with pytest.raises(ResultError, match=r"^ModuleNotFoundError: No module named 'nowhere'$"):
        load_verified(str(tmp_path / "result.pkl"))
    with pytest.raises(KeyError) as caught:
        packed({"loss": 0.5, "models": [1, Fragile()]})
    (note,) = caught.value.__notes__
    assert note.startswith("the result['models'][1] is a ")
    assert note.endswith(".Fragile, which was pickled and cannot be loaded again")


def test_two_results_that_were_swapped_are_believed_by_nobody(run: Path) -> None:
    one, two = sorted(run.glob("exp_w[12]-*"))
    (one / "result.pkl").rename(run / "x")
    (two / "result.pkl").rename(one / "result.pkl")
    (run / "x").rename(two / "result.pkl")
    messages = [result.record.message for result in pyexp.load(run)][:2]
    assert messages == ["unfinished (its result is unreadable: it is the result of another cell)"] * 2


def test_a_class_of_the_script_comes_back_without_the_script(run: Path) -> None:
    model = pyexp.load(str(run))[1]["model"]
    assert (type(model).__name__, model.width) == ("Model", 2)
    width, (bound, _) = type(model).__annotations__["width"], type(model).__parameters__
    assert width.__supertype__ is int
    assert bound.__bound__ is width


def test_a_cell_is_loaded_by_its_own_folder(run: Path) -> None:
    (folder,) = run.glob("exp_w2-*")
    result = pyexp.load(folder)
    assert isinstance(result, Result)
    assert (result.name, result["accuracy"], result["layers"], result.out) == ("exp_w2", 0.2, [2, 2, 2], folder)


def test_the_folder_of_an_experiment_stands_for_its_latest_run(ran: Path) -> None:
    start(ran.parents[2], "-q", timestamp="u", executor="inline")
    try:
        assert [result.record.status for result in pyexp.load(ran.parent)] == ["done", "done", "failed", "done"]
    finally:
        shutil.rmtree(ran.parent / "u")


def test_the_summary_of_a_run_is_that_of_its_folders(run: Path) -> None:
    results = pyexp.load(run)
    (run / results[0].out / "result.pkl").unlink()
    (run / results[1].out / "record.json").write_text("{")
    shutil.rmtree(run / results[2].out)
    again = pyexp.load(run)
    assert [result.record.message for result in again] == [
        "unfinished (its result is gone)",
        "",
        "new",
        "new",
    ]
    assert again[1]["accuracy"] == results[1]["accuracy"]
    (run / results[3].out).mkdir()
    assert pyexp.load(run)[3].message == "unfinished"


@pytest.mark.parametrize("told", ["", "{", '{"format": 1}', '{"format": 1, "cells": 3}', "[]"])
def test_a_run_whose_description_is_lost_is_loaded_flat(run: Path, told: str) -> None:
    (run / "run.json").write_text(told)
    results = pyexp.load(run)
    assert results.shape == (3,)
    assert results["exp_w1"]["accuracy"] == 0.1


def test_axes_that_do_not_fit_the_cells_are_left_out(run: Path) -> None:
    told = json.loads((run / "run.json").read_text())
    for key, value in (("shape", [2, 2]), ("shape", [7]), ("axes", [{"name": "x"}]), ("axes", 3)):
        (run / "run.json").write_text(json.dumps({**told, key: value}))
        results = pyexp.load(run)
        assert results.size == 4
        assert [axis.size for axis in results.axes] == list(results.shape)


def test_where_there_is_no_run_it_says_what_there_is(run: Path) -> None:
    with pytest.raises(NoRunError, match=r"no run at .*moveed; did you mean 'moved'"):
        pyexp.load(run.parent / "moveed")
    with pytest.raises(NoRunError, match="no run at"):
        pyexp.load(run / "nowhere" / "at" / "all")


def test_a_newer_format_is_refused(run: Path) -> None:
    (run / "run.json").write_text('{"format": 3}')
    with pytest.raises(StoreError, match="newer pyexp"):
        pyexp.load(run)


def test_a_private_module_of_another_python_is_looked_up_at_its_public_place() -> None:
    pickled = b"\x80\x05\x8c\x0epathlib._local\x8c\x0dPurePosixPath\x93\x8c\x01a\x85R."  # as Python 3.13 writes it
    value, needs = load_noting(pickled)
    assert value == PurePosixPath("a")
    assert all(is_there(*need.split(":")) for need in needs)
    assert not is_there("pathlib._local", "Nothing")
    with pytest.raises((ImportError, AttributeError), match=r"pathlib\._local"):
        load_noting(pickled.replace(b"PurePosixPath", b"PurePosixPest"))


def test_code_of_another_python_is_never_run() -> None:
    """Its instructions have other meanings: an instance of such a class has its data, and its methods raise."""

    def outer(x: int) -> Any:
        def inner() -> int:
            return x

        return inner

    inner = outer(3)
    payload = byvalue.dumps_by_value(inner)
    assert load_noting(payload)[0]() == 3
    own, other = ("{}.{}".format(*version).encode() for version in (sys.version_info, (3, 10)))
    assert payload.count(own) == 1
    loaded = load_noting(payload.replace(own, other))[0]
    assert loaded.__closure__[0].cell_contents == 3
    with pytest.raises(RuntimeError, match=r"outer\.<locals>\.inner was pickled by Python 3\.10 and cannot be called"):
        loaded()
