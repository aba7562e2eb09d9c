"""Runs and their folders: names, how they are found, what looking at them costs."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import pyexp
from pyexp.plan import cells_of
from pyexp.store import claims, files, layout, records
from pyexp.store.layout import Run
from pyexp.sweep import grid_of

NAMES = [
    "",
    ".",
    "..",
    "../../up",
    "/etc",
    "a" * 300,
    "ü" * 300,
    "CON",
    "nul.txt",
    "a\0b",
    "a\nb",
    "-rf",
    "\ud800",
    "🙂",
]


def double(config: Any) -> Any:
    if "out" in config:
        (config.out / "artifact").write_text("here")
    return {"name_is": config.get("name"), "value": config.get("value")}


def run(configs: Any, out: Path, *argv: str, **options: Any) -> Any:
    made = pyexp.experiment(name="e", executor="inline", quiet=True, durable=False)(double)
    return made.run(configs, lambda results: results, argv=argv, output_dir=out, **options)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.lists(st.sampled_from(NAMES) | st.text(max_size=40), unique=True, min_size=1, max_size=6))
@example(NAMES)
def test_whatever_its_name_a_cell_has_a_folder_in_the_run_and_is_found_again(tmp_path: Path, names: list[str]) -> None:
    out = tmp_path / str(time.monotonic_ns()) / "out"
    configs = [{"name": name, "value": [name]} for name in names]
    first = run(configs, out, timestamp="t")
    assert [result["name_is"] for result in first] == names
    folders = [path for path in (out / "e" / "t").iterdir() if path.is_dir() and path.name != "code"]
    assert len(folders) == len(names)
    assert all((folder / "artifact").read_text() == "here" for folder in folders)
    assert {path.name for path in out.parent.iterdir()} == {"out"}
    assert {path.name for path in out.iterdir()} == {"e", ".gitignore"}
    before = {path: path.stat().st_mtime_ns for path in out.rglob("result.pkl")}
    again = run(configs, out, timestamp="t")
    assert [result.value for result in again] == [result.value for result in first]
    assert {path: path.stat().st_mtime_ns for path in out.rglob("result.pkl")} == before


def test_when_a_run_began_is_read_from_its_first_lines(tmp_path: Path) -> None:
    for number, name in enumerate(["b", "a", "c"]):
        (tmp_path / name).mkdir()
        cells = [{"name": "x" * 1000} for _ in range(1000)]
        text = json.dumps({"format": 1, "started": 1000.5 + number, "cells": cells}, indent=1)
        (tmp_path / name / "run.json").write_text(text[: len(text) // 2])  # only the head of it can be right
    assert sorted(layout.runs(str(tmp_path))) == [(1000.5 + i, name, "", "", "") for i, name in enumerate("bac")]
    assert layout.latest_run(str(tmp_path)) == "c"


def test_a_folder_that_is_no_run_is_not_taken_for_one(tmp_path: Path) -> None:
    for name in ("notes", "model-0123456789ab", "2024-01-01_00-00-00"):
        (tmp_path / name / "data").mkdir(parents=True)
        (tmp_path / name / "data" / "file.txt").write_text("")
    (tmp_path / "file").write_text("")
    assert layout.runs(str(tmp_path)) == []
    assert layout.runs(str(tmp_path / "nowhere")) == []


def test_a_run_that_begins_now_is_after_all_others_whatever_the_clock_says(tmp_path: Path) -> None:
    ahead = time.time() + 1e6
    (tmp_path / "e" / "old").mkdir(parents=True)
    (tmp_path / "e" / "old" / "run.json").write_text(json.dumps({"started": ahead}, indent=1))
    run([{"name": "a"}], tmp_path)
    assert layout.latest_run(str(tmp_path / "e")) != "old"


def test_looking_changes_nothing_and_reads_each_record_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = [{"name": f"c{i}"} for i in range(20)]
    run(configs, tmp_path, timestamp="t")
    cells = cells_of(grid_of(configs))
    opened: list[str] = []
    real = os.open

    def counting(path: Any, *rest: Any, **options: Any) -> int:
        opened.append(os.fspath(path))
        return real(path, *rest, **options)

    before = {path: path.lstat().st_ctime_ns for path in tmp_path.rglob("*")}
    monkeypatch.setattr(os, "open", counting)
    sights = records.look(Run(str(tmp_path / "e" / "t")), cells, records.Program())
    assert len(sights) == 20
    assert len(opened) == len(set(opened)) == 20
    assert all(path.endswith("record.json") for path in opened)
    monkeypatch.undo()
    assert {path: path.lstat().st_ctime_ns for path in tmp_path.rglob("*")} == before


def test_a_claim_is_one_processes_until_it_is_released(tmp_path: Path) -> None:
    folder = str(tmp_path / "claims")
    first = claims.claim(folder, "cell")
    assert first is not None
    assert claims.claim(folder, "cell") is None
    assert claims.holders(folder) == {"cell": f"(process {os.getpid()} on {os.uname().nodename})"}
    claims.tidy(folder)
    assert claims.claim(folder, "cell") is None
    first.release()
    assert claims.holders(folder) == {}
    second = claims.claim(folder, "cell")
    assert second is not None
    second.release()
    (tmp_path / "claims" / "dead").write_text("process 1 on elsewhere")
    assert claims.holders(folder) == {}
    claims.tidy(folder)
    assert not (tmp_path / "claims").exists()


def test_new_files_have_the_mode_that_the_umask_gives(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        files.write(str(tmp_path / "file"), [b"x"], durable=True)
        run([{"name": "a"}], tmp_path / "out", timestamp="t")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").rglob("*.*") if path.is_file()} <= {0o640}


def test_a_file_is_replaced_and_not_what_a_symlink_leads_to(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("untouched")
    (tmp_path / "link").symlink_to("target")
    files.write(str(tmp_path / "link"), [b"new"], durable=True)
    assert (tmp_path / "target").read_text() == "untouched"
    assert not (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "target"]


@pytest.mark.long
def test_a_run_of_ten_thousand_cells(tmp_path: Path) -> None:
    configs = [{"name": f"c{i}", "value": i} for i in range(10_000)]
    run(configs, tmp_path, timestamp="t")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.pkl")}
    results = run(configs, tmp_path, timestamp="t")
    assert [result["value"] for result in results] == list(range(10_000))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.pkl")} == before
    assert len(run(configs, tmp_path, "--report", timestamp="t")) == 10_000
