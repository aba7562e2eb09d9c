"""`merge A B`: the union of two output folders, whichever is added to which, and however often."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyrsistent import pmap

import pyexp
from pyexp.plan import cells_of
from pyexp.results import done, record_of
from pyexp.store import claims, files, history, layout, pickling, records, union
from pyexp.store.layout import Run
from pyexp.sweep import grid_of
from pyexp.worker.outcome import failed
from tests.cli.scripts import go, ran, write
from tests.look.outside import copied, look, refused, variables

STATES = ("none", "new", "unfinished", "failed", "failed later", "done", "done otherwise", "damaged")


def make_run(path: Path, grids: Iterable[tuple[int, dict[int, str]]]) -> None:
    """A run in which grids were run one after the other: each a number, and the states of its cells by theirs."""
    run = Run(str(path), durable=False)
    files.make_folders(run.path, durable=False)
    grids = sorted(grids, key=itemgetter(0))
    began = 1000.0 + grids[0][0]
    for number, states in grids:
        cells = cells_of(grid_of([{"name": f"c{i}", "i": i} for i in sorted(states)]))
        grid = {"format": 2, "started": began, "experiment": path.parent.name, **history.grid_json(cells)}
        command = {"host": "h", "process": number, "started": 1000.0 + number, "ended": 1001.0 + number}
        before = history.described(run)
        if before:
            history._append(run, before)
        told = {**grid, "commands": [{**command, "status": "finished"}]}
        files.write(os.path.join(run.path, layout.RUN), [files.checked_json(told)], durable=False)
        for cell in cells:
            make_cell(run, cell, states[cell.config["i"]])


def make_cell(run: Run, cell: Any, state: str) -> None:
    folder = Path(run.folder(cell))
    if state == "none" or folder.exists():
        return
    if state != "new":
        folder.mkdir()
        (folder / "log.txt").write_text(state)
    started = 2000.0 if state.endswith("later") else 1000.0
    if state.startswith(("done", "damaged")):
        value = {"y": cell.config["i"], "state": state, "own": [1]}
        pickling.save(run.file(cell, layout.RESULT), value, durable=False)
        records.commit(run, cell, record_of(cell.name, cell.config, cell.hash, done(value, []), started=started))
    if state == "damaged":
        (folder / "result.pkl").write_bytes((folder / "result.pkl").read_bytes()[:-5])
    if state.startswith("failed"):
        outcome = failed(ValueError(state))
        records.commit(run, cell, record_of(cell.name, cell.config, cell.hash, outcome, started=started))


def seen(folder: Path) -> dict[str, Any]:
    """All that counts in a folder: what its runs say of grids and commands, and how each of their cells stands."""
    told = {}
    for path in layout.runs_below(str(folder)) if folder.exists() else ():
        run = Run(path)
        cells = {}
        for name in layout.cell_folders(run):
            facts = records.facts(run, history.cell_at(name), records.Program(loads=False), exact=False)
            log = (Path(path) / name / "log.txt").read_text()
            standing = union.standing(facts)
            # Of a cell that has not ended there is nothing but its folder to compare.
            cells[name] = (standing, log if standing[0] > 1 else "")
        told[os.path.relpath(path, folder)] = (union.joined_parts(union.parts_of(run)), cells)
    return told


states = st.dictionaries(st.integers(0, 3), st.sampled_from(STATES), min_size=1, max_size=4)
grids = st.lists(st.tuples(st.integers(0, 4), states), min_size=1, max_size=3, unique_by=lambda grid: grid[0])
folders = st.dictionaries(st.sampled_from(["a/t", "a/u", "b/t"]), grids, min_size=1, max_size=2)


@contextmanager
def drawn(*described: dict[str, Any]) -> Iterator[list[Path]]:
    """Folders as they were drawn."""
    with tempfile.TemporaryDirectory() as above:
        made = []
        for number, runs in enumerate(described):
            for at, grids in runs.items():
                make_run(Path(above) / str(number) / at, grids)
            made.append(Path(above) / str(number))
        yield made


added = functools.partial(union.merged, durable=False)


def conflicts(events: Iterable[union.Event]) -> set[str]:
    return {os.path.basename(event.path) for event in events if not event.is_added and "another" in event.words}


def without(state: dict[str, Any], cells: set[str]) -> dict[str, Any]:
    return {
        at: (told, {name: stands for name, stands in known.items() if name not in cells})
        for at, (told, known) in state.items()
    }


@given(folders, folders)
def test_it_does_not_matter_which_is_added_to_which(a: dict[str, Any], b: dict[str, Any]) -> None:
    """But for the cells that have two results: each keeps its own, and both say which these are."""
    with drawn(a, b) as (one, other):
        mine, theirs = copied(one, one.parent / "mine"), copied(other, other.parent / "theirs")
        there, back = list(added(str(mine), str(other))), list(added(str(theirs), str(one)))
        assert conflicts(there) == conflicts(back)
        left = {os.path.basename(event.path) for event in (*there, *back) if not event.is_added}
        assert without(seen(mine), left) == without(seen(theirs), left)


@given(folders, folders)
def test_adding_it_again_changes_nothing(a: dict[str, Any], b: dict[str, Any]) -> None:
    with drawn(a, b) as (one, other):
        first = list(added(str(one), str(other)))
        state, content = seen(one), {path: path.read_bytes() for path in one.rglob("*") if path.is_file()}
        again = list(added(str(one), str(other)))
        assert not any(event.is_added for event in again)
        assert conflicts(again) == conflicts(first)
        assert seen(one) == state
        assert {path: path.read_bytes() for path in one.rglob("*") if path.is_file()} == content


@given(folders, folders, folders)
def test_the_order_of_three_does_not_matter(a: dict[str, Any], b: dict[str, Any], c: dict[str, Any]) -> None:
    with drawn(a, b, c) as (one, two, three):
        left = copied(one, one.parent / "left")
        told = [*added(str(left), str(two)), *added(str(left), str(three))]
        told += added(str(two), str(three))
        told += added(str(one), str(two))
        names = {os.path.basename(event.path) for event in told if not event.is_added}
        assert without(seen(left), names) == without(seen(one), names)


@given(folders)
def test_a_folder_added_to_nothing_is_that_folder(a: dict[str, Any]) -> None:
    with drawn(a) as (one,):
        fresh = one.parent / "fresh"
        left = {os.path.basename(event.path) for event in added(str(fresh), str(one)) if not event.is_added}
        assert without(seen(fresh), left) == without(seen(one), left)


@given(folders, folders)
def test_no_result_is_lost_or_overwritten(a: dict[str, Any], b: dict[str, Any]) -> None:
    with drawn(a, b) as (one, other):
        kept = {path: path.read_bytes() for path in one.rglob("result.pkl") if "damaged" not in log_of(path)}
        theirs = {path: path.read_bytes() for path in other.rglob("*") if path.is_file()}
        list(added(str(one), str(other)))
        assert {path: path.read_bytes() for path in kept} == kept
        assert {path: path.read_bytes() for path in other.rglob("*") if path.is_file()} == theirs
        for path in other.rglob("result.pkl"):
            mine = one / path.relative_to(other)
            assert "damaged" in log_of(path) or mine in kept or mine.read_bytes() == path.read_bytes()


def log_of(result: Path) -> str:
    return (result.parent / "log.txt").read_text()


def test_a_conflict_is_listed_with_status_1(folder: Path, first: Path) -> None:
    other = copied(folder / "out", folder / "other")
    cell = next((other / "mnist" / "first").glob("exp_lr0.1_seed0-*"))
    value = {"accuracy": 0.5, "weights": [9]}
    pickling.save(str(cell / "result.pkl"), value, durable=False)
    told = json.loads((cell / "record.json").read_text())
    record = record_of(told["name"], pmap(told["config"]), told["hash"], done(value, []))
    records.commit(Run(str(cell.parent)), history.cell_at(cell.name), record)
    mine = (first / cell.name / "result.pkl").read_bytes()
    done_ = look(folder, "merge", "out", "other")
    assert done_.returncode == 1
    assert done_.stdout.splitlines()[0].startswith(f"left: other/mnist/first/{cell.name}: it has another result in ")
    assert (first / cell.name / "result.pkl").read_bytes() == mine


def test_two_halves_of_a_grid_are_whole_and_go_on(tmp_path: Path) -> None:
    for half, glob in (("here", "*seed0"), ("there", "*seed[12]")):
        (tmp_path / half).mkdir()
        write(tmp_path / half)
        go(tmp_path / half, "-q", "--executor", "inline", "--timestamp", "t", "fixed=True", "-k", glob)
    done = look(tmp_path, "merge", "here/out", "there/out")
    assert (done.returncode, done.stdout) == (0, "4 cells added to here/out\n")
    ran(tmp_path / "here")
    again = go(tmp_path / "here", "--executor", "inline", "--timestamp", "t", "fixed=True")
    assert again.stderr == "out/mnist/t: 6 cells: 6 to load\n"
    assert ran(tmp_path / "here") == []
    assert look(tmp_path, "verify", "here/out").returncode == 0
    results = pyexp.load(tmp_path / "here" / "out" / "mnist" / "t")
    assert [result["weights"] for result in results] == [[result.config.seed] for result in results]


def test_grids_commands_and_patches_of_both_are_kept(folder: Path, first: Path) -> None:
    other = copied(folder, folder / "other")
    go(other, "-q", "--executor", "inline", "--timestamp", "first", "mlp.width=9", "-k", "*seed0")
    run = other / "out" / "mnist" / "first"
    for at, patch in ((first, b"mine"), (run, b"theirs")):
        told = json.loads((at / "run.json").read_text())
        told["commands"][-1]["patch"] = "changes.patch"
        (at / "run.json").write_text(json.dumps(told))
        (at / "changes.patch").write_bytes(patch)
    assert look(folder, "merge", "out", "other/out").returncode == 0
    told = history.history(Run(str(first)))
    assert len(told.grids) == 2
    assert [(first / command["patch"]).read_bytes() for command in told.commands] == [b"mine", b"theirs"]
    assert json.loads((first / "run.json").read_text())["shape"] == json.loads((run / "run.json").read_text())["shape"]
    assert look(folder, "verify", "out").returncode == 0


@given(grids, grids)
def test_a_union_began_with_the_first_of_its_runs(a: Any, b: Any) -> None:
    with drawn({"a/t": a}, {"a/t": b}) as (one, other):
        runs = [Run(str(folder / "a" / "t")) for folder in (one, other)]
        began = min(layout.beginning(run) for run in runs)
        starts = [part["started"] for run in runs for part in union.parts_of(run)]
        list(added(str(one), str(other)))
        assert layout.beginning(runs[0]) == history.described(runs[0])["started"] == min(starts) <= began
        assert len(history.history(runs[0]).grids) == len({json.dumps(grid["cells"]) for grid in both(runs)})


def both(runs: list[Run]) -> list[Any]:
    return [grid for run in runs for grid in history.history(run).grids]


def test_artifacts_links_and_modes_come_along(folder: Path, first: Path) -> None:
    cell = next(first.glob("exp_lr0.1_seed0-*"))
    (cell / "model").mkdir()
    (cell / "model" / "w.bin").write_bytes(b"\0" * 3_000_000)
    (cell / "model" / "w.bin").chmod(0o750)
    (cell / "latest").symlink_to("model/w.bin")
    assert look(folder, "merge", "new/place", "out").returncode == 0
    copy = folder / "new" / "place" / "mnist" / "first" / cell.name
    assert (copy / "latest").readlink() == Path("model/w.bin")
    assert (copy / "latest").read_bytes() == b"\0" * 3_000_000
    assert (copy / "model" / "w.bin").stat().st_mode == (cell / "model" / "w.bin").stat().st_mode
    assert (folder / "new" / "place" / ".gitignore").read_text() == "*\n"


@pytest.mark.parametrize("count", [1, 3, 8, 21])
def test_a_merge_that_was_killed_can_be_repeated(folder: Path, count: int) -> None:
    """Killed at one of its renames, each of which is a step that others can see."""
    code = (
        "import os, sys\nfrom pyexp.store import union\ncount = 0\n"
        "def counted(step):\n    def do(*args, **more):\n        global count\n        count += 1\n"
        f"        if count == {count}:\n            os.kill(os.getpid(), 9)\n        return step(*args, **more)\n"
        "    return do\n"
        "os.replace, os.rename = counted(os.replace), counted(os.rename)\nlist(union.merged('fresh', 'out'))\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], cwd=folder, env=variables(), check=False)
    assert killed.returncode == -signal.SIGKILL
    if (folder / "fresh").exists() and layout.runs_below(str(folder / "fresh")):
        assert [
            line for line in look(folder, "verify", "fresh").stdout.splitlines() if line.startswith("damaged")
        ] == []
    assert look(folder, "merge", "fresh", "out").returncode == 0
    assert seen(folder / "fresh") == seen(folder / "out")
    look(folder, "gc", "fresh", "--yes")
    assert list((folder / "fresh" / "mnist").rglob("*.pyexp-tmp")) == []


def test_a_damaged_description_is_replaced_and_set_aside(folder: Path, first: Path) -> None:
    other = copied(folder / "out", folder / "other")
    (first / "run.json").write_bytes((first / "run.json").read_bytes()[:-9])
    assert look(folder, "merge", "out", "other").returncode == 0
    assert (first / "run.json").read_bytes() == (other / "mnist" / "first" / "run.json").read_bytes()
    assert (first / "run.json.unreadable").exists()


def test_a_cell_that_is_running_is_left(folder: Path, first: Path) -> None:
    other = copied(folder / "out", folder / "other")
    cell = next(first.glob("exp_lr0.1_seed0-*"))
    shutil.rmtree(cell)
    claim = claims.claim(str(first / layout.CLAIMS), cell.name)
    assert claim is not None
    done = look(folder, "merge", "out", other)
    assert done.returncode == 1
    assert f"left: out/mnist/first/{cell.name}: a process has claimed it" in done.stdout
    claim.release()
    assert look(folder, "merge", "out", other).stdout == "1 cell added to out\n"


def test_what_cannot_be_merged_is_refused_and_nothing_written(folder: Path, first: Path, second: Path) -> None:
    before = {str(path) for path in folder.rglob("*")}
    other = copied(folder / "out", folder.parent / "other")
    assert "not of one kind" in refused(folder, "merge", "out", other / "mnist")
    assert "not of one kind" in refused(folder, "merge", "out/mnist", other / "mnist" / "first")
    assert "not of one kind" in refused(folder, "merge", "out/mnist/first", other)
    assert "are one folder" in refused(folder, "merge", "out", "out")
    assert "is in the other" in refused(folder, "merge", "out", "out/mnist")
    assert "there is no run in" in refused(folder, "merge", "out", "nowhere")
    (folder.parent / "photos").mkdir()
    (folder.parent / "photos" / "a.jpg").touch()
    assert "and other things" in refused(folder, "merge", folder.parent / "photos", other)
    text = (other / "mnist" / "first" / "run.json").read_text()
    (other / "mnist" / "first" / "run.json").write_text(text.replace('"experiment": "mnist"', '"experiment": "m"'))
    assert "is a run of 'mnist'" in refused(folder, "merge", "out/mnist/first", other / "mnist" / "first")
    assert {str(path) for path in folder.rglob("*")} == before
