"""A kill at every effect on the file system, whole and torn; a power cut at every effect.

The laws: what was reported as finished is still there and is not run again; the next run ends with every result right
and leaves no temporary file and no claim.
"""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from effects import Disk, Effects, in_child
from workbench import Bench, performed, reported_in

import pyexp
from pyexp.store import union

pytestmark = [pytest.mark.faults, pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a fork")]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where there is one: these tests sync thousands of times."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def nothing(bench: Bench) -> None:
    """The first run of all."""


def mixed(bench: Bench) -> None:
    """A run of which one record is gone, one result damaged, one cell failed."""
    bench.run(timestamp="t")
    (bench.cell("a") / "record.json").unlink()
    result = bench.cell("b") / "result.pkl"
    result.write_bytes(result.read_bytes().replace(b"blob", b"blub"))


def finished(bench: Bench) -> None:
    """A run that is finished."""
    bench.run(timestamp="t")


def odd(bench: Bench) -> None:
    """A run in which other things have taken the place of a folder and of files."""
    bench.run(timestamp="t")
    shutil.rmtree(bench.cell("a"))
    next(bench.root.glob("deep/out/e/t")).joinpath("elsewhere").mkdir()
    result = bench.cell("b") / "result.pkl"
    result.unlink()
    result.mkdir()
    (bench.cell("b") / ".result.pkl.0.pyexp-tmp").write_bytes(b"half")
    (bench.cell("bad") / "log.txt").unlink()
    (bench.cell("bad") / "log.txt").mkdir()


SCENES: dict[str, tuple[Callable[[Bench], None], dict[str, Any], dict[str, Any]]] = {
    "first run": (nothing, {"timestamp": "t"}, {"timestamp": "t"}),
    "new folder": (nothing, {"timestamp": True}, {"timestamp": True, "resume": True}),
    "damaged": (mixed, {"timestamp": "t"}, {"timestamp": "t"}),
    "rerun": (finished, {"timestamp": "t", "rerun": True}, {"timestamp": "t"}),
    "odd things": (odd, {"timestamp": "t"}, {"timestamp": "t"}),
}


def continued(bench: Bench, options: dict[str, Any]) -> Any:
    """The results of the next run. Where there is no run yet to continue, nothing can have been finished."""
    try:
        return bench.run(**options)
    except pyexp.errors.NoRunError:
        assert bench.ran == []
        return bench.run(**{**options, "resume": False})


def checked_continuation(bench: Bench, options: dict[str, Any], reported: set[str], generations: set[int]) -> None:
    """Go on after the crash, and check all laws. The witness has been emptied after the crash."""
    results = continued(bench, options)
    again = set(bench.ran) & reported
    assert not again, f"{again} were reported as finished, and run again"
    assert [result.get("x", result.get("type")) for result in results] == [1, 2, "ValueError"]
    assert [result.value["blob"] for result in results[:2]] == [[1] * 1000, [2] * 1000]
    assert {result["generation"] for result in results[:2]} <= generations
    assert all(result.record.code["parts"] for result in results), "a result does not know its code"
    assert bench.left_over() == []


def set_up(place: Path, scene: str) -> tuple[Bench, dict[str, Any], dict[str, Any], set[int]]:
    """A scene: its bench, the options of the run that is to be killed, of the next, and what results may be of."""
    setup, options, again = SCENES[scene]
    bench = Bench(place)
    setup(bench)
    rerun = "rerun" in options
    bench.begin(2 if rerun else 1)
    return bench, options, again, {1, 2} if rerun else {1}


@pytest.mark.parametrize("scene", SCENES)
def test_a_kill_at_any_effect_loses_and_repeats_nothing(scene: str, place: Path) -> None:
    bench, options, *_ = set_up(place / "whole", scene)
    _, told = performed(bench, options)
    kinds = [effect[0] for effect in told if effect[0] != "report"]
    assert len(kinds) > 20, "the effects were not seen"
    for fatal, kind in enumerate(kinds):
        for torn in (False, True) if kind == "write" else (False,):
            bench, options, again, generations = set_up(place / "killed", scene)
            killed, told = performed(bench, options, fatal, torn)
            assert killed
            if "rerun" in options and bench.ran:  # once the first is run again, no old result can come back
                generations = {2}
            bench.begin(bench.now)
            checked_continuation(bench, again, reported_in(told), generations)
            shutil.rmtree(place / "killed")


@pytest.mark.parametrize("scene", SCENES)
def test_a_power_cut_at_any_effect_loses_nothing_that_was_reported(scene: str, place: Path) -> None:
    bench, options, again, generations = set_up(place / "whole", scene)
    disk = Disk(bench.root)
    killed, told = performed(bench, options)
    assert not killed
    for number, effect in enumerate(told):
        disk.replay(effect)
        for mercy in (None, random.Random(number)):
            left = Bench(place / "left", disk, mercy)
            left.begin(bench.now)
            checked_continuation(left, again, reported_in(told[: number + 1]), generations)
            shutil.rmtree(place / "left")


def test_what_a_killed_run_had_not_synced_is_synced_by_the_next(place: Path) -> None:
    fatal, killed = 0, True
    while killed:
        bench, options, again, generations = set_up(place / "killed", "first run")
        disk = Disk(bench.root)
        killed, told = performed(bench, options, fatal)
        _, more = performed(bench, again)
        for effect in (*told, *more):
            disk.replay(effect)
        left = Bench(place / "left", disk)
        left.begin(bench.now)
        checked_continuation(left, again, {"a", "b"}, generations)
        shutil.rmtree(place / "killed")
        shutil.rmtree(place / "left")
        fatal += 1
    assert fatal > 20


def test_a_power_cut_in_a_merge_leaves_the_old_or_the_new_cell(place: Path) -> None:
    """The law holds at every effect, for cells that are added and for a failed one that is replaced."""
    bench, other = Bench(place / "mine"), Bench(place / "theirs")
    bench.run(timestamp="t", select="bad")
    other.failing = set()
    other.run(timestamp="t")
    one, added = bench.root / "deep" / "out", other.root / "deep" / "out"
    new = {path.name: content_of(path) for path in added.glob("e/t/*-*")}
    old = {path.name: content_of(path) for path in one.glob("e/t/*-*")}
    assert len(old) == 1
    disk = Disk(bench.root)

    def merge(tell: Callable[[Any], None]) -> None:
        Effects(bench.root, tell).install()
        for event in union.merged(str(one), str(added)):
            tell(("report", os.path.basename(event.path)))

    status, told = in_child(merge)
    assert status == 0
    assert len(reported_in(told)) == 3
    for number, effect in enumerate(told):
        disk.replay(effect)
        for mercy in (None, random.Random(number)):
            left = Bench(place / "left", disk, mercy)
            found = {path.name: content_of(path) for path in (left.root / "deep/out/e/t").glob("[!.]*-*")}
            assert all(each in (new.get(name), old.get(name)) for name, each in found.items())
            assert all(found.get(name) == new[name] for name in reported_in(told[: number + 1]))
            before = {path.name.removeprefix(".before-") for path in (left.root / "deep/out/e/t").glob(".before-*")}
            assert mercy or old.keys() <= found.keys() | before
            shutil.rmtree(place / "left")


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
