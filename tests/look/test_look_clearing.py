"""`gc` and `rm`: they list what would go, and do it with --yes; never what is needed or running."""

import os
import shutil
from pathlib import Path

import pytest

from pyexp.store import claims, layout
from tests.cli.scripts import go, ran, write
from tests.look.outside import copied, look, refused


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture
def littered(folder: Path, first: Path, second: Path) -> dict[str, Path]:
    """Litter of all kinds in both runs; the second is the newest complete one."""
    made = {}
    for run in (first, second):
        one, failed = next(run.glob("exp_lr0.1_seed0-*")), next(run.glob("exp_lr1.0_seed0-*"))
        for key, path in {
            "temporary": run / ".run.json.0123456789abcdef.pyexp-tmp",
            "in a cell": one / ".result.pkl.0123456789abcdef.pyexp-tmp",
            "unreadable": one / "result.pkl.unreadable",
            "unreadable too": one / "record.json.unreadable-2",
            "of the failed": failed / "result.pkl.unreadable",
        }.items():
            path.write_bytes(b"x" * 100)
            made[f"{run.name}: {key}"] = path
        for key, cell in (("before", one), ("before the failed", failed)):
            made[f"{run.name}: {key}"] = copied(one, run / f".before-{cell.name}")
        (one / "model.unreadable").write_bytes(b"the experiment's own")
        (one / ".before-x").write_bytes(b"the experiment's own")
    return made


def test_gc_is_dry_and_then_does_what_it_said(folder: Path, littered: dict[str, Path]) -> None:
    before = tree(folder)
    dry = look(folder, "gc")
    assert (dry.returncode, tree(folder)) == (0, before)
    assert dry.stdout.splitlines()[-1].startswith("would remove 14: ")
    said = {line.partition("  ")[0] for line in dry.stdout.splitlines()[:-1]}
    assert said == {str(path.relative_to(folder)) for path in littered.values()}
    done = look(folder, "gc", "--yes")
    assert done.stdout.splitlines()[:-1] == dry.stdout.splitlines()[:-1]
    gone = {name for name in before if any(name == each or name.startswith(f"{each}/") for each in said)}
    assert before - tree(folder) == gone
    assert tree(folder) <= before
    assert look(folder, "gc").stdout == "there is nothing to remove\n"
    assert look(folder, "verify").returncode == 0


def test_the_last_result_of_a_cell_that_has_no_new_one_stays(folder: Path, second: Path) -> None:
    """In the newest run, it is all there is of the cell; in an older one, nobody needs it."""
    for run in (second, second.parent / "first"):
        cell = next(run.glob("exp_lr0.1_seed0-*"))
        os.replace(cell, run / f".before-{cell.name}")
    assert "nothing" in look(folder, "gc", "--yes").stdout  # no run is complete
    cell = next(second.glob(".before-*"))
    os.replace(cell, second / cell.name.removeprefix(".before-"))
    lines = look(folder, "gc", "--yes").stdout.splitlines()
    assert lines[0].startswith("out/mnist/first/.before-exp_lr0.1_seed0-")
    assert "there is a newer complete run" in lines[0]
    assert len(lines) == 2


def test_of_two_experiments_without_timestamps_none_is_the_newer_run(folder: Path, first: Path, second: Path) -> None:
    flat = copied(first, folder / "flat" / "a")
    copied(second, folder / "flat" / "b")
    text = (flat / "run.json").read_text()
    (flat / "run.json").write_text(text.replace('"experiment": "mnist"', '"experiment": "a"'))
    cell = next(flat.glob("exp_lr0.1_seed0-*"))
    os.replace(cell, flat / f".before-{cell.name}")
    assert look(folder, "gc", "flat").stdout == "there is nothing to remove\n"


@pytest.mark.parametrize("words", [["gc"], ["rm", "out/mnist/first"]])
def test_a_run_with_a_living_claim_is_left_alone(folder: Path, first: Path, words: list[str]) -> None:
    (first / ".x.0123456789abcdef.pyexp-tmp").write_bytes(b"x")
    before = tree(folder)
    claim = claims.claim(str(first / layout.CLAIMS), next(first.glob("exp_*")).name)
    assert claim is not None
    try:
        done = look(folder, *words, "--yes")
        assert tree(folder) - before == {"out/mnist/first/.claims", f"out/mnist/first/.claims/{Path(claim.path).name}"}
        assert before <= tree(folder)
        assert "nothing to remove" in done.stdout or "is running" in done.stderr
    finally:
        claim.release()
    assert look(folder, *words, "--yes").returncode == 0
    assert not (first / ".x.0123456789abcdef.pyexp-tmp").exists()


def test_gc_refuses_what_is_not_pyexps(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / ".a.0123456789abcdef.pyexp-tmp").write_bytes(b"x")
    assert "no output folder" in refused(tmp_path, "gc", "photos", "--yes")
    assert (tmp_path / "photos" / ".a.0123456789abcdef.pyexp-tmp").exists()


def test_rm_is_dry_and_then_removes_the_run_and_nothing_else(folder: Path, first: Path, second: Path) -> None:
    before = tree(folder)
    dry = look(folder, "rm", first)
    assert (dry.returncode, tree(folder)) == (0, before)
    bytes_there = sum(path.stat().st_size for path in first.rglob("*") if path.is_file())
    assert dry.stdout.splitlines()[-1] == f"would remove 1: {bytes_there} bytes; --yes does it"
    assert look(folder, "rm", first, "--yes").returncode == 0
    assert before - tree(folder) == {name for name in before if name.startswith("out/mnist/first")}


def test_rm_keeps_the_newest_complete_run_and_then_removes_none(folder: Path, first: Path, second: Path) -> None:
    before = tree(folder)
    assert "newest complete run" in refused(folder, "rm", first, second, "--yes")
    assert tree(folder) == before
    (next(second.glob("exp_*")) / "result.pkl").unlink()  # it is complete no more
    assert look(folder, "rm", second, "--yes").returncode == 0


def test_rm_takes_runs_and_no_other_folders(folder: Path, first: Path, tmp_path: Path) -> None:
    before = tree(folder)
    assert "is an experiment's folder" in refused(folder, "rm", "out/mnist", "--yes")
    assert "there is no run" in refused(folder, "rm", "out", "--yes")
    assert "is a cell's folder" in refused(folder, "rm", next(first.glob("exp_*")), "--yes")
    (tmp_path / "link").symlink_to(first)
    assert "a link" in refused(folder, "rm", tmp_path / "link", "--yes")
    assert "did you mean 'first'" in refused(folder, "rm", "out/mnist/frist", "--yes")
    assert tree(folder) == before
    copied(first, first / "inner")
    assert "has other runs in it" in refused(folder, "rm", first, "--yes")


def test_what_a_link_leads_to_stays(folder: Path, first: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "precious").write_text("x")
    (next(first.glob("exp_*")) / "data").symlink_to(tmp_path / "data")
    (first / "data").symlink_to(tmp_path / "data")
    assert look(folder, "rm", first, "--yes").returncode == 0
    assert not first.exists()
    assert (tmp_path / "data" / "precious").exists()


def test_after_gc_a_run_goes_on_as_before(tmp_path: Path) -> None:
    write(tmp_path)
    go(tmp_path, "-q", "--timestamp", "t", "--executor", "inline")
    ran(tmp_path)
    assert look(tmp_path, "gc", "--yes").returncode == 0
    go(tmp_path, "-q", "--timestamp", "t", "--executor", "inline")
    assert len(ran(tmp_path)) == 3
    shutil.rmtree(tmp_path / "out")
